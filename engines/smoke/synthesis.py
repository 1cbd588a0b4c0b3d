"""Makes training samples: composites, backgrounds, distractors, camera augmentation.

A sample is an image, perhaps a background of the same view, and a soft mask. Smoke is composited in
linear light as `alpha * airlight + (1 - alpha) * scene`, with the airlight of the scene's own sky.
The same code adds unlabelled fog, haze and cloud. Light, lens, sensor and codec are applied last,
as in a camera. A sample depends on (seed, number) only.
"""

# ruff: noqa: PLR2004  random ranges stand where they act
from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
import cv2
import numpy as np

from engines.smoke.compositing import clouds, composite, random_airlight
from engines.smoke.data import LabelledImage, same_view
from engines.smoke.distractors import distract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

    from engines.smoke.compositing import Plane, Rgb

ALPHA_TO_TARGET = 2.5
FAINT = 0.05
"""target = (alpha - FAINT) * ALPHA_TO_TARGET: people draw smoke of 45 % opacity as fully smoke and
do not see less than 5 %."""

LEAST_CONTRAST = 9.0
"""Least mean change in bytes within a plume for it to be visible."""

REAL, COMPOSITE, CLEAR, HARD_NEGATIVE, WEAK, RENDERED = (
    "real",
    "composite",
    "clear",
    "hard_negative",
    "weak",
    "rendered",
)
MIX = {REAL: 0.28, COMPOSITE: 0.19, CLEAR: 0.34, HARD_NEGATIVE: 0.16, WEAK: 0.02, RENDERED: 0.01}
"""Fraction of each kind of sample; see `SampleMaker`."""
KINDS = tuple(MIX)
COMPOSITE_ON_HARD_NEGATIVE = 0.35
"""Fraction of composites that use a hard-negative crop: most views belong to that set."""

SOURCES = {
    "hpwren_aiformankind": 0.48,
    "fszhang_cls": 0.14,
    "sice_zerodce_train": 0.14,
    "sunhays80": 0.12,
    "real_haze": 0.12,
}
"""Fraction of each source among the clear images: mostly views of fire-watch cameras."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One training sample: input and target."""

    image: Rgb
    """(h, w, 3)."""
    background: Rgb
    """(h, w, 3); equal to `image` if there is none."""
    has_background: bool
    """Whether the background counts."""
    target: NDArray[np.uint8]
    """(h/2, w/2), 255 = smoke."""
    has_mask: bool
    """Whether the mask is known; else only the label of the image is."""
    smoke: bool
    """Label of the image."""


