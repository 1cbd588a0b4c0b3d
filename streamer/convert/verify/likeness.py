"""Telling pictures apart: small grey copies, cuts between them, mixtures, and PSNR."""

from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from .facts import form

_SIZE: Final = (36, 64)
"""Height and width of the small grey pictures by which frames are told apart."""

_CUT: Final = 18.0
"""Mean difference of two small pictures, of 255 grey levels, that may be a cut."""

_CUT_RATIO: Final = 2.5
"""How much more it must be than the differences around it."""

_BYTE: Final = 8
_DEEPEST: Final = 16
"""Bits of a component. Deeper ones are fractions."""

Thumb = NDArray[np.uint8]
"""(36, 64) grey levels."""


def cuts_among(thumbs: dict[int, Thumb]) -> list[int]:
    """Numbers of the frames that begin something new, among consecutive small pictures."""
    numbers = sorted(thumbs)
    steps = {
        number: difference(thumbs[number - 1], thumbs[number])
        for number in numbers
        if number - 1 in thumbs
    }
    found = []
    for number, step in steps.items():
        around = [steps[one] for one in range(number - 4, number + 5) if one in steps]
        # Two cuts close together must not hide each other: the quieter half tells what is usual.
        usual = float(np.median(sorted(around)[: max(1, len(around) // 2 + 1)]))
        if step > _CUT and step > _CUT_RATIO * usual:
            found.append(number)
    return found


def mixture(picture: Thumb, left: Thumb, right: Thumb) -> float:
    """The share of *right* in *picture*, from 0 to 1, by least squares."""
    begin = left.astype(np.float64).ravel()
    apart = right.ravel() - begin
    return float(np.clip(np.dot(picture.ravel() - begin, apart) / np.dot(apart, apart), 0, 1))


def thumb(frame: av.VideoFrame) -> Thumb:
    """A small grey copy of *frame*."""
    height, width = _SIZE
    small = frame.reformat(width=width, height=height, format="gray", interpolation="AREA")
    return np.asarray(small.to_ndarray(), np.uint8)


def difference(one: Thumb, other: Thumb) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(one.astype(np.int16) - other).mean())


def likeness(one: Thumb, other: Thumb) -> float:
    """Correlation, which a change of brightness or contrast leaves as it is."""
    first, second = one - float(one.mean()), other - float(other.mean())
    scale = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) / scale if scale else 0.0


def psnr(ours: av.VideoFrame, theirs: av.VideoFrame) -> float:
    """Of all planes together, dB, in the pixel format of *theirs*; what it lacks counts nothing."""
    name = _comparable(theirs.format)
    ours, theirs = (
        one if one.format.name == name else one.reformat(format=name) for one in (ours, theirs)
    )
    squares, count = 0.0, 0
    for one, other in zip(_planes(ours), _planes(theirs), strict=True):
        apart = one.astype(np.float32) - other
        squares += float(np.dot(apart.ravel(), apart.ravel()))
        count += apart.size
    highest = (1 << form(name).bits) - 1
    return float(10 * np.log10(highest**2 * count / squares)) if squares else np.inf


def _comparable(layout: av.VideoFormat) -> str:
    """*layout* itself, or a planar one that holds what is seen of it."""
    told = form(layout.name)
    planes = layout.is_planar and len(av.VideoFrame(16, 16, layout.name).planes) == len(
        layout.components
    )
    if (planes or layout.name.startswith("gray")) and told.bits <= _DEEPEST:
        return layout.name
    return "gbrap" if told.alpha else "gbrp"


def _planes(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """Each plane without the padding at the ends of its lines."""
    deep = form(frame.format.name).bits > _BYTE
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint16 if deep else np.uint8)
        items = plane.line_size // rows.itemsize
        planes.append(rows.reshape(-1, items)[: plane.height, : plane.width])
    return planes
