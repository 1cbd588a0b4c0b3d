"""Telling pictures apart: small grey copies, cuts between them, mixtures, and PSNR."""

from functools import cache
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from streamer.core.pixel_format import pixel_layout, planar_equivalent, planar_layout, plane_views

_SIZE: Final = (54, 96)
"""Height and width of the small grey pictures by which frames are told apart."""

_CUT: Final = 12.0
"""Mean difference of two small pictures, of 255 grey levels, that may be a cut."""

_REPEAT_MEAN, _REPEAT_BLOCK = 1.5, 12.0
"""Grey levels by which a repeat may differ in the mean and in its worst block: a little more than
whoever makes frames takes for one."""

_BLOCK: Final = 16
"""Pixels."""

_TILES: Final = (3, 4)
"""Down and across; each is looked for around its place."""

_REACH: Final = (8, 11)
"""Pixels of a small picture, down and across, by which a tile may have moved between frames."""

_FLAT: Final = 4.0
"""Deviation of a tile's grey levels below which it says nothing."""

_OTHER_SCENE: Final = 0.56
"""Correlation of the tiles below which a picture is surely of another scene. Whoever makes frames
may see a cut earlier than that; this is where nobody may miss one."""

Thumb = NDArray[np.uint8]
"""(54, 96) grey levels."""


def cuts_among(thumbs: dict[int, Thumb]) -> list[int]:
    """Numbers of the frames that begin something new, among consecutive small pictures."""
    return [
        number
        for number in sorted(thumbs)
        if number - 1 in thumbs
        and difference(thumbs[number - 1], thumbs[number]) > _CUT
        and same_scene(thumbs[number - 1], thumbs[number]) < _OTHER_SCENE
    ]


def same_scene(one: Thumb, other: Thumb) -> float:
    """How well the tiles of each are found in the other, near their places; -1 to 1."""
    return min(_found(one, other), _found(other, one))


def _found(one: Thumb, other: Thumb) -> float:
    import cv2  # Only where two pictures are far apart.

    total = weight = 0.0
    height, width = _SIZE[0] // _TILES[0], _SIZE[1] // _TILES[1]
    for top in range(0, _SIZE[0], height):
        for left in range(0, _SIZE[1], width):
            tile = one[top : top + height, left : left + width]
            contrast = float(tile.std())
            if contrast < _FLAT:
                continue
            y, x = max(0, top - _REACH[0]), max(0, left - _REACH[1])
            around = other[y : top + height + _REACH[0], x : left + width + _REACH[1]]
            total += contrast * float(cv2.matchTemplate(around, tile, cv2.TM_CCOEFF_NORMED).max())
            weight += contrast
    return total / weight if weight else 1.0


def mixture(picture: Thumb, left: Thumb, right: Thumb) -> float:
    """The share of *right* in *picture*, from 0 to 1, by least squares."""
    begin = left.astype(np.float64).ravel()
    apart = right.ravel() - begin
    length = np.dot(apart, apart)
    if length == 0:
        return 0.0
    return float(np.clip(np.dot(picture.ravel() - begin, apart) / length, 0, 1))


def thumb(frame: av.VideoFrame) -> Thumb:
    """A small grey copy of *frame*."""
    height, width = _SIZE
    small = frame.reformat(width=width, height=height, format="gray", interpolation="AREA")
    return small.to_ndarray().astype(np.uint8)  # A copy: a view keeps whole pictures alive.


def difference(one: Thumb, other: Thumb) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(one.astype(np.int16) - other).mean())


def repeats(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    """Whether *other* may be taken for the same picture, but for what a codec changed."""
    ours, theirs = (frame.to_ndarray(format="gray").astype(np.int16) for frame in (one, other))
    apart = np.abs(ours - theirs)
    height, width = (side - side % _BLOCK for side in apart.shape)
    if apart.mean() > _REPEAT_MEAN or not height or not width:
        return bool(apart.mean() <= _REPEAT_MEAN)
    blocks = apart[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    return bool(blocks.mean(axis=(1, 3)).max() <= _REPEAT_BLOCK)


def likeness(one: Thumb, other: Thumb) -> float:
    """Correlation, which a change of brightness or contrast leaves as it is."""
    first, second = one - float(one.mean()), other - float(other.mean())
    scale = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) / scale if scale else 0.0


def psnr(ours: av.VideoFrame, theirs: av.VideoFrame) -> float:
    """Of all planes together, dB, in the pixel format of *theirs*; what it lacks counts nothing."""
    name = _comparable(theirs.format.name)
    ours, theirs = (
        one if one.format.name == name else one.reformat(format=name) for one in (ours, theirs)
    )
    layout = planar_layout(name)
    squares, count = 0.0, 0
    for one, other in zip(plane_views(ours, layout), plane_views(theirs, layout), strict=True):
        apart = one.astype(np.float32) - other
        squares += float(np.dot(apart.ravel(), apart.ravel()))
        count += apart.size
    highest = (1 << layout.depth) - 1
    return float(10 * np.log10(highest**2 * count / squares)) if squares else np.inf


@cache
def _comparable(name: str) -> str:
    """Return a planar format that holds the samples of *name*, or all that is visible of it."""
    planar = planar_equivalent(name)
    if pixel_layout(planar).planar:
        return planar
    return "gbrap" if pixel_layout(name).alpha else "gbrp"
