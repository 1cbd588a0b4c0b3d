"""`streamer verify`: has a conversion lost anything?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output
from .exit_codes import Exit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streamer.convert.verify import Report


def verify(
    before: Annotated[Path, typer.Argument(metavar="IN", help="The recording.")],
    after: Annotated[Path, typer.Argument(metavar="OUT", help="What it was converted to.")],
    *,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Decode every frame, however long it takes.")
    ] = False,
    altered: Annotated[
        bool, typer.Option("--altered", help="Pictures were enhanced or drawn over.")
    ] = False,
) -> int:
    """Compare a recording with its conversion: frames, times, streams, tags, colours, pictures."""
    from streamer.convert.verify import verify as compare

    out = output.current()
    report = compare(before, after, thorough=thorough, altered=altered)
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
        alarm_status = Text("ok", "green") if check.ok else Text("LOST", "bold red")
        table.add_row(alarm_status, check.name, check.detail)
    return table


def _summary(report: "Report") -> str:
    told = "taken for" if report.deduced else "as asked"
    frames = f"{report.frames_before} frames in, {report.frames_after} out"
    lost = ", ".join(report.failed())
    alarm_status = f"not everything is kept: {lost}" if lost else "nothing is lost"
    has_fresh_result = "" if report.thorough else "; not every frame was decoded, --thorough does"
    return f"{frames} ({told}: {report.expected}); {alarm_status}{has_fresh_result}"
