"""The section `prove`: every way to run a network, compared with the reference."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gpu import ways
from gpu.sections import Unavailable

if TYPE_CHECKING:
    from engines.catalog import CatalogEntry
    from engines.engine import Precision
    from gpu.sections import Notebook, Options
    from gpu.ways import Way


def run(options: Options, notebook: Notebook) -> None:
    """Prove.

    Raises:
        Unavailable: No network runs in any way.
    """
    for way in ways.wanted(options):
        for entry in ways.entries(options):
            for precision in way.precisions_of(entry):
                what = f"{entry.name} {precision} by {way.name}"
                notebook.attempt(what, partial(_prove, options, notebook, way, entry, precision))
    if not notebook.rows:
        raise Unavailable(f"no way runs any network on {options.device}")


def _prove(
    options: Options, notebook: Notebook, way: Way, entry: CatalogEntry, precision: Precision
) -> None:
    from engines.proof import prove

    runner = way.open(entry, precision, options.index)
    try:
        samples = [*entry.samples()]
        samples += [ways.batch_of(entry, size) for size in ways.batches(entry, quick=True)[1:]]
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
