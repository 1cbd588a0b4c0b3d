"""The networks that this project ships: `streamer engines list`, `build` and `verify`."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from engines.backends.cpu import open_engine
from engines.engine import read_device
from engines.errors import DeviceUnavailable, EngineError
from engines.interpolation import model as interpolation
from engines.loading import find_gpu
from engines.lowlight import full_resolution_gpu
from engines.lowlight import model as lowlight
from engines.modelfile import ModelFile, read_model_file
from engines.plans.provider import PlanProvider
from engines.smoke import model as smoke
from engines.smoke import yuv_model
from engines.spec import Target
from engines.validation import AccuracyReport, compare_with_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from engines.engine import Device, Engine
    from engines.plans.settings import PlanSettings
    from engines.spec import Precision
    from engines.validation import Inputs, Tolerance


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One shipped network."""

    name: str
    """Name, as in the metadata of the file."""
    task: str
    """Purpose, in a few words."""
    path: Path
    """Its ONNX file."""
    tolerances: Mapping[Precision, Tolerance]
    """Supported precisions, with the allowed difference from the reference."""
    samples: Callable[[], Sequence[Inputs]]
    """Inputs for the accuracy check."""
    gpu: PlanSettings | None = None
    """Settings of its plans; None for networks that run on the CPU only."""
    build_graph: Callable[[], ModelFile] | None = None
    """Makes the network if it is not just the file: a graph around it, for GPUs."""

    def model(self) -> ModelFile:
        """Return the network.

        Raises:
            ModelFileError: Its file is missing, damaged or not ONNX.
            DeviceUnavailable: It is made with the package onnx, which is not installed.
        """
        return self.build_graph() if self.build_graph else read_model_file(self.path)

    def plan_settings(self) -> PlanSettings:
        """Return how it is compiled for GPUs.

        Raises:
            EngineError: It runs on the CPU only.
        """
        if self.gpu is None:
            raise EngineError(f"{self.name} runs on the CPU only")
        return self.gpu

    def target(
        self, capability: str, precision: Precision | None = None, *, driver: int | None = None
    ) -> Target:
        """Return what its plan is compiled for.

        Raises:
            EngineError: It runs on the CPU only, or there is no tolerance for that precision.
        """
        settings = self.plan_settings()
        return Target(capability, settings.precision(precision), settings.profiles, driver)


REGISTRY: tuple[RegistryEntry, ...] = (
    *(
        RegistryEntry(name, "smoke segmentation", path, smoke.TOLERANCES, smoke.validation_samples)
        for name, path in smoke.SHIPPED.items()
    ),
    RegistryEntry(
        "lowlight",
        "low-light enhancement",
        lowlight.SHIPPED,
        lowlight.TOLERANCES,
        lowlight.validation_samples,
    ),
    RegistryEntry(
        "lowlight-full-resolution",
        "low-light enhancement at full resolution",
        full_resolution_gpu.SHIPPED,
        full_resolution_gpu.TOLERANCES,
        full_resolution_gpu.validation_samples,
        full_resolution_gpu.SETTINGS,
    ),
    RegistryEntry(
        "interpolation",
        "frame interpolation",
        interpolation.SHIPPED,
        interpolation.TOLERANCES,
        interpolation.validation_samples,
    ),
)
"""The shipped files."""
FOR_GPUS: tuple[RegistryEntry, ...] = tuple(
    RegistryEntry(
        f"{name}-{layout}",
        f"smoke segmentation of {layout} frames",
        path,
        yuv_model.TOLERANCES,
        partial(yuv_model.samples, layout),
        yuv_model.settings(layout),
        partial(yuv_model.graph, name, layout),
    )
    for name, path in smoke.SHIPPED.items()
    for layout in yuv_model.LAYOUTS
)
"""The smoke networks as GPUs run them: made from the shipped files when they are needed."""
ALL_MODELS = (*REGISTRY, *FOR_GPUS)
COMPILED = tuple(entry for entry in ALL_MODELS if entry.gpu is not None)
"""The networks that the program runs on GPUs."""


def find(name: str) -> RegistryEntry:
    """Return the entry of that name.

    Raises:
        EngineError: There is none.
    """
    for entry in ALL_MODELS:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in ALL_MODELS)
    raise EngineError(f"no engine is called {name!r}; there are: {known}")


def open_entry(
    entry: RegistryEntry, *, device: Device = "auto", precision: Precision | None = None
) -> Engine:
    """Open an entry without an accuracy check; on a GPU, compile its plan first if there is none.

    Args:
        entry: The network.
        device: "auto" is the GPU for networks that the program runs there, if there is one.
        precision: None for the default: f32 on the CPU, that of the program's plans on a GPU.

    Raises:
        DeviceUnavailable: There is no such device, or it does not run the network or precision.
        EngineError: It cannot be opened.
    """
    if read_device(device)[0] == "cuda" and entry.gpu is None:
        raise DeviceUnavailable(f"{entry.name} runs on the CPU only")
    model = entry.model()
    runtime = find_gpu(device, precision) if entry.gpu else None
    if runtime is None or entry.gpu is None:
        return open_engine(model, precision=precision or "f32")
    provider = PlanProvider(
        model, entry.gpu, library=runtime.library, gpu=runtime.gpu, precision=precision
    )
    return provider.open(lambda _: None, threading.Event())[1]


def verify(
    entry: RegistryEntry, *, device: Device = "auto", precision: Precision | None = None
) -> AccuracyReport:
    """Open an entry and compare it with the reference now, whatever is cached.

    Raises:
        EngineError: It cannot be opened, or there is no tolerance for that precision.
    """
    if precision is not None and precision not in entry.tolerances:
        raise EngineError(f"{entry.name} has no tolerance for {precision}")
    engine = open_entry(entry, device=device, precision=precision)
    try:
        chosen = precision or _precision_of(entry, engine)
        samples = entry.samples()
        return compare_with_reference(engine, entry.model(), samples, entry.tolerances[chosen])
    finally:
        engine.close()


def _precision_of(entry: RegistryEntry, engine: Engine) -> Precision:
    on_gpu = entry.gpu is not None and engine.state.device != "cpu"
    return entry.plan_settings().precision() if on_gpu else "f32"
