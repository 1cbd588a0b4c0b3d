"""Image metrics: PSNR, correlation of thumbnails, scene changes, duplicates, blends."""

from functools import cache
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from streamer.core.pixel_format import pixel_layout, planar_equivalent, planar_layout, plane_views

_SIZE: Final = (54, 96)
"""Height and width of the gray thumbnails by which frames are compared."""

_SCENE_DIFFERENCE: Final = 12.0
"""Minimum mean difference of two thumbnails at a scene change, of 255 gray levels."""

_DUPLICATE_MEAN, _DUPLICATE_BLOCK = 1.5, 12.0
"""Gray levels by which a duplicate may differ in the mean and in its worst block: slightly more
than the interpolation allows."""

_BLOCK: Final = 16
"""Side of a block in pixels."""

_TILES: Final = (3, 4)
"""Rows and columns of tiles; each tile is searched for around its position."""

_SEARCH: Final = (8, 11)
"""Pixels of a thumbnail, down and across, by which a tile may move between frames."""

_FLAT: Final = 4.0
"""Standard deviation of a tile's gray levels below which it is ignored."""

_OTHER_SCENE: Final = 0.56
"""Correlation of the tiles below which a frame certainly shows another scene. The interpolation may
detect a scene change at a higher correlation; below this one it must."""

Thumbnail = NDArray[np.uint8]
"""(54, 96) gray levels."""


def scene_changes(thumbnails: dict[int, Thumbnail]) -> list[int]:
    """Return the numbers of the frames that begin a new scene, among thumbnails by number."""
    return [
        number
        for number in sorted(thumbnails)
        if number - 1 in thumbnails
        and mean_difference(thumbnails[number - 1], thumbnails[number]) > _SCENE_DIFFERENCE
        and scene_similarity(thumbnails[number - 1], thumbnails[number]) < _OTHER_SCENE
    ]


def scene_similarity(one: Thumbnail, other: Thumbnail) -> float:
    """Return the correlation of tiles with their best match near their position; -1 to 1."""
    return min(_tile_correlation(one, other), _tile_correlation(other, one))


def _tile_correlation(one: Thumbnail, other: Thumbnail) -> float:
    import cv2  # Only needed for frames that differ much.

    total = weight = 0.0
    height, width = _SIZE[0] // _TILES[0], _SIZE[1] // _TILES[1]
    for top in range(0, _SIZE[0], height):
        for left in range(0, _SIZE[1], width):
            tile = one[top : top + height, left : left + width]
            contrast = float(tile.std())
            if contrast < _FLAT:
                continue
            y, x = max(0, top - _SEARCH[0]), max(0, left - _SEARCH[1])
            around = other[y : top + height + _SEARCH[0], x : left + width + _SEARCH[1]]
            total += contrast * float(cv2.matchTemplate(around, tile, cv2.TM_CCOEFF_NORMED).max())
            weight += contrast
    return total / weight if weight else 1.0


def blend_ratio(blend: Thumbnail, left: Thumbnail, right: Thumbnail) -> float:
    """Return the weight of *right* in a *blend* of both, from 0 to 1, by least squares."""
    begin = left.astype(np.float64).ravel()
    direction = right.ravel() - begin
    length = np.dot(direction, direction)
    if length == 0:
        return 0.0
    return float(np.clip(np.dot(blend.ravel() - begin, direction) / length, 0, 1))


def thumbnail(frame: av.VideoFrame) -> Thumbnail:
    """Return a gray thumbnail of *frame*."""
    height, width = _SIZE
    small = frame.reformat(width=width, height=height, format="gray", interpolation="AREA")
    return small.to_ndarray().astype(np.uint8)  # A copy: a view would keep the frame alive.


def mean_difference(one: Thumbnail, other: Thumbnail) -> float:
    """Return the mean absolute difference in gray levels."""
    return float(np.abs(one.astype(np.int16) - other).mean())


def is_duplicate(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    """Whether both frames show the same image, apart from coding noise."""
    first, second = (frame.to_ndarray(format="gray").astype(np.int16) for frame in (one, other))
    error = np.abs(first - second)
    height, width = (side - side % _BLOCK for side in error.shape)
    if error.mean() > _DUPLICATE_MEAN or not height or not width:
        return bool(error.mean() <= _DUPLICATE_MEAN)
    blocks = error[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    return bool(blocks.mean(axis=(1, 3)).max() <= _DUPLICATE_BLOCK)


def correlation(one: Thumbnail, other: Thumbnail) -> float:
    """Return the correlation, which changes of brightness and contrast do not affect."""
    first, second = one - float(one.mean()), other - float(other.mean())
    scale = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) / scale if scale else 0.0


def psnr(source: av.VideoFrame, output: av.VideoFrame) -> float:
    """Return the PSNR over all planes in dB, in the pixel format of *output*."""
    name = _comparable_format(output.format.name)
    frames = [
        one if one.format.name == name else one.reformat(format=name) for one in (source, output)
    ]
    layout = planar_layout(name)
    planes = (plane_views(frame, layout) for frame in frames)
    squares, count = 0.0, 0
    for one, other in zip(*planes, strict=True):
        error = one.astype(np.float32) - other
        squares += float(np.dot(error.ravel(), error.ravel()))
        count += error.size
    highest = (1 << layout.depth) - 1
    return float(10 * np.log10(highest**2 * count / squares)) if squares else np.inf


@cache
def _comparable_format(name: str) -> str:
    """Return a planar format that holds the samples of *name*, or all that is visible of it."""
    planar = planar_equivalent(name)
    if pixel_layout(planar).planar:
        return planar
    return "gbrap" if pixel_layout(name).alpha else "gbrp"
