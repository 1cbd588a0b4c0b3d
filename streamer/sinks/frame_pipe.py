"""The format in which frames cross the pipe to the publisher: a fixed header, then the planes.

The planes are 8-bit 4:2:0: Y, U, V, each row by row without padding.
"""

import struct
from dataclasses import astuple, dataclass
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from streamer.core.frame import Frame
from streamer.core.image import Canvas, ColorTags, Image

if TYPE_CHECKING:
    import io

_HEADER: Final = struct.Struct("<qIIBBB?")
"""arrived_ns, height, width, matrix, primaries, transfer, full range."""


@dataclass(frozen=True, slots=True, eq=False)
class SentImage:
    """A frame that came through the pipe."""

    image: Image
    arrived_ns: int
    """By the monotonic clock of this machine, which all processes share."""


def write_frame(pipe: "io.RawIOBase | IO[bytes]", frame: Frame) -> None:
    """Send a frame; blocks while the pipe is full. Its `write` must write everything."""
    image = frame.image.as_format("yuv420p")
    height, width = image.size
    color = astuple(image.color)
    pipe.write(_HEADER.pack(frame.arrived_ns, height, width, *color))
    pipe.writelines(np.ascontiguousarray(plane).data for plane in image.planes())
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> SentImage | None:
    """Return the next frame; `None` when the sender has closed the pipe."""
    header = _read(pipe, _HEADER.size)
    if header is None:
        return None
    arrived_ns, height, width, *color = _HEADER.unpack(header)
    canvas = Canvas.blank((height, width), color=ColorTags(*color))
    for plane in canvas.planes:
        data = _read(pipe, plane.size)
        if data is None:
            return None
        plane[:] = np.frombuffer(data, np.uint8).reshape(plane.shape)
    return SentImage(canvas.image(), arrived_ns)


def _read(pipe: IO[bytes], size: int) -> bytearray | None:
    """Exactly *size* bytes, or `None` at the end of the pipe."""
    data = bytearray(size)
    view = memoryview(data)
    filled = 0
    while filled < size:
        count = pipe.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return None
        filled += count
    return data
