"""The networks this project ships: what `streamer engines list` and `verify` go through."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from engines.engine import Device, Precision, open_engine
from engines.errors import DeviceUnavailable, EngineError
from engines.interpolation import model as interpolation
from engines.interpolation.flow_network import device as whole_device
from engines.interpolation.flow_network import model as whole
from engines.lowlight import full_resolution_gpu as lowlight_device
from engines.lowlight import model as lowlight
from engines.modelfile import ModelFile, read_model_file
from engines.plans.cache import Profile, Target
from engines.smoke import model as smoke
from engines.smoke import yuv_model as smoke_device
from engines.validation import AccuracyReport, Tolerance, boundary_inputs, prove

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from engines.plans.cache import Shape
    from engines.spec import EngineSpec
    from engines.validation import Inputs


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One shipped network."""

    name: str
    """What people call it by."""
    task: str
    """What it is for, in a few words."""
    path: Path
    """Its ONNX file."""
    precision: Precision
    """Used unless another is asked for."""
    tolerances: Mapping[Precision, Tolerance]
    """Precisions it may run in, with how far each may be from the reference."""
    samples: Callable[[], Sequence[Inputs]]
    """Inputs to prove it with."""
    profiles: tuple[Profile, ...]
    """Sizes that plans for GPUs are compiled for; the first that accepts the inputs is used."""
    keep_f32: tuple[str, ...] = ()
    """Layers that stay in f32 on a GPU, by name; see `plans.store.Target`."""
    derive: Callable[[], ModelFile] | None = None
    """Makes the network where it is not just the file: a graph around it, for GPUs."""

    def model(self) -> ModelFile:
        """The network.

        Raises:
            ModelFileError: its file is missing, damaged or no ONNX.
            DeviceUnavailable: it is made with onnx, which is not installed.
        """
        if self.derive is None:
            return read_model_file(self.path)
        try:
            return self.derive()
        except ModuleNotFoundError as error:
            raise DeviceUnavailable(f"{self.name} needs the package {error.name}") from error

    def plan_precision(self) -> Precision:
        """What plans for GPUs are compiled in unless another is asked for."""
        return "f16" if "f16" in self.tolerances else "f32"

    def target(
        self, capability: str, precision: Precision | None = None, *, driver: int | None = None
    ) -> Target:
        """What to compile its plan for.

        Raises:
            EngineError: it has no tolerance for that precision.
        """
        chosen = precision or self.plan_precision()
        _check_precision(self, chosen)
        kept = self.keep_f32 if chosen != "f32" else ()
        return Target(capability, chosen, self.profiles, kept, driver)

    def plan_samples(self) -> Sequence[Inputs]:
        """Inputs to prove a plan with: the usual ones, and those at the ends of its profiles."""
        samples = list(self.samples())
        return [*samples, *boundary_inputs(samples, self.profiles)]


def _profile(**shapes: tuple[Shape, Shape, Shape]) -> Profile:
    return Profile(shapes)


def _looks(least: Shape, best: Shape, most: Shape) -> Profile:
    """The smoke networks' inputs for (batch, height, width)."""
    pictures = ((*least, 3), (*best, 3), (*most, 3))
    flags = (least[:1], best[:1], most[:1])
    return _profile(image=pictures, background=pictures, has_background=flags)


SMOKE_SIZES = (
    # What every camera is looked at in, in batches across cameras.
    _looks((1, 384, 640), (8, 384, 640), (32, 384, 640)),
    # Other sizes, one or a few at a time.
    _looks((1, 64, 64), (1, 384, 640), (4, 1088, 1920)),
)
"""Of the smoke networks. Fixed sizes come first: kernels are tuned for them."""
INTERPOLATION_SIZES = _profile(
    # Reduced pictures are 64 to 512 pixels long; 1920x1080 becomes 480x272.
    differences=((9, 64, 64), (9, 272, 480), (9, 512, 512)),
    blurred_differences=((6, 32, 32), (6, 136, 240), (6, 256, 256)),
    motion_fields=((2, 32, 32, 2), (2, 136, 240, 2), (2, 256, 256, 2)),
    t=((1,),) * 3,
)
"""Of the interpolation network; see `interpolation/downscale.py`."""

