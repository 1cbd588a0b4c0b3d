"""The full-resolution part on a GPU: planes are uploaded once and downloaded once per frame.

`full_resolution.onnx`, made by `full_resolution_graph.py`, computes what `OnCpu` computes. The
state of the denoiser stays on the device. `OnCpu` takes over until the plan is ready, for sizes
that it was not compiled for, and when the device fails.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import numpy as np

from engines.errors import EngineError, StateLost
from engines.lowlight.curves import GREY, Adjustment, tables_of
from engines.lowlight.denoise import FRACTION_BITS, Memory, Noise, Terms
from engines.lowlight.full_resolution import OnCpu
from engines.plans.settings import PlanSettings
from engines.spec import Profile
from engines.stateful import SupportsState, stateful_session
from engines.validation import Tolerance
from engines.yuv import Yuv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engines.engine import Engine
    from engines.lowlight.curves import Plane
    from engines.spec import Precision, Shape
    from engines.stateful import Arrays, StatefulSession

SHIPPED = Path(__file__).with_name("full_resolution.onnx")
"""Written by `full_resolution_graph.py`."""
VERSION = "1"
"""Version of the graph; incremented whenever its results change."""
TOLERANCES: Mapping[Precision, Tolerance] = {"f32": Tolerance(largest=1.0, mean=0.002)}
"""Allowed difference from the reference, in bytes. A value at a half may round either way; the
state, integers in 64ths of a byte, must be equal."""
LIT = ("lit_y", "lit_u", "lit_v")
"""Outputs: the enhanced planes."""
STATE: Mapping[str, str] = {"next_y": "past_y", "next_uv": "past_uv", "next_left": "past_left"}
"""Each state output, and the input that it becomes for the next frame."""
SMALLEST, TYPICAL, LARGEST = (16, 16), (1080, 1920), (2160, 4096)
"""(height, width) of the frames that the graph is compiled for."""

T = TypeVar("T")


class Numbers(NamedTuple, Generic[T]):
    """The input `numbers`, in this order."""

    unit: T
    """See `Terms`, as for the next two."""
    newest: T
    blots_left: T
    flat: T
    """Squared, as are the next two."""
    flat_chroma: T
    lost: T
    grey_u: T
    """Output value of neutral chroma, in bytes: 128 plus the white balance."""
    grey_v: T

    @classmethod
    def of(cls, terms: Terms, adjustment: Adjustment) -> Numbers[float]:
        """Return the numbers for one frame."""
        squares = (each**2 for each in (terms.flat, terms.flat_chroma, terms.lost))
        greys = (GREY + offset for offset in adjustment.balance)
        return Numbers(terms.unit, terms.newest, terms.blots_left, *squares, *greys)


def profile() -> Profile:
    """Return the smallest, typical and largest shape of each input."""
    small, typical, large = (
        _shapes(size, levels=levels, grid=grid)
        for size, levels, grid in (
            (SMALLEST, 2, (1, 1)),
            (TYPICAL, 4, (12, 20)),
            (LARGEST, 8, (64, 64)),
        )
    )
    return Profile({name: (small[name], typical[name], large[name]) for name in small})


def _shapes(size: Shape, *, levels: int, grid: Shape) -> dict[str, Shape]:
    half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    return {
        "y": size,
        "u": half,
        "v": half,
        "luma_table": (levels, 256),
        "gain_table": (levels, 256),
        "exposure": grid,
        "numbers": (len(Numbers._fields),),
        "past_y": size,
        "past_uv": (2, *half),
        "past_left": half,
    }


def validation_samples() -> Sequence[Arrays]:
    """Return inputs for the accuracy check: a dim street, at the start and middle of a scene.

    The sizes are the smallest, an odd one and typical ones; one frame has extreme values only.
    """
    rng = np.random.default_rng(7)
    samples = []
    for height, width in (SMALLEST, (97, 131), (360, 640), TYPICAL):
        half = ((height + 1) // 2, (width + 1) // 2)
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        street = 24 + 14 * (rows > height / 2) + 8 * np.sin(columns / 7)
        street += 190 * np.exp(-((columns - width / 3) ** 2 + (rows - height / 4) ** 2) / 60)
        past = (street, np.full(half, 120.0), np.full(half, 131.0))
        y, *chroma = (_bytes(plane + rng.normal(0, 2.5, plane.shape)) for plane in past)
        planes = Yuv(y, tuple(chroma))
        kept = [np.rint(plane * (1 << FRACTION_BITS)).astype(np.int16) for plane in past]
        left = rng.uniform(0.05, 1, half).astype(np.float32)
        for frames in (0, 9):
            terms = Terms.of(Noise(2.5, 0.3), gain=3.0, frames=frames + 1)
            memory = Memory((kept[0], kept[1], kept[2]), left, frames)
            inputs = inputs_of(planes, _lifting(), terms)
            samples.append({**inputs, **_state(memory)})
    extremes = rng.integers(0, 2, (97, 131), np.uint8) * np.uint8(255)
    return [*samples, {**samples[3], "y": extremes}]


SETTINGS = PlanSettings(
    TOLERANCES,
    validation_samples,
    (profile(),),
    (_shapes(TYPICAL, levels=4, grid=(12, 20)),),
)
"""How plans are compiled and checked; other sizes are prepared at their first frame."""


def _bytes(plane: NDArray[np.floating[Any]]) -> Plane:
    return cast("Plane", np.clip(np.rint(plane), 0, 255).astype(np.uint8))


def _lifting() -> Adjustment:
    """Return four power curves, and an exposure map from the first to the last."""
    at = (np.arange(256) / 255).astype(np.float32)
    curves = np.stack([at ** np.float32(power) for power in (1.0, 0.6, 0.36, 0.2)])
    gains = np.stack([np.full(256, gain, np.float32) for gain in (1.0, 1.5, 2.5, 4.0)])
    exposure = np.linspace(0, 1, 12 * 20, dtype=np.float32).reshape(12, 20)
    return Adjustment(curves, gains, exposure, (2.0, -1.5))


def inputs_of(planes: Yuv, adjustment: Adjustment, terms: Terms) -> Arrays:
    """Return all inputs except the state."""
    luma, gain = tables_of(adjustment, full_range=planes.full_range)
    return {
        "y": planes.y,
        "u": planes.u,
        "v": planes.v,
        "luma_table": luma,
        "gain_table": gain,
        "exposure": adjustment.exposure,
        "numbers": np.array(Numbers.of(terms, adjustment), np.float32),
    }


def _state(memory: Memory) -> Arrays:
    """Return the state inputs of a denoiser's memory."""
    y, *uv = memory.average
    return {
        "past_y": y.astype(np.float32),
        "past_uv": np.stack(uv).astype(np.float32),
        "past_left": memory.left,
    }


