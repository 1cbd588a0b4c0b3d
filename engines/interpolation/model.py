"""What lies between two pictures? Planes in, planes of any time between out.

The program calls this; it needs neither torch nor the training code. On the CPU motion is searched
(`dis_interpolation.py`); on a GPU a larger network does all of it (`flow_network/`). The choice is
made when the model is opened and kept, so that one recording is interpolated in one way.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engines.backends import cuda, tensorrt
from engines.engine import Device, Engine, Precision, read_device, reference_spec
from engines.errors import DeviceUnavailable, EngineError, InaccurateEngine, ModelMismatch
from engines.interpolation import dis_interpolation
from engines.interpolation.downscale import Layout, layout_of, reduced
from engines.interpolation.flow_network import device as full_size
from engines.interpolation.flow_network import model as whole
from engines.interpolation.static_overlay import put_back, standing
from engines.interpolation.warp_blend import synthesise
from engines.loading import load_validated_engine
from engines.modelfile import read_model_file
from engines.validation import Tolerance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from numpy.typing import NDArray

    from engines.engine import EngineState
    from engines.interpolation.warp_fields import Finding, Reduced
    from engines.spec import EngineSpec

    Plane = NDArray[Any]
    Find = Callable[[Reduced, Reduced, Layout], Finding]

_log = logging.getLogger(__name__)

SHIPPED = Path(__file__).with_name("interpolation.onnx")
"""The network of the CPU way."""
WHOLE = whole.SHIPPED
"""The network of the GPU way."""
TOLERANCES: Mapping[Precision, Tolerance] = {
    "f32": Tolerance(largest=0.01, mean=0.0005),
    "bf16": Tolerance(largest=0.15, mean=0.01),
}
"""Of the CPU way's network: how far from the reference; what comes out are shares, 0 to 1."""
LONGEST_WAIT_S = 1800.0
"""For a plan: TensorRT may take minutes on a small machine, and what takes longer never ends."""
_TELL_EVERY_S, _LOOK_EVERY_S = 5.0, 0.1


class _InReduced:
    """What was found out in reduced pictures; the full size is OpenCV's."""

    def __init__(
        self,
        find: Find,
        before: Sequence[Plane],
        after: Sequence[Plane],
        layout: Layout,
    ) -> None:
        self._before, self._after, self._layout = before, after, layout
        self._finding = find(reduced(before, layout), reduced(after, layout), layout)
        self._stands = standing(before[0], after[0], depth=layout.depth)

    def at(self, t: float) -> list[Plane]:
        """The planes at a time between."""
        ways, shares = self._finding.at(t)
        planes = []
        for number, (a, b) in enumerate(zip(self._before, self._after, strict=True)):
            made = synthesise(a, b, ways, shares, self._layout.factors(number))
            if self._stands is not None:
                put_back(made, a, b, self._stands)
            planes.append(made)
        return planes


class PairInterpolation:
    """What was found out about two pictures; serves every time between them.

    Safe to use from several threads at once.
    """

    def __init__(
        self,
        find: Find,
        before: Sequence[Plane],
        after: Sequence[Plane],
        layout: Layout,
        on_device: full_size.OnDevice | None = None,
    ) -> None:
        self._before, self._after = tuple(before), tuple(after)
        self._find = functools.partial(_InReduced, find, self._before, self._after, layout)
        self._same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        self._on_device = on_device if on_device and on_device.takes(layout) else None
        self._guard = threading.Lock()
        self._found: _InReduced | None = None  # guarded by _guard
        if not self._same and self._on_device is None:
            self._found = self._find()

    def at(self, t: float) -> list[Plane]:
        """The planes at a time between.

        Args:
            t: 0 is the picture before, 1 the picture after; strictly between them.

        Raises:
            ModelMismatch: t does not lie between.
            EngineError: The engine is closed, or the device failed.
        """
        if not 0 < t < 1:
            raise ModelMismatch(f"expected a time between 0 and 1, got {t}")
        if self._same:
            return [plane.copy() for plane in self._before]
        if self._on_device is not None:
            made = self._on_device.at(self._before, self._after, t)
            if made is not None:
                return made
        with self._guard:
            found = self._found = self._found or self._find()
        return found.at(t)


