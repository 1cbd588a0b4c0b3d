"""A decoded image without a time: its planes, and RGB or luma computed from them on demand.

Nothing is converted before it is requested, and never at a larger size than requested.
Drawing happens on a `Canvas`: a private copy of the planes that becomes a new image.
"""

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from .pixel_format import (
    PixelLayout,
    Plane,
    converted,
    pixel_layout,
    planar_equivalent,
    planar_layout,
    plane_views,
)

_UNSPECIFIED: Final = 2
"""FFmpeg's number for an unknown matrix, transfer or primaries (ISO/IEC 23091-2)."""

_HD_HEIGHT: Final = 720
"""Untagged video of this height or more is taken as BT.709, else as BT.601, as players do."""

_MATRIX: Final = {1: Colorspace.ITU709, 4: Colorspace.FCC, 7: Colorspace.SMPTE240M,
                  9: Colorspace.BT2020, 10: Colorspace.BT2020}  # fmt: skip

_MAX_CONTEXTS: Final = 8
"""swscale contexts of a thread: few sizes occur, but a camera that changes its size often must not
use more and more memory."""

_HALVED: Final = 1
"""`log2_chroma` up to which a crop that begins at an even pixel begins at a chroma sample."""

_BYTE: Final = 8
_CHROMA: Final = (1, 2)
"""Planes, of YUV."""

_local = threading.local()


@dataclass(frozen=True, slots=True)
class ColorTags:
    """What the samples mean as colors; FFmpeg's numbers (ISO/IEC 23091-2)."""

    matrix: int = _UNSPECIFIED
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    full_range: bool = False
    """Whether luma uses 0 to 255 rather than 16 to 235 (at 8 bits)."""


