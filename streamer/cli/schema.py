"""`streamer schema`: what a configuration may say, for editors or for people."""

from typing import Annotated

import typer

from . import output


def schema(
    *,
    reference: Annotated[
        bool, typer.Option("--reference", help="Every key at its default, as YAML.")
    ] = False,
) -> None:
    """Print the JSON schema of configurations, or a reference file.

    Save the schema beside your configuration, and editors complete and check its keys.
    """
    from streamer.config import reference as made

    out = output.current()
    if reference:
        text = made.reference()
        out.result({"kind": "reference", "yaml": text}, text.removesuffix("\n"))
    else:
        # For people without Rich: it would fold long lines, and the file is meant to be saved.
        out.result(made.json_schema(), made.json_schema_text().removesuffix("\n"))