class Interpolator:
    """Makes pictures between pictures. Safe to call from many threads at once.

    Args:
        engine: Of either network.
        by_planes: Of `whole.device.graph`, where full-size pictures are done on a GPU.
    """

    def __init__(self, engine: Engine, *, by_planes: Engine | None = None) -> None:
        self._way = _way_of(engine.spec)
        self._engine, self._by_planes = engine, by_planes
        self._on_device = (
            None if by_planes is None else full_size.OnDevice(by_planes, failed=_failed)
        )
        self.name: str = engine.spec.name
        self.digest: str = engine.spec.digest

    @property
    def backend(self) -> str:
        """What runs the network at this moment."""
        return self._engine.backend

    @property
    def state(self) -> EngineState:
        """What the network and the full size run on: of the two, what people should know."""
        states = [engine.state for engine in (self._engine, self._by_planes) if engine is not None]
        return next((state for state in states if state.degraded), states[0])

    def between(
        self,
        before: Sequence[Plane],
        after: Sequence[Plane],
        *,
        depth: int = 8,
        rgb: bool = False,
    ) -> PairInterpolation:
        """Find out what moved between two pictures.

        Args:
            before: Planes of the earlier picture: luma, or luma and two of chroma, or these and
                alpha; of any subsampling. uint8 at 8 bits, else uint16.
            after: Those of the later picture, of the same shapes.
            depth: Bits of a sample.
            rgb: The planes are green, blue, red (and alpha).

        Raises:
            ModelMismatch: A shape, type or depth does not fit.
        """
        layout = layout_of(before, depth=depth, rgb=rgb, stride=self._way.STRIDE)
        if [(p.shape, p.dtype) for p in after] != [(p.shape, p.dtype) for p in before]:
            raise ModelMismatch(
                f"expected two pictures of the same shapes and types, got "
                f"{[(p.shape, p.dtype.name) for p in before]} and "
                f"{[(p.shape, p.dtype.name) for p in after]}"
            )
        find = functools.partial(self._way.Finding, self._engine)
        return PairInterpolation(find, before, after, layout, self._on_device)

    def close(self) -> None:
        """Give back what the engines hold."""
        self._engine.close()
        if self._by_planes is not None:
            self._by_planes.close()


def open_interpolator(
    path: Path | None = None,
    *,
    device: Device = "auto",
    precision: Precision | None = None,
    prove: bool = True,
) -> Interpolator:
    """Open a network of this project, or another with the same inputs and outputs.

    "auto" is the searching way on the CPU, GPU or not: the whole network is not as good yet, see
    `whole/README.md`. Who asks for a GPU gets that one there, and waits until its plans are built
    and proven.

    Args:
        path: An ONNX file of either way; when left out, the searching one for "auto" and "cpu", the
            whole one for a GPU.
        device: See `engines.engine.Device`.
        precision: Of the arithmetic; None is bf16 on a CPU that has it where the proof holds, else
            f32, and on a GPU what the catalogue says, f16. The whole network runs in f32 on a CPU.
        prove: Whether engines on the CPU are compared with the reference, once for each machine;
            plans always are.

    Raises:
        EngineError: The file, the device or the outcome is not what it should be.
    """
    kind, index = read_device(device)
    way = _way_of(reference_spec(read_model_file(path))) if path else None
    if kind == "cuda":
        cuda.gpu(index)  # first: loading TensorRT takes long, and most machines have no GPU
        tensorrt.library()
        return _on_gpu(path or WHOLE, way or whole, device, precision, prove=prove)
    return _on_cpu(path or SHIPPED, way or dis_interpolation, precision, prove=prove)


def _on_cpu(
    file: Path, way: ModuleType, precision: Precision | None, *, prove: bool
) -> Interpolator:
    best: Precision = "bf16" if "bf16" in _tolerances(way) else "f32"
    try:
        return Interpolator(_proven(file, way, "cpu", precision or best, prove=prove))
    except (DeviceUnavailable, InaccurateEngine):
        if precision is not None:
            raise
    return Interpolator(_proven(file, way, "cpu", "f32", prove=prove))


