"""Gets a proven engine for a GPU: from the plans that are kept, or by having one compiled.

Each plan is compared with the reference before it is used, on the GPU it is to run on; that it
passed is kept beside it. Who runs meanwhile is `changeover.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engines.backends.tensorrt import TensorRtEngine
from engines.engine import reference_spec
from engines.errors import InaccurateEngine, PlanUnfit
from engines.plans.build_process import Compilation
from engines.plans.builder import BuildStopped, key_of
from engines.plans.cache import PlanCache
from engines.validation import prove

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from engines.backends.cuda import Gpu
    from engines.backends.tensorrt import Library
    from engines.engine import Engine, Precision
    from engines.modelfile import ModelFile
    from engines.plans.cache import PlanKey
    from engines.registry import RegistryEntry


class PlanProvider:
    """Plans of one network for one GPU. Used by one thread at a time.

    Args:
        model: The network.
        entry: How it is compiled and proven.
        library: What compiles and runs it.
        gpu: Where it is to run.
        precision: None for what the entry is meant to run in there.
        store: Where plans are kept.

    Raises:
        EngineError: The entry has no tolerance for that precision.
    """

    def __init__(
        self,
        model: ModelFile,
        entry: RegistryEntry,
        *,
        library: Library,
        gpu: Gpu,
        precision: Precision | None = None,
        store: PlanCache | None = None,
    ) -> None:
        target = entry.target(gpu.capability, precision, driver=gpu.driver_major)
        self.where = str(gpu)
        """As in "cuda:0 NVIDIA L4"."""
        self._model, self._entry, self._library, self._gpu = model, entry, library, gpu
        self._precision = target.precision
        self._spec = reference_spec(model)
        self._store = store or PlanCache()
        self._key = key_of(model, library, target)

    def ready(self) -> Engine | None:
        """An engine from the plan that is kept and passed its proof here; None if there is none.

        Raises:
            OutOfDeviceMemory, DeviceLost: As they say.
        """
        return self._open(self._key) if self._passed(self._key) else None

    def older(self) -> Engine | None:
        """An engine from another plan of this network that passed its proof here and still fits."""
        found = self._store.previous(self._key, gpu=self._gpu.name)
        return self._open(found[0]) if found else None

    def build(self, tell: Callable[[float], None], stop: threading.Event) -> Engine:
        """Compile in a process of its own if there is no plan yet; prove it, and open it.

        Args:
            tell: Is told the share that is done, 0 to 1.
            stop: Ends the build soon when it is set.

        Raises:
            BuildStopped: `stop` was set.
            InaccurateEngine: The plan differs from the reference.
            EngineError: There is no plan, and why.
        """
        engine = self._open(self._key)
        if engine is None:
            self._compile(tell, stop)
            engine = self._open(self._key)
        if engine is None:
            raise PlanUnfit(f"{self._model.name}: the plan that was just built cannot be loaded")
        try:
            self._prove(engine, stop)
        except BaseException:
            engine.close()
            raise
        return engine

    def _compile(self, tell: Callable[[float], None], stop: threading.Event) -> None:
        with Compilation(
            self._model,
            self._key.target,
            self._store,
            edition=self._library.edition,
            gpu=self._gpu.index,
        ) as compilation:
            for progress in compilation.progress():
                if stop.is_set():
                    raise BuildStopped(f"{self._model.name}: the build was stopped")
                tell(progress.share)

    def _open(self, key: PlanKey) -> Engine | None:
        """From the plan of that key; None if there is none, or none that can be loaded here."""
        content = self._store.get(key)
        if content is None:
            return None
        try:
            return TensorRtEngine(
                content,
                library=self._library,
                gpu=self._gpu,
                spec=self._spec,
                precision=self._precision,
            )
        except PlanUnfit:
            return None

    def _passed(self, key: PlanKey) -> bool:
        """Whether that plan passed on this GPU with what is demanded today."""
        same = (key, replace(key, target=replace(key.target, driver=None)))
        tolerance = self._entry.tolerances[self._precision]
        for entry in self._store.entries():
            if entry.key in same and (figures := entry.proofs.get(self._gpu.name)):
                return bool(
                    figures["largest"] <= tolerance.largest and figures["mean"] <= tolerance.mean
                )
        return False

    def _prove(self, engine: Engine, stop: threading.Event) -> None:
        tolerance = self._entry.tolerances[self._precision]
        proofs = []
        for sample in self._entry.plan_samples():  # the largest take the reference seconds each
            if stop.is_set():
                raise BuildStopped(f"{self._model.name}: the proof was stopped")
            proofs.append(prove(engine, self._model, [sample], tolerance))
        # Not max(), which would lose a NaN; a NaN must fail.
        proof = replace(
            proofs[0],
            largest=float(np.max([each.largest for each in proofs])),
            mean=float(np.max([each.mean for each in proofs])),
        )
        if not proof.passed:
            raise InaccurateEngine(
                f"{proof.model} on {proof.backend} differs from {proof.reference} by up to "
                f"{proof.largest:.4f} (mean {proof.mean:.5f}); allowed are {tolerance.largest} and "
                f"{tolerance.mean}"
            )
        self._store.note_proof(self._key, proof, gpu=self._gpu.name)
