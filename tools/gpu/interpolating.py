"""The section `interpolate`: the rate of 1080p pictures doubled, as the program does it."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from engines.interpolation.model import Interpolator
from engines.registry import find
from gpu import runtimes
from gpu.material import pictures
from gpu.measuring import latency, throughput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gpu.sections import Options, ResultLog

    Pair = Sequence[Sequence[NDArray[Any]]]

GOAL = 200
"""Output frames a second at 1080p, twice the rate of what goes in."""


def run(options: Options, notebook: ResultLog) -> None:
    """Measure: the searching way, and on a GPU the network that does all of it, by planes too."""
    pair = [each.planes() for each in pictures(options, 2)]
    measure = partial(_measure, options, notebook, pair)
    with ExitStack() as opened:
        way, runner = runtimes.best(options, find("interpolation"), notebook)
        opened.callback(runner.close)
        what = f"network by {way.name}, motion and full size on the processor"
        notebook.attempt(what, partial(measure, what, Interpolator(runner.engine)))
    if options.on_gpu:
        notebook.attempt("the whole network", partial(_on_device, options, notebook, measure))


def _on_device(options: Options, notebook: ResultLog, measure: Callable[..., None]) -> None:
    with ExitStack() as opened:
        way, network = runtimes.best(options, find("interpolation-whole"), notebook)
        opened.callback(network.close)
        what = f"whole network by {way.name}, full size on the processor"
        notebook.attempt(what, partial(measure, what, Interpolator(network.engine)))
        way, planes = runtimes.best(options, find("interpolation-whole-planes"), notebook)
        opened.callback(planes.close)
        model = Interpolator(network.engine, by_planes=planes.engine)
        measure(f"whole network by planes by {way.name}", model, goal=True)


def _measure(
    options: Options,
    notebook: ResultLog,
    pair: Pair,
    name: str,
    model: Interpolator,
    *,
    goal: bool = False,
) -> None:
    call = partial(_between, model, *pair)
    figures = dict(latency(call, seconds=options.seconds, least=options.least))
    for threads in (1, 4):
        rate = throughput(call, threads=threads, seconds=options.seconds)
        figures[f"threads_{threads}_per_s"] = round(2 * rate, 1)  # each made one, and its own
    if model.state.degraded:
        raise RuntimeError(f"the device failed: {model.state.reason}")
    notebook.add(name, figures)
    best = max(figures["threads_1_per_s"], figures["threads_4_per_s"])
    held: dict[str, Any] = {"goal": f"{GOAL} a second", "reached": best >= GOAL} if goal else {}
    height, width = pair[0][0].shape
    notebook.row(
        f"{width}x{height} doubled, {name}",
        f"{figures['threads_1_per_s']:.1f} output frames a second of one stream, "
        f"{figures['threads_4_per_s']:.1f} of four; p99 {figures['p99_ms']:.1f} ms a made one",
        **held,
    )


def _between(
    model: Interpolator, before: Sequence[NDArray[Any]], after: Sequence[NDArray[Any]]
) -> object:
    return model.between(before, after).at(0.5)
