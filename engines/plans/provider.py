"""Provides an engine on a GPU from a compiled plan, after its accuracy was checked there.

The accuracy is recorded beside the plan under everything that it depends on: the GPU, its driver
and the samples. What runs meanwhile is `fallback.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engines.backends.cpu import reference_spec
from engines.backends.tensorrt_engine import TensorRtEngine
from engines.errors import BuildStopped, PlanUnfit
from engines.plans.build_process import Compilation
from engines.plans.builder import key_of
from engines.plans.cache import PlanCache
from engines.spec import Target
from engines.validation import boundary_inputs, compare_with_reference, digest_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from engines.backends.cuda import Gpu
    from engines.backends.tensorrt import Library
    from engines.modelfile import ModelFile
    from engines.plans.cache import StoredPlan
    from engines.plans.settings import PlanSettings
    from engines.spec import Precision
    from engines.validation import AccuracyReport


class PlanProvider:
    """Plans of one network for one GPU. Used by one thread at a time.

    Args:
        model: The network.
        settings: How it is compiled and checked.
        library: Compiles and runs it.
        gpu: Where it runs.
        precision: None for the default of the settings.
        cache: Where plans are stored; None for the user's cache folder.

    Raises:
        EngineError: There is no tolerance for that precision.
    """

    def __init__(
        self,
        model: ModelFile,
        settings: PlanSettings,
        *,
        library: Library,
        gpu: Gpu,
        precision: Precision | None = None,
        cache: PlanCache | None = None,
    ) -> None:
        self.where = str(gpu)
        """As in "cuda:0 NVIDIA L4"."""
        self.profiles = settings.profiles
        self._model, self._settings, self._library, self._gpu = model, settings, library, gpu
        self._precision = settings.precision(precision)
        self._tolerance = settings.tolerances[self._precision]
        self._spec = reference_spec(model)
        self._cache = cache or PlanCache()
        target = Target(gpu.capability, self._precision, settings.profiles, gpu.driver_major)
        self._key = key_of(model, library, target)

    def is_checked(self) -> bool:
        """Return whether there is a stored plan that passed its check here, without loading it."""
        stored = self._cache.get(self._key)
        return stored is not None and self._passed(stored)

    def ready(self) -> TensorRtEngine | None:
        """Return an engine from a stored plan that passed its check here; None if there is none.

        Raises:
            OutOfDeviceMemory: The GPU has no room for it now.
            DeviceLost: The GPU stopped answering.
        """
        stored = self._cache.get(self._key)
        if stored is None or not self._passed(stored):
            return None
        engine = self._loaded(stored)
        if engine is not None:
            try:
                self._warm(engine)
            except BaseException:
                engine.close()
                raise
        return engine

    def build(self, progress: Callable[[float], None], stop: threading.Event) -> TensorRtEngine:
        """Return an engine that passed its check; compile the plan first if there is none.

        Args:
            progress: Called with the progress of the compilation, 0 to 1.
            stop: Ends the build soon after it is set.

        Raises:
            BuildStopped: `stop` was set.
            InaccurateEngine: The plan differs from the reference by more than its tolerance.
            EngineError: There is no plan, and why.
        """
        stored, engine = self.open(progress, stop)
        try:
            if not self._passed(stored):
                report = self._measured(engine, stop)
                self._cache.note_report(stored, self.report_identity(), report)
                report.require()
            self._warm(engine)
        except BaseException:
            engine.close()
            raise
        return engine

    def open(
        self, progress: Callable[[float], None], stop: threading.Event
    ) -> tuple[StoredPlan, TensorRtEngine]:
        """Return the plan and its engine, not checked; compile it in a process if there is none.

        Raises:
            BuildStopped: `stop` was set.
            EngineError: There is no plan, and why.
        """
        stored = self._cache.get(self._key)
        engine = self._loaded(stored) if stored else None
        if engine is None:
            self._compile(progress, stop)
            stored = self._cache.get(self._key)
            engine = self._loaded(stored) if stored else None
        if stored is None or engine is None:
            raise PlanUnfit(f"{self._model.name}: the plan that was just built cannot be loaded")
        return stored, engine

    def report_identity(self) -> str:
        """Return everything that the accuracy of a plan depends on beside the plan itself."""
        digest = digest_of(self._settings.samples())
        return f"{self._gpu.name}, driver {self._gpu.driver}, samples {digest[:16]}"

    def _compile(self, progress: Callable[[float], None], stop: threading.Event) -> None:
        with Compilation(
            self._model,
            self._key.target,
            self._cache,
            edition=self._library.edition,
            gpu=self._gpu.index,
        ) as compilation:
            for now in compilation.progress():
                if stop.is_set():
                    raise BuildStopped(f"{self._model.name}: the build was stopped")
                progress(now.progress)

    def _loaded(self, stored: StoredPlan) -> TensorRtEngine | None:
        """Return the engine of a plan; None if it cannot be loaded here."""
        try:
            return TensorRtEngine(
                stored.content,
                library=self._library,
                gpu=self._gpu,
                spec=self._spec,
                precision=self._precision,
                kernels=self._cache.kernels(stored),
            )
        except PlanUnfit:
            return None

    def _warm(self, engine: TensorRtEngine) -> None:
        """Prepare the expected shapes, so that no live camera waits for a compiler."""
        for shapes in self._settings.warm_shapes:
            engine.prepare(shapes)

    def _passed(self, stored: StoredPlan) -> bool:
        """Whether this very plan passed here, by the tolerance of today."""
        figures = self._cache.reports(stored).get(self.report_identity())
        return figures is not None and bool(
            figures["largest"] <= self._tolerance.largest
            and figures["mean"] <= self._tolerance.mean
        )

    def _measured(self, engine: TensorRtEngine, stop: threading.Event) -> AccuracyReport:
        samples = list(self._settings.samples())
        reports = []
        # The reference takes seconds for the largest samples.
        for sample in [*samples, *boundary_inputs(samples, self._settings.profiles)]:
            if stop.is_set():
                raise BuildStopped(f"{self._model.name}: the accuracy check was stopped")
            reports.append(compare_with_reference(engine, self._model, [sample], self._tolerance))
        # The built-in max() would lose a NaN; a NaN must fail.
        return replace(
            reports[0],
            largest=float(np.max([each.largest for each in reports])),
            mean=float(np.max([each.mean for each in reports])),
        )
