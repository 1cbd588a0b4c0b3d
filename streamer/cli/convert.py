"""`streamer convert`: interpolates, slows down, enhances or annotates recordings losslessly."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output as outputs
from .common import warn_of_old_names
from .conversion_report import (
    plan_record,
    plan_table,
    progress_reporter,
    result_record,
    result_text,
)
from .exit_codes import Exit, exit_code, one_line
from .generated_options import options_of

if TYPE_CHECKING:
    from streamer.app.conversion import Networks
    from streamer.config.convert import ConvertOptions
    from streamer.convert.batch import Task

_ESTIMATE_FRAMES = 48
"""Frames that `--dry-run` converts to estimate the duration."""


def _model() -> "type[ConvertOptions]":
    from streamer.config.convert import ConvertOptions

    return ConvertOptions


@options_of(_model)
def convert(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders or patterns: *.mp4.")
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Output file, or a folder for several.")
    ],
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="Configuration file; options override it."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device that runs the networks: auto, cpu, cuda, cuda:1.")
    ] = None,
    container: Annotated[
        str | None, typer.Option(help="Suffix of outputs in a folder, such as mkv.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Convert even if the output exists.")
    ] = False,
    preview: Annotated[
        Path | None, typer.Option(help="Write a PNG of frames before and after the conversion.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and the estimated duration only.")
    ] = False,
    **options: Any,
) -> None:
    """Interpolate, slow down, enhance or annotate recordings; everything else is preserved."""
    from streamer.app.conversion import open_networks
    from streamer.config import load_conversion
    from streamer.convert.batch import tasks

    given = {name: value for name, value in options.items() if value is not None}
    settings, engine, warnings = load_conversion(config or (), given)
    warn_of_old_names(warnings)
    suffix = None if container is None else f".{container.lower().removeprefix('.')}"
    planned = tasks(inputs, output, container=suffix)
    with open_networks(settings, device=device or engine.device) as networks:
        run = _Run(settings, networks, preview=preview, overwrite=overwrite, dry_run=dry_run)
        worst = run.convert_all(planned)
    if worst is not Exit.OK:
        raise typer.Exit(int(worst))


class _Run:
    def __init__(
        self,
        options: "ConvertOptions",
        networks: "Networks",
        *,
        preview: Path | None,
        overwrite: bool,
        dry_run: bool,
    ) -> None:
        self._options = options
        self._networks = networks
        # Decoding, stages and encoding of a chunk use two cores.
        self._jobs = options.jobs or max(1, len(os.sched_getaffinity(0)) // 2)
        self._preview, self._overwrite, self._dry_run = preview, overwrite, dry_run
        self._out = outputs.current()

    def convert_all(self, planned: "list[Task]") -> Exit:
        """Convert one recording after another; an error does not stop the others."""
        counts = dict.fromkeys(("converted", "skipped", "incomplete", "failed"), 0)
        worst = Exit.OK
        for task in planned:
            if task.is_done and not self._overwrite and not self._dry_run:
                counts["skipped"] += 1
                self._out.result(
                    {"kind": "skipped", "input": str(task.source), "output": str(task.output)},
                    f"{task.output}: exists; --overwrite converts it again",
                )
                continue
            try:
                outcome = self._convert(task)
            except Exception as error:
                if len(planned) == 1:
                    raise
                outcome = exit_code(error)
                self._out.error(one_line(error))
                self._out.record(
                    {"kind": "failed", "input": str(task.source), "error": one_line(error)}
                )
            names = {Exit.OK: "converted", Exit.INCOMPLETE: "incomplete"}
            counts[names.get(outcome, "failed")] += 1
            worst = max(worst, outcome)
        if len(planned) > 1 and not self._dry_run:
            text = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
            self._out.result({"kind": "summary", **counts}, text or "nothing to do")
        return worst

    def _convert(self, task: "Task") -> Exit:
        from streamer.app import conversion

        planned = conversion.make_plan(task.source, task.output, self._options)
        for note in planned.notes:
            self._out.note(f"{task.source.name}: {note}")
        if self._preview is not None:
            conversion.preview(planned, self._networks, self._preview)
            self._out.note(f"{self._preview}: frames before and after the conversion")
        if self._dry_run:
            seconds = conversion.estimate_duration(
                planned, self._networks, self._jobs, _ESTIMATE_FRAMES
            )
            self._out.result(plan_record(planned, seconds), lambda: plan_table(planned, seconds))
            return Exit.OK
        with progress_reporter(task.source.name) as reporter:
            result = conversion.convert(
                planned,
                self._networks,
                jobs=self._jobs,
                report=reporter.converting,
                on_detection=reporter.detecting,
                on_verification=reporter.verifying,
            )
        self._out.result(result_record(task, result), lambda: result_text(task, result))
        if not result.report.ok:
            return Exit.FAILED
        return Exit.OK if result.is_complete else Exit.INCOMPLETE
