"""Smoke by planes: pictures go to a GPU as they were decoded, and small results come back.

One network of three parts, see `engines/onnx_preprocessing.py`: planes to RGB at the network's
size, the smoke network itself, and its mask as bytes with measures of what is in it. What the
first look saw comes
back too, at its size, for those who compare pictures: background and motion. A second look is the
same with another window.
"""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engines.backends import cuda, tensorrt
from engines.batching import Batcher
from engines.engine import read_device
from engines.errors import DeviceUnavailable, EngineError, ModelMismatch
from engines.loading import load_validated_engine
from engines.modelfile import ModelFile, read_model_file
from engines.plans.cache import Profile
from engines.smoke.model import (
    STRIDE,
    SmokeModel,
    model_path,
    operating_point,
    validation_samples,
)
from engines.smoke.zoom_verification import WINDOW
from engines.validation import Tolerance
from engines.yuv import ChromaOrder, Window, Yuv, yuv_to_rgb_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.engine import Device, Engine, EngineState, Precision
    from engines.plans.cache import Shape
    from engines.validation import Inputs

LAYOUTS: tuple[ChromaOrder, ...] = ("planar", "nv12")
"""What decoders give: on the processor, and on hardware."""
TOLERANCES: Mapping[Precision, Tolerance] = {
    # Those of the network itself (`model.TOLERANCES`), in bytes, and a byte for rounding. In f16
    # the products that scale are 11 bits, which moves some pixels of the small picture by one.
    "f32": Tolerance(largest=3.55, mean=0.13),
    "f16": Tolerance(largest=39.0, mean=2.6),
}
"""How far from the reference each precision may be, in steps of 1/255."""
MOST = 8
"""Rows of a batch. A 4K picture and the arrays between take 60 MB a row in f32, so that the memory
that a plan reserves for its largest batch stays below half a gigabyte."""
_CHROMA: Mapping[ChromaOrder, tuple[str, ...]] = {
    "planar": ("chroma_u", "chroma_v"),
    "nv12": ("chroma",),
}
_OUTPUTS = {
    "mask_bytes": "uint8",
    "small": "uint8",
    "image_score": "float32",
    "measures": "float32",
}


def graph(model: str | Path = "smoke", layout: ChromaOrder = "planar") -> ModelFile:
    """The smoke network with planes as inputs; see `onnx_preprocessing.rgb_from_planes`.

    Its first side is the batch. Beside the network's own `background`, whose size is the size
    that planes are brought to, and `has_background`, it takes `level` (n,) f32: above it a place
    counts in the measures.

    Raises:
        ModelFileError: the file is missing or damaged, or the network cannot be fed like this.
        DeviceUnavailable: the package onnx, which it is made with, is not installed.
    """
    try:
        from engines import onnx_preprocessing
    except ModuleNotFoundError as error:
        raise DeviceUnavailable(f"networks by planes need the package {error.name}") from error

    front, behind = onnx_preprocessing.GraphBuilder(), onnx_preprocessing.GraphBuilder("behind")
    rows, columns = (front.side("background", axis) for axis in (1, 2))
    front.rename(
        onnx_preprocessing.rgb_from_planes(front, layout, rows=rows, columns=columns), "rgb"
    )
    behind.rename(behind.cast("rgb", onnx_preprocessing.UINT8), "small")
    exceeds = onnx_preprocessing.over(
        behind, "mask", behind.input("level", onnx_preprocessing.FLOAT, (onnx_preprocessing.BATCH,))
    )
    behind.rename(onnx_preprocessing.to_bytes(behind, "mask"), "mask_bytes")
    behind.rename(onnx_preprocessing.measures(behind, "mask", exceeds), "measures")
    network = read_model_file(model_path(model))
    return onnx_preprocessing.compose(
        f"{network.name}-{layout}",
        front,
        network,
        behind,
        feeds={"image": "rgb"},
        outputs={
            "mask_bytes": (
                onnx_preprocessing.UINT8,
                (onnx_preprocessing.BATCH, "mask_rows", "mask_columns"),
            ),
            "small": (onnx_preprocessing.UINT8, (onnx_preprocessing.BATCH, "rows", "columns", 3)),
            "image_score": (onnx_preprocessing.FLOAT, (onnx_preprocessing.BATCH,)),
            "measures": (
                onnx_preprocessing.FLOAT,
                (onnx_preprocessing.BATCH, len(Measures._fields)),
            ),
        },
    )


def profiles(layout: ChromaOrder) -> tuple[Profile, ...]:
    """Sizes that plans are compiled for: first looks up to 4K, and windows of second looks."""
    size, window = SmokeModel.input_size, WINDOW
    # A suspect is at most 15 % of a picture's width, and a window 2.5 times as wide as that.
    widest = (window[0] * 6, window[1] * 6)
    return (
        _profile(layout, ((1, 64, 64), (MOST, 1080, 1920), (MOST, 2160, 3840)), size),
        _profile(layout, ((1, 32, 32), (4, *window), (MOST, *widest)), window),
    )


