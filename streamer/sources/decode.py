"""Packets to pictures, as few as are looked at; damage is counted and the decoder goes on."""

from collections.abc import Iterator
from typing import Final

import av
import av.error
from av.packet import Packet  # noqa: TC002  one place for imports
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream  # noqa: TC002

from .frame_sampler import DecodeMode, FrameSampler
from .timestamps import NormalizedTimestamps

_BACKLOG_BYTES: Final = 4 << 20
"""Packets kept while only key frames are decoded, to decode them after all when the next key
frame does not come. Beyond this the pictures return with the next key frame."""

Decoded = tuple[VideoFrame, int | None]
"""A picture and its media time, which the decoder may have lost."""


class Decoder:
    """Decodes the packets of one connection. Belongs to one thread.

    Args:
        context: The stream's, not opened yet.
        planner: Says what to decode and which pictures are looks.
        in_real_time: One thread a decoder: cores are shared by many cameras, and more threads
            delay each picture and hold more of them. What is read as fast as it goes is
            decoded with all cores.
    """

    def __init__(
        self, context: VideoCodecContext, planner: FrameSampler, *, in_real_time: bool
    ) -> None:
        self._context = context
        self._planner = planner
        self._plan = planner.plan.decode
        self._clock = _BestEffortTimestamps()
        self._backlog: list[Packet[VideoStream]] = []
        self._backlog_bytes = 0
        self._incomplete = False  # The backlog does not begin with a key frame.
        self.damaged = 0
        """Packets that could not be decoded, and pictures that the decoder called corrupt."""

        self.unanswered = 0
        """Packets decoded since the last picture."""

        self.failed = 0
        """Packets in a row that could not be decoded."""

        context.thread_type = "SLICE" if in_real_time else "AUTO"
        context.thread_count = 1 if in_real_time else 0

    def feed(
        self, packet: "Packet[VideoStream]", placed: NormalizedTimestamps, *, reordered: bool = True
    ) -> Iterator[Decoded]:
        """The looks that this packet makes ready.

        Args:
            packet: Its time stamps are replaced by media time, in nanoseconds.
            placed: Its media time.
            reordered: Whether its presentation time is known; if not, pictures take the
                decoding times in their order.
        """
        packet.pts = placed.pts_ns if reordered else None
        packet.dts = placed.dts_ns
        self._clock.fed(placed.dts_ns)
        keyframe = packet.is_keyframe
        plan = self._planner.see(placed.dts_ns, keyframe=keyframe).decode
        if plan is not self._plan:
            yield from self._switch(plan)
        if plan is DecodeMode.EVERY_FRAME:
            yield from self._looks(self._decode(packet))
            return
        if keyframe:
            self._backlog.clear()
            self._backlog_bytes, self._incomplete = 0, False
        self._keep(packet)
        if keyframe and self._planner.wants(placed.pts_ns):
            pictures = [*self._decode(packet), *self._drain()]
            self._planner.lone_key_frame(decoded=bool(pictures))
            while pictures:
                yield pictures.pop(0), placed.pts_ns

    def finish(self) -> Iterator[Decoded]:
        """The looks among the pictures that still wait for their turn at the end of a stream."""
        if self._plan is DecodeMode.EVERY_FRAME:
            yield from self._looks(self._drain())

    def _switch(self, plan: DecodeMode) -> Iterator[Decoded]:
        self._plan = plan
        if plan is DecodeMode.KEY_FRAMES:
            yield from self._looks(self._drain())
            return
        backlog, self._backlog, self._backlog_bytes = self._backlog, [], 0
        if not self._incomplete:
            for packet in backlog:
                yield from self._looks(self._decode(packet))

    def _keep(self, packet: "Packet[VideoStream]") -> None:
        if self._incomplete:
            return
        self._backlog.append(packet)
        self._backlog_bytes += packet.size
        if self._backlog_bytes > _BACKLOG_BYTES:
            self._backlog.clear()
            self._incomplete = True

    def _looks(self, pictures: list[VideoFrame]) -> Iterator[Decoded]:
        while pictures:
            picture = pictures.pop(0)  # No other reference: its buffer can be used again.
            pts_ns = self._clock.of(picture)
            if pts_ns is None or self._planner.wants(pts_ns):
                yield picture, pts_ns

    def _decode(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        if packet.is_corrupt:
            self.damaged += 1
        self.unanswered += 1
        try:
            pictures = self._context.decode(packet)
        except av.error.FFmpegError:
            self.damaged += 1
            self.failed += 1
            return []
        self.failed = 0
        return self._sound(pictures)

    def _drain(self) -> list[VideoFrame]:
        """All pictures out of the decoder, which can be fed a key frame next."""
        try:
            return self._sound(self._context.decode(None))
        except av.error.FFmpegError:
            self.damaged += 1
            return []
        finally:
            self._context.flush_buffers()

    def _sound(self, pictures: list[VideoFrame]) -> list[VideoFrame]:
        sound = [picture for picture in pictures if not picture.is_corrupt]
        self.damaged += len(pictures) - len(sound)
        if sound:
            self.unanswered = 0
        return sound


class _BestEffortTimestamps:
    """The time of each decoded picture: of two time stamps, the one that fell less often.

    Old containers store decoding times as presentation times; FFmpeg's own players choose in
    this way.
    """

    def __init__(self) -> None:
        self._last_pts = self._last_dts = -(1 << 63)
        self._wrong_pts = self._wrong_dts = 0
        self._first_dts: int | None = None
        self._delay: int | None = None  # Of the pictures behind the packets.

    def fed(self, dts: int) -> None:
        """Take note of a packet's decoding time."""
        if self._first_dts is None:
            self._first_dts = dts

    def of(self, picture: VideoFrame) -> int | None:
        pts, dts = picture.pts, picture.dts
        if dts is not None:
            self._wrong_dts += dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._wrong_pts += pts <= self._last_pts
            self._last_pts = pts
        if self._delay is None and dts is not None and self._first_dts is not None:
            self._delay = dts - self._first_dts
        if pts is None or (self._wrong_pts > self._wrong_dts and dts is not None):
            # The decoder gives the time of the packet it took last, not of the picture's own.
            return dts if dts is None or self._delay is None else dts - self._delay
        return pts