class SampleMaker:
    """Makes sample number n, deterministically, from labelled images and smoke densities.

    Kinds: `real` drawn masks; `composite` a plume over a clear image; `clear` no smoke, perhaps
    distractors; `hard_negative` a crop of a smoke image beside its smoke; `weak` smoke images with
    an image label only; `rendered` ready-made composites of the data set.

    Args:
        images: What samples are made of.
        densities: Plumes for composites; see `densities.py`.
        size: (height, width) of a sample.
        seed: Chooses the samples.
        kinds: Kinds to make; the others' fractions are shared out.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        densities: Sequence[NDArray[np.uint8]],
        *,
        size: tuple[int, int],
        seed: int,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        self.images = images
        self.densities = densities
        self.size = size
        self.seed = seed
        self._same_view = same_view(images)
        self._pools = {kind: _Pool(images, kind) for kind in MIX}
        weights = np.array(
            [
                MIX[kind] if pool.groups and kind in kinds else 0.0
                for kind, pool in self._pools.items()
            ]
        )
        self._weights = weights / weights.sum()

    def sample(self, number: int, *, kind: str | None = None) -> Sample:
        """Return sample `number`; its kind follows from the number unless `kind` is given."""
        rng = np.random.default_rng((self.seed, number))
        cv2.setRNGSeed(int(rng.integers(2**31)))  # of cv2.randn
        chosen = str(rng.choice(KINDS, p=self._weights))
        kind = kind or chosen
        negative = kind == HARD_NEGATIVE or (
            kind == COMPOSITE and rng.random() < COMPOSITE_ON_HARD_NEGATIVE
        )
        index, scene = self._hard_negative_crop(rng) if negative else self._draw(kind, rng)
        labelled = self.images[index]
        image = scene.cut(labelled.image)
        mask = scene.cut(labelled.mask if labelled.mask is not None else _empty(labelled.image))
        background = self._background(index, mask, scene, kind=kind, rng=rng)
        target = cast("Plane", mask.astype(np.float32) / 255)
        if kind in (CLEAR, HARD_NEGATIVE):
            image, background = distract(image, background, rng)
        if kind == COMPOSITE and self.densities:
            # Fog in the image or the background alone must not count as smoke.
            if rng.random() < 0.15:
                image, background = distract(image, background, rng)
            image, target = self._add_plume(image, rng)
        image, background = augment_camera(image, background, rng)
        small = cv2.resize(
            target, (self.size[1] // 2, self.size[0] // 2), interpolation=cv2.INTER_AREA
        )
        return Sample(
            image=image,
            background=image if background is None else background,
            has_background=background is not None,
            target=(np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8),
            has_mask=kind != WEAK,
            smoke=kind == WEAK or bool(small.max() > 0.3),
        )

    def _draw(self, kind: str, rng: Generator) -> tuple[int, _Scene]:
        index = self._pools[kind].draw(rng)
        near = kind in {CLEAR, COMPOSITE}
        return index, _Scene(self.images[index], rng, self.size, near=near)

    def _hard_negative_crop(self, rng: Generator) -> tuple[int, _Scene]:
        """Return a crop of a smoke image beside its smoke; a clear image if none is found."""
        for _ in range(12):
            index = self._pools[HARD_NEGATIVE].draw(rng)
            scene = _Scene(self.images[index], rng, self.size, near=True)
            if not self._has_smoke(index, scene):
                return index, scene
        return self._draw(CLEAR, rng)

    def _background(
        self,
        index: int,
        mask: NDArray[np.uint8],
        scene: _Scene,
        *,
        kind: str,
        rng: Generator,
    ) -> Rgb | None:
        """Return the view at another time, real or made up; often None."""
        if kind in (WEAK, RENDERED) or rng.random() < 0.45:
            return None
        covered = mask.any() and kind == REAL
        others = self._same_view[index]
        if kind in (HARD_NEGATIVE, COMPOSITE):  # only images without smoke in this crop
            others = [other for other in others if not self._has_smoke(other, scene)]
        if others and rng.random() < 0.75:
            other = self.images[int(rng.choice(others))]
            background = scene.cut(other.image, shift=rng.normal(0, 0.5, 2))
            old = scene.cut(other.mask) if other.mask is not None else None
            if covered:
                # The other image shows the same fire: its smoke is removed as well.
                both = np.maximum(mask, old) if old is not None else mask
                return _erase(background, both, rng) if both.mean() < 10 else None
            return background
        background = scene.cut(self.images[index].image, shift=rng.normal(0, 0.5, 2))
        if covered:
            # In one of five the fire is older than the background: no difference shows.
            if rng.random() < 0.2:
                return background
            return _erase(background, mask, rng) if mask.mean() < 10 else None
        return background

    def _has_smoke(self, index: int, scene: _Scene) -> bool:
        mask = self.images[index].mask
        return mask is not None and bool(scene.cut(mask).any())

    def _add_plume(self, image: Rgb, rng: Generator) -> tuple[Rgb, Plane]:
        height, width = self.size
        alpha = np.zeros((height, width), np.float32)
        for _ in range(1 if rng.random() < 0.85 else 2):
            density = self.densities[int(rng.integers(len(self.densities)))]
            alpha = np.maximum(alpha, _place(density, image, rng))
        solid = alpha > 0.3
        for _ in range(4):
            drawn = composite(image, alpha, airlight=random_airlight(image, rng), rng=rng)
            # Smoke of the colour of what is behind it is invisible: another airlight is drawn.
            if not solid.any() or cv2.absdiff(drawn, image)[solid].mean() > LEAST_CONTRAST:
                return drawn, np.clip((alpha - FAINT) * ALPHA_TO_TARGET, 0, 1)
        return image, np.zeros_like(alpha)


class _Pool:
    """Images of one kind: drawn by source (`SOURCES`), then by square root of the view's size."""

    def __init__(self, images: Sequence[LabelledImage], kind: str) -> None:
        by_group: dict[tuple[str, str], list[int]] = {}
        for index, labelled in enumerate(images):
            if _fits(labelled, kind):
                by_group.setdefault((labelled.entry.source, labelled.entry.group), []).append(index)
        self.groups = list(by_group.values())
        weights = np.array([len(group) ** 0.5 for group in self.groups])
        sources = np.array([source for source, _ in by_group])
        for source in set(sources.tolist()):
            mine = sources == source
            weights[mine] *= SOURCES.get(source, 1.0) / weights[mine].sum()
        self._weights = weights / weights.sum() if len(weights) else weights

    def draw(self, rng: Generator) -> int:
        group = self.groups[int(rng.choice(len(self.groups), p=self._weights))]
        return group[int(rng.integers(len(group)))]


