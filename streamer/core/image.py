"""One decoded picture: its planes, and RGB or luma made from them on demand.

Nothing is converted before somebody asks, and never at a larger size than asked for.
Drawing happens on a `Canvas`: a private copy of the planes that becomes a new picture.
"""

import threading
from dataclasses import dataclass
from typing import Final

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from engines.yuv import LEFT, Yuv420, colors

_UNSPECIFIED: Final = 2
"""FFmpeg's number for an unknown matrix, transfer or primaries (ISO/IEC 23091-2)."""

_HD_HEIGHT: Final = 720
"""Untagged video this high or higher is taken as BT.709, below as BT.601: what players do."""

_JPEG_MATRIX: Final = 5
"""What FFmpeg's JPEG decoder says."""

_PLANAR: Final = ("yuv420p", "yuvj420p")

_MATRIX: Final = {1: Colorspace.ITU709, 4: Colorspace.FCC, 7: Colorspace.SMPTE240M,
                  9: Colorspace.BT2020, 10: Colorspace.BT2020}  # fmt: skip

_KEPT_CONTEXTS: Final = 8
"""A thread sees few sizes; a camera that changes its size often must not leak."""

_local = threading.local()


@dataclass(frozen=True, slots=True)
class ColorTags:
    """How the numbers in the planes mean colour; FFmpeg's numbers (ISO/IEC 23091-2)."""

    matrix: int = _UNSPECIFIED
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    full_range: bool = False
    """Whether luma uses 0 to 255 rather than 16 to 235."""


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """8-bit 4:2:0 planes. Chroma has half the size of luma, rounded up."""

    y: NDArray[np.uint8]
    """(height, width)"""

    u: NDArray[np.uint8]
    """(ceil(height / 2), ceil(width / 2))"""

    v: NDArray[np.uint8]
    """(ceil(height / 2), ceil(width / 2))"""


