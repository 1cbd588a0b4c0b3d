"""Small frames, sources and stages for tests of what carries frames."""

import time
from collections.abc import Callable, Iterator

import numpy as np

from streamer.core.clock import CancelToken
from streamer.core.frame import Frame
from streamer.core.image import Image

GREY = Image.from_rgb(np.full((16, 16, 3), 128, np.uint8))
STEP_NS = 40_000_000


def frame(number: int, *, arrived_ns: int | None = None, sampled: bool = True) -> Frame:
    arrived = time.monotonic_ns() if arrived_ns is None else arrived_ns
    return Frame(GREY, number * STEP_NS, arrived_ns=arrived, number=number, sampled=sampled)


def counting(
    count: int, *, pause_s: float = 0, fail_at: int | None = None
) -> Callable[[CancelToken], Iterator[Frame]]:
    """A source of *count* frames."""

    def source(cancel: CancelToken) -> Iterator[Frame]:
        for number in range(count):
            if number == fail_at:
                raise OSError("camera gone")
            if pause_s:
                cancel.sleep(pause_s)
            yield frame(number)

    return source


def same(frames: Iterator[Frame]) -> Iterator[Frame]:
    yield from frames


def drain(frames: Iterator[Frame]) -> None:
    for _ in frames:
        pass