class OnDevice:
    """Runs `full_resolution.onnx` on a GPU; noise is always reduced first.

    Args:
        engine: Shared by all streams.
        failed: Called with the reason when the GPU failed a frame, in the stream's thread.
    """

    def __init__(self, engine: Engine, *, failed: Callable[[str], None]) -> None:
        self._engine = engine
        self._failed = failed
        self._cpu = OnCpu()
        self._state: StatefulSession | None = None
        self._frames = 0

    def reset(self) -> None:
        """See `FullResolution`."""
        self._cpu.reset()
        self._leave()

    def __call__(self, planes: Yuv, adjustment: Adjustment, noise: Noise, *, gain: float) -> Yuv:
        """See `FullResolution`."""
        if self._is_ready(planes, adjustment):
            try:
                return self._on_device(planes, adjustment, noise, gain=gain)
            except StateLost:  # another engine took over: the CPU continues as in a new scene
                pass
            except EngineError as error:
                self._failed(str(error))
        self._leave()
        return self._cpu(planes, adjustment, noise, gain=gain)

    def _is_ready(self, planes: Yuv, adjustment: Adjustment) -> bool:
        """Whether the GPU can run this frame without delay.

        Until the plan is ready, the engine would run the graph on the CPU, which is slower than
        OpenCV and therefore never used.
        """
        size = planes.y.shape
        fits = all(
            least <= side <= most for least, side, most in zip(SMALLEST, size, LARGEST, strict=True)
        )
        if not (planes.is_420 and fits) or self._engine.state.device == "cpu":
            return False
        if not isinstance(self._engine, SupportsState):
            return True
        levels, grid = len(adjustment.curves), adjustment.exposure.shape
        return self._engine.is_ready(_shapes(size, levels=levels, grid=grid))

    def _on_device(self, planes: Yuv, adjustment: Adjustment, noise: Noise, *, gain: float) -> Yuv:
        if self._state is None:
            self._state = stateful_session(self._engine, STATE)
            memory = _memory(self._cpu, planes)
            self._state.start(_state(memory))
            self._frames = memory.frames
            self._cpu.reset()
        self._frames += 1
        terms = Terms.of(noise, gain=gain, frames=self._frames)
        lit = self._state.infer(inputs_of(planes, adjustment, terms))
        y, u, v = (cast("Plane", lit[name]) for name in LIT)
        return replace(planes, y=y, chroma=(u, v))

    def _leave(self) -> None:
        if self._state is not None:
            self._state.close()
            self._state = None


def _memory(spare: OnCpu, planes: Yuv) -> Memory:
    """Return the CPU's state of this scene, or an empty one."""
    memory = None if spare.denoiser is None else spare.denoiser.memory()
    if memory is not None and memory.average[1].shape == planes.u.shape:
        return memory
    y, u, v = (np.zeros(plane.shape, np.int16) for plane in planes.planes)
    return Memory((y, u, v), np.ones(u.shape, np.float32), 0)
