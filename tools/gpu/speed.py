"""The section `speed`: each network by each way, in batches, beside the bare loop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from gpu import runtimes
from gpu.measuring import latency, loop_rate, throughput
from gpu.sections import Unavailable

if TYPE_CHECKING:
    from engines.engine import Precision
    from engines.registry import RegistryEntry
    from gpu.runtimes import Runner, Runtime
    from gpu.sections import Options, ResultLog

OF_BARE = 0.95
"""Share of the bare loop's throughput that the whole way, copies and all, is to reach."""

DECODED_PER_S = 500
"""1080p pictures a second on a datacentre card, planes up and results back."""


def run(options: Options, notebook: ResultLog) -> None:
    """Measure.

    Raises:
        Unavailable: No network runs in any way.
    """
    for way in runtimes.wanted(options):
        for entry in runtimes.entries(options):
            for precision in way.precisions_of(entry):
                what = f"{entry.name} {precision} by {way.name}"
                measure = partial(_measure, options, notebook, way, entry, precision)
                notebook.attempt(what, measure)
    if not notebook.figures:
        raise Unavailable(f"no way runs any network on {options.device}")


def _measure(
    options: Options, notebook: ResultLog, way: Runtime, entry: RegistryEntry, precision: Precision
) -> None:
    runner = way.open(entry, precision, options.index)
    rates = []
    try:
        for size in runtimes.batches(entry, quick=options.quick):
            figures = one_batch(runner, entry, size, options)
            notebook.add(f"{entry.name} {precision} {way.name} batch {size}", figures)
            rates.append(figures["pictures_per_s"])
            share = figures.get("of_bare")
            goal = {} if share is None else _goal(way, share)
            compared = "" if share is None else f", {share:.3f} of the bare loop"
            notebook.row(
                f"{entry.name} {precision}, batch {size}, {runner.engine.backend}",
                f"{figures['pictures_per_s']:.1f} a second{compared}; "
                f"p50 {figures['p50_ms']:.2f}, p95 {figures['p95_ms']:.2f}, "
                f"p99 {figures['p99_ms']:.2f} ms",
                **goal,
            )
    finally:
        runner.close()
    if "luma" in entry.profiles[0].shapes and options.on_gpu:
        notebook.row(
            f"1080p pictures as decoded, {entry.name} {precision} by {way.name}",
            f"{max(rates):.0f} a second",
            goal=f"{DECODED_PER_S} a second",
            reached=max(rates) >= DECODED_PER_S,
        )


def _goal(way: Runtime, share: float) -> dict[str, Any]:
    """Only what the program itself runs by is held to it."""
    if not way.name.startswith("tensorrt"):
        return {}
    return {"goal": f"{OF_BARE:.2f} of the bare loop", "reached": share >= OF_BARE}


def one_batch(
    runner: Runner, entry: RegistryEntry, size: int, options: Options
) -> dict[str, float]:
    """Latency alone, throughput from several threads, and the bare loop right before and after."""
    inputs = runtimes.batch_of(entry, size)
    call = partial(runner.engine.infer, inputs)
    threads = runtimes.CUDA_THREADS if options.on_gpu else runtimes.CPU_THREADS
    figures: dict[str, float] = dict(latency(call, seconds=options.seconds, least=options.least))
    bare = runner.bare(inputs)
    before = loop_rate(bare, seconds=options.seconds / 2) if bare else 0.0
    rate = throughput(call, threads=threads, seconds=options.seconds)
    figures |= {"pictures_per_s": round(rate * size, 2), "threads": threads}
    if bare:
        # Before and after: a card that warms up meanwhile slows both.
        after = loop_rate(bare, seconds=options.seconds / 2)
        alone = 2 / (1 / before + 1 / after)
        figures |= {"bare_per_s": round(alone * size, 2), "of_bare": round(rate / alone, 4)}
    return figures
