"""How `convert` shows what it will do, how far it is, and what came of it."""

import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from . import output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from streamer.app.conversion import ConversionResult
    from streamer.app.detection_pass import DetectionProgress
    from streamer.convert.batch import Task
    from streamer.convert.job import Progress
    from streamer.convert.plan import Plan

_NS: Final = 1_000_000_000
_EVERY_S: Final = 1.0
"""Seconds between two progress records for scripts."""


class Reporter:
    """Told how far a conversion is; this one tells nobody."""

    def looking(self, now: "DetectionProgress") -> None:
        """A first pass looks for smoke."""

    def converting(self, now: "Progress") -> None:
        """Chunks are being converted."""

    def proving(self) -> None:
        """All is converted and put together."""


@contextmanager
def reporter(name: str) -> "Iterator[Reporter]":
    """A bar for people, on standard error; for scripts an object a second."""
    out = output.current()
    if out.json:
        yield _Records(name)
    elif out.verbosity < 0:
        yield Reporter()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
            TextColumn("{task.fields[parts]}"),
        )  # fmt: skip
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            yield _Bar(bar, name)


class _Bar(Reporter):
    def __init__(self, bar: Any, name: str) -> None:
        self._bar = bar
        self._name = name
        self._task = bar.add_task(name, total=None, rate="", parts="")

    def looking(self, now: "DetectionProgress") -> None:
        self._bar.update(
            self._task, description=f"{self._name}: looking, seconds", total=now.end_ns // _NS,
            completed=now.at_ns // _NS,
        )  # fmt: skip

    def converting(self, now: "Progress") -> None:
        self._bar.update(
            self._task, description=self._name, total=now.total, completed=now.done,
            rate=f"{rate(now):.1f}/s", parts=_parts(now),
        )  # fmt: skip

    def proving(self) -> None:
        self._bar.update(self._task, description=f"{self._name}: proving", parts="")


class _Records(Reporter):
    def __init__(self, name: str) -> None:
        self._name = name
        self._last = -_EVERY_S

    def looking(self, now: "DetectionProgress") -> None:
        if self._due():
            seconds = {"at_s": now.at_ns / _NS, "end_s": now.end_ns / _NS}
            self._record({"kind": "looking", **seconds, "looks": now.looks})

    def converting(self, now: "Progress") -> None:
        if not self._due() and now.done < now.total:
            return
        speed = rate(now)
        self._record(
            {
                "kind": "progress",
                "done": now.done,
                "total": now.total,
                "pictures_per_s": round(speed, 2),
                "eta_s": round((now.total - now.done) / speed, 1) if speed else None,
                "busy_s": {part: round(spent, 2) for part, spent in now.busy.items()},
            }
        )

    def proving(self) -> None:
        self._record({"kind": "proving"})

    def _due(self) -> bool:
        at = time.monotonic()
        due = at - self._last >= _EVERY_S
        if due:
            self._last = at
        return due

    def _record(self, record: dict[str, Any]) -> None:
        output.current().record({**record, "input": self._name})


def rate(now: "Progress") -> float:
    """Pictures of the recording a second, in this run."""
    return (now.done - now.resumed) / now.seconds if now.seconds else 0.0


def _parts(now: "Progress") -> str:
    """The busiest first: what limits the speed."""
    shares = sorted(now.busy.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {spent / now.seconds:.0%}" for name, spent in shares if now.seconds)


def plan_record(planned: "Plan", seconds: float) -> dict[str, Any]:
    """What would happen, for scripts."""
    coding = planned.coding
    return {
        "kind": "plan",
        "input": str(planned.inventory.path),
        "output": str(planned.output),
        "pictures": len(planned.video.times),
        "shown": planned.pictures,
        "rate": str(coding.rate),
        "encoder": coding.spec.name,
        "options": dict(coding.options),
        "pixel_format": coding.pixel_format,
        "chunks": len(planned.chunks),
        "copied": [str(one.facts) for one in planned.copied],
        "left_out": [{"stream": index, "why": why} for index, why in planned.left_out],
        "notes": list(planned.notes),
        "seconds": round(seconds, 1),
    }


def plan_table(planned: "Plan", seconds: float) -> "RenderableType":
    """What would happen, for people."""
    from rich.table import Table

    video, coding = planned.video, planned.coding
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    size = f"{video.width}x{video.height} {video.pixel_format}"
    pictures = f"{len(video.times)} of {size}, {float(video.rate):.3f} a second"
    coded = f"{coding.spec.name} {_settings(coding.options)} {coding.pixel_format}"
    rows = [
        ("from", f"{planned.inventory.path}"),
        ("to", f"{planned.output}"),
        ("pictures", pictures),
        ("become", f"{planned.pictures}, {float(coding.rate):.3f} a second, {coded}"),
        *(("kept", str(one.facts)) for one in planned.copied),
        *(("stretched", f"stream {index}") for index in planned.stretched),
        *(("left out", f"stream {index}: {why}") for index, why in planned.left_out),
        *(("note", note) for note in planned.notes),
        ("chunks", f"{len(planned.chunks)}"),
        ("takes", f"about {_duration(seconds)}"),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _settings(options: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items() if "params" not in name)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004  a minute
        return f"{max(1, whole)} s"
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {whole % 60:02} s"


def record(task: "Task", done: "ConversionResult") -> dict[str, Any]:
    """What came of a conversion, for scripts."""
    return {
        "kind": "converted" if done.report.ok else "unproven",
        "input": str(task.source),
        "output": str(task.output),
        **asdict(done.counts),
        "resumed": done.resumed,
        "seconds": round(done.seconds, 3),
        "whole": done.plan.inventory.broken is None and not done.counts.damaged,
        "checks": [
            {"name": check.name, "ok": check.ok, "detail": check.detail}
            for check in done.report.checks
        ],
    }


def told(task: "Task", done: "ConversionResult") -> str:
    """What came of a conversion, for people."""
    counts = done.counts
    lines = [
        f"{task.output}: {counts.shown} pictures from {counts.pictures} in "
        f"{_duration(done.seconds)}" + (", gone on with" if done.resumed else "")
    ]
    said = (
        (counts.synthetic, "made in between"),
        (counts.cuts, "cuts not mixed"),
        (counts.repeats, "repeats recognised"),
        (counts.enhanced, "enhanced"),
        (counts.damaged, "damaged, filled from what is around them"),
    )
    words = [f"{number} {what}" for number, what in said if number]
    if words:
        lines.append("  " + ", ".join(words))
    wrong = [check for check in done.report.checks if not check.ok]
    if wrong:
        lines += [f"  NOT PROVEN, so it stays {task.output.name}.part:"]
        lines += [f"    {check.name}: {check.detail}" for check in wrong]
    else:
        lines.append(f"  proven: {len(done.report.checks)} checks")
    return "\n".join(lines)
