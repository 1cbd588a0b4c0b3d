"""The section `interpolate`: the rate of 1080p pictures doubled, as the program does it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from engines.catalog import find
from engines.interpolation.model import Interpolator
from gpu import ways
from gpu.material import pictures
from gpu.measuring import latency, throughput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpu.sections import Notebook, Options

GOAL = 200
"""Output frames a second at 1080p, twice the rate of what goes in."""


def run(options: Options, notebook: Notebook) -> None:
    """Measure."""
    before, after = ([p.y, p.u, p.v] for p in (each.planes() for each in pictures(options, 2)))
    way, runner = ways.best(options, find("interpolation"), notebook)
    try:
        call = partial(_between, Interpolator(runner.engine), before, after)
        figures = dict(latency(call, seconds=options.seconds, least=options.least))
        for threads in (1, 4):
            rate = throughput(call, threads=threads, seconds=options.seconds)
            figures[f"threads_{threads}_per_s"] = round(2 * rate, 1)  # each made one, and its own
    finally:
        runner.close()
    notebook.add(way.name, figures)
    best = max(figures["threads_1_per_s"], figures["threads_4_per_s"])
    held: dict[str, Any] = {}
    if options.on_gpu:
        held = {"goal": f"{GOAL} a second", "reached": best >= GOAL}
    height, width = before[0].shape
    notebook.row(
        f"{width}x{height} doubled, network by {way.name}, motion and full size by the processor",
        f"{figures['threads_1_per_s']:.1f} output frames a second of one stream, "
        f"{figures['threads_4_per_s']:.1f} of four; p99 {figures['p99_ms']:.1f} ms a made one",
        **held,
    )


def _between(
    model: Interpolator, before: Sequence[NDArray[Any]], after: Sequence[NDArray[Any]]
) -> object:
    return model.between(before, after).at(0.5)
