"""Opens a model where it was asked for, proven: on the CPU now, on a GPU as soon as it can be.

What `model.py` of each room calls. `engine.py` opens one engine and proves nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engines.engine import open_engine, read_device, reference_spec
from engines.errors import DeviceUnavailable
from engines.modelfile import read_model_file
from engines.plans.fallback import FallbackEngine
from engines.validation import validate_cached

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engines.engine import Device, Engine, Precision
    from engines.modelfile import ModelFile
    from engines.plans.cache import Profile
    from engines.plans.fallback import Prepares
    from engines.spec import EngineSpec, TensorSpec
    from engines.validation import Inputs, Tolerance

_SIGNS_OF_A_GPU = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg")
"""Device files of NVIDIA's driver: on servers, on Jetson, under Windows' Linux."""


def load_validated_engine(
    model: Path | ModelFile,
    *,
    device: Device,
    precision: Precision | None,
    samples: Callable[[], Sequence[Inputs]],
    tolerances: Mapping[Precision, Tolerance],
    check: Callable[[EngineSpec], object] = lambda _: None,
    prove: bool = True,
) -> Engine:
    """Open a model where it was asked for, compared with the reference.

    Args:
        model: An ONNX file, or one that was read.
        device: See `engines.engine.Device`. A GPU's plan is built meanwhile if there is none.
        precision: None for f32 on the CPU and what the catalogue says on a GPU, f16 mostly. f16 and
            int8 are for GPUs: the CPU, where it stands in, computes in f32.
        samples: Inputs to prove the engine on the CPU with; plans are proven by the catalogue's.
        tolerances: How far it may be from the reference; what is not in it is not run in.
        check: Raises if the network is one for something else.
        prove: Whether the engine on the CPU is proven; plans always are.

    Raises:
        ModelFileError: The file is missing, damaged or no ONNX.
        DeviceUnavailable: The GPU or the precision that was asked for is not here.
        InaccurateEngine: The engine on the CPU differs from the reference.
        EngineError: What `check` raises.
    """
    kind, index = read_device(device)
    read = read_model_file(model) if isinstance(model, Path) else model
    on_cpu = precision or "f32"
    if on_cpu not in tolerances:
        raise DeviceUnavailable(f"{read.name} runs in {', '.join(tolerances)}, not {on_cpu}")
    if kind != "cpu" and on_cpu not in ("f32", "bf16"):
        on_cpu = "f32"
    standby = open_engine(read, device="cpu", precision=on_cpu)
    try:
        check(standby.spec)
        if prove:
            validate_cached(standby, read, samples(), tolerances[on_cpu])
        if kind == "cpu" or (kind == "auto" and precision == "bf16"):
            return standby
        try:
            preparer, profiles = _preparer(read, index, precision)
        except DeviceUnavailable as error:
            if kind == "cuda":
                raise
            # Most machines have no GPU, and lack nothing.
            missed = signs_of_a_gpu()
            return FallbackEngine(standby, None, trouble=str(error)) if missed else standby
        return FallbackEngine(standby, preparer, spec=with_dynamic_batch(standby.spec, profiles))
    except BaseException:
        standby.close()
        raise


def signs_of_a_gpu() -> bool:
    """Whether a driver of NVIDIA's is here: who cannot use it should be told."""
    return any(Path(sign).exists() for sign in _SIGNS_OF_A_GPU)


def _preparer(
    model: ModelFile, index: int, precision: Precision | None
) -> tuple[Prepares, Sequence[Profile]]:
    """What makes plans of that model, and the sizes they take.

    Raises:
        DeviceUnavailable: There is no GPU, no library, or nothing is known of that network.
    """
    # The GPU first: without one nobody waits for the libraries to load.
    from engines.backends import cuda, tensorrt

    gpu, library = cuda.gpu(index), tensorrt.library()
    from engines.plans.provider import PlanProvider
    from engines.registry import entry_of

    entry = entry_of(reference_spec(model))
    if entry is None:
        raise DeviceUnavailable(f"{model.name}: it is not known for which sizes to compile it")
    preparer = PlanProvider(model, entry, library=library, gpu=gpu, precision=precision)
    return preparer, entry.profiles


def with_dynamic_batch(spec: EngineSpec, profiles: Sequence[Profile]) -> EngineSpec:
    """What an engine takes whose plan has these profiles: a batch where the file has one row."""

    def opened(tensor: TensorSpec) -> TensorSpec:
        seen = [size for profile in profiles for size in profile.shapes[tensor.name]]
        varies = [len(set(sides)) > 1 for sides in zip(*seen, strict=True)]
        shape = (None if more else side for side, more in zip(tensor.shape, varies, strict=True))
        return replace(tensor, shape=tuple(shape))

    inputs = tuple(map(opened, spec.inputs))
    if any(tensor.shape[:1] != (None,) for tensor in inputs):
        return replace(spec, inputs=inputs)
    outputs = (replace(tensor, shape=(None, *tensor.shape[1:])) for tensor in spec.outputs)
    return replace(spec, inputs=inputs, outputs=tuple(outputs))
