"""`streamer convert`: recordings into smoother, brighter or explained ones, losing nothing."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import output as outputs
from .conversion_report import plan_record, plan_table, record, reporter, told
from .exit_codes import Exit, exit_code, one_line

if TYPE_CHECKING:
    from streamer.app.conversion import Networks
    from streamer.convert.batch import Task
    from streamer.convert.plan import ConvertOptions

_REHEARSED = 48
"""Pictures that are converted for `--dry-run` to tell how long all take."""


Quality = Literal["draft", "good", "best"]
Audio = Literal["copy", "stretch", "drop"]
Repeats = Literal["across", "keep"]


def convert(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders, *.mp4.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="File, or folder for many.")],
    config: Annotated[list[Path] | None, typer.Option("--config", "-c", help="Settings.")] = None,
    factor: Annotated[int | None, typer.Option(help="Pictures for each one.")] = None,
    fps: Annotated[str | None, typer.Option(help="Constant rate, e.g. 60000/1001.")] = None,
    speed: Annotated[str | None, typer.Option(help="0.25 or 1/4 is slow motion.")] = None,
    enhance: Annotated[bool | None, typer.Option(help="Make what is dark visible.")] = None,
    overlay: Annotated[bool | None, typer.Option(help="Draw the smoke that is seen.")] = None,
    encoder: Annotated[str | None, typer.Option(help="x264, x265, svt-av1, vp9, ...")] = None,
    quality: Annotated[Quality | None, typer.Option(help="If unsure; good by default.")] = None,
    preset: Annotated[str | None, typer.Option(help="How hard the encoder works.")] = None,
    crf: Annotated[float | None, typer.Option(help="How much it may lose.")] = None,
    pixel_format: Annotated[str | None, typer.Option(help="E.g. yuv420p.")] = None,
    deinterlace: Annotated[bool | None, typer.Option(help="Whole pictures of fields.")] = None,
    audio: Annotated[Audio | None, typer.Option(help="At another speed: drop.")] = None,
    cuts: Annotated[bool | None, typer.Option(help="Never mix pictures at a cut.")] = None,
    repeats: Annotated[Repeats | None, typer.Option(help="What becomes of them.")] = None,
    hwaccel: Annotated[str | None, typer.Option(help="What decodes, e.g. cuda.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 and so on.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Pieces side by side.")] = None,
    leave_out: Annotated[list[int] | None, typer.Option(help="A stream not to keep.")] = None,
    container: Annotated[str | None, typer.Option(help="Suffix of results in a folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do again what is done.")] = False,
    preview: Annotated[Path | None, typer.Option(help="PNG of pictures before, after.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen.")] = False,
) -> None:
    """Interpolate, slow down, enhance or explain recordings; everything else is kept exactly."""
    from streamer.app.conversion import open_networks, to_options
    from streamer.config import load_conversion
    from streamer.convert.batch import tasks

    said = {
        "factor": factor, "fps": fps, "speed": speed, "enhance": enhance, "overlay": overlay,
        "encoder": encoder, "quality": quality, "preset": preset, "crf": crf,
        "pixel_format": pixel_format, "deinterlace": deinterlace, "audio": audio, "cuts": cuts,
        "repeats": repeats, "hwaccel": hwaccel, "jobs": jobs,
    }  # fmt: skip
    settings, engine = load_conversion(
        config or (), {name: value for name, value in said.items() if value is not None}
    )
    asked = to_options(settings, leave_out=tuple(leave_out or ()))
    wanted = tasks(inputs, output, container=_suffix(container))
    todo = _Todo(preview, overwrite=overwrite, dry_run=dry_run)
    with open_networks(asked, device=device or engine.device) as networks:
        worst = _Run(asked, networks, settings.jobs or _side_by_side(), todo).all(wanted)
    if worst is not Exit.OK:
        raise typer.Exit(int(worst))


def _suffix(container: str | None) -> str | None:
    return None if container is None else f".{container.lower().removeprefix('.')}"


def _side_by_side() -> int:
    """Decoding, interpolating and encoding one chunk keep about two cores busy."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


@dataclass(frozen=True, slots=True)
class _Todo:
    """What is done apart from converting."""

    preview: Path | None
    overwrite: bool
    dry_run: bool


class _Run:
    """All conversions of one call."""

    def __init__(
        self, asked: "ConvertOptions", networks: "Networks", jobs: int, todo: _Todo
    ) -> None:
        self._asked = asked
        self._networks = networks
        self._jobs = jobs
        self._todo = todo
        self._out = outputs.current()

    def all(self, wanted: "list[Task]") -> Exit:
        """Convert one after another; one that fails does not keep the others waiting."""
        tally = dict.fromkeys(("converted", "skipped", "incomplete", "failed"), 0)
        worst = Exit.OK
        for task in wanted:
            if task.done and not self._todo.overwrite and not self._todo.dry_run:
                tally["skipped"] += 1
                self._out.result(
                    {"kind": "skipped", "input": str(task.source), "output": str(task.output)},
                    f"{task.output}: is there; --overwrite does it again",
                )
                continue
            try:
                outcome = self._one(task)
            except Exception as error:
                if len(wanted) == 1:
                    raise
                outcome = exit_code(error)
                self._out.error(one_line(error))
                self._out.record(
                    {"kind": "failed", "input": str(task.source), "error": one_line(error)}
                )
            names = {Exit.OK: "converted", Exit.INCOMPLETE: "incomplete"}
            tally[names.get(outcome, "failed")] += 1
            worst = max(worst, outcome)
        if len(wanted) > 1 and not self._todo.dry_run:
            text = ", ".join(f"{number} {name}" for name, number in tally.items() if number)
            self._out.result({"kind": "summary", **tally}, text or "nothing to do")
        return worst

    def _one(self, task: "Task") -> Exit:
        from streamer.app import conversion

        planned = conversion.make_plan(task.source, task.output, self._asked)
        for note in planned.notes:
            self._out.note(f"{task.source.name}: {note}")
        if self._todo.preview is not None:
            conversion.preview(planned, self._networks, self._todo.preview)
            self._out.note(f"{self._todo.preview}: some pictures before and after")
        if self._todo.dry_run:
            seconds = conversion.estimate_duration(planned, self._networks, self._jobs, _REHEARSED)
            self._out.result(plan_record(planned, seconds), lambda: plan_table(planned, seconds))
            return Exit.OK
        with reporter(task.source.name) as report:
            done = conversion.convert(
                planned,
                self._networks,
                jobs=self._jobs,
                looking=report.looking,
                report=report.converting,
                proving=report.proving,
            )
        self._out.result(record(task, done), lambda: told(task, done))
        if not done.report.ok:
            return Exit.FAILED
        return Exit.INCOMPLETE if planned.inventory.broken or done.counts.damaged else Exit.OK
