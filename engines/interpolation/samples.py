"""Makes training samples from decoded clips: three frames with added motion and occlusion.

Large motion is rare in clips, so it is added: frames farther apart, a window that pans, turns and
zooms over the clip, pieces of other clips that fly across, static text. The added motion is exact:
every layer is rendered at the three times.
"""

# ruff: noqa: PLR2004  random ranges stand where they act
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from engines.interpolation import flow
from engines.interpolation.data import Clip, planes_of
from engines.interpolation.downscale import downscale_geometry, reduced
from engines.interpolation.warp_blend import warp_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]
    Vector = NDArray[Any]
    Times = tuple[float, float, float]

SIDE = 256
"""Side of a training image in pixels of luma."""
SHARES = ((2, 1), (2, 1), (2, 1), (2, 1), (3, 1), (4, 1))
"""Distances between the outer frames, and of the middle one from the first, before scaling."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Target frame and inputs of the fusion network."""

    target: list[Plane]
    """Luma (SIDE, SIDE) and two chroma planes (SIDE/2, SIDE/2) of the middle frame."""
    guesses: list[Plane]
    """The same planes of the four guesses: (4, ...) each."""
    inside: NDArray[np.uint8]
    """(4, SIDE/2, SIDE/2): 255 where a guess was sampled inside the frame."""
    differences: NDArray[np.uint8]
    """(9, SIDE/2, SIDE/2), see `flow.difference_maps`."""
    blurred_differences: NDArray[np.uint8]
    """(6, SIDE/4, SIDE/4), see `flow.difference_maps`."""
    motion_fields: NDArray[np.float32]
    """(2, SIDE/4, SIDE/4, 2), see `flow.IntermediateMotion.fields`."""
    t: float
    """Time of the middle frame."""


