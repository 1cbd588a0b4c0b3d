"""Pixel formats: how a frame stores its samples, views of its planes, and lossless planar formats.

`PixelLayout` is the one description of a pixel format in this package. `engines` knows nothing of
FFmpeg's formats and has a plane type of its own, `engines.yuv.Yuv`; stages translate between them.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

Plane = NDArray[Any]
"""(height, width), uint8 up to 8 bits, uint16 above."""

_PLANAR: Final = {
    "nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p",
    "p010le": "yuv420p10le", "p210le": "yuv422p10le", "p410le": "yuv444p10le",
    "p012le": "yuv420p12le", "p212le": "yuv422p12le", "p412le": "yuv444p12le",
    "yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p",
    "y210le": "yuv422p10le", "y212le": "yuv422p12le",
    "rgb24": "gbrp", "bgr24": "gbrp", "bgr0": "gbrp", "rgb0": "gbrp", "0rgb": "gbrp",
    "0bgr": "gbrp",
    "rgba": "gbrap", "bgra": "gbrap", "argb": "gbrap", "abgr": "gbrap",
    "rgb48le": "gbrp16le", "bgr48le": "gbrp16le", "rgb48be": "gbrp16le",
    "rgba64le": "gbrap16le", "rgba64be": "gbrap16le", "pal8": "gbrap",
    "monob": "gray", "monow": "gray", "ya8": "gbrap",
}  # fmt: skip
"""Packed and semi-planar formats, and the planar one that holds the same samples."""

_UNPACKED_HERE: Final = {
    "p010le": 6, "p210le": 6, "p410le": 6, "p012le": 4, "p212le": 4, "p412le": 4,
    "y210le": 6, "y212le": 4,
}  # fmt: skip
"""Formats with samples in the high bits of 16-bit words, and the number of unused low bits.
swscale 9.5 sets eight neighboring samples to the middle value in some frames of these formats (in
up to 17 of 200 of p010le at 16x12, not the same ones each time), so NumPy unpacks them; it takes
half the time."""

_BYTE: Final = 8
_SIDE: Final = 16
"""Pixels; every subsampling divides it."""


def planar_equivalent(pixel_format: str) -> str:
    """Return the little-endian planar format that holds the samples of *pixel_format*."""
    name = _PLANAR.get(pixel_format, pixel_format)
    return f"{name.removesuffix('be')}le" if name.endswith("be") else name


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How a pixel format stores an image."""

    name: str
    """FFmpeg's name of the pixel format."""

    depth: int
    """Bits of a sample; of the deepest component if they differ."""

    rgb: bool
    """Whether samples are green, blue and red rather than luma and chroma."""

    alpha: bool
    log2_chroma: tuple[int, int]
    """Binary logarithm of the chroma subsampling, (vertical, horizontal): (1, 1) is 4:2:0."""

    colored: bool
    """Whether there is any color; false for gray."""

    planar: bool
    """Whether each component is a plane of little-endian whole numbers of at most 16 bits, which
    `plane_views` can show."""

    @property
    def dtype(self) -> type[np.uint8 | np.uint16]:
        """Sample type of an array that holds a plane."""
        return np.uint8 if self.depth <= _BYTE else np.uint16

    def shapes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return (height, width) of each plane of an image of this size."""
        down, across = self.log2_chroma
        small = (-(-height >> down), -(-width >> across))
        shapes = [(height, width), *([small] * 2 if self.colored else [])]
        return [*shapes, (height, width)] if self.alpha else shapes


@functools.cache
def pixel_layout(pixel_format: str) -> PixelLayout:
    """Return how *pixel_format* (FFmpeg's name, of any kind) stores an image.

    Raises:
        ValueError: FFmpeg does not know the format.
    """
    video_format = VideoFormat(pixel_format, _SIDE, _SIDE)
    every = video_format.components
    visible = [component for component in every if not component.is_alpha]
    chroma = [component for component in visible if component.is_chroma] or visible[-1:]
    depth = max(component.bits for component in visible)
    planar = (
        pixel_format.startswith(("yuv", "gbr", "gray"))
        and "f" not in pixel_format
        and len({component.plane for component in every}) == len(every)
        and not video_format.is_big_endian
        and depth <= 2 * _BYTE
    )
    return PixelLayout(
        name=pixel_format,
        depth=depth,
        rgb=bool(video_format.is_rgb),
        alpha=len(visible) < len(every),
        log2_chroma=(
            max(_log2(_SIDE // component.height) for component in chroma),
            max(_log2(_SIDE // component.width) for component in chroma),
        ),
        colored=len(visible) > 1,
        planar=planar,
    )


def _log2(ratio: int) -> int:
    return ratio.bit_length() - 1


def planar_layout(pixel_format: str) -> PixelLayout:
    """Return how the planar *pixel_format* stores an image.

    Raises:
        ValueError: The format is packed, big-endian, of floats, or unknown.
    """
    layout = pixel_layout(pixel_format)
    if not layout.planar:
        raise ValueError(f"{pixel_format} is no planar format of whole numbers")
    return layout


class Converter:
    """Converts decoded frames to one planar format; a frame in that format is returned as it is.

    Belongs to one thread.

    Args:
        pixel_format: Planar. A frame of another depth or subsampling is converted by swscale.
    """

    def __init__(self, pixel_format: str) -> None:
        self._format = pixel_format
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return *frame* in the planar format, with its color tags and its time."""
        return converted(frame, self._format, self._reformatter)


def converted(
    frame: av.VideoFrame,
    pixel_format: str,
    reformatter: VideoReformatter,
    *,
    interpolation: Interpolation | None = None,
    threads: int | None = None,
) -> av.VideoFrame:
    """Return *frame* in a planar format, with its color tags and its time; see `Converter`.

    Args:
        frame: Decoded.
        pixel_format: Planar.
        reformatter: Of the calling thread.
        interpolation: For chroma whose subsampling changes; bilinear when left out.
        threads: For swscale; as many as there are cores when left out.
    """
    name = frame.format.name
    if name == pixel_format:
        return frame
    full = frame.color_range == ColorRange.JPEG or name.startswith("yuvj")
    if name in _UNPACKED_HERE and planar_equivalent(name) == pixel_format:
        planar = _unpacked(frame, planar_layout(pixel_format), _UNPACKED_HERE[name])
    else:
        same_range = ColorRange.JPEG if full else ColorRange.MPEG
        planar = reformatter.reformat(
            frame,
            format=pixel_format,
            src_color_range=same_range,
            dst_color_range=same_range,
            interpolation=interpolation,
            threads=threads,
        )
    copy_tags(frame, planar)
    if full:
        planar.color_range = int(ColorRange.JPEG)
    planar.pts = frame.pts
    if frame.time_base:  # A frame that was not decoded has none.
        planar.time_base = frame.time_base
    return planar


def _unpacked(frame: av.VideoFrame, layout: PixelLayout, low_bits: int) -> av.VideoFrame:
    """Return *frame*, of a format in `_UNPACKED_HERE`, as planes."""
    planar = av.VideoFrame(frame.width, frame.height, layout.name)
    luma, *chroma = plane_views(planar, layout)
    (height, width), (rows, columns) = luma.shape, chroma[0].shape
    packed: list[Plane]
    if len(frame.planes) == 1:  # Y, U, Y, V
        words = _words(frame.planes[0], height, 4 * columns)
        packed = [words[:, ::2][:, :width], words[:, 1::4], words[:, 3::4]]
    else:  # Y; U, V
        both = _words(frame.planes[1], rows, 2 * columns)
        packed = [_words(frame.planes[0], height, width), both[:, ::2], both[:, 1::2]]
    for words, view in zip(packed, (luma, *chroma), strict=True):
        np.right_shift(words, np.uint16(low_bits), out=view)
    return planar


def _words(plane: "av.video.plane.VideoPlane", height: int, width: int) -> Plane:
    words: Plane = np.ndarray(
        (height, width), "<u2", buffer=memoryview(plane), strides=(plane.line_size, 2)
    )
    return words


def plane_views(frame: av.VideoFrame, layout: PixelLayout) -> tuple[Plane, ...]:
    """Return views of the planes of *frame*, each (height, width).

    Order: luma, U, V, alpha; or green, blue, red, alpha. A decoded frame is shared: do not write.
    """
    item = np.dtype(layout.dtype).itemsize
    return tuple(
        np.ndarray(shape, layout.dtype, buffer=memoryview(plane), strides=(plane.line_size, item))
        for plane, shape in zip(frame.planes, layout.shapes(frame.height, frame.width), strict=True)
    )


def frame_from_planes(
    planes: Sequence[Plane], like: av.VideoFrame, layout: PixelLayout
) -> av.VideoFrame:
    """Return a new frame with copies of *planes*, and the size and color tags of *like*.

    Raises:
        ValueError: The planes do not have the shapes of *layout* at that size.
    """
    frame = av.VideoFrame(like.width, like.height, layout.name)
    for view, plane in zip(plane_views(frame, layout), planes, strict=True):
        if view.shape != plane.shape:
            raise ValueError(f"expected a plane of {view.shape}, got {plane.shape}")
        np.copyto(view, plane)
    copy_tags(like, frame)
    return frame


def copy_tags(source: av.VideoFrame, target: av.VideoFrame) -> None:
    """Copy the tags that say what the samples mean as colors."""
    target.colorspace, target.color_range = int(source.colorspace), int(source.color_range)
    target.color_primaries, target.color_trc = source.color_primaries, source.color_trc