def _fits(labelled: LabelledImage, kind: str) -> bool:
    entry = labelled.entry
    rendered = entry.source == "smoke5k_synth"
    return {
        REAL: entry.smoke and labelled.mask is not None and not rendered,
        COMPOSITE: not entry.smoke,
        CLEAR: not entry.smoke,
        HARD_NEGATIVE: entry.smoke and labelled.mask is not None and not rendered,
        WEAK: entry.smoke and labelled.mask is None,
        RENDERED: rendered,
    }[kind]


class _Scene:
    """One random crop, scale and flip, for an image, its mask and its background alike."""

    def __init__(
        self, labelled: LabelledImage, rng: Generator, size: tuple[int, int], *, near: bool
    ) -> None:
        height, width = size
        tall, wide = labelled.image.shape[:2]
        # Scales range from the whole view to twice its resolution; small images are enlarged.
        whole = max(width / wide, height / tall)
        # Without smoke that the crop could cut in two, one of four shows a small part of the view,
        # so that clouds and walls are seen at every scale.
        most = 4.5 if near and rng.random() < 0.25 else 2.1
        scale = whole * float(np.exp(rng.uniform(np.log(1.05), np.log(most))))
        stretch = float(np.exp(rng.normal(0, 0.06)))
        flip = -1.0 if rng.random() < 0.5 else 1.0
        spare = np.array([wide - width / (scale * stretch), tall - height / scale])
        centre = np.array([wide, tall]) / 2 + spare * rng.uniform(-0.5, 0.5, 2)
        across, down = scale * stretch * flip, scale
        self._matrix = np.array(
            [[across, 0, width / 2 - across * centre[0]], [0, down, height / 2 - down * centre[1]]]
        )
        self._size = (width, height)

    def cut(
        self, image: NDArray[np.uint8], *, shift: NDArray[Any] | None = None
    ) -> NDArray[np.uint8]:
        matrix = self._matrix
        if shift is not None:
            matrix = matrix + np.array([[0, 0, shift[0]], [0, 0, shift[1]]])
        border = cv2.BORDER_CONSTANT if image.ndim == 2 else cv2.BORDER_REFLECT_101
        return cast(
            "NDArray[np.uint8]",
            cv2.warpAffine(image, matrix, self._size, flags=cv2.INTER_LINEAR, borderMode=border),
        )


def _place(density: NDArray[np.uint8], image: Rgb, rng: Generator) -> Plane:
    """Return the opacity (h, w) of one plume at a random place: mostly far, sometimes close."""
    close = rng.random() < 0.35
    share = float(np.exp(rng.uniform(*np.log([0.02, 0.35] if close else [0.0004, 0.02]))))
    depth = place_plume(density, image, rng, share=share, close=close)
    if close and rng.random() < 0.6:  # billows
        depth = depth * (0.25 + 1.5 * clouds(depth.shape, rng, cells=int(rng.integers(4, 12))))
    # Optical depth, not opacity, is scaled: thin smoke keeps soft edges, thick smoke saturates.
    thickness = float(np.exp(rng.uniform(np.log(0.35), np.log(5))))
    alpha = 1 - np.exp(-thickness * depth)
    return cast("Plane", cv2.GaussianBlur(alpha.astype(np.float32), (0, 0), rng.uniform(0.3, 1.2)))


def place_plume(
    density: NDArray[np.uint8], image: Rgb, rng: Generator, *, share: float, close: bool
) -> Plane:
    """Return optical depth (h, w) of a plume that stands on the terrain.

    Args:
        density: A field of `densities.py`.
        image: (h, w, 3).
        rng: Chooses place, aspect ratio, direction and lean.
        share: Approximate fraction of the image that it covers.
        close: Whether it may stand anywhere low instead of at the horizon.
    """
    height, width = image.shape[:2]
    solid = density.astype(np.float32) / 255
    covers = float((solid > 0.2).sum())
    scale = (share * height * width / max(covers, 1)) ** 0.5
    stretch = float(np.exp(rng.normal(0, 0.25)))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    lean = rng.normal(0, 0.35)
    base = rng.uniform(0.05, 0.95) * width, horizon_row(image, rng, close=close) * height
    foot = np.array([solid.shape[1] / 2, solid.shape[0] - 1.0])
    across = np.array([[scale * stretch * flip, -lean * scale], [0, scale / stretch]])
    matrix = np.column_stack([across, np.array(base) - across @ foot])
    smooth = cv2.INTER_LINEAR if scale > 0.5 else cv2.INTER_AREA
    return cast("Plane", cv2.warpAffine(solid, matrix, (width, height), flags=smooth))


