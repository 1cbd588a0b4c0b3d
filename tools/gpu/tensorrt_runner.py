"""Runs the program's own engine on a GPU, and the bare loop that it is compared with."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from engines.backends import cuda
from engines.backends.tensorrt import library
from engines.plans.provider import PlanProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from engines.backends.tensorrt_engine import TensorRtEngine
    from engines.engine import Engine
    from engines.registry import RegistryEntry
    from engines.spec import Edition, Precision

    Arrays = Mapping[str, NDArray[Any]]


class TensorRtRunner:
    """See `runtimes.Runner`."""

    def __init__(self, engine: TensorRtEngine) -> None:
        self.engine: Engine = engine
        self._engine = engine

    @classmethod
    def open(
        cls, edition: Edition, entry: RegistryEntry, precision: Precision, index: int
    ) -> TensorRtRunner:
        """Open a network; compile its plan first if there is none.

        Raises:
            EngineError: The library, GPU, driver, PyCUDA or plan is missing, or does not fit.
        """
        found = library(edition)  # Before the GPU: "not installed" is the better answer.
        provider = PlanProvider(
            entry.model(), entry.plan_settings(), library=found, gpu=cuda.gpu(index),
            precision=precision,
        )  # fmt: skip
        return cls(provider.open(lambda _: None, threading.Event())[1])

    def bare(self, inputs: Arrays) -> Callable[[int], None]:
        """Return a loop over `execute_async_v3` on arrays that are on the device."""
        self._engine.infer(inputs)  # uploads them
        shapes = {name: array.shape for name, array in inputs.items()}

        def run(times: int) -> None:
            self._engine.execute(shapes, times)

        return run

    def close(self) -> None:
        """Release the device's memory."""
        self._engine.close()
