"""Renders the demonstration clip: a fire that starts on a ridge, with its ground truth.

Landscape, plume and sensor noise are synthetic, so the clip may be distributed freely.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from engines.smoke.compositing import Plane, Rgb, composite_density, from_linear, sky_light
from engines.smoke.plume import PlumeSimulator, place
from engines.smoke.synthetic_scene import Landscape, Site

_GRID: Final = (144, 208)
"""Rows and columns of the plume's grid; enough for a plume of 200 pixels."""

_PLUME_HEIGHT: Final = 0.26
"""Height of the grown plume's field, as a fraction of the image's height."""

_OPACITY: Final = 0.8
_SUNLIT: Final = 1.18
"""Brightness of thick white smoke in the sun relative to the sky; see `_smoke_light`."""

_NOISE_TILES: Final = 4
_NOISE_SPARE: Final = 64
"""Noise is cropped at random from a few larger tiles: new noise would cost more than x264."""

_READ_NOISE: Final = 1.0
_SHOT_NOISE: Final = 0.03
"""Noise variance in 8-bit levels: read**2 + shot * luma; a small sensor by day."""


@dataclass(frozen=True, slots=True)
class ClipTruth:
    """Ground truth of the clip."""

    fps: int
    frames: int
    width: int
    height: int
    seed: int
    onset_s: float | None
    """Time at which the smoke starts; `None` without smoke."""

    anchor: tuple[float, float] | None
    """x, y of the source, each 0 to 1."""

    area: tuple[float, ...]
    """Fraction of the image with alpha above 0.1, at each full second."""

    box: tuple[tuple[float, float, float, float] | None, ...]
    """Left, top, right, bottom of that area, each 0 to 1, at each full second."""


def make_clip(
    path: Path,
    *,
    seconds: int = 30,
    size: tuple[int, int] = (720, 1280),
    fps: int = 25,
    seed: int = 3,
    onset_s: float = 6.0,
    smoke: bool = True,
) -> ClipTruth:
    """Write an MP4 and its ground truth, `NAME.json` and `NAME.alpha.npz`.

    The same arguments render the same frames. The masks are alpha at a quarter of the size, one per
    second, uint8, 255 for opaque: (seconds, height / 4, width / 4).

    Args:
        path: The MP4 to write; an existing one is replaced.
        seconds: Length, at least 1.
        size: (height, width), both even.
        fps: Frames per second; one key frame per second.
        seed: Chooses landscape and plume.
        onset_s: Time at which the smoke starts.
        smoke: Whether there is smoke.
    """
    height, width = size
    scene = _Scene(
        height=height, width=width, seed=seed, fps=fps, onset_s=onset_s if smoke else None
    )
    alphas: list[NDArray[np.uint8]] = []
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, fps)
        stream.codec_context.options = {"preset": "veryfast", "crf": "24", "bf": "0", "g": str(fps)}
        stream.codec_context.colorspace = stream.codec_context.color_primaries = 1  # BT.709
        stream.codec_context.color_trc = stream.codec_context.color_range = 1
        for number, (image, alpha) in enumerate(scene.frames(seconds * fps)):
            if number % fps == 0:
                alphas.append(_quarter(alpha))
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            planar = frame.reformat(
                format="yuv420p",
                dst_colorspace="ITU709",
                src_color_range="JPEG",
                dst_color_range="MPEG",
            )
            scene.add_noise(planar, number)
            planar.pts, planar.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(planar))
        container.mux(stream.encode(None))
    truth = _truth(scene, np.stack(alphas), seconds * fps)
    np.savez_compressed(path.with_suffix(".alpha.npz"), alpha=np.stack(alphas))
    path.with_suffix(".json").write_text(json.dumps(asdict(truth), indent=1) + "\n")
    return truth