class Sampler:
    """Makes sample number n, deterministically."""

    def __init__(self, clips: Sequence[Clip], seed: int) -> None:
        self._clips = [clip.frames() for clip in clips]
        self._seed = seed

    def sample(self, number: int) -> Sample:
        """Return sample `number`."""
        rng = np.random.default_rng((self._seed, number))
        while True:
            made = self._frames(rng)
            if made is not None:
                return prepare(*_varied(*made, rng))

    def _frames(self, rng: Generator) -> tuple[list[Plane], float] | None:
        """Return three packed frames of SIDE and the time; None if they are useless."""
        clip = self._clips[int(rng.integers(len(self._clips)))]
        apart, first = SHARES[int(rng.integers(len(SHARES)))]
        wide = int(rng.choice([1, 1, 1, 1, 2, 2, 3]))
        still = rng.random() < 0.12
        span = 0 if still else apart * wide
        if span >= len(clip):
            return None
        start = int(rng.integers(len(clip) - span))
        t = first / apart
        chosen = [clip[start + (0 if still else step * wide)] for step in (0, first, apart)]
        path = _path(chosen[0], t, rng, moving=rng.random() < 0.35)
        if path is None:
            return None
        frames = [_cut(frame, matrix) for frame, matrix in zip(chosen, path.matrices, strict=True)]
        frames = [_motion_blur(frame, blur) for frame, blur in zip(frames, path.blurs, strict=True)]
        if not still and _useless(frames):
            return None
        if rng.random() < (0.25 if still else 0.03):
            _rule(frames, rng)
        for _ in range(int(rng.choice([1, 1, 2, 3]))):
            if rng.random() < (1.0 if still else 0.28):
                frames = self._covered(frames, t, rng)
        if rng.random() < 0.06:
            _write_on(frames, rng)
        return frames, t

    def _covered(self, frames: list[Plane], t: float, rng: Generator) -> list[Plane]:
        """Let a piece of another clip fly across."""
        clip = self._clips[int(rng.integers(len(self._clips)))]
        path = _path(clip[0], 0.5, rng, moving=False)
        if path is None:
            return frames
        texture = _cut(clip[int(rng.integers(len(clip)))], path.matrices[0])
        mask = _blob(rng)
        spread = float(rng.choice([6.0, 15.0, 30.0]))
        velocity = rng.uniform(-spread, spread, 2)
        begin = rng.uniform(-SIDE / 3, SIDE / 3, 2) - velocity / 2
        turn, angle = rng.normal(0, 0.08), rng.uniform(-3.1, 3.1)
        made = []
        for frame, time in zip(frames, (0.0, t, 1.0), strict=True):
            at = SIDE / 2 + begin + velocity * time
            matrix = _similarity(at, angle + turn * time, 1.0, np.full(2, SIDE / 2))
            piece = _cut(texture, cast("Plane", cv2.invertAffineTransform(matrix)))
            cover = cv2.warpAffine(mask, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
            small = cv2.resize(cover, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            both = np.vstack([cover, np.hstack([small, small])]).astype(np.float32)
            mixed = frame + (piece.astype(np.float32) - frame) * both
            made.append(np.rint(mixed).astype(np.uint8))
        return made


def prepare(frames: Sequence[Plane], t: float) -> Sample:
    """Return a sample of three packed frames; guesses are made as for small frames."""
    planes = [[np.ascontiguousarray(p) for p in planes_of(frame)] for frame in frames]
    geometry = downscale_geometry(planes[0], depth=8, rgb=False, step=2)
    before, after = reduced(planes[0], geometry), reduced(planes[2], geometry)
    motion = flow.MotionSearch(before, after).at(t)
    fields = motion.warp_fields(t)
    guesses = [
        np.stack(warp_all(a, b, fields, geometry.factors(i)))
        for i, (a, b) in enumerate(zip(planes[0], planes[2], strict=True))
    ]
    small, inside = flow.warp_guesses(before, after, fields, before.shape[:2])
    return Sample(planes[1], guesses, inside, *flow.difference_maps(small), motion.fields, t)


def _useless(frames: list[Plane]) -> bool:
    """Whether the middle frame repeats an outer one, or the outer frames are unrelated."""
    small = [cv2.resize(f[:SIDE], (64, 64), interpolation=cv2.INTER_AREA) for f in frames]
    ends = cv2.norm(small[0], small[2], cv2.NORM_L1)
    near = min(cv2.norm(small[1], small[i], cv2.NORM_L1) for i in (0, 2))
    return near < 0.15 * ends or ends > 40 * 64 * 64


def _similarity(at: NDArray[np.float64], angle: float, zoom: float, centre: object) -> Plane:
    """Return the similarity (2, 3) that turns and zooms about `centre` and moves that to `at`."""
    c, s = np.cos(angle) * zoom, np.sin(angle) * zoom
    turn = np.array([[c, -s], [s, c]])
    shift = at - turn @ np.asarray(centre)
    return cast("Plane", np.hstack([turn, shift[:, None]]))


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """Path of a window over a clip."""

    matrices: list[Plane]
    """(2, 3) each: from the window to the frame, at the three times."""
    blurs: list[Vector]
    """(x, y) in pixels: its motion while the shutter was open, at the three times."""


def _path(frame: Plane, t: float, rng: Generator, *, moving: bool) -> _Path | None:
    """Return a random path of a window over a frame; None if it does not fit."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    room = np.array([width, height], np.float64)
    if (room < SIDE * 0.9).any():
        return None
    exact = not moving or (t == 0.5 and rng.random() < 0.5)
    zoom = 1.0 if exact else float(np.exp(rng.uniform(-0.4, 0.15)))
    zoom = min(zoom, float(room.min()) / SIDE)
    reach = SIDE * zoom / 2
    spread = float(rng.choice([3.0, 8.0, 16.0, 30.0])) if moving else 0.0
    travel = rng.uniform(-spread, spread, 2)
    # A shaken camera accelerates, which its blur reveals; without blur it cannot be known.
    shutter = float(rng.choice([0.0, rng.uniform(0.1, 0.5)])) if moving else 0.0
    bend = rng.normal(0, 0.03 if shutter == 0 else 0.12, 2) * (0 if exact else spread)
    turn = 0.0 if exact else rng.normal(0, 0.03)
    grow = 0.0 if exact else rng.normal(0, 0.04)
    angle = 0.0 if exact else rng.normal(0, 0.1)
    margin = np.minimum(reach + np.abs(travel) / 2, room / 2)
    middle = margin + rng.random(2) * np.maximum(room - 2 * margin, 0)
    matrices, blurs = list[Any](), list[Any]()
    for time in (0.0, t, 1.0):
        at = middle + travel * (time - 0.5)
        if exact:
            # Whole steps of two pixels: neither luma nor chroma is interpolated.
            at = np.rint(middle / 2) * 2 + np.rint(travel / 4) * 4 * (time - 0.5)
        else:
            at = at + bend * 4 * time * (1 - time)
        size = zoom * np.exp(grow * (time - 0.5))
        centre = np.full(2, SIDE / 2)
        matrices.append(_similarity(at, angle + turn * time, size, centre))
        blurs.append(shutter * (travel + bend * 4 * (1 - 2 * time)) / zoom)
    return _Path(matrices, blurs)


def _motion_blur(frame: Plane, blur: Vector) -> Plane:
    """Return a packed frame blurred by a camera motion of `blur` (x, y) pixels."""
    if np.hypot(*blur) < 1:
        return frame
    parts = []
    for plane, share in zip(planes_of(frame), (1.0, 0.5, 0.5), strict=True):
        x, y = blur * share
        reach = int(np.ceil(max(abs(x), abs(y)) / 2))
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        for along in np.linspace(-0.5, 0.5, 8 * reach + 1):
            kernel[round(reach + along * y), round(reach + along * x)] += 1
        parts.append(cv2.filter2D(np.ascontiguousarray(plane), -1, kernel / kernel.sum()))
    return np.vstack([parts[0], np.hstack(parts[1:])])


def _cut(frame: Plane, matrix: Plane) -> Plane:
    """Return the window of a packed frame, packed; `matrix` maps the window to the frame."""
    luma, *chroma = planes_of(np.asarray(frame))
    turn, shift = matrix[:, :2], matrix[:, 2]
    half = np.hstack([turn, ((turn.sum(1) * 0.5 + shift + 0.5) / 2 - 0.5)[:, None]])
    parts = []
    for plane, way, side in ((luma, matrix, SIDE), *((p, half, SIDE // 2) for p in chroma)):
        whole = np.array_equal(way[:, :2], np.eye(2)) and np.array_equal(way, np.rint(way))
        x, y = (int(value) for value in np.floor(way[:, 2]))
        inside = 0 <= x <= plane.shape[1] - side and 0 <= y <= plane.shape[0] - side
        if whole and inside:
            parts.append(np.ascontiguousarray(plane[y : y + side, x : x + side]))
        else:
            flags = cv2.WARP_INVERSE_MAP | cv2.INTER_CUBIC
            warped = cv2.warpAffine(
                plane, way, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101
            )
            parts.append(cast("Plane", warped))
    return np.vstack([parts[0], np.hstack(parts[1:])])


def _blob(rng: Generator) -> NDArray[np.float32]:
    """Return a random shape (SIDE, SIDE), 0 to 1, with edges about one pixel soft."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    size = float(np.exp(rng.uniform(np.log(8), np.log(70))))
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 4))):
            at = SIDE / 2 + rng.normal(0, size * 0.5, 2)
            axes = np.maximum(2, rng.uniform(0.2, 1.0, 2) * size)
            turn = float(rng.uniform(0, 180))
            centre, radii = (int(at[0]), int(at[1])), (int(axes[0]), int(axes[1]))
            cv2.ellipse(mask, centre, radii, turn, 0, 360, 255, -1)
    else:
        corners = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        radii_ = size * rng.uniform(0.4, 1.0, len(corners))
        points = SIDE / 2 + radii_[:, None] * np.stack([np.cos(corners), np.sin(corners)], 1)
        cv2.fillPoly(mask, [points.astype(np.int32)], 255)
    soft = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.5, 1.6)))
    return soft.astype(np.float32) / np.float32(255)


