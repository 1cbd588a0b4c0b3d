"""The publish sink: hands pictures to a process of its own, which sends them to a media server.

Opening a network output holds the interpreter's lock for seconds when the server is away: in this
process, every camera would stand still. See `publisher` for the other side.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from streamer.errors import SinkError
from streamer.frame import Frame

from .wire import write_frame

_LAST_WORD_S: Final = 15.0
"""What the publisher gets to end by itself: an opening attempt and its last packets."""


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
        publisher = subprocess.Popen(
            [sys.executable, "-m", "streamer.sinks.publisher"], stdin=subprocess.PIPE
        )
        pipe = publisher.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(asdict(self._settings)).encode() + b"\n")
            for frame in frames:
                write_frame(pipe, frame)
            pipe.close()  # The publisher ends when its input does.
        except BrokenPipeError:
            status = publisher.wait(_LAST_WORD_S)
            raise SinkError(
                f"{self._settings.camera}: the publisher ended with status {status}"
            ) from None
        finally:
            _end(publisher)


def _end(publisher: "subprocess.Popen[bytes]") -> None:
    assert publisher.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # It was faster.
        publisher.stdin.close()
    try:
        publisher.wait(_LAST_WORD_S)
    except subprocess.TimeoutExpired:
        publisher.kill()
        publisher.wait()
