"""The section `prove`: every way to run a network, compared with the reference."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gpu import runtimes
from gpu.sections import Unavailable

if TYPE_CHECKING:
    from engines.engine import Precision
    from engines.registry import RegistryEntry
    from gpu.runtimes import Runtime
    from gpu.sections import Options, ResultLog


def run(options: Options, notebook: ResultLog) -> None:
    """Prove.

    Raises:
        Unavailable: No network runs in any way.
    """
    for way in runtimes.wanted(options):
        for entry in runtimes.entries(options):
            for precision in way.precisions_of(entry):
                what = f"{entry.name} {precision} by {way.name}"
                notebook.attempt(what, partial(_prove, options, notebook, way, entry, precision))
    if not notebook.rows:
        raise Unavailable(f"no way runs any network on {options.device}")


def _prove(
    options: Options, notebook: ResultLog, way: Runtime, entry: RegistryEntry, precision: Precision
) -> None:
    from engines.validation import prove

    runner = way.open(entry, precision, options.index)
    try:
        samples = [*entry.samples()]
        samples += [
            runtimes.batch_of(entry, size) for size in runtimes.batches(entry, quick=True)[1:]
        ]
        proof = prove(runner.engine, entry.model(), samples, entry.tolerances[precision])
    finally:
        runner.close()
    notebook.add(
        f"{entry.name} {precision} {way.name}",
        {"largest": proof.largest, "mean": proof.mean, "passed": proof.passed},
    )
    notebook.row(
        f"{entry.name} {precision} by {proof.backend}",
        f"differs by {proof.largest:.6f}, mean {proof.mean:.7f}",
        goal=f"{proof.tolerance.largest}, {proof.tolerance.mean}",
        reached=proof.passed,
    )
