"""Pictures through a pipe, from the program to its publisher: a head of fixed size, then planes."""

import struct
from dataclasses import astuple, dataclass
from typing import IO, Final, Protocol

import numpy as np

from streamer.core.frame import Frame
from streamer.core.image import Canvas, ColorTags, Image

_HEAD: Final = struct.Struct("<qIIBBB?")
"""arrived_ns, height, width, matrix, primaries, transfer, full range."""


@dataclass(frozen=True, slots=True, eq=False)
class SentImage:
    """A picture that came through the pipe."""

    image: Image
    arrived_ns: int
    """By the machine's monotonic clock, which all of its processes share."""


class Writer(Protocol):
    """What pictures are written to: all of it, before `write` returns."""

    def write(self, data: bytes | memoryview, /) -> int: ...  # noqa: D102  described by the class
    def flush(self) -> None: ...  # noqa: D102  as above


def write_frame(pipe: Writer, frame: Frame) -> None:
    """Send a picture; blocks while the pipe is full."""
    image = frame.image.as_format("yuv420p")
    height, width = image.size
    color = astuple(image.color)
    pipe.write(_HEAD.pack(frame.arrived_ns, height, width, *color))
    for plane in image.planes():
        pipe.write(np.ascontiguousarray(plane).data)
    pipe.flush()


def read_picture(pipe: IO[bytes]) -> SentImage | None:
    """The next picture; `None` when the sender has gone."""
    head = _read(pipe, _HEAD.size)
    if head is None:
        return None
    arrived_ns, height, width, *color = _HEAD.unpack(head)
    canvas = Canvas.blank((height, width), color=ColorTags(*color))
    for plane in canvas.planes:
        data = _read(pipe, plane.size)
        if data is None:
            return None
        plane[:] = np.frombuffer(data, np.uint8).reshape(plane.shape)
    return SentImage(canvas.image(), arrived_ns)


def _read(pipe: IO[bytes], size: int) -> bytearray | None:
    """Exactly *size* bytes, or `None` at the end."""
    data = bytearray(size)
    view = memoryview(data)
    filled = 0
    while filled < size:
        count = pipe.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return None
        filled += count
    return data
