"""Shows the plan, the progress and the result of `streamer convert`."""

import time
from collections.abc import Mapping
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
_INTERVAL_S: Final = 1.0
"""Seconds between two progress records."""


class Reporter:
    """Receives the progress of a conversion; this one discards it."""

    def detecting(self, now: "DetectionProgress") -> None:
        """Report the progress of the detection pass."""

    def converting(self, now: "Progress") -> None:
        """Report the progress of the conversion."""

    def verifying(self) -> None:
        """Report that verification starts."""


@contextmanager
def progress_reporter(name: str) -> "Iterator[Reporter]":
    """Yield a reporter: a progress bar on standard error, or one JSON record per second."""
    out = output.current()
    if out.json:
        yield _JsonReporter(name)
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
            yield _BarReporter(bar, name)


class _BarReporter(Reporter):
    def __init__(self, bar: Any, name: str) -> None:
        self._bar = bar
        self._name = name
        self._task = bar.add_task(name, total=None, rate="", parts="")

    def detecting(self, now: "DetectionProgress") -> None:
        self._bar.update(
            self._task, description=f"{self._name}: detecting, seconds", total=now.end_ns // _NS,
            completed=now.at_ns // _NS,
        )  # fmt: skip

    def converting(self, now: "Progress") -> None:
        self._bar.update(
            self._task, description=self._name, total=now.total, completed=now.done,
            rate=f"{frame_rate(now):.1f} fps", parts=_busy_parts(now),
        )  # fmt: skip

    def verifying(self) -> None:
        self._bar.update(self._task, description=f"{self._name}: verifying", parts="")


class _JsonReporter(Reporter):
    def __init__(self, name: str) -> None:
        self._name = name
        self._last = -_INTERVAL_S

    def detecting(self, now: "DetectionProgress") -> None:
        if self._is_due():
            seconds = {"at_s": now.at_ns / _NS, "end_s": now.end_ns / _NS}
            self._record({"kind": "detecting", **seconds, "inferences": now.inferences})

    def converting(self, now: "Progress") -> None:
        if not self._is_due() and now.done < now.total:
            return
        fps = frame_rate(now)
        self._record(
            {
                "kind": "progress",
                "done": now.done,
                "total": now.total,
                "fps": round(fps, 2),
                "eta_s": round((now.total - now.done) / fps, 1) if fps else None,
                "busy_s": {part: round(busy, 2) for part, busy in now.busy.items()},
            }
        )

    def verifying(self) -> None:
        self._record({"kind": "verifying"})

    def _is_due(self) -> bool:
        now = time.monotonic()
        due = now - self._last >= _INTERVAL_S
        if due:
            self._last = now
        return due

    def _record(self, record: dict[str, Any]) -> None:
        output.current().record({**record, "input": self._name})


def frame_rate(now: "Progress") -> float:
    """Return the input frames processed per second in this run."""
    return (now.done - now.resumed) / now.seconds if now.seconds else 0.0


def _busy_parts(now: "Progress") -> str:
    """List the parts with their utilization, the bottleneck first."""
    parts = sorted(now.busy.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {busy / now.seconds:.0%}" for name, busy in parts if now.seconds)


def plan_record(planned: "Plan", seconds: float) -> dict[str, Any]:
    """Return the plan as a JSON record."""
    encoding = planned.encoding
    return {
        "kind": "plan",
        "input": str(planned.media.path),
        "output": str(planned.output),
        "input_frames": len(planned.video.times),
        "output_frames": planned.output_frames,
        "fps": str(encoding.rate),
        "encoder": encoding.spec.name,
        "encoder_options": dict(encoding.options),
        "pixel_format": encoding.pixel_format,
        "chunks": len(planned.chunks),
        "copied": [str(one.info) for one in planned.copied],
        "stretched": list(planned.stretched),
        "left_out": [{"stream": index, "reason": reason} for index, reason in planned.left_out],
        "notes": list(planned.notes),
        "seconds": round(seconds, 1),
    }


def plan_table(planned: "Plan", seconds: float) -> "RenderableType":
    """Return the plan as a table."""
    from rich.table import Table

    video, encoding = planned.video, planned.encoding
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    size = f"{video.width}x{video.height} {video.pixel_format}"
    encoder = f"{encoding.spec.name} {_main_options(encoding.options)} {encoding.pixel_format}"
    rows = [
        ("input", f"{planned.media.path}"),
        ("output", f"{planned.output}"),
        ("input frames", f"{len(video.times)}, {float(video.rate):.3f} fps, {size}"),
        ("output frames", f"{planned.output_frames}, {float(encoding.rate):.3f} fps, {encoder}"),
        *(("copied", str(one.info)) for one in planned.copied),
        *(("stretched", f"stream {index}") for index in planned.stretched),
        *(("left out", f"stream {index}: {reason}") for index, reason in planned.left_out),
        *(("note", note) for note in planned.notes),
        ("chunks", f"{len(planned.chunks)}"),
        ("duration", f"about {_duration(seconds)}"),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _main_options(options: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items() if "params" not in name)


def _duration(seconds: float) -> str:
    total = round(seconds)
    if total < 60:  # noqa: PLR2004  a minute
        return f"{max(1, total)} s"
    minutes, hours = total // 60 % 60, total // 3600
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {total % 60:02} s"


def result_record(task: "Task", result: "ConversionResult") -> dict[str, Any]:
    """Return the result of a conversion as a JSON record."""
    return {
        "kind": "converted" if result.report.ok else "unverified",
        "input": str(task.source),
        "output": str(task.output),
        **asdict(result.counts),
        "resumed": result.resumed,
        "seconds": round(result.seconds, 3),
        "complete": result.is_complete,
        "checks": [
            {"name": check.name, "ok": check.ok, "detail": check.detail}
            for check in result.report.checks
        ],
    }


def result_text(task: "Task", result: "ConversionResult") -> str:
    """Return the result of a conversion as text."""
    counts = result.counts
    lines = [
        f"{task.output}: {counts.output_frames} frames from {counts.input_frames} in "
        f"{_duration(result.seconds)}" + (", resumed" if result.resumed else "")
    ]
    totals = (
        (counts.synthetic, "interpolated"),
        (counts.scene_changes, "scene changes not interpolated"),
        (counts.duplicates, "duplicates recognized"),
        (counts.enhanced, "enhanced"),
        (counts.damaged, "damaged and replaced"),
    )
    details = [f"{number} {what}" for number, what in totals if number]
    if details:
        lines.append("  " + ", ".join(details))
    failed = [check for check in result.report.checks if not check.ok]
    if failed:
        lines += [f"  verification failed, so the output stays {task.output.name}.part:"]
        lines += [f"    {check.name}: {check.detail}" for check in failed]
    else:
        lines.append(f"  verified: {len(result.report.checks)} checks passed")
    return "\n".join(lines)
