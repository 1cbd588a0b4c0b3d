"""The smoke network on decoded planes, for GPUs: frames are uploaded once, small results come back.

One graph of three parts, see `engines/onnx_preprocessing.py`: planes to RGB at the network's size,
the smoke network, and its mask as bytes with statistics. The RGB image comes back too, for the
background model and frame differences. Zoom verification is the same with another window.

Planes are padded to a few canvas sizes, which the window excludes: a plan is prepared for them
before it is used, and cameras of different sizes share batches.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engines.batching import Batcher
from engines.errors import DeviceUnavailable, ModelMismatch
from engines.loading import find_gpu, load_on_gpu
from engines.modelfile import ModelFile, read_model_file
from engines.plans.provider import PlanProvider
from engines.plans.settings import PlanSettings
from engines.smoke.model import (
    STRIDE,
    SmokeModel,
    model_path,
    operating_point,
    validation_samples,
)
from engines.smoke.zoom_verification import WINDOW
from engines.spec import BATCH_SIZES, Profile
from engines.validation import Tolerance
from engines.yuv import ChromaOrder, Window, Yuv, yuv_to_rgb_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.engine import Device, Engine, EngineState
    from engines.loading import GpuRuntime
    from engines.spec import Precision, Shape
    from engines.validation import Inputs

LAYOUTS: tuple[ChromaOrder, ...] = ("planar", "nv12")
"""Chroma layouts of software decoders and of hardware decoders."""
TOLERANCES: Mapping[Precision, Tolerance] = {
    # Those of the network (`model.TOLERANCES`) in bytes, and one byte for rounding. In f16 the
    # scaling products have 11 bits, which changes some pixels of the scaled image by one.
    "f32": Tolerance(largest=3.55, mean=0.13),
    "f16": Tolerance(largest=39.0, mean=2.6),
}
"""Allowed difference from the reference, in steps of 1/255."""
MAX_BATCH_SIZE = BATCH_SIZES[-1]
"""A 4K frame and its intermediate arrays take 60 MB a row in f32, so that the memory of a plan,
reserved for the largest batch, stays below half a gigabyte."""
FRAME_CANVASES: tuple[Shape, ...] = ((720, 1280), (1080, 1920), (2160, 3840))
"""(height, width) that frames are padded to. Larger frames are run by the CPU."""
CROP_CANVASES: tuple[Shape, ...] = tuple((WINDOW[0] * k, WINDOW[1] * k) for k in (1, 2, 4, 6))
"""Those of crops for zoom verification: a region is at most 15 % of the frame's width, and its crop
2.5 times as wide."""
_CHROMA: Mapping[ChromaOrder, tuple[str, ...]] = {
    "planar": ("chroma_u", "chroma_v"),
    "nv12": ("chroma",),
}
_OUTPUTS = {
    "mask_bytes": "uint8",
    "rgb_bytes": "uint8",
    "image_score": "float32",
    "mask_stats": "float32",
}


def graph(model: str | Path = "smoke", layout: ChromaOrder = "planar") -> ModelFile:
    """Return the smoke network with planes as inputs; see `onnx_preprocessing.rgb_from_planes`.

    Its inputs are the planes, the network's own `background`, whose size is the size that frames
    are scaled to, `has_background`, and `level` (n,) f32, the threshold of the statistics. The
    first side of each is the batch.

    Raises:
        ModelFileError: The file is missing or damaged, or the network has other inputs.
        DeviceUnavailable: The package onnx is not installed.
    """
    try:
        from engines import onnx_preprocessing as op
    except ModuleNotFoundError as error:
        raise DeviceUnavailable(f"GPUs need the package {error.name}") from error

    front, behind = op.GraphBuilder(), op.GraphBuilder("behind")
    rows, columns = (front.side("background", axis) for axis in (1, 2))
    front.rename(op.rgb_from_planes(front, layout, rows=rows, columns=columns), "rgb")
    behind.rename(behind.cast("rgb", op.UINT8), "rgb_bytes")
    exceeds = op.threshold(behind, "mask", behind.input("level", op.FLOAT, (op.BATCH,)))
    behind.rename(op.to_bytes(behind, "mask"), "mask_bytes")
    behind.rename(op.mask_stats(behind, "mask", exceeds), "mask_stats")
    network = read_model_file(model_path(model))
    return op.merge(
        f"{network.name}-{layout}",
        front,
        network,
        behind,
        feeds={"image": "rgb"},
        outputs={
            "mask_bytes": (op.UINT8, (op.BATCH, "mask_rows", "mask_columns")),
            "rgb_bytes": (op.UINT8, (op.BATCH, "rows", "columns", 3)),
            "image_score": (op.FLOAT, (op.BATCH,)),
            "mask_stats": (op.FLOAT, (op.BATCH, len(MaskStats._fields))),
        },
    )


def settings(layout: ChromaOrder) -> PlanSettings:
    """Return how plans are compiled and checked, and the shapes that are prepared before use."""
    frames = (1, 64, 64), (MAX_BATCH_SIZE, 1080, 1920), (MAX_BATCH_SIZE, *FRAME_CANVASES[-1])
    crops = (1, 32, 32), (4, *WINDOW), (MAX_BATCH_SIZE, *CROP_CANVASES[-1])
    profiles = []
    for size, planes in ((SmokeModel.input_size, frames), (WINDOW, crops)):
        smallest, tuned, largest = (_shapes(layout, each, size) for each in planes)
        profiles.append(Profile({n: (smallest[n], tuned[n], largest[n]) for n in smallest}))
    warm = tuple(
        _shapes(layout, (rows, *canvas), size)
        for size, canvases in ((SmokeModel.input_size, FRAME_CANVASES), (WINDOW, CROP_CANVASES))
        for canvas in canvases
        for rows in BATCH_SIZES
    )
    return PlanSettings(TOLERANCES, partial(samples, layout), tuple(profiles), warm)


def _shapes(layout: ChromaOrder, planes: Shape, size: Shape) -> dict[str, Shape]:
    """Return the shape of each input for luma planes (rows of the batch, height, width)."""
    rows, height, width = planes
    half = (rows, -(-height // 2), -(-width // 2), *((2,) if layout == "nv12" else ()))
    return {
        "luma": planes,
        **dict.fromkeys(_CHROMA[layout], half),
        "window": (rows, 4),
        "siting": (rows,),
        "color": (rows, 3, 4),
        "background": (rows, *size, 3),
        "has_background": (rows,),
        "level": (rows,),
    }


class MaskStats(NamedTuple):
    """Statistics of a mask above a threshold; see `onnx_preprocessing.mask_stats`."""

    peak: float
    """Highest probability of the whole mask."""
    area: float
    """Share of the mask above the threshold."""
    mean: float
    """Mean probability there."""
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A frame or a part of it, to run the network on."""

    planes: Yuv
    window: Window
    """Part of the planes."""
    size: tuple[int, int]
    """(height, width) that the window is scaled to; multiples of `model.STRIDE`."""
    background: NDArray[np.uint8] | None = None
    """(height, width, 3) RGB at that size: background model of the same view."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Output of the network for a request."""

    mask: NDArray[np.float32]
    """(h/2, w/2), probability of smoke at each place, 0 to 1 in steps of 1/255."""
    image: NDArray[np.uint8]
    """(h, w, 3) RGB: the network's input."""
    image_score: float
    """Probability that the image shows smoke."""
    stats: MaskStats


