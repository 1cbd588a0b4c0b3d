"""`streamer verify`: checks whether a conversion lost anything."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output as outputs
from .exit_codes import Exit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streamer.convert.verify import Report


def verify(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The recording.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The output of its conversion.")],
    *,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Decode all frames instead of samples.")
    ] = False,
    altered: Annotated[
        bool, typer.Option("--altered", help="Frames were enhanced or drawn on.")
    ] = False,
) -> int:
    """Compare a recording with its conversion: frames, times, streams, metadata, frame content."""
    from streamer.convert.verify import verify as compare

    out = outputs.current()
    report = compare(source, output, thorough=thorough, altered=altered)
    for record in report.records():
        out.record(record)
    out.say(_table(report))
    out.say(_summary(report))
    return Exit.OK if report.ok else Exit.FAILED


def _table(report: "Report") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for check in report.checks:
        status = Text("ok", "green") if check.ok else Text("LOST", "bold red")
        table.add_row(status, check.name, check.detail)
    return table


def _summary(report: "Report") -> str:
    basis = "inferred" if report.inferred else "requested"
    frames = f"{report.source_frames} frames in, {report.output_frames} out"
    failed = ", ".join(report.failed())
    outcome = f"lost: {failed}" if failed else "nothing is lost"
    scope = "" if report.thorough else "; only samples were decoded, --thorough decodes all frames"
    return f"{frames} ({basis}: {report.expected}); {outcome}{scope}"
