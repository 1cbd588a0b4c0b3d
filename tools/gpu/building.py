"""The section `build`: a plan of every network for this card, and its proof."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gpu import runtimes
from gpu.sections import Unavailable

if TYPE_CHECKING:
    from engines.backends.cuda import Gpu
    from engines.engine import Precision
    from engines.plans.cache import Edition
    from engines.registry import RegistryEntry
    from gpu.sections import Options, ResultLog

EDITIONS: tuple[Edition, ...] = ("tensorrt", "rtx")


def run(options: Options, notebook: ResultLog) -> None:
    """Build and prove.

    Raises:
        Unavailable: There is no GPU, or neither edition compiles for it.
    """
    if not options.on_gpu:
        raise Unavailable("plans are for GPUs; the tests compile some without one")
    from engines.backends import cuda
    from engines.backends.tensorrt import library
    from engines.errors import DeviceUnavailable

    try:
        gpu = cuda.gpu(options.index)
    except DeviceUnavailable as error:
        raise Unavailable(str(error)) from error
    notebook.add("gpu", {"name": gpu.name, "capability": gpu.capability, "driver": gpu.driver})
    for edition in EDITIONS:
        try:
            name = library(edition).name
        except DeviceUnavailable as error:
            notebook.problem(edition, str(error))
            continue
        for entry in runtimes.entries(options):
            for precision in ("f16", "f32"):
                if precision in entry.tolerances:
                    what = f"{entry.name} {precision} by {name} for {gpu.capability}"
                    notebook.attempt(
                        what, partial(_build, notebook, edition, entry, precision, gpu)
                    )
    if not notebook.rows:
        raise Unavailable(f"no plan for {gpu.name} ({gpu.capability}); see the problems")


def _build(
    notebook: ResultLog, edition: Edition, entry: RegistryEntry, precision: Precision, gpu: Gpu
) -> None:
    from engines.backends.tensorrt import TensorRtEngine
    from engines.engine import reference_spec
    from engines.validation import prove
    from gpu.tensorrt_runner import plan_of

    plan, found, seconds = plan_of(edition, entry, precision, gpu)
    spec = reference_spec(entry.model())
    engine = TensorRtEngine(plan, library=found, gpu=gpu, spec=spec, precision=precision)
    try:
        proof = prove(engine, entry.model(), entry.plan_samples(), entry.tolerances[precision])
    finally:
        engine.close()
    notebook.add(
        f"{entry.name} {precision} {edition}",
        {"seconds": seconds, "bytes": len(plan), "largest": proof.largest, "mean": proof.mean},
    )
    notebook.row(
        f"{entry.name} {precision} by {found.name}",
        f"{len(plan) / 1e6:.1f} MB in {seconds:.1f} s; differs by {proof.largest:.5f}, "
        f"mean {proof.mean:.6f}",
        goal=f"{proof.tolerance.largest}, {proof.tolerance.mean}",
        reached=proof.passed,
    )
