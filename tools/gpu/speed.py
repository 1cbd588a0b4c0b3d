"""The section `speed`: each network in each runtime and batch size, beside the bare loop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from gpu import runtimes
from gpu.measuring import latency, loop_rate, throughput
from gpu.sections import Unavailable

if TYPE_CHECKING:
    from engines.registry import RegistryEntry
    from engines.spec import Precision
    from gpu.runtimes import Runner, Runtime
    from gpu.sections import Options, ResultLog

OF_BARE = 0.95
"""Goal: share of the bare loop's throughput that the engine reaches, copies included."""

DECODED_PER_S = 500
"""Goal: 1080p frames per second on a data-center GPU, from planes to results."""


def run(options: Options, results: ResultLog) -> None:
    """Measure each network in each runtime.

    Raises:
        Unavailable: No runtime runs any network.
    """
    for runtime in runtimes.wanted(options):
        for entry in runtimes.entries(options):
            for precision in runtime.precisions_of(entry):
                what = f"{entry.name} {precision} by {runtime.name}"
                measure = partial(_measure, options, results, runtime, entry, precision)
                results.attempt(what, measure)
    if not results.figures:
        raise Unavailable(f"no runtime runs any network on {options.device}")


def _measure(
    options: Options,
    results: ResultLog,
    runtime: Runtime,
    entry: RegistryEntry,
    precision: Precision,
) -> None:
    runner = runtime.open(entry, precision, options.index)
    rates = []
    try:
        for size in runtimes.batches(entry, quick=options.quick):
            figures = one_batch(runner, entry, size, options)
            results.add(f"{entry.name} {precision} {runtime.name} batch {size}", figures)
            rates.append(figures["frames_per_s"])
            share = figures.get("of_bare")
            goal = {} if share is None else _goal(runtime, share)
            compared = "" if share is None else f", {share:.3f} of the bare loop"
            results.row(
                f"{entry.name} {precision}, batch {size}, {runner.engine.backend}",
                f"{figures['frames_per_s']:.1f} a second{compared}; "
                f"p50 {figures['p50_ms']:.2f}, p95 {figures['p95_ms']:.2f}, "
                f"p99 {figures['p99_ms']:.2f} ms",
                **goal,
            )
    finally:
        runner.close()
    if entry.name.startswith("smoke") and options.on_gpu:
        results.row(
            f"1080p frames, {entry.name} {precision} by {runtime.name}",
            f"{max(rates):.0f} a second",
            goal=f"{DECODED_PER_S} a second",
            reached=max(rates) >= DECODED_PER_S,
        )


def _goal(runtime: Runtime, share: float) -> dict[str, Any]:
    """Return goal and result; only the program's own runtimes are compared with the goal."""
    if not runtime.name.startswith("tensorrt"):
        return {}
    return {"goal": f"{OF_BARE:.2f} of the bare loop", "reached": share >= OF_BARE}


def one_batch(
    runner: Runner, entry: RegistryEntry, size: int, options: Options
) -> dict[str, float]:
    """Measure latency, throughput from several threads, and the bare loop before and after."""
    inputs = runtimes.batch_of(entry, size)
    call = partial(runner.engine.infer, inputs)
    threads = runtimes.CUDA_THREADS if options.on_gpu else runtimes.CPU_THREADS
    figures: dict[str, float] = dict(latency(call, seconds=options.seconds, least=options.least))
    bare = runner.bare(inputs)
    before = loop_rate(bare, seconds=options.seconds / 2) if bare else 0.0
    rate = throughput(call, threads=threads, seconds=options.seconds)
    figures |= {"frames_per_s": round(rate * size, 2), "threads": threads}
    if bare:
        # Before and after: a GPU that heats up meanwhile slows both.
        after = loop_rate(bare, seconds=options.seconds / 2)
        alone = 2 / (1 / before + 1 / after)
        figures |= {"bare_per_s": round(alone * size, 2), "of_bare": round(rate / alone, 4)}
    return figures