class Image:
    """A decoded picture that nobody writes into. All methods are thread-safe.

    Args:
        decoded: As the decoder gave it; any pixel format that swscale reads.
    """

    __slots__ = ("_decoded", "_lock", "_scaled", "color", "height", "width")

    def __init__(self, decoded: av.VideoFrame) -> None:
        self._decoded = decoded
        self._lock = threading.Lock()
        self._scaled: dict[tuple[int, int], NDArray[np.uint8]] = {}  # Guarded by _lock.
        self.height: Final = decoded.height
        self.width: Final = decoded.width
        self.color: Final = ColorTags(
            matrix=int(decoded.colorspace),
            primaries=int(decoded.color_primaries),
            transfer=int(decoded.color_trc),
            full_range=decoded.color_range == ColorRange.JPEG
            or decoded.format.name.startswith("yuvj"),
        )

    @classmethod
    def from_rgb(cls, image: NDArray[np.uint8]) -> "Image":
        """A picture from (height, width, 3) RGB, tagged BT.709; the array is copied."""
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        planar = _reformat(
            rgb, None, "yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        planar.colorspace, planar.color_range = 1, int(ColorRange.MPEG)
        planar.color_primaries = planar.color_trc = 1
        return cls(planar)

    @classmethod
    def blank(cls, size: tuple[int, int], *, color: ColorTags | None = None) -> "Image":
        """A picture of (height, width) whose content is left undefined; BT.709 unless told."""
        color = color or ColorTags(1, 1, 1)
        frame = av.VideoFrame(size[1], size[0], "yuv420p")
        frame.colorspace, frame.color_primaries = color.matrix, color.primaries
        frame.color_trc = color.transfer
        frame.color_range = int(ColorRange.JPEG if color.full_range else ColorRange.MPEG)
        return cls(frame)

    @classmethod
    def of_planes(cls, planes: Planes, color: ColorTags) -> "Image":
        """A picture from planes, which are copied.

        Raises:
            ValueError: Chroma does not have half the size of luma.
        """
        height, width = planes.y.shape
        picture = cls.blank((height, width), color=color)
        views = _views(picture.video_frame())
        for view, plane in ((views.y, planes.y), (views.u, planes.u), (views.v, planes.v)):
            if view.shape != plane.shape:
                raise ValueError(f"expected a plane of {view.shape}, got {plane.shape}")
            np.copyto(view, plane)
        return picture

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), the order of arrays."""
        return self.height, self.width

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded planes and of the copies made so far."""
        with self._lock:
            return sum(plane.buffer_size for plane in self._decoded.planes) + sum(
                image.nbytes for image in self._scaled.values()
            )

    def video_frame(self) -> av.VideoFrame:
        """The picture for an encoder. Shared: set its `pts`, never its content."""
        return self._decoded

    def rgb(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """(height, width, 3) RGB, full range, read-only.

        Scaled straight from the decoded planes in one pass; the result is kept for the next
        caller with the same wish.

        Args:
            size: (height, width) wanted; the picture's own when left out.
        """
        wanted = size or self.size
        with self._lock:
            image = self._scaled.get(wanted)
            if image is None:
                image = self._scaled[wanted] = self._to_rgb(wanted)
            return image

    def rgb_part(
        self, box: tuple[float, float, float, float], size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """A part of the picture at (height, width), (height, width, 3) RGB, full range, read-only.

        Args:
            box: (left, top, right, bottom) as shares of the picture, 0 to 1, not empty. Edges go
                to the nearest even pixel, where chroma has its own.
            size: (height, width) wanted. The result is not kept.
        """
        left, top, right, bottom = box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"box must lie within the picture and not be empty, got {box}")
        x, wide = _even_span(left, right, self.width)
        y, tall = _even_span(top, bottom, self.height)
        whole = self.planes()
        part = av.VideoFrame(wide, tall, "yuv420p")
        views = _views(part)
        np.copyto(views.y, whole.y[y : y + tall, x : x + wide])
        half = np.s_[y // 2 : y // 2 + (tall + 1) // 2, x // 2 : x // 2 + (wide + 1) // 2]
        np.copyto(views.u, whole.u[half])
        np.copyto(views.v, whole.v[half])
        return self._to_rgb(size, part)

    def _to_rgb(
        self, size: tuple[int, int], decoded: av.VideoFrame | None = None
    ) -> NDArray[np.uint8]:
        height, width = size
        scaled = _reformat(
            decoded or self._decoded,
            size,
            "rgb24",
            src_colorspace=_matrix(self.color, self.height),
            src_color_range=ColorRange.JPEG if self.color.full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
        )
        plane = scaled.planes[0]
        image: NDArray[np.uint8] = np.ndarray(
            (height, width, 3), np.uint8, buffer=memoryview(plane), strides=(plane.line_size, 3, 1)
        )
        image.flags.writeable = False
        return image

    def luma(self) -> NDArray[np.uint8]:
        """(height, width), read-only; no copy for 8-bit planar formats."""
        view = self.planes().y
        view.flags.writeable = False
        return view

    def planes(self) -> Planes:
        """The planes as 8-bit 4:2:0, read-only; no copy when they were decoded so."""
        planes = _views(_as_planar(self._decoded))
        for view in (planes.y, planes.u, planes.v):
            view.flags.writeable = False
        return planes

    def decoded(self) -> Yuv420:
        """The planes as they were decoded and what they mean: what a GPU makes RGB of; no copy."""
        matrix = int(_matrix(self.color, self.height))
        color = colors(matrix, full_range=self.color.full_range)
        siting = _siting(self._decoded, self.color)
        if self._decoded.format.name == "nv12":
            return Yuv420(*_interleaved(self._decoded), color, siting)
        planes = self.planes()
        return Yuv420(planes.y, (planes.u, planes.v), color, siting)

    def canvas(self) -> "Canvas":
        """A private copy of the planes to draw on."""
        return Canvas(self)

    def __repr__(self) -> str:
        return f"<Image {self.width}x{self.height} {self._decoded.format.name}>"


class Canvas:
    """Planes to draw on, and then a new `Image` with the colours of the old one.

    Belongs to one thread. After `picture()` nothing more may be drawn.
    """

    def __init__(self, picture: Image) -> None:
        self._frame = av.VideoFrame(picture.width, picture.height, "yuv420p")
        color = picture.color
        self._frame.colorspace, self._frame.color_primaries = color.matrix, color.primaries
        self._frame.color_trc = color.transfer
        self._frame.color_range = int(ColorRange.JPEG if color.full_range else ColorRange.MPEG)
        self.planes: Final = _views(self._frame)
        source = picture.planes()
        np.copyto(self.planes.y, source.y)
        np.copyto(self.planes.u, source.u)
        np.copyto(self.planes.v, source.v)
        self.full_range: Final = color.full_range

    def picture(self) -> Image:
        """What was drawn."""
        return Image(self._frame)


def _even_span(start: float, end: float, length: int) -> tuple[int, int]:
    """First pixel, an even one, and number of pixels of a share of *length*, at least two."""
    first = min(2 * round(start * length / 2), max(0, (length - 2) // 2 * 2))
    return first, min(max(2, 2 * round((end * length - first) / 2)), length - first)


def _as_planar(frame: av.VideoFrame) -> av.VideoFrame:
    if frame.format.name in _PLANAR:
        return frame
    return _reformat(frame, None, "yuv420p")


def _views(frame: av.VideoFrame) -> Planes:
    height, width = frame.height, frame.width
    half = ((height + 1) // 2, (width + 1) // 2)
    y, u, v = (
        np.ndarray(shape, np.uint8, buffer=memoryview(plane), strides=(plane.line_size, 1))
        for plane, shape in zip(frame.planes, ((height, width), half, half), strict=True)
    )
    return Planes(y, u, v)


def _interleaved(frame: av.VideoFrame) -> tuple[NDArray[np.uint8], tuple[NDArray[np.uint8]]]:
    """Luma and chroma of NV12, read-only."""
    luma, chroma = frame.planes
    height, width = frame.height, frame.width
    half = ((height + 1) // 2, (width + 1) // 2, 2)
    y: NDArray[np.uint8] = np.ndarray(
        (height, width), np.uint8, buffer=memoryview(luma), strides=(luma.line_size, 1)
    )
    uv: NDArray[np.uint8] = np.ndarray(
        half, np.uint8, buffer=memoryview(chroma), strides=(chroma.line_size, 2, 1)
    )
    y.flags.writeable = uv.flags.writeable = False
    return y, (uv,)


def _siting(frame: av.VideoFrame, color: ColorTags) -> float:
    """Where chroma lies, as swscale takes it: PyAV does not tell, the decoders' habits do.

    JPEG has it in the middle and is BT.601 at full range, other video on the left; what was made
    here carries no word of it, and swscale takes the middle.
    """
    made_here = int(frame.pict_type) == 0
    jpeg = color.full_range and color.matrix == _JPEG_MATRIX
    return 0.0 if made_here or jpeg else LEFT


def _matrix(color: ColorTags, height: int) -> Colorspace:
    if color.matrix == _UNSPECIFIED:
        return Colorspace.ITU709 if height >= _HD_HEIGHT else Colorspace.ITU601
    return _MATRIX.get(color.matrix, Colorspace.ITU601)


def _reformat(
    frame: av.VideoFrame, size: tuple[int, int] | None, pixel_format: str, **color: int
) -> av.VideoFrame:
    """One swscale pass. Contexts are kept per thread: building one costs as much as using it."""
    height, width = size or (frame.height, frame.width)
    cache: dict[tuple[object, ...], VideoReformatter] | None
    cache = getattr(_local, "reformatters", None)
    if cache is None:
        cache = _local.reformatters = {}
    key = (frame.format.name, frame.width, frame.height, width, height, pixel_format)
    reformatter = cache.get(key)
    if reformatter is None:
        if len(cache) >= _KEPT_CONTEXTS:
            cache.clear()
        reformatter = cache[key] = VideoReformatter()
    # Area averaging: a plume of a few pixels must not fall between the samples.
    # One thread: many cameras share the cores already.
    return reformatter.reformat(
        frame, width, height, pixel_format, interpolation=Interpolation.AREA, threads=1, **color
    )