class SmokeYuvModel:
    """A smoke network that takes decoded planes. Safe to call from many threads at once.

    Args:
        engines: Run `graph` of the same network for one layout or both; closed with this.
    """

    input_size: tuple[int, int] = SmokeModel.input_size
    """(height, width) it was trained for."""

    def __init__(self, engines: Mapping[ChromaOrder, Engine]) -> None:
        if not engines:
            raise ModelMismatch("expected an engine for at least one layout of planes, got none")
        for layout, engine in engines.items():
            engine.spec.require(inputs=_inputs(layout), outputs=_OUTPUTS)
        self._engines = dict(engines)
        first = next(iter(engines.values())).spec
        self.threshold, self.low_threshold, self.threshold_dark = operating_point(first)
        self.name: str = first.name.removesuffix(f"-{next(iter(engines))}")
        """Of the network."""
        self.digest: str = first.metadata.get("made_from", first.digest)
        """SHA-256 of the network's own file."""

    @property
    def backend(self) -> str:
        """Library, version, device and precision."""
        return next(iter(self._engines.values())).backend

    @property
    def state(self) -> EngineState:
        """Worst state among its engines."""
        states = [engine.state for engine in self._engines.values()]
        return next((state for state in states if state.device == "cpu"), states[0])

    @property
    def concurrency(self) -> int:
        """How many calls make progress at the same time, in all layouts."""
        return sum(engine.concurrency for engine in self._engines.values())

    @property
    def ready(self) -> bool:
        """Whether a GPU runs it at this moment; if not, `SmokeModel` on the CPU is faster."""
        return self.state.device != "cpu"

    def predict(
        self, requests: Sequence[Request], *, level: float, dark: bool = False
    ) -> list[Result]:
        """Run the network; requests of the same layout, size and canvas run together.

        Args:
            requests: Of any frames.
            level: Threshold of the statistics.
            dark: See `SmokeModel.predict`.

        Raises:
            ModelMismatch: A size does not fit.
            EngineError: The device failed.
        """
        groups: dict[tuple[ChromaOrder, Shape, Shape], list[int]] = {}
        planes = [self._supported(request.planes) for request in requests]
        for number, request in enumerate(requests):
            _check(request)
            canvas = _canvas(planes[number].y.shape, request.size)
            key = planes[number].chroma_order, canvas, request.size
            groups.setdefault(key, []).append(number)
        results: dict[int, Result] = {}
        curve = self._curve() if dark else _IDENTITY
        # The curve is applied to the output: the network's own level is its inverse.
        own_level = float(np.interp(level, curve[1], curve[0]))
        for (layout, canvas, _), numbers in groups.items():
            group = [(planes[number], requests[number]) for number in numbers]
            outputs = self._engines[layout].infer(_arrays(group, own_level, canvas))
            for row, number in enumerate(numbers):
                results[number] = _result(outputs, row, curve)
        return [results[number] for number in range(len(requests))]

    def close(self) -> None:
        """Release the engines' memory."""
        for engine in self._engines.values():
            engine.close()

    def _supported(self, planes: Yuv) -> Yuv:
        if not planes.is_420:
            raise ModelMismatch(
                f"expected 8-bit 4:2:0 planes, got {planes.depth} bits, luma {planes.y.shape}, "
                f"chroma {[plane.shape for plane in planes.chroma]}"
            )
        if planes.chroma_order in self._engines:
            return planes
        return planes.planar() if planes.chroma_order == "nv12" else planes.interleaved()

    def _curve(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        return (0, self.threshold_dark, 1), (0, self.threshold, 1)


_IDENTITY = ((0.0, 0.5, 1.0), (0.0, 0.5, 1.0))


def _canvas(size: Shape, scaled: Shape) -> Shape:
    """Return the smallest canvas that holds planes of a size; the size itself if none does."""
    canvases = CROP_CANVASES if scaled == WINDOW else FRAME_CANVASES
    fitting = (each for each in canvases if size[0] <= each[0] and size[1] <= each[1])
    return next(fitting, size)


def _arrays(
    group: Sequence[tuple[Yuv, Request]], level: float, canvas: Shape
) -> dict[str, NDArray[Any]]:
    """Return the inputs of the network, one row per request."""
    planes = [each for each, _ in group]
    requests = [request for _, request in group]
    half = tuple(-(-side // 2) for side in canvas)
    empty = np.zeros((*requests[0].size, 3), np.uint8)
    return {
        "luma": _padded([each.y for each in planes], canvas),
        **{
            name: _padded([each.chroma[number] for each in planes], half)
            for number, name in enumerate(_CHROMA[planes[0].chroma_order])
        },
        "window": np.array([request.window for request in requests], np.float32),
        "siting": np.array([each.siting for each in planes], np.float32),
        "color": np.stack([each.rgb_matrix for each in planes]),
        "background": np.stack(
            [empty if each.background is None else each.background for each in requests]
        ),
        "has_background": np.array([each.background is not None for each in requests], np.float32),
        "level": np.full(len(requests), level, np.float32),
    }


def _padded(planes: Sequence[NDArray[Any]], canvas: Shape) -> NDArray[np.uint8]:
    """Return planes (height, width[, 2]) as one array of canvases; a single fit is a view."""
    if len(planes) == 1 and planes[0].shape[:2] == canvas:
        return planes[0][None]
    padded = np.zeros((len(planes), *canvas, *planes[0].shape[2:]), np.uint8)
    for row, plane in zip(padded, planes, strict=True):
        row[: plane.shape[0], : plane.shape[1]] = plane
    return padded


def _result(outputs: Inputs, row: int, curve: tuple[Sequence[float], Sequence[float]]) -> Result:
    mask = outputs["mask_bytes"][row] * np.float32(1 / 255)
    peak, area, mean, *box = outputs["mask_stats"][row].tolist()
    if curve is not _IDENTITY:
        mask = np.interp(mask, *curve).astype(np.float32)
        peak, mean = (float(value) for value in np.interp([peak, mean], *curve))
    return Result(
        mask,
        outputs["rgb_bytes"][row],
        float(outputs["image_score"][row]),
        MaskStats(peak, area, mean, *box),
    )


def _inputs(layout: ChromaOrder) -> dict[str, str]:
    floats = ("window", "siting", "color", "has_background", "level")
    return dict.fromkeys(("luma", *_CHROMA[layout], "background"), "uint8") | dict.fromkeys(
        floats, "float32"
    )


def _check(request: Request) -> None:
    height, width = request.size
    if height % STRIDE or width % STRIDE or height < STRIDE or width < STRIDE:
        raise ModelMismatch(
            f"request: height and width must be multiples of {STRIDE}, got {height}x{width}"
        )
    if request.background is not None and request.background.shape != (height, width, 3):
        raise ModelMismatch(
            f"background: expected {(height, width, 3)}, got {request.background.shape}"
        )


def open_smoke_by_planes(
    model: str | Path = "smoke",
    *,
    clients: Mapping[ChromaOrder, int],
    device: Device,
    precision: Precision | None = None,
    max_queue_delay_s: float,
) -> SmokeYuvModel | None:
    """Open a smoke network on the GPU of a device setting; its plan is prepared meanwhile.

    Args:
        model: See `open_smoke_model`.
        clients: Cameras of each layout. Planes of another layout are converted, which costs a copy.
        device: See `engines.engine.Device`.
        precision: None for f16.
        max_queue_delay_s: See `Batcher`.

    Returns:
        None for "cpu", and for "auto" if no GPU can be used: `open_smoke_model` is used then.

    Raises:
        DeviceUnavailable: A GPU is required and cannot be used.
        EngineError: The network or the precision cannot be used.
    """
    runtime = find_gpu(device, precision)
    if runtime is None:
        return None
    with ExitStack() as undo:
        engines: dict[ChromaOrder, Engine] = {}
        for layout, cameras in clients.items():
            engine = load_on_gpu(
                graph(model, layout), runtime, settings(layout), precision=precision
            )
            undo.callback(engine.close)
            engines[layout] = Batcher(
                engine,
                max_batch_size=MAX_BATCH_SIZE,
                clients=cameras,
                max_queue_delay_s=max_queue_delay_s,
            )
        opened = SmokeYuvModel(engines)
        undo.pop_all()
    return opened


def has_checked_plan(
    model: str | Path, runtime: GpuRuntime, *, precision: Precision | None = None
) -> bool:
    """Return whether the program runs the network on the GPU at once, without building a plan.

    Raises:
        EngineError: The network or the precision cannot be used there.
    """
    provider = PlanProvider(
        graph(model), settings("planar"), library=runtime.library, gpu=runtime.gpu,
        precision=precision,
    )  # fmt: skip
    return provider.is_checked()


def samples(layout: ChromaOrder = "planar") -> Sequence[Inputs]:
    """Return the scenes of `model.validation_samples` as 1080p frames, and a window of each."""
    made = []
    for number, sample in enumerate(validation_samples()):
        planes = _as_decoded(sample["image"][0], full_range=bool(number % 2))
        planes = planes if layout == "planar" else planes.interleaved()
        background = sample["background"][0]
        window = Request(planes, (640, 400, 320, 192), WINDOW)
        frame = Request(planes, planes.full_window, SmokeModel.input_size, background)
        made += [_arrays([(planes, each)], 0.1, planes.y.shape) for each in (frame, window)]
    return made


def _as_decoded(image: NDArray[np.uint8], *, full_range: bool) -> Yuv:
    """Return planes of a 1080p camera with three times the width of an image, BT.709."""
    color = yuv_to_rgb_matrix(1, full_range=full_range).astype(np.float64)
    yuv = (image.astype(np.float64) - color[:, 3]) @ np.linalg.inv(color[:, :3]).T
    large = np.clip(np.rint(yuv), 0, 255).astype(np.uint8).repeat(3, axis=0).repeat(3, axis=1)
    large = large[: FRAME_CANVASES[1][0]]
    chroma = (large[::2, ::2, 1], large[::2, ::2, 2])
    return Yuv(large[..., 0], chroma, full_range=full_range)