class _Scene:
    """Landscape, plume and camera over time."""

    def __init__(
        self, *, height: int, width: int, seed: int, fps: int, onset_s: float | None
    ) -> None:
        self.height, self.width = height, width
        self.seed, self.fps, self.onset_s = seed, fps, onset_s
        self._landscape = Landscape(height=height, width=width, seed=seed)
        self._rng = np.random.default_rng(seed + 1)
        self.site: Site = self._landscape.site(self._rng.uniform(0.35, 0.65))
        """Where it burns."""
        wind = 5.0 * self._rng.choice((-1, 1))
        self._plume = PlumeSimulator(
            height=_GRID[0], width=_GRID[1], seed=seed, wind=wind, rise=8.0
        )
        tiles = (_NOISE_TILES, height + _NOISE_SPARE, width + _NOISE_SPARE)
        self._noise = self._rng.standard_normal(tiles, np.float32)
        self._sigma = np.zeros((height, width), np.float32)

    def frames(self, count: int) -> Iterator[tuple[Rgb, Plane]]:
        """Yield each frame and the exact alpha of the smoke in it."""
        scene = from_linear(self._landscape.light(0))
        light = _smoke_light(scene, self.site)
        rows = self._landscape.sky_rows
        clear = np.zeros((self.height, self.width), np.float32)
        now, later = scene[:rows], from_linear(self._landscape.sky(1))
        for number in range(count):
            second, share = divmod(number, self.fps)
            if share == 0 and second > 0:
                now, later = later, from_linear(self._landscape.sky(second + 1))
            # Clouds drift by a few pixels per second: blending full seconds is good enough.
            image = scene.copy()
            cv2.addWeighted(now, 1 - share / self.fps, later, share / self.fps, 0, dst=image[:rows])
            density = self._density(number / self.fps)
            if density is None:
                yield image, clear
            else:
                yield composite_density(image, density, opacity=_OPACITY, airlight=light)

    def _density(self, now_s: float) -> Plane | None:
        """Return the density of the next frame, (height, width); `None` before the fire starts."""
        if self.onset_s is None or now_s < self.onset_s:
            return None
        self._plume.step(1 / self.fps, strength=min(1.0, 0.4 + 0.05 * (now_s - self.onset_s)))
        density = place(
            self._plume.density,
            into=(self.height, self.width),
            anchor=(self.site.y, self.site.x),
            height_px=_PLUME_HEIGHT * self.height,
        )
        return density * self.site.seen

    def add_noise(self, frame: av.VideoFrame, number: int) -> None:
        """Add shot and read noise to luma, in place."""
        plane = frame.planes[0]
        luma: NDArray[np.uint8] = np.ndarray(
            (self.height, self.width), np.uint8, memoryview(plane), strides=(plane.line_size, 1)
        )
        if number % self.fps == 0:
            self._sigma = _SIGMA[luma]
        top, left = self._rng.integers(0, _NOISE_SPARE, 2)
        tile = self._noise[number % _NOISE_TILES]
        noise = tile[top : top + self.height, left : left + self.width]
        luma[:] = cv2.add(luma, cv2.multiply(self._sigma, noise), dtype=cv2.CV_8U)


_SIGMA: Final = np.sqrt(_READ_NOISE**2 + _SHOT_NOISE * np.arange(256)).astype(np.float32)


def _smoke_light(scene: Rgb, site: Site) -> Plane:
    """Return the light of sunlit smoke at the site, (3,), as it arrives through the air."""
    sky = sky_light(scene)
    smoke = np.minimum(_SUNLIT * (sky + 0.8 * (sky.mean() - sky)), 0.96)
    return cast("Plane", smoke * site.clear + site.air)


def _quarter(alpha: Plane) -> NDArray[np.uint8]:
    small = cv2.resize(alpha, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return np.rint(255 * small).astype(np.uint8)


def _truth(scene: _Scene, alphas: NDArray[np.uint8], frames: int) -> ClipTruth:
    seen = alphas > 0.1 * 255
    anchor = (scene.site.x / scene.width, scene.site.y / scene.height)
    return ClipTruth(
        fps=scene.fps,
        frames=frames,
        width=scene.width,
        height=scene.height,
        seed=scene.seed,
        onset_s=scene.onset_s,
        anchor=None if scene.onset_s is None else anchor,
        area=tuple(float(mask.mean()) for mask in seen),
        box=tuple(_box(mask) for mask in seen),
    )


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if width == 0:
        return None
    rows, columns = mask.shape
    return x / columns, y / rows, (x + width) / columns, (y + height) / rows
