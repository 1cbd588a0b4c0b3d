"""Training samples made on the fly: composites, other-time backgrounds, distractors, wear.

A sample is a picture, perhaps a background of the same view, and a soft mask. Smoke is laid over
pictures in linear light as `alpha * air + (1 - alpha) * scene`, the air taken from the scene's own
sky. The same code lays fog, haze and cloud over pictures without a label. Light, lens, sensor and
codec come last, over everything, as in a camera. Each sample follows from (seed, number) alone.
"""

# ruff: noqa: PLR2004  chances and ranges of chance stand where they act
from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
import cv2
import numpy as np

from engines.smoke.compositing import air_of, clouds, lay
from engines.smoke.data import LabelledImage, same_view
from engines.smoke.distractors import distract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

    from engines.smoke.compositing import Plane, Rgb

ALPHA_TO_TARGET = 2.5
FAINT = 0.05
"""Smoke of 45 % opacity is wholly smoke to a person drawing a mask; under 5 % nobody sees it."""

LEAST_CONTRAST = 9.0
"""Mean change in bytes within a plume from which it can be seen."""

REAL, COMPOSITE, CLEAR, BESIDE, WEAK, RENDERED = (
    "real",
    "composite",
    "clear",
    "beside",
    "weak",
    "rendered",
)
MIX = {REAL: 0.28, COMPOSITE: 0.19, CLEAR: 0.34, BESIDE: 0.16, WEAK: 0.02, RENDERED: 0.01}
"""Share of each kind of sample; see `SampleMaker`."""
KINDS = tuple(MIX)
PLUME_BESIDE = 0.35
"""Share of the composites that stand beside real smoke: most views are of that set."""

SOURCES = {
    "hpwren_aiformankind": 0.48,
    "fszhang_cls": 0.14,
    "sice_zerodce_train": 0.14,
    "sunhays80": 0.12,
    "real_haze": 0.12,
}
"""Share of each source among the clear pictures: mostly what fire-watch cameras see."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What the network is shown and what it should say."""

    image: Rgb
    """(h, w, 3)."""
    background: Rgb
    """(h, w, 3); equal to `image` where there is none."""
    has_background: bool
    """Whether the background counts."""
    target: NDArray[np.uint8]
    """(h/2, w/2), 255 = smoke."""
    mask_known: bool
    """False where only the picture's label is known."""
    smoke: bool
    """The picture's label."""