def _on_gpu(
    file: Path, way: ModuleType, device: Device, precision: Precision | None, *, prove: bool
) -> Interpolator:
    """On the GPU, or not at all."""
    engine = _settled(_proven(file, way, device, precision, prove=prove))
    if way is not whole:
        return Interpolator(engine)
    by_planes = None
    try:
        by_planes = _settled(
            load_validated_engine(
                full_size.graph(file),
                device=device,
                precision=precision,
                samples=full_size.validation_samples,
                tolerances=full_size.TOLERANCES,
                # What stands in for the GPU is OpenCV, never the graph on the CPU.
                prove=False,
            )
        )
    except EngineError as error:
        _failed(str(error))
    except BaseException:
        engine.close()
        raise
    return Interpolator(engine, by_planes=by_planes)


def _proven(
    file: Path, way: ModuleType, device: Device, precision: Precision | None, *, prove: bool
) -> Engine:
    return load_validated_engine(
        file,
        device=device,
        precision=precision,
        samples=functools.partial(validation_samples, way),
        tolerances=_tolerances(way),
        check=_way_of,
        prove=prove,
    )


def _settled(engine: Engine) -> Engine:
    """The engine, once it is decided that it runs on the GPU; else it is closed.

    Raises:
        DeviceUnavailable: It does not, or takes too long.
    """
    try:
        _wait_for_plan(engine)
    except BaseException:
        engine.close()
        raise
    return engine


def _wait_for_plan(engine: Engine) -> None:
    began = told = time.monotonic()
    while (share := engine.state.building) is not None:
        now = time.monotonic()
        if now - began > LONGEST_WAIT_S:
            raise DeviceUnavailable(f"{engine.spec.name}: no plan after {now - began:.0f} s")
        if now - told > _TELL_EVERY_S:
            told = now
            _log.info("%s: %s, %.0f %% done", engine.spec.name, engine.state.reason, 100 * share)
        time.sleep(_LOOK_EVERY_S)
    if engine.state.device == "cpu":
        raise DeviceUnavailable(f"{engine.spec.name}: {engine.state.reason}")


def _failed(why: str) -> None:
    _log.warning("full-size pictures between are made by the CPU: %s", why)


def _way_of(spec: EngineSpec) -> ModuleType:
    """The way that a network is of, which is known by what it takes.

    Raises:
        ModelMismatch: It is a network for something else.
    """
    way: ModuleType = (
        whole if "before" in {tensor.name for tensor in spec.inputs} else dis_interpolation
    )
    spec.require(inputs=way.INPUTS, outputs=way.OUTPUTS)
    return way


def _tolerances(way: ModuleType) -> Mapping[Precision, Tolerance]:
    return whole.TOLERANCES if way is whole else TOLERANCES


def validation_samples(way: ModuleType = dis_interpolation) -> Sequence[Mapping[str, NDArray[Any]]]:
    """Inputs to prove an engine with: a pan at 1920x1080, and one thing crossing another.

    Args:
        way: `searched` or `whole.model`.
    """
    random = np.random.default_rng(5)
    noise = random.integers(0, 256, (160, 280, 3), dtype=np.uint8)
    scene = cv2.resize(noise, (2240, 1280), interpolation=cv2.INTER_CUBIC)
    pan = [scene[100 : 100 + 1080, at : at + 1920] for at in (100, 148)]
    crossing = [scene[:360, :640].copy() for _ in range(2)]
    for picture, left in zip(crossing, (200, 240), strict=True):
        picture[120:240, left : left + 120] = scene[800:920, 800:920]
    pairs = []
    for pair, t in ((pan, 0.5), (crossing, 0.25)):
        planes = [[np.ascontiguousarray(p[..., i]) for i in range(3)] for p in pair]
        layout = layout_of(planes[0], depth=8, rgb=False, stride=way.STRIDE)
        pairs.append((*(reduced(p, layout) for p in planes), t))
    made: Sequence[Mapping[str, NDArray[Any]]] = way.validation_samples(pairs)
    return made