def _write_on(frames: list[Plane], rng: Generator) -> None:
    """Write the same text on every frame."""
    text = "".join(rng.choice(list("ABCDEFHKLMNRSTabdeghk0123456789:- "), 14))
    at = (int(rng.integers(-20, SIDE // 2)), int(rng.integers(20, SIDE)))
    size, ink = float(rng.uniform(0.4, 1.2)), int(rng.choice([16, 235, 128]))
    for frame in frames:
        luma = np.ascontiguousarray(frame[:SIDE])
        cv2.putText(luma, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, ink, 2, cv2.LINE_AA)
        frame[:SIDE] = luma


def _rule(frames: list[Plane], rng: Generator) -> None:
    """Draw the same ruled lines on every frame: uncovered background must not be stretched."""
    grid = np.zeros((SIDE, SIDE), np.uint8)
    apart, thick = float(rng.uniform(6, 40)), int(rng.choice([1, 1, 2]))
    angle = float(rng.choice([0.0, rng.uniform(0, 1.6)]))
    for turn in (angle, angle + np.pi / 2)[: int(rng.integers(1, 3))]:
        along = np.array([np.cos(turn), np.sin(turn)])
        across = along[::-1] * [-1, 1]
        for step in np.arange(-SIDE, SIDE, apart):
            ends = [SIDE / 2 + across * step + along * reach for reach in (-SIDE, SIDE)]
            first, last = ((int(end[0]), int(end[1])) for end in ends)
            cv2.line(grid, first, last, 255, thick, cv2.LINE_AA)
    ink, strength = float(rng.choice([10, 235, 200])), float(rng.uniform(0.4, 1))
    cover = grid.astype(np.float32) * (strength / 255)
    for frame in frames:
        frame[:SIDE] = np.rint(frame[:SIDE] + (ink - frame[:SIDE].astype(np.float32)) * cover)


def _varied(frames: list[Plane], t: float, rng: Generator) -> tuple[list[Plane], float]:
    """Apply the same flips, exposure and order to all three frames, and independent noise."""
    parts = [[np.ascontiguousarray(p) for p in planes_of(frame)] for frame in frames]
    if rng.random() < 0.5:
        parts = [[p[:, ::-1] for p in planes] for planes in parts]
    if rng.random() < 0.3:
        parts = [[p[::-1] for p in planes] for planes in parts]
    if rng.random() < 0.3:
        parts = [[p.T for p in planes] for planes in parts]
    if rng.random() < 0.3:
        gain, gamma = rng.uniform(0.7, 1.25), np.exp(rng.normal(0, 0.2))
        table = 255 * np.clip(gain * (np.arange(256) / 255) ** gamma, 0, 1)
        parts = [
            [cast("Plane", cv2.LUT(p[0], np.rint(table).astype(np.uint8))), *p[1:]] for p in parts
        ]
    if rng.random() < 0.2:
        parts = [[p[0], p[2], p[1]] for p in parts]
    if rng.random() < 0.1:
        sigma = rng.uniform(0.5, 4)
        for planes in parts:
            noisy = planes[0] + rng.normal(0, sigma, planes[0].shape)
            planes[0] = np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
    made = [np.vstack([p[0], np.hstack(p[1:])]) for p in parts]
    if rng.random() < 0.5:
        return made[::-1], 1 - t
    return made, t
