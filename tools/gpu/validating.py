"""The section `validate`: the networks in each runtime, compared with the reference."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from engines.validation import boundary_inputs, compare_with_reference
from gpu import runtimes
from gpu.sections import Unavailable

if TYPE_CHECKING:
    from engines.registry import RegistryEntry
    from engines.spec import Precision
    from gpu.runtimes import Runtime
    from gpu.sections import Options, ResultLog


def run(options: Options, results: ResultLog) -> None:
    """Compile the networks and compare them with the reference.

    Raises:
        Unavailable: No runtime runs any network.
    """
    for runtime in runtimes.wanted(options):
        for entry in runtimes.entries(options):
            for precision in runtime.precisions_of(entry):
                what = f"{entry.name} {precision} by {runtime.name}"
                results.attempt(
                    what, partial(_validate, options, results, runtime, entry, precision)
                )
    if not results.rows:
        raise Unavailable(f"no runtime runs any network on {options.device}")


def _validate(
    options: Options,
    results: ResultLog,
    runtime: Runtime,
    entry: RegistryEntry,
    precision: Precision,
) -> None:
    began = time.perf_counter()
    runner = runtime.open(entry, precision, options.index)
    seconds = round(time.perf_counter() - began, 1)
    try:
        samples = [*entry.samples()]
        if entry.gpu is not None and runtime.name.startswith("tensorrt"):
            samples += boundary_inputs(samples, entry.gpu.profiles)
        tolerance = entry.tolerances[precision]
        report = compare_with_reference(runner.engine, entry.model(), samples, tolerance)
    finally:
        runner.close()
    results.add(
        f"{entry.name} {precision} {runtime.name}",
        {
            "largest": report.largest, "mean": report.mean, "passed": report.passed,
            "opened_s": seconds,
        },
    )  # fmt: skip
    results.row(
        f"{entry.name} {precision} by {report.backend}",
        f"opened in {seconds} s; differs by {report.largest:.6f}, mean {report.mean:.7f}",
        goal=f"{report.tolerance.largest}, {report.tolerance.mean}",
        reached=report.passed,
    )
