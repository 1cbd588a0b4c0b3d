"""`streamer doctor`: checks whether this machine is fit for a configuration."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from . import output, termination
from .common import configuration
from .exit_codes import Exit, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamer.app.doctor import Finding
    from streamer.core.clock import CancelToken

_STYLE: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    *,
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="Configuration to check, with its cameras."),
    ] = None,
) -> None:
    """Check this machine and a running program. Advises on each problem."""
    from streamer.core.clock import CancelToken

    out = output.current()
    counts = dict.fromkeys(_STYLE, 0)
    cancel = CancelToken()
    with termination.current().on_signal(cancel.set):  # A camera that is being opened is cut.
        for finding in _findings(config or [], cancel):
            if cancel.is_set():
                raise termination.Interrupted
            counts[finding.status] += 1
            out.record({"kind": "finding", **asdict(finding)})
            _say(finding)
    out.record({"kind": "summary", **counts})
    if counts["fail"]:
        raise typer.Exit(Exit.FAILED)


def _findings(files: list[Path], cancel: "CancelToken") -> "Iterator[Finding]":
    from streamer.app.doctor import Finding, examine
    from streamer.config import from_source
    from streamer.core.errors import ConfigError

    loaded = from_source("pattern:")
    if files:
        names = ", ".join(map(str, files))
        try:
            loaded = configuration(files)
        except ConfigError as error:
            for line in one_line(error).splitlines():
                yield Finding("configuration", "fail", line, "correct this line")
            files = []
        else:
            yield Finding("configuration", "ok", f"{names} is valid")
    yield from examine(loaded.config, reach=bool(files), cancel=cancel)


def _say(finding: "Finding") -> None:
    from rich.text import Text

    out = output.current()
    message = out.redact(finding.message)
    line = Text.assemble(
        (f"{finding.status:4}", _STYLE[finding.status]), f"  {finding.check}: {message}"
    )
    if finding.advice:
        line.append(f"\n      -> {out.redact(finding.advice)}")
    out.say(line)
