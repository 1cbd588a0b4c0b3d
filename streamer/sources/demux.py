"""Reads the packets of an open video: with a timeout, and until a token is set."""

from collections.abc import Generator, Iterator  # noqa: TC003  one place for imports
from contextlib import closing
from typing import Final, cast

import av.error
from av.packet import Packet  # noqa: TC002  one place for imports
from av.stream import Stream  # noqa: TC002
from av.video.stream import VideoStream  # noqa: TC002

from streamer.core.clock import CancelToken, Clock
from streamer.core.errors import SourceError, SourceFault

from .ffmpeg_errors import FaultContext, source_error, translate
from .interrupt import CallWatch
from .open import OpenedStream

_NS: Final = 1_000_000_000

_BUSY_WINDOW_NS: Final = _NS
_BUSY_SHARE: Final = 0.5
_SATURATED_SHARE: Final = 0.03
"""A reader that waits for less than these shares of a second has, perhaps and surely, packets
waiting for it. Copying them from the kernel takes about 1 %."""

_WAITED_NS: Final = 2_000_000
"""A read that takes longer waited for the network."""


class Demuxer:
    """The packets of the video of one connection. Used by one thread.

    Args:
        opened: The open video.
        address: For messages; printed without its secrets.
        live: Whether packets come in real time.
        timeout_s: Longest wait for a packet of the video.
        clock: Measures how long a read takes.
    """

    def __init__(
        self, opened: OpenedStream, *, address: str, live: bool, timeout_s: float, clock: Clock
    ) -> None:
        self._opened = opened
        self._address = address
        self._live = live
        self._timeout_s = timeout_s
        self._clock = clock
        self._window_ns = clock.monotonic_ns()
        self._reading_ns = 0  # Spent in reads since `_window_ns`.
        self._timed_out = False
        self.busy = False
        """Whether the reader waited little for packets during the last second: then packets wait
        for the reader, or come at once after a delay of the network."""

        self.saturated = False
        """Whether the reader did not wait for packets during the last second."""

        self.waited = False
        """Whether the last read waited for the network, so that nothing else waits here."""

    def packets(self, cancel: CancelToken) -> "Iterator[Packet[VideoStream]]":
        """Yield the packets of the video until the stream ends or *cancel* is set.

        All streams are read, not only the video. Otherwise FFmpeg would not return from a stream
        whose audio continues without video.

        Raises:
            SourceError: The stream failed, or nothing came within the timeout.
        """
        watch = CallWatch(cancel, self._timeout_s)
        began_ns = self._clock.monotonic_ns()
        demuxed = cast("Generator[Packet[Stream]]", self._opened.container.demux())
        with closing(demuxed) as packets:
            while not cancel.is_set():
                packet = self._next(packets, watch)
                if packet is None:
                    return
                if packet.stream_index == self._opened.stream.index:
                    if packet.size:  # The last one is empty; `Decoder.flush` drains the decoder.
                        yield cast("Packet[VideoStream]", packet)
                    began_ns = self._clock.monotonic_ns()
                elif self._live:
                    self._check_silence(began_ns)

    def _next(
        self, packets: "Iterator[Packet[Stream]]", watch: CallWatch
    ) -> "Packet[Stream] | None":
        """Return the next packet of any stream; `None` at the end, and if the token is set."""
        if self._timed_out:
            raise self._stalled()
        began_ns = self._clock.monotonic_ns()
        try:
            with watch:
                packet = next(packets, None)
        except av.error.FFmpegError as error:
            if watch.cancelled:
                return None
            raise translate(
                error,
                FaultContext(
                    self._address,
                    live=self._live,
                    opening=False,
                    timeout_s=self._timeout_s,
                    silent=watch.timed_out,
                ),
            ) from error
        if watch.timed_out and self._live and not watch.cancelled:
            # FFmpeg hides the timeout behind the last packet, which it held back, or a clean end.
            if packet is None:
                raise self._stalled()
            self._timed_out = True
        self._measure(began_ns, self._clock.monotonic_ns())
        return packet

    def _measure(self, began_ns: int, ended_ns: int) -> None:
        self._reading_ns += ended_ns - began_ns
        self.waited = ended_ns - began_ns > _WAITED_NS
        window_ns = ended_ns - self._window_ns
        if window_ns >= _BUSY_WINDOW_NS:
            self.busy = self._reading_ns < window_ns * _BUSY_SHARE
            self.saturated = self._reading_ns < window_ns * _SATURATED_SHARE
            self._window_ns, self._reading_ns = ended_ns, 0

    def _stalled(self) -> SourceError:
        return source_error(
            SourceFault.STALLED, address=self._address, live=self._live, timeout_s=self._timeout_s
        )

    def _check_silence(self, began_ns: int) -> None:
        silent_s = (self._clock.monotonic_ns() - began_ns) / _NS
        if silent_s > self._timeout_s:
            detail = f"stalled: audio but no video for {silent_s:.1f} s"
            raise source_error(
                SourceFault.STALLED, address=self._address, live=self._live, detail=detail
            )