class Image:
    """A decoded image, which is never written to. All methods are thread-safe.

    Args:
        decoded: A frame as the decoder returned it, of any pixel format that swscale reads.
    """

    __slots__ = ("_decoded", "_lock", "_planar", "_scaled", "color", "height", "layout", "width")

    def __init__(self, decoded: av.VideoFrame) -> None:
        self._decoded = decoded
        self._lock = threading.Lock()
        self._scaled: dict[tuple[int, int], NDArray[np.uint8]] = {}  # Guarded by _lock.
        self._planar: av.VideoFrame | None = None  # Guarded by _lock.
        self.height: Final = decoded.height
        self.width: Final = decoded.width
        name = decoded.format.name
        self.layout: Final = _layout(name)
        """The decoded pixel format, or the planar one that holds the same samples. Formats without
        one (floats, Bayer) are converted to 8-bit 4:2:0."""

        self.color: Final = ColorTags(
            matrix=int(decoded.colorspace),
            primaries=int(decoded.color_primaries),
            transfer=int(decoded.color_trc),
            full_range=decoded.color_range == ColorRange.JPEG or name.startswith("yuvj"),
        )

    @classmethod
    def from_rgb(cls, image: NDArray[np.uint8]) -> "Image":
        """Return a 4:2:0 image, tagged BT.709, of (height, width, 3) RGB; the array is copied."""
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        planar = _reformat(
            rgb, None, "yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        planar.colorspace, planar.color_range = 1, int(ColorRange.MPEG)
        planar.color_primaries = planar.color_trc = 1
        return cls(planar)

    @classmethod
    def from_planes(
        cls, planes: Sequence[Plane], color: ColorTags, *, pixel_format: str = "yuv420p"
    ) -> "Image":
        """Return an image with copies of *planes*, in the order of `plane_views`.

        Raises:
            ValueError: The planes do not have the shapes or the sample type of *pixel_format*.
        """
        canvas = Canvas.blank(planes[0].shape, color=color, pixel_format=pixel_format)
        for view, plane in zip(canvas.planes, planes, strict=True):
            if (view.shape, view.dtype) != (plane.shape, plane.dtype):
                raise ValueError(
                    f"expected a plane of {view.shape} {view.dtype}, "
                    f"got {plane.shape} {plane.dtype}"
                )
            np.copyto(view, plane)
        return canvas.image()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), the order of arrays."""
        return self.height, self.width

    @property
    def matrix(self) -> int:
        """Number of the YUV matrix with which the image is shown, also if it is untagged."""
        return int(_matrix(self.color, self.height))

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded planes and of the copies made so far."""
        with self._lock:
            frames = [frame for frame in (self._decoded, self._planar) if frame is not None]
            return sum(plane.buffer_size for frame in frames for plane in frame.planes) + sum(
                image.nbytes for image in self._scaled.values()
            )

    def video_frame(self) -> av.VideoFrame:
        """Return the frame for an encoder. It is shared: `pts` may be set, samples may not."""
        return self._decoded

    def as_format(self, pixel_format: str) -> "Image":
        """Return the image in a planar pixel format; itself if it has that format."""
        if pixel_format == self._decoded.format.name.replace("yuvj", "yuv"):
            return self
        return Image(_converted(self._decoded, pixel_format))

    def rgb(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Return (height, width, 3) RGB, full range, read-only.

        Scaled straight from the decoded planes in one pass. The result is cached by its size.

        Args:
            size: (height, width); by default that of the image.
        """
        wanted = size or self.size
        with self._lock:
            image = self._scaled.get(wanted)
            if image is None:
                image = self._scaled[wanted] = self._to_rgb(wanted, self._decoded)
            return image

    def rgb_crop(
        self, window: tuple[int, int, int, int], size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Return a crop scaled to (height, width): (height, width, 3) RGB, full range, read-only.

        Args:
            window: (left, top, width, height) in pixels; left and top are even, where chroma
                samples begin.
            size: (height, width) of the result, which is not cached.

        Raises:
            ValueError: The window is empty, not within the image, or begins at an odd pixel.
        """
        x, y, wide, tall = window
        within = 0 <= x < x + wide <= self.width and 0 <= y < y + tall <= self.height
        if not within or x % 2 or y % 2:
            raise ValueError(
                f"window must lie within {self.width}x{self.height}, not be empty and begin at an "
                f"even pixel, got {window}"
            )
        if max(self.layout.log2_chroma) > _HALVED:
            return self.as_format("yuv420p").rgb_crop(window, size)
        crop = av.VideoFrame(wide, tall, self.layout.name)
        for number, (target, source) in enumerate(
            zip(plane_views(crop, self.layout), self.planes(), strict=True)
        ):
            down, across = self.layout.log2_chroma if number in _CHROMA else (0, 0)
            (rows, columns), y0, x0 = target.shape, y >> down, x >> across
            np.copyto(target, source[y0 : y0 + rows, x0 : x0 + columns])
        return self._to_rgb(size, crop)

    def _to_rgb(self, size: tuple[int, int], frame: av.VideoFrame) -> NDArray[np.uint8]:
        height, width = size
        scaled = _reformat(
            frame,
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
        """Return 8-bit luma, (height, width), read-only; not copied if it is stored so."""
        if self.layout.rgb:
            return self.as_format("yuv420p").luma()
        plane = self.planes()[0]
        if self.layout.depth > _BYTE:
            plane = (plane >> (self.layout.depth - _BYTE)).astype(np.uint8)
            plane.flags.writeable = False
        return plane

    def planes(self) -> tuple[Plane, ...]:
        """Return the planes in `layout`, read-only; not copied unless the decoder packs them."""
        views = plane_views(self._planar_frame(), self.layout)
        for view in views:
            view.flags.writeable = False
        return views

    def _planar_frame(self) -> av.VideoFrame:
        if pixel_layout(self._decoded.format.name).planar:
            return self._decoded
        with self._lock:
            if self._planar is None:
                self._planar = _converted(self._decoded, self.layout.name)
            return self._planar

    def canvas(self) -> "Canvas":
        """Return a private copy of the planes to draw on."""
        canvas = Canvas.blank(self.size, color=self.color, pixel_format=self.layout.name)
        for view, plane in zip(canvas.planes, self.planes(), strict=True):
            np.copyto(view, plane)
        return canvas

    def __repr__(self) -> str:
        return f"<Image {self.width}x{self.height} {self._decoded.format.name}>"


class Canvas:
    """Planes to draw on, which then become a new `Image`.

    Belongs to one thread. Nothing may be drawn after `image()`.
    """

    def __init__(self, frame: av.VideoFrame, layout: PixelLayout) -> None:
        self._frame = frame
        self.layout: Final = layout
        self.planes: Final = plane_views(frame, layout)
        """Writable, in the order of `plane_views`."""

        self.full_range: Final = frame.color_range == ColorRange.JPEG

    @classmethod
    def blank(
        cls,
        size: tuple[int, int],
        *,
        color: ColorTags = ColorTags(1, 1, 1),
        pixel_format: str = "yuv420p",
    ) -> "Canvas":
        """Return a canvas of (height, width) with undefined samples, tagged BT.709 by default."""
        frame = av.VideoFrame(size[1], size[0], pixel_format)
        frame.colorspace, frame.color_primaries = color.matrix, color.primaries
        frame.color_trc = color.transfer
        frame.color_range = int(ColorRange.JPEG if color.full_range else ColorRange.MPEG)
        return cls(frame, planar_layout(pixel_format))

    def image(self) -> Image:
        """Return what was drawn."""
        return Image(self._frame)


@functools.cache
def _layout(pixel_format: str) -> PixelLayout:
    # "yuvj420p" is an old name of full-range "yuv420p".
    layout = pixel_layout(planar_equivalent(pixel_format).replace("yuvj", "yuv"))
    return layout if layout.planar else planar_layout("yuv420p")


def _matrix(color: ColorTags, height: int) -> Colorspace:
    if color.matrix == _UNSPECIFIED:
        return Colorspace.ITU709 if height >= _HD_HEIGHT else Colorspace.ITU601
    return _MATRIX.get(color.matrix, Colorspace.ITU601)


def _converted(frame: av.VideoFrame, pixel_format: str) -> av.VideoFrame:
    size = (frame.height, frame.width)
    return converted(
        frame,
        pixel_format,
        _reformatter(frame, size, pixel_format),
        interpolation=Interpolation.AREA,
        threads=1,
    )


def _reformat(
    frame: av.VideoFrame, size: tuple[int, int] | None, pixel_format: str, **color: int
) -> av.VideoFrame:
    """Convert and scale in one swscale pass."""
    height, width = size or (frame.height, frame.width)
    # Area averaging: a plume of a few pixels must not fall between the samples.
    # One thread: many cameras share the cores already.
    return _reformatter(frame, (height, width), pixel_format).reformat(
        frame, width, height, pixel_format, interpolation=Interpolation.AREA, threads=1, **color
    )


def _reformatter(
    frame: av.VideoFrame, size: tuple[int, int], pixel_format: str
) -> VideoReformatter:
    """Return this thread's reformatter; building its context costs as much as using it."""
    cache: dict[tuple[object, ...], VideoReformatter] | None
    cache = getattr(_local, "reformatters", None)
    if cache is None:
        cache = _local.reformatters = {}
    key = (frame.format.name, frame.width, frame.height, *size, pixel_format)
    reformatter = cache.get(key)
    if reformatter is None:
        if len(cache) >= _MAX_CONTEXTS:
            cache.clear()
        reformatter = cache[key] = VideoReformatter()
    return reformatter