class SampleMaker:
    """Makes sample number n, the same each time, from stills and smoke densities.

    Kinds: `real` drawn masks; `composite` a plume over a clear picture; `clear` nothing, or
    distractors; `beside` a part of a real pair without its smoke; `weak` smoke stills with an image
    label only; `rendered` ready-made composites.
    """

    def __init__(
        self,
        stills: Sequence[LabelledImage],
        densities: Sequence[NDArray[np.uint8]],
        *,
        size: tuple[int, int],
        seed: int,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        self.stills = stills
        self.densities = densities
        self.size = size
        self.seed = seed
        self._twins = same_view(stills)
        self._pools = {kind: _Pool(stills, kind) for kind in MIX}
        weights = np.array(
            [
                MIX[kind] if pool.groups and kind in kinds else 0.0
                for kind, pool in self._pools.items()
            ]
        )
        self._weights = weights / weights.sum()

    def sample(self, number: int, *, kind: str | None = None) -> Sample:
        """Make sample `number`, of a kind that follows from it unless told."""
        random = np.random.default_rng((self.seed, number))
        cv2.setRNGSeed(int(random.integers(2**31)))  # OpenCV's noise is fast, its chance its own
        chosen = str(random.choice(KINDS, p=self._weights))
        kind = kind or chosen
        beside = kind == BESIDE or (kind == COMPOSITE and random.random() < PLUME_BESIDE)
        index, scene = self._beside(random) if beside else self._draw(kind, random)
        still = self.stills[index]
        image = scene.cut(still.image)
        mask = scene.cut(still.mask if still.mask is not None else _empty(still.image))
        background = self._background(index, mask, scene, kind=kind, random=random)
        target = cast("Plane", mask.astype(np.float32) / 255)
        if kind in (CLEAR, BESIDE):
            image, background = distract(image, background, random)
        if kind == COMPOSITE and self.densities:
            # Some backgrounds hold last hour's fog, so that fog in one picture alone is no smoke.
            if random.random() < 0.15:
                image, background = distract(image, background, random)
            image, target = self._add_plume(image, random)
        image, background = _wear(image, background, random)
        small = cv2.resize(
            target, (self.size[1] // 2, self.size[0] // 2), interpolation=cv2.INTER_AREA
        )
        return Sample(
            image=image,
            background=image if background is None else background,
            has_background=background is not None,
            target=(np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8),
            mask_known=kind != WEAK,
            smoke=kind == WEAK or bool(small.max() > 0.3),
        )

    def _draw(self, kind: str, random: Generator) -> tuple[int, _Scene]:
        index = self._pools[kind].draw(random)
        near = kind in {CLEAR, COMPOSITE}
        return index, _Scene(self.stills[index], random, self.size, near=near)

    def _beside(self, random: Generator) -> tuple[int, _Scene]:
        """A part of a real pair in which its smoke is not; if none is found, a clear picture."""
        for _ in range(12):
            index = self._pools[BESIDE].draw(random)
            scene = _Scene(self.stills[index], random, self.size, near=True)
            if not self._smokes(index, scene):
                return index, scene
        return self._draw(CLEAR, random)

    def _background(
        self,
        index: int,
        mask: NDArray[np.uint8],
        scene: _Scene,
        *,
        kind: str,
        random: Generator,
    ) -> Rgb | None:
        """The view at another time, or the same picture as if another time; None often."""
        if kind in (WEAK, RENDERED) or random.random() < 0.45:
            return None
        covered = mask.any() and kind == REAL
        twins = self._twins[index]
        if kind in (BESIDE, COMPOSITE):  # only what shows no smoke here
            twins = [twin for twin in twins if not self._smokes(twin, scene)]
        if twins and random.random() < 0.75:
            other = self.stills[int(random.choice(twins))]
            background = scene.cut(other.image, shift=random.normal(0, 0.5, 2))
            old = scene.cut(other.mask) if other.mask is not None else None
            if covered:
                # The other picture shows the same fire: take its smoke out as well.
                both = np.maximum(mask, old) if old is not None else mask
                return _erase(background, both, random) if both.mean() < 10 else None
            return background
        background = scene.cut(self.stills[index].image, shift=random.normal(0, 0.5, 2))
        if covered:
            # One in five burned before the camera looked: then the difference says nothing.
            if random.random() < 0.2:
                return background
            return _erase(background, mask, random) if mask.mean() < 10 else None
        return background

    def _smokes(self, index: int, scene: _Scene) -> bool:
        mask = self.stills[index].mask
        return mask is not None and bool(scene.cut(mask).any())

    def _add_plume(self, image: Rgb, random: Generator) -> tuple[Rgb, Plane]:
        height, width = self.size
        alpha = np.zeros((height, width), np.float32)
        for _ in range(1 if random.random() < 0.85 else 2):
            density = self.densities[int(random.integers(len(self.densities)))]
            alpha = np.maximum(alpha, _place(density, image, random))
        solid = alpha > 0.3
        for _ in range(4):
            laid = lay(image, alpha, air=air_of(image, random), random=random)
            # Smoke of just the colour of what is behind it is no smoke to anybody.
            if not solid.any() or cv2.absdiff(laid, image)[solid].mean() > LEAST_CONTRAST:
                return laid, np.clip((alpha - FAINT) * ALPHA_TO_TARGET, 0, 1)
        return image, np.zeros_like(alpha)


class _Pool:
    """The stills a kind draws from: sources by `SOURCES`, views by the root of their size."""

    def __init__(self, stills: Sequence[LabelledImage], kind: str) -> None:
        by_group: dict[tuple[str, str], list[int]] = {}
        for index, still in enumerate(stills):
            if _fits(still, kind):
                by_group.setdefault((still.row.source, still.row.group), []).append(index)
        self.groups = list(by_group.values())
        weights = np.array([len(group) ** 0.5 for group in self.groups])
        sources = np.array([source for source, _ in by_group])
        for source in set(sources.tolist()):
            mine = sources == source
            weights[mine] *= SOURCES.get(source, 1.0) / weights[mine].sum()
        self._weights = weights / weights.sum() if len(weights) else weights

    def draw(self, random: Generator) -> int:
        group = self.groups[int(random.choice(len(self.groups), p=self._weights))]
        return group[int(random.integers(len(group)))]


def _fits(still: LabelledImage, kind: str) -> bool:
    row = still.row
    rendered = row.source == "smoke5k_synth"
    return {
        REAL: row.smoke and still.mask is not None and not rendered,
        COMPOSITE: not row.smoke,
        CLEAR: not row.smoke,
        BESIDE: row.smoke and still.mask is not None and not rendered,
        WEAK: row.smoke and still.mask is None,
        RENDERED: rendered,
    }[kind]


class _Scene:
    """One random crop, scale and flip, the same for a picture, its mask and its background."""

    def __init__(
        self, still: LabelledImage, random: Generator, size: tuple[int, int], *, near: bool
    ) -> None:
        height, width = size
        tall, wide = still.image.shape[:2]
        # Scale from "the whole view" to "a bit larger than taken"; small pictures are enlarged.
        whole = max(width / wide, height / tall)
        # Where no small plume can be cut in two, one in four is a part of the view, so that clouds
        # and walls are known at every size.
        most = 4.5 if near and random.random() < 0.25 else 2.1
        scale = whole * float(np.exp(random.uniform(np.log(1.05), np.log(most))))
        stretch = float(np.exp(random.normal(0, 0.06)))
        flip = -1.0 if random.random() < 0.5 else 1.0
        spare = np.array([wide - width / (scale * stretch), tall - height / scale])
        centre = np.array([wide, tall]) / 2 + spare * random.uniform(-0.5, 0.5, 2)
        across, down = scale * stretch * flip, scale
        self._matrix = np.array(
            [[across, 0, width / 2 - across * centre[0]], [0, down, height / 2 - down * centre[1]]]
        )
        self._size = (width, height)

    def cut(
        self, picture: NDArray[np.uint8], *, shift: NDArray[Any] | None = None
    ) -> NDArray[np.uint8]:
        matrix = self._matrix
        if shift is not None:
            matrix = matrix + np.array([[0, 0, shift[0]], [0, 0, shift[1]]])
        border = cv2.BORDER_CONSTANT if picture.ndim == 2 else cv2.BORDER_REFLECT_101
        return cast(
            "NDArray[np.uint8]",
            cv2.warpAffine(picture, matrix, self._size, flags=cv2.INTER_LINEAR, borderMode=border),
        )


def _place(density: NDArray[np.uint8], image: Rgb, random: Generator) -> Plane:
    """Opacity of one plume put somewhere on the terrain, (h, w): mostly far, sometimes close."""
    close = random.random() < 0.35
    share = float(np.exp(random.uniform(*np.log([0.02, 0.35] if close else [0.0004, 0.02]))))
    laid = stand(density, image, random, share=share, close=close)
    if close and random.random() < 0.6:  # billows
        laid = laid * (0.25 + 1.5 * clouds(laid.shape, random, cells=int(random.integers(4, 12))))
    # Density, not opacity, is scaled: thin smoke keeps its soft edge, thick smoke saturates.
    thickness = float(np.exp(random.uniform(np.log(0.35), np.log(5))))
    alpha = 1 - np.exp(-thickness * laid)
    return cast(
        "Plane", cv2.GaussianBlur(alpha.astype(np.float32), (0, 0), random.uniform(0.3, 1.2))
    )


def stand(
    density: NDArray[np.uint8], image: Rgb, random: Generator, *, share: float, close: bool
) -> Plane:
    """Stand a plume on the terrain of a picture so that it covers about `share` of it, (h, w)."""
    height, width = image.shape[:2]
    solid = density.astype(np.float32) / 255
    covers = float((solid > 0.2).sum())
    scale = (share * height * width / max(covers, 1)) ** 0.5
    stretch = float(np.exp(random.normal(0, 0.25)))
    flip = -1.0 if random.random() < 0.5 else 1.0
    lean = random.normal(0, 0.35)
    base = random.uniform(0.05, 0.95) * width, ground(image, random, close=close) * height
    foot = np.array([solid.shape[1] / 2, solid.shape[0] - 1.0])
    across = np.array([[scale * stretch * flip, -lean * scale], [0, scale / stretch]])
    matrix = np.column_stack([across, np.array(base) - across @ foot])
    smooth = cv2.INTER_LINEAR if scale > 0.5 else cv2.INTER_AREA
    return cast("Plane", cv2.warpAffine(solid, matrix, (width, height), flags=smooth))


def ground(image: Rgb, random: Generator, *, close: bool) -> float:
    """A height to stand on, 0 to 1: below the strongest fall of brightness, else anywhere low."""
    if close or random.random() < 0.25:
        return float(random.uniform(0.45, 1.1))
    rows = cv2.resize(image, (8, 64), interpolation=cv2.INTER_AREA).mean((1, 2))
    fall = rows[6:50] - rows[10:54]
    horizon = (int(np.argmax(fall)) + 8) / 64
    return float(np.clip(horizon + random.exponential(0.06) + 0.005, 0.1, 1.0))


def _erase(image: Rgb, mask: NDArray[np.uint8], random: Generator) -> Rgb:
    """Fill the masked part from around it: the view as it was before the fire."""
    hole = cv2.dilate((mask > 20).astype(np.uint8), np.ones((9, 9), np.uint8))
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    hole_small = cv2.resize(hole, small.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    filled = cv2.resize(cv2.inpaint(small, hole_small, 5, cv2.INPAINT_TELEA), image.shape[1::-1])
    soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 2)[..., None]
    grain = random.normal(0, random.uniform(0, 6), (*image.shape[:2], 1))
    return cast(
        "Rgb", np.clip(image * (1 - soft) + (filled + grain) * soft, 0, 255).astype(np.uint8)
    )


def _wear(image: Rgb, background: Rgb | None, random: Generator) -> tuple[Rgb, Rgb | None]:
    """Light, lens, sensor and codec: alike for both pictures, with a little drift between them."""
    gain = np.exp(random.normal(0, 0.1)) * np.exp(random.normal(0, 0.035, 3))
    gamma, contrast = np.exp(random.normal(0, 0.2)), np.exp(random.normal(0, 0.12))
    curve = _curve(gain, gamma, contrast)
    colour = 0.0 if random.random() < 0.08 else float(np.clip(random.normal(0.95, 0.25), 0, 1.6))
    blur = random.uniform(0.3, 1.1) if random.random() < 0.25 else 0.0
    image = _codec(_lens(_tone(image, curve, colour), blur, random), random)
    if background is None:
        return image, None
    drift = _curve(
        gain * np.exp(random.normal(0, 0.06)), gamma * np.exp(random.normal(0, 0.05)), contrast
    )
    return image, _codec(_lens(_tone(background, drift, colour), blur, random), random)


def _curve(gain: NDArray[Any], gamma: float, contrast: float) -> NDArray[np.uint8]:
    levels = np.linspace(0, 1, 256)[:, None]
    curved = np.clip((levels**gamma - 0.5) * contrast + 0.5, 0, 1) * gain
    return cast("NDArray[np.uint8]", (np.clip(curved, 0, 1) * 255 + 0.5).astype(np.uint8)[:, None])


def _tone(image: Rgb, curve: NDArray[np.uint8], colour: float) -> Rgb:
    toned = cv2.LUT(image, curve)
    grey = cv2.cvtColor(cv2.cvtColor(toned, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cast("Rgb", cv2.addWeighted(toned, colour, grey, 1 - colour, 0))


def _lens(image: Rgb, blur: float, random: Generator) -> Rgb:
    if blur:
        image = cast("Rgb", cv2.GaussianBlur(image, (0, 0), blur))
    if random.random() < 0.12:  # a smaller stream, scaled up
        small = cv2.resize(
            image, None, fx=(f := random.uniform(0.5, 0.9)), fy=f, interpolation=cv2.INTER_AREA
        )
        image = cast("Rgb", cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR))
    if random.random() < 0.4:
        grain = np.full((3, 1), random.uniform(0.5, 5))
        noise = cv2.randn(np.empty(image.shape, np.int16), np.zeros((3, 1)), grain)
        image = cast("Rgb", cv2.add(image, noise, dtype=cv2.CV_8U))
    return image


def _codec(image: Rgb, random: Generator) -> Rgb:
    chance = random.random()
    if chance < 0.5:
        return image
    if chance < 0.92:
        quality = int(random.integers(40, 95))
        data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cast("Rgb", cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))
    return x264(image, crf=int(random.integers(20, 34)))


def x264(image: Rgb, *, crf: int) -> Rgb:
    """A picture as a camera's H.264 stream shows it."""
    stream = av.CodecContext.create("libx264", "w")
    assert isinstance(stream, av.VideoCodecContext)
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 25)
    stream.options = {"preset": "superfast", "crf": str(crf), "tune": "zerolatency"}
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    packets = [*stream.encode(frame), *stream.encode(None)]
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    frames = [f for packet in packets for f in decoder.decode(packet)] + decoder.decode(None)
    return cast("Rgb", frames[0].to_ndarray(format="rgb24"))


def _empty(image: Rgb) -> NDArray[np.uint8]:
    return np.zeros(image.shape[:2], np.uint8)