def horizon_row(image: Rgb, rng: Generator, *, close: bool) -> float:
    """Return a row to stand on, 0 to 1: below the steepest fall of brightness, or anywhere low."""
    if close or rng.random() < 0.25:
        return float(rng.uniform(0.45, 1.1))
    rows = cv2.resize(image, (8, 64), interpolation=cv2.INTER_AREA).mean((1, 2))
    fall = rows[6:50] - rows[10:54]
    horizon = (int(np.argmax(fall)) + 8) / 64
    return float(np.clip(horizon + rng.exponential(0.06) + 0.005, 0.1, 1.0))


def _erase(image: Rgb, mask: NDArray[np.uint8], rng: Generator) -> Rgb:
    """Inpaint the masked part: the view as it was before the fire."""
    hole = cv2.dilate((mask > 20).astype(np.uint8), np.ones((9, 9), np.uint8))
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    hole_small = cv2.resize(hole, small.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    filled = cv2.resize(cv2.inpaint(small, hole_small, 5, cv2.INPAINT_TELEA), image.shape[1::-1])
    soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 2)[..., None]
    grain = rng.normal(0, rng.uniform(0, 6), (*image.shape[:2], 1))
    return cast(
        "Rgb", np.clip(image * (1 - soft) + (filled + grain) * soft, 0, 255).astype(np.uint8)
    )


def augment_camera(image: Rgb, background: Rgb | None, rng: Generator) -> tuple[Rgb, Rgb | None]:
    """Apply light, lens, sensor and codec to both images, with a little drift between them."""
    gain = np.exp(rng.normal(0, 0.1)) * np.exp(rng.normal(0, 0.035, 3))
    gamma, contrast = np.exp(rng.normal(0, 0.2)), np.exp(rng.normal(0, 0.12))
    curve = _curve(gain, gamma, contrast)
    colour = 0.0 if rng.random() < 0.08 else float(np.clip(rng.normal(0.95, 0.25), 0, 1.6))
    blur = rng.uniform(0.3, 1.1) if rng.random() < 0.25 else 0.0
    image = _encode(_lens(_tone(image, curve, colour), blur, rng), rng)
    if background is None:
        return image, None
    drift = _curve(
        gain * np.exp(rng.normal(0, 0.06)), gamma * np.exp(rng.normal(0, 0.05)), contrast
    )
    return image, _encode(_lens(_tone(background, drift, colour), blur, rng), rng)


def _curve(gain: NDArray[Any], gamma: float, contrast: float) -> NDArray[np.uint8]:
    levels = np.linspace(0, 1, 256)[:, None]
    curved = np.clip((levels**gamma - 0.5) * contrast + 0.5, 0, 1) * gain
    return cast("NDArray[np.uint8]", (np.clip(curved, 0, 1) * 255 + 0.5).astype(np.uint8)[:, None])


def _tone(image: Rgb, curve: NDArray[np.uint8], colour: float) -> Rgb:
    toned = cv2.LUT(image, curve)
    grey = cv2.cvtColor(cv2.cvtColor(toned, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cast("Rgb", cv2.addWeighted(toned, colour, grey, 1 - colour, 0))


def _lens(image: Rgb, blur: float, rng: Generator) -> Rgb:
    if blur:
        image = cast("Rgb", cv2.GaussianBlur(image, (0, 0), blur))
    if rng.random() < 0.12:  # a low-resolution stream, enlarged
        small = cv2.resize(
            image, None, fx=(f := rng.uniform(0.5, 0.9)), fy=f, interpolation=cv2.INTER_AREA
        )
        image = cast("Rgb", cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR))
    if rng.random() < 0.4:
        grain = np.full((3, 1), rng.uniform(0.5, 5))
        noise = cv2.randn(np.empty(image.shape, np.int16), np.zeros((3, 1)), grain)
        image = cast("Rgb", cv2.add(image, noise, dtype=cv2.CV_8U))
    return image


def _encode(image: Rgb, rng: Generator) -> Rgb:
    choice = rng.random()
    if choice < 0.5:
        return image
    if choice < 0.92:
        quality = int(rng.integers(40, 95))
        data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cast("Rgb", cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))
    return x264(image, crf=int(rng.integers(20, 34)))


def x264(image: Rgb, *, crf: int) -> Rgb:
    """Return the image encoded and decoded as one H.264 key frame."""
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
