"""Pictures of any depth and subsampling as plane arrays, and back: what conversion works on.

`Image.planes` gives 8-bit 4:2:0 for looking and drawing; here nothing is lost.
"""

from dataclasses import dataclass
from typing import Any, Final

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

_PLANAR_FORM: Final = {
    "nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p",
    "p010le": "yuv420p10le", "p210le": "yuv422p10le", "p410le": "yuv444p10le",
    "yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p", "y210le": "yuv422p10le",
    "rgb24": "gbrp", "bgr24": "gbrp", "bgr0": "gbrp", "rgb0": "gbrp", "0rgb": "gbrp",
    "0bgr": "gbrp",
    "rgba": "gbrap", "bgra": "gbrap", "argb": "gbrap", "abgr": "gbrap",
    "rgb48le": "gbrp16le", "bgr48le": "gbrp16le", "rgb48be": "gbrp16le",
    "rgba64le": "gbrap16le", "rgba64be": "gbrap16le", "pal8": "gbrap",
    "monob": "gray", "monow": "gray", "ya8": "gbrap",
}  # fmt: skip
"""Packed formats, and the planar one that holds the same without loss."""

_BYTE: Final = 8


def planar_equivalent(pixel_format: str) -> str:
    """The planar format, little-endian, that holds the same as *pixel_format*."""
    name = _PLANAR_FORM.get(pixel_format, pixel_format)
    return f"{name.removesuffix('be')}le" if name.endswith("be") else name


@dataclass(frozen=True, slots=True)
class Layout:
    """How a planar format stores a picture."""

    name: str
    depth: int
    """Bits of a sample."""

    rgb: bool
    """Planes are green, blue and red, rather than luma and chroma."""

    alpha: bool
    shift: tuple[int, int]
    """How often chroma is halved, (vertically, horizontally); (0, 0) without chroma."""

    chroma: bool
    """Whether there is any colour."""

    @property
    def sample(self) -> type[np.uint8 | np.uint16]:
        """Of an array that holds a plane."""
        return np.uint8 if self.depth <= _BYTE else np.uint16

    def shapes(self, height: int, width: int) -> list[tuple[int, int]]:
        """(height, width) of each plane of such a picture."""
        down, right = self.shift
        small = ((height + (1 << down) - 1) >> down, (width + (1 << right) - 1) >> right)
        shapes = [(height, width), *([small] * 2 if self.chroma else [])]
        return [*shapes, (height, width)] if self.alpha else shapes


def layout(pixel_format: str) -> Layout:
    """How the planar *pixel_format* stores a picture.

    Raises:
        ValueError: It is not planar, or of floats.
    """
    form = VideoFormat(pixel_format, 16, 16)
    components = form.components
    planes = {component.plane for component in components}
    depth = max(component.bits for component in components)
    whole = pixel_format.startswith(("yuv", "gbr", "gray")) and "f" not in pixel_format
    if not whole or len(planes) != len(components) or form.is_big_endian or depth > 2 * _BYTE:
        raise ValueError(f"{pixel_format} is no planar format of whole numbers")
    chroma = [component for component in components if component.is_chroma]
    shift = (0, 0)
    if chroma:
        shift = (_halvings(16, chroma[0].height), _halvings(16, chroma[0].width))
    return Layout(
        name=pixel_format,
        depth=depth,
        rgb=bool(form.is_rgb),
        alpha=any(component.is_alpha for component in components),
        shift=shift,
        chroma=len([one for one in components if not one.is_alpha]) > 1,
    )


def _halvings(whole: int, part: int) -> int:
    return (whole // part).bit_length() - 1


_HIGH_BITS: Final = {("y210le", "yuv422p10le"): 6, ("y212le", "yuv422p12le"): 4}
"""Packed forms of Y, U, Y, V in the high bits of 16, what they become, and the bits below. swscale
loses the chroma of some pixels of these, in one picture of two hundred."""


def _unpacked(frame: av.VideoFrame, form: Layout, low_bits: int) -> av.VideoFrame:
    pairs = (frame.width + 1) // 2
    shape, strides = (frame.height, 4 * pairs), (frame.planes[0].line_size, 2)
    words: NDArray[np.uint16] = np.ndarray(
        shape, "<u2", buffer=memoryview(frame.planes[0]), strides=strides
    )
    samples = words >> np.uint16(low_bits)
    luma, u, v = samples[:, ::2][:, : frame.width], samples[:, 1::4], samples[:, 3::4]
    return frame_from_planes([luma, u, v], frame, form)


class Converter:
    """Makes decoded pictures planar; those that are pass as they are. Belongs to one thread.

    Args:
        pixel_format: Wanted, planar; a picture of another depth or subsampling is converted.
    """

    def __init__(self, pixel_format: str) -> None:
        self._format = pixel_format
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The same picture in the wanted format; its range and matrix stay what they were."""
        if frame.format.name == self._format:
            return frame
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        kept = ColorRange.JPEG if full else ColorRange.MPEG
        low_bits = _HIGH_BITS.get((frame.format.name, self._format))
        if low_bits is not None:
            planar = _unpacked(frame, layout(self._format), low_bits)
        else:
            planar = self._reformatter.reformat(
                frame, format=self._format, src_color_range=kept, dst_color_range=kept
            )
        copy_tags(frame, planar)
        if full:
            planar.color_range = int(ColorRange.JPEG)
        planar.pts = frame.pts
        if frame.time_base:  # A picture that was made here has none.
            planar.time_base = frame.time_base
        return planar


def plane_views(frame: av.VideoFrame, form: Layout) -> list[NDArray[Any]]:
    """Views of the planes, each (height, width); nobody writes into them."""
    item = np.dtype(form.sample).itemsize
    shapes = form.shapes(frame.height, frame.width)
    views = []
    for plane, shape in zip(frame.planes, shapes, strict=True):
        view: NDArray[Any] = np.ndarray(
            shape, form.sample, buffer=memoryview(plane), strides=(plane.line_size, item)
        )
        views.append(view)
    return views


def frame_from_planes(
    planes: list[NDArray[Any]], like: av.VideoFrame, form: Layout
) -> av.VideoFrame:
    """A picture that holds copies of *planes*, with the colours of another."""
    frame = av.VideoFrame(like.width, like.height, form.name)
    for view, plane in zip(plane_views(frame, form), planes, strict=True):
        np.copyto(view, plane)
    copy_tags(like, frame)
    return frame


def copy_tags(source: av.VideoFrame, target: av.VideoFrame) -> None:
    """What the numbers mean as colours."""
    target.colorspace, target.color_range = int(source.colorspace), int(source.color_range)
    target.color_primaries, target.color_trc = source.color_primaries, source.color_trc
