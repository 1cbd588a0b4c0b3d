"""The publish sink: hands frames to a process of its own, which sends them to a media server.

Opening a network output holds the interpreter's lock for seconds while the server is away; in this
process every camera would stand still meanwhile. `publish_process.py` is the other side.

Only this sink ends the publisher: it has a session of its own, so that Ctrl-C in a terminal does
not reach it, and ignores the signals that a service manager sends to all processes of a service.
"""

import contextlib
import io
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import IO, Any, Final

import structlog

from streamer.core import log
from streamer.core.clock import CancelToken
from streamer.core.errors import Cancelled, SinkError
from streamer.core.frame import Frame

from .frame_pipe import write_frame

_log = structlog.get_logger(__name__)

_EXIT_TIMEOUT_S: Final = 6.0
"""How long the publisher may take to exit: one connection attempt and its last packets. When the
program stops, `abort` shortens it."""

_STALL_TIMEOUT_S: Final = 12.0
"""A publisher that reads nothing for so long is stalled: opening an address blocks it for 5 s at
most."""


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """Settings of the publisher.

    They are sent through the pipe, never as arguments: the address may hold a password, and all
    users of the machine can read the arguments of a process.
    """

    camera: str
    url: str
    shown_as: str
    """The address without secrets."""

    rate: float
    """Frames per second of the stream; the last frame is repeated while no new one comes."""

    preset: str
    """x264's preset."""

    stale_after_s: float
    """Age above which a NO SIGNAL card is sent instead of the newest frame."""

    log_level: log.Level = "info"
    log_style: log.Style = "text"

    allow_link_local: bool = False
    """Whether the address may lead to link-local and metadata addresses."""


class PublishSink:
    """Publishes to RTSP, RTMP or SRT. The publisher reconnects to a server that is away."""

    def __init__(self, settings: PublishSettings) -> None:
        level, style = log.settings()
        self._settings = replace(settings, log_level=level, log_style=style)
        self._lock = threading.Lock()
        # Both below are guarded by _lock.
        self._publisher: subprocess.Popen[bytes] | None = None
        self._aborted = False

    def abort_on(self, cancel: CancelToken) -> None:
        """Kill the publisher when *cancel* is set: a worker of the pipeline, which ends at once.

        Until then the publisher ends by itself after the last frame. But it may wait for a server
        that does not answer, and the sink for the publisher.
        """
        cancel.on_cancel(self._abort)

    def _abort(self) -> None:
        with self._lock:
            self._aborted = True
            if self._publisher is not None:
                self._publisher.kill()

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Hand every frame over; the publisher sends the newest.

        Raises:
            SinkError: The publisher exited, which it does only after a failure it cannot fix.
        """
        while not self._hand_over(frames):
            _log.warning(
                "the publisher stalled and is restarted",
                camera=self._settings.camera, to=self._settings.shown_as, after_s=_STALL_TIMEOUT_S,
            )  # fmt: skip

    def _hand_over(self, frames: Iterator[Frame]) -> bool:
        """Feed one publisher; returns whether *frames* ended, false if the publisher stalled."""
        publisher = self._start()
        assert publisher.stdin is not None
        pipe = _BoundedPipe(publisher.stdin)
        try:
            pipe.write(json.dumps(asdict(self._settings)).encode() + b"\n")
            for frame in frames:
                write_frame(pipe, frame)
            pipe.close()  # The publisher ends when its input does.
        except TimeoutError:
            publisher.kill()  # For example, a server that accepts the connection and never answers.
            return False
        except BrokenPipeError:
            status = publisher.wait(_EXIT_TIMEOUT_S)
            if self._aborted:
                raise Cancelled from None
            raise SinkError(
                f"{self._settings.camera}: the publisher ended with status {status}"
            ) from None
        finally:
            _end(publisher)
        return True

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "streamer.sinks.publish_process", str(os.getpid())]
        with self._lock:
            if self._aborted:
                raise Cancelled
            self._publisher = subprocess.Popen(
                command, stdin=subprocess.PIPE, start_new_session=True
            )
            return self._publisher


class _BoundedPipe(io.RawIOBase):
    """A pipe whose reader may pause for a limited time.

    Raises:
        TimeoutError: From `write`, when the reader has read nothing for `_STALL_TIMEOUT_S`.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        os.set_blocking(pipe.fileno(), False)

    def write(self, data: Any, /) -> int:
        """Write all of *data*, a contiguous buffer."""
        left = memoryview(data).cast("B")
        while left:
            if not select.select([], [self._pipe], [], _STALL_TIMEOUT_S)[1]:
                raise TimeoutError
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(self._pipe.fileno(), left) :]
        return memoryview(data).nbytes

    def close(self) -> None:
        """Close the pipe, which ends the publisher."""
        self._pipe.close()


def _end(publisher: "subprocess.Popen[bytes]") -> None:
    assert publisher.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # It has exited already.
        publisher.stdin.close()
    try:
        publisher.wait(_EXIT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        publisher.kill()
        publisher.wait()