def _profile(
    layout: ChromaOrder, planes: tuple[Shape, Shape, Shape], size: tuple[int, int]
) -> Profile:
    def shapes(*tails: Shape) -> tuple[Shape, Shape, Shape]:
        least, best, most = ((plane[0], *tail) for plane, tail in zip(planes, tails, strict=True))
        return least, best, most

    pairs = (2,) if layout == "nv12" else ()
    halves = shapes(*((-(-rows // 2), -(-columns // 2), *pairs) for _, rows, columns in planes))
    one = shapes((), (), ())
    return Profile(
        {
            "luma": planes,
            **dict.fromkeys(_CHROMA[layout], halves),
            "window": shapes((4,), (4,), (4,)),
            "siting": one,
            "color": shapes((3, 4), (3, 4), (3, 4)),
            "background": shapes(*[(*size, 3)] * 3),
            "has_background": one,
            "level": one,
        }
    )


class Measures(NamedTuple):
    """What there is in a mask where it exceeds a level; see `onnx_preprocessing.measures`."""

    peak: float
    """Highest probability of all."""
    area: float
    """Share of the picture that exceeds."""
    mean: float
    """Mean probability there."""
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Something to look at."""

    planes: Yuv
    window: Window
    """Of the planes."""
    size: tuple[int, int]
    """(height, width) it is looked at in; multiples of `model.STRIDE`."""
    background: NDArray[np.uint8] | None = None
    """(height, width, 3) RGB at that size: the same view without what is new in it."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the network says of a view."""

    mask: NDArray[np.float32]
    """(h/2, w/2), the chance of smoke at each place, 0 to 1 in steps of 1/255."""
    image: NDArray[np.uint8]
    """(h, w, 3) RGB: what was looked at."""
    picture: float
    """The chance that it shows smoke at all."""
    measures: Measures


class SmokeYuvModel:
    """A smoke network that takes decoded planes. Safe to call from many threads at once.

    Args:
        engines: run `graph` of the same network for one layout or both; closed with this.
    """

    input_size: tuple[int, int] = SmokeModel.input_size
    """(height, width) it is made for."""

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
        """What runs it, with version, device and precision."""
        return next(iter(self._engines.values())).backend

    @property
    def state(self) -> EngineState:
        """What it runs on at this moment: the worst of its engines."""
        states = [engine.state for engine in self._engines.values()]
        return next((state for state in states if state.device == "cpu"), states[0])

    @property
    def ready(self) -> bool:
        """Whether a GPU computes at this moment; else RGB on the processor is the better way."""
        return self.state.device != "cpu"

    def look(self, views: Sequence[View], *, level: float, dark: bool = False) -> list[Seen]:
        """Look at some views; those that are alike in size and layout run together.

        Args:
            views: of any pictures.
            level: probability above which a place counts in the measures.
            dark: see `SmokeModel.predict`.

        Raises:
            ModelMismatch: a size does not fit.
            EngineError: the device failed.
        """
        alike: dict[tuple[object, ...], list[int]] = {}
        planes = [self._readable(view.planes) for view in views]
        for number, view in enumerate(views):
            _check(view)
            key = (planes[number].chroma_order, planes[number].size, view.size)
            alike.setdefault(key, []).append(number)
        seen: dict[int, Seen] = {}
        curve = self._curve() if dark else _STRAIGHT
        # The network's word is stretched afterwards: its own level is the other way round.
        own_level = float(np.interp(level, curve[1], curve[0]))
        for numbers in alike.values():
            group = [(planes[number], views[number]) for number in numbers]
            outputs = self._engines[group[0][0].chroma_order].infer(_arrays(group, own_level))
            for row, number in enumerate(numbers):
                seen[number] = _seen(outputs, row, curve)
        return [seen[number] for number in range(len(views))]

    def close(self) -> None:
        """Give back what the engines hold."""
        for engine in self._engines.values():
            engine.close()

    def _readable(self, planes: Yuv) -> Yuv:
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


_STRAIGHT = ((0.0, 0.5, 1.0), (0.0, 0.5, 1.0))


def _arrays(group: Sequence[tuple[Yuv, View]], level: float) -> dict[str, NDArray[Any]]:
    """Inputs of the network, a row a view."""
    planes = [each for each, _ in group]
    views = [view for _, view in group]
    names = _CHROMA[planes[0].chroma_order]
    empty = np.zeros((*views[0].size, 3), np.uint8)
    return {
        "luma": _stacked([each.y for each in planes]),
        **{
            name: _stacked([each.chroma[number] for each in planes])
            for number, name in enumerate(names)
        },
        "window": np.array([view.window for view in views], np.float32),
        "siting": np.array([each.siting for each in planes], np.float32),
        "color": np.stack([each.rgb_matrix for each in planes]),
        "background": _stacked(
            [empty if view.background is None else view.background for view in views]
        ),
        "has_background": np.array([view.background is not None for view in views], np.float32),
        "level": np.full(len(views), level, np.float32),
    }


def _stacked(arrays: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """All as one array; a single one is not copied."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def _seen(outputs: Inputs, row: int, curve: tuple[Sequence[float], Sequence[float]]) -> Seen:
    mask = outputs["mask_bytes"][row] * np.float32(1 / 255)
    peak, area, mean, *box = outputs["measures"][row].tolist()
    if curve is not _STRAIGHT:
        mask = np.interp(mask, *curve).astype(np.float32)
        peak, mean = (float(value) for value in np.interp([peak, mean], *curve))
    return Seen(
        mask,
        outputs["small"][row],
        float(outputs["image_score"][row]),
        Measures(peak, area, mean, *box),
    )


def _inputs(layout: ChromaOrder) -> dict[str, str]:
    floats = ("window", "siting", "color", "has_background", "level")
    return dict.fromkeys(("luma", *_CHROMA[layout], "background"), "uint8") | dict.fromkeys(
        floats, "float32"
    )


def _check(view: View) -> None:
    height, width = view.size
    if height % STRIDE or width % STRIDE or height < STRIDE or width < STRIDE:
        raise ModelMismatch(
            f"view: height and width must be multiples of {STRIDE}, got {height}x{width}"
        )
    if view.background is not None and view.background.shape != (height, width, 3):
        raise ModelMismatch(
            f"background: expected {(height, width, 3)}, got {view.background.shape}"
        )


def open_smoke_by_planes(
    model: str | Path = "smoke",
    *,
    layouts: Sequence[ChromaOrder],
    device: Device,
    precision: Precision | None = None,
    callers: int,
    wait_s: float,
) -> SmokeYuvModel | None:
    """Open a smoke network for a GPU, where there is one; its plan is built meanwhile.

    Args:
        model: see `open_smoke_model`.
        layouts: of the planes that will come; others work, and cost a copy.
        device: see `engines.engine.Device`.
        precision: None for what the catalogue says.
        callers: threads that will look; see `Batcher`.
        wait_s: how long a look may wait for others; see `batching.longest_wait_s`.

    Returns:
        None where no GPU was asked for, none can be used, or the precision is none of a GPU: RGB
        is the way then, and `open_smoke_model` says what is missing.

    Raises:
        EngineError: the network cannot be used like this.
    """
    kind, index = read_device(device)
    if kind == "cpu" or (precision or "f32") not in TOLERANCES or not _can_use_gpu(index):
        return None
    with ExitStack() as undo:
        engines: dict[ChromaOrder, Engine] = {}
        for layout in layouts:
            engine = load_validated_engine(
                graph(model, layout),
                device=device,
                precision=precision,
                samples=partial(samples, layout),
                tolerances=TOLERANCES,
            )
            undo.callback(engine.close)
            engines[layout] = Batcher(engine, most=MOST, callers=callers, wait_s=wait_s)
        opened = SmokeYuvModel(engines)
        undo.pop_all()
    return opened


def _can_use_gpu(index: int) -> bool:
    """Whether there are a GPU, its driver, TensorRT, and what the graph is made with."""
    if importlib.util.find_spec("onnx") is None:
        return False
    try:
        cuda.gpu(index)  # first: loading TensorRT takes long, and most machines have no GPU
        tensorrt.library()
    except EngineError:
        return False
    return True


def samples(layout: ChromaOrder = "planar") -> Sequence[Inputs]:
    """Return the scenes of `model.validation_samples` as 1080p frames, and a window of each."""
    made = []
    for number, sample in enumerate(validation_samples()):
        planes = _as_decoded(sample["image"][0], full_range=bool(number % 2))
        planes = planes if layout == "planar" else planes.interleaved()
        background = sample["background"][0]
        window = View(planes, (640, 400, 320, 192), WINDOW)
        whole = View(planes, planes.full_window, SmokeModel.input_size, background)
        made += [_arrays([(planes, view)], 0.1) for view in (whole, window)]
    return made


def _as_decoded(image: NDArray[np.uint8], *, full_range: bool) -> Yuv:
    """A picture as a camera of three times its width and height would send it, BT.709."""
    color = yuv_to_rgb_matrix(1, full_range=full_range).astype(np.float64)
    yuv = (image.astype(np.float64) - color[:, 3]) @ np.linalg.inv(color[:, :3]).T
    large = np.clip(np.rint(yuv), 0, 255).astype(np.uint8).repeat(3, axis=0).repeat(3, axis=1)
    chroma = (large[::2, ::2, 1], large[::2, ::2, 2])
    return Yuv(large[..., 0], chroma, full_range=full_range)