REGISTRY: tuple[RegistryEntry, ...] = (
    *(
        RegistryEntry(
            name=name,
            task="smoke segmentation",
            path=path,
            precision="f32",
            tolerances=smoke.TOLERANCES,
            samples=smoke.validation_samples,
            profiles=SMOKE_SIZES,
        )
        for name, path in smoke.SHIPPED.items()
    ),
    RegistryEntry(
        name="lowlight",
        task="low-light enhancement",
        path=lowlight.SHIPPED,
        precision="f32",
        tolerances={**lowlight.TOLERANCES, "f16": Tolerance(largest=0.02, mean=0.001)},
        samples=lowlight.validation_samples,
        profiles=(_profile(thumbnail=((1, 96, 160, 3),) * 3, noise=((1,),) * 3),),
        # Curves are sums of what a few layers say of the whole picture; they cost nothing.
        keep_f32=(
            "/network/scene/*",
            "/network/curves/*",
            "/network/MatMul*",
            "/network/balance/*",
        ),
    ),
    RegistryEntry(
        name="lowlight-full-size",
        task="low-light enhancement of planes",
        path=lowlight_device.SHIPPED,
        precision="f32",
        tolerances=lowlight_device.TOLERANCES,
        samples=lowlight_device.validation_samples,
        profiles=(Profile(lowlight_device.profile()),),
    ),
    RegistryEntry(
        name="interpolation",
        task="frame interpolation",
        path=interpolation.SHIPPED,
        precision="f32",
        tolerances={**interpolation.TOLERANCES, "f16": Tolerance(largest=0.02, mean=0.001)},
        samples=interpolation.validation_samples,
        profiles=(INTERPOLATION_SIZES,),
        # Takes the motion, in pixels: fp16 tells 100.0 from 100.1, not from 100.01.
        keep_f32=("/network/beside/*",),
    ),
)


FOR_GPUS: tuple[RegistryEntry, ...] = (
    *(
        RegistryEntry(
            name=f"{name}-{layout}",
            task=f"smoke segmentation of {layout} pictures as decoded",
            path=path,
            precision="f32",
            tolerances=smoke_device.TOLERANCES,
            samples=partial(smoke_device.samples, layout),
            profiles=smoke_device.profiles(layout),
            derive=partial(smoke_device.graph, name, layout),
        )
        for name, path in smoke.SHIPPED.items()
        for layout in smoke_device.LAYOUTS
    ),
)
"""The same networks as they are run on GPUs: made from the shipped files when they are needed."""
EXPERIMENTAL: tuple[RegistryEntry, ...] = (
    RegistryEntry(
        name="interpolation-whole",
        task="frame interpolation on GPUs",
        path=whole.SHIPPED,
        precision="f32",
        tolerances=whole.TOLERANCES,
        samples=partial(interpolation.validation_samples, whole),
        profiles=(whole.PROFILE,),
        keep_f32=whole.KEPT,
    ),
    RegistryEntry(
        name="interpolation-whole-planes",
        task="frame interpolation of pictures as decoded",
        path=whole.SHIPPED,
        precision="f32",
        tolerances=whole_device.TOLERANCES,
        samples=whole_device.validation_samples,
        profiles=(whole_device.profile(),),
        keep_f32=(*whole_device.KEPT, *whole.KEPT),
        derive=whole_device.graph,
    ),
)
"""Networks for GPUs that are used only by who asks for them by name or device: they are not good
enough yet, and take minutes to compile."""
ALL_MODELS = (*REGISTRY, *FOR_GPUS, *EXPERIMENTAL)
"""All that a plan may be of."""


def find(name: str) -> RegistryEntry:
    """The entry of that name.

    Raises:
        EngineError: there is none.
    """
    for entry in ALL_MODELS:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in ALL_MODELS)
    raise EngineError(f"no engine is called {name!r}; there are: {known}")


def entry_of(spec: EngineSpec) -> RegistryEntry | None:
    """The entry whose sizes a network may be compiled for: of its name, else with its inputs."""
    inputs = {tensor.name for tensor in spec.inputs}
    fitting = [entry for entry in ALL_MODELS if entry.profiles[0].shapes.keys() == inputs]
    named = [entry for entry in fitting if entry.name == spec.name]
    return next(iter(named + fitting), None)


def verify(
    entry: RegistryEntry, *, device: Device = "auto", precision: Precision | None = None
) -> AccuracyReport:
    """Compile an entry and compare it with the reference now, whatever is remembered.

    Raises:
        EngineError: it cannot be opened, or has no tolerance for that precision.
    """
    chosen = precision or entry.precision
    _check_precision(entry, chosen)
    model = entry.model()
    engine = open_engine(model, device=device, precision=chosen)
    try:
        return prove(engine, model, entry.samples(), entry.tolerances[chosen])
    finally:
        engine.close()


def _check_precision(entry: RegistryEntry, precision: Precision) -> None:
    if precision not in entry.tolerances:
        raise EngineError(
            f"{entry.name} is not meant to run in {precision}: no tolerance is written down"
        )
