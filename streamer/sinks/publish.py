"""The publish sink: hands pictures to a process of its own, which sends them to a media server.

Opening a network output holds the interpreter's lock for seconds when the server is away: in this
process, every camera would stand still. See `publisher` for the other side.
"""

import contextlib
import io
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import IO, Any, Final

import structlog

from streamer.core.errors import SinkError
from streamer.core.frame import Frame

from .frame_pipe import write_frame

_log = structlog.get_logger(__name__)

_LAST_WORD_S: Final = 15.0
"""What the publisher gets to end by itself: an opening attempt and its last packets."""

_STANDSTILL_S: Final = 12.0
"""Opening an address holds the publisher up for 5 s at most; longer, and it is broken."""


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """What the publisher must know.

    It goes through a pipe, never as an argument: the address may hold a password, and arguments
    are in everybody's process list.
    """

    camera: str
    url: str
    shown_as: str
    """The address as it may be printed."""

    rate: float
    """Frames a second, held constant: between two pictures the last one is repeated."""

    preset: str
    """x264's name for how hard it works."""

    stale_after_s: float
    """A picture older than this is not sent any more: a card says NO SIGNAL."""


class PublishSink:
    """Publishes to RTSP, RTMP or SRT. A server that is away is tried again by the publisher.

    Args:
        settings: Where to, and how.
    """

    def __init__(self, settings: PublishSettings) -> None:
        self._settings = settings

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Hand over every frame; the publisher takes the newest.

        Raises:
            SinkError: The publisher ended, which it does only when it cannot go on.
        """
        while not self._hand_over(frames):
            _log.warning(
                "publisher stood still and is started anew",
                camera=self._settings.camera, to=self._settings.shown_as, after_s=_STANDSTILL_S,
            )  # fmt: skip

    def _hand_over(self, frames: Iterator[Frame]) -> bool:
        """Feed one publisher; returns whether *frames* ended rather than its patience."""
        publisher = subprocess.Popen(
            [sys.executable, "-m", "streamer.sinks.publisher"], stdin=subprocess.PIPE
        )
        assert publisher.stdin is not None
        pipe = _BoundedPipe(publisher.stdin)
        try:
            pipe.write(json.dumps(asdict(self._settings)).encode() + b"\n")
            for frame in frames:
                write_frame(pipe, frame)
            pipe.close()  # The publisher ends when its input does.
        except TimeoutError:
            publisher.kill()  # E.g. a server that takes the connection and never answers.
            return False
        except BrokenPipeError:
            status = publisher.wait(_LAST_WORD_S)
            raise SinkError(
                f"{self._settings.camera}: the publisher ended with status {status}"
            ) from None
        finally:
            _end(publisher)
        return True


class _BoundedPipe(io.RawIOBase):
    """A pipe whose reader may pause, but not for ever.

    Raises:
        TimeoutError: From `write`, when the reader took nothing for `_STANDSTILL_S`.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        os.set_blocking(pipe.fileno(), False)

    def write(self, data: Any, /) -> int:
        """Write all of *data*, a contiguous buffer."""
        left = memoryview(data).cast("B")
        while left:
            if not select.select([], [self._pipe], [], _STANDSTILL_S)[1]:
                raise TimeoutError
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(self._pipe.fileno(), left) :]
        return memoryview(data).nbytes

    def close(self) -> None:
        """Say that nothing more comes."""
        self._pipe.close()


def _end(publisher: "subprocess.Popen[bytes]") -> None:
    assert publisher.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # It was faster.
        publisher.stdin.close()
    try:
        publisher.wait(_LAST_WORD_S)
    except subprocess.TimeoutExpired:
        publisher.kill()
        publisher.wait()
