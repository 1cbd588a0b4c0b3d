"""Decodes packets to frames, as few as `frame_sampler.FrameSampler` permits, and counts damage.

The decision whether key frames suffice is made in `frame_sampler.py`; this module carries it out.
"""

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import av
import av.error
from av.packet import Packet  # noqa: TC002  one place for imports
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream  # noqa: TC002

from streamer.core.latency import LatencyHistogram

from .frame_sampler import DecodeMode, FrameSampler
from .timestamps import NormalizedTimestamps, TimestampNormalizer

_BACKLOG_BYTES: Final = 4 << 20
"""Packets saved since the last key frame while only key frames are decoded. They are decoded
when the next key frame does not come. Above this limit, frames return with the next key frame."""


class DecodedFrame(NamedTuple):
    """A decoded frame with its final media time."""

    frame: VideoFrame
    pts_ns: int
    arrived_ns: int
    """When the demuxer delivered its packet."""

    sampled: bool
    """Whether it is selected for inference."""


class Decoder:
    """Decodes the packets of one connection. Used by one thread.

    Args:
        context: Decoder of the stream, not opened yet.
        sampler: Chooses what is decoded and which frames are sampled.
        normalizer: Gives each decoded frame its media time.
        every_frame: Yield every frame, not only the sampled ones.
        realtime: Decode with one thread, because many cameras share the cores, and more threads
            delay each frame and hold more of them. `False` uses all cores, for files that are
            read as fast as possible.
        decode_time: Gets the time that each packet takes.
    """

    def __init__(
        self,
        context: VideoCodecContext,
        sampler: FrameSampler,
        normalizer: TimestampNormalizer,
        *,
        every_frame: bool,
        realtime: bool,
        decode_time: LatencyHistogram,
    ) -> None:
        self._context = context
        self._decode_time = decode_time
        self._sampler = sampler
        self._normalizer = normalizer
        self._every_frame = every_frame
        self._mode = sampler.plan.decode
        self._timestamps = _BestEffortTimestamps()
        self._backlog: list[Packet[VideoStream]] = []
        self._backlog_bytes = 0
        self._backlog_truncated = False  # The backlog does not begin with a key frame.
        self._isolated_pts_ns: int | None = None  # Of the last key frame that was decoded alone.
        self._arrived_ns = 0  # Of the last packet.
        self.decoded = 0
        """Frames that came out of the decoder intact."""

        self.damaged = 0
        """Packets that could not be decoded, and frames that the decoder marked as corrupt."""

        self.packets_without_frame = 0
        """Packets given to the decoder since the last frame."""

        self.consecutive_errors = 0
        """Packets in a row that could not be decoded."""

        context.copy_opaque = True  # Frames carry the arrival of their packets.
        context.thread_type = "SLICE" if realtime else "AUTO"
        context.thread_count = 1 if realtime else 0

    def decode(
        self,
        packet: "Packet[VideoStream]",
        timestamps: NormalizedTimestamps,
        *,
        arrived_ns: int,
    ) -> Iterator[DecodedFrame]:
        """Yield the frames that this packet completes.

        Args:
            packet: Its timestamps are replaced by media time in nanoseconds.
            timestamps: Media time of the packet. Without presentation times of the stream, the
                frames take the decoding times in order.
            arrived_ns: When the demuxer delivered the packet, before any delay on its way.
        """
        packet.pts = timestamps.pts_ns if timestamps.has_pts else None
        packet.dts = timestamps.dts_ns
        packet.opaque = self._arrived_ns = arrived_ns
        self._timestamps.note_packet(timestamps.dts_ns)
        keyframe = packet.is_keyframe
        limited = self._sampler.limited
        mode = self._sampler.observe_packet(timestamps.dts_ns, keyframe=keyframe).decode
        if limited and mode is DecodeMode.EVERY_FRAME:
            self.skip()  # The frames before this one are not missing: they were left out.
        if mode is not self._mode:
            yield from self._switch(mode)
        if mode is DecodeMode.EVERY_FRAME:
            yield from self._select(self._decode(packet))
            return
        if keyframe:
            self._backlog.clear()
            self._backlog_bytes, self._backlog_truncated = 0, False
        self._save(packet)
        if keyframe and self._sampler.selects(timestamps.pts_ns):
            frames = [*self._decode(packet), *self._drain()]
            self._sampler.note_isolated_keyframe(decoded=bool(frames))
            if frames:
                frame = frames[0]
                frames.clear()  # No other reference: its buffer can be used again.
                self._isolated_pts_ns = timestamps.pts_ns
                pts_ns = self._normalizer.next_display_pts(timestamps.pts_ns)
                yield DecodedFrame(frame, pts_ns, arrived_ns, sampled=True)

    def skip(self) -> None:
        """Forget all packets so far: those after them up to the next key frame do not come."""
        self._backlog.clear()
        self._backlog_bytes, self._backlog_truncated = 0, True
        self._context.flush_buffers()

    def flush(self) -> Iterator[DecodedFrame]:
        """Yield the frames that are still in the decoder at the end of the stream."""
        if self._mode is DecodeMode.EVERY_FRAME:
            yield from self._select(self._drain())

    def _switch(self, mode: DecodeMode) -> Iterator[DecodedFrame]:
        self._mode = mode
        if mode is DecodeMode.KEY_FRAMES:
            yield from self._select(self._drain())
            return
        backlog, self._backlog, self._backlog_bytes = self._backlog, [], 0
        if not self._backlog_truncated:
            for packet in backlog:
                yield from self._select(self._after_isolated(self._decode(packet)))

    def _after_isolated(self, frames: list[VideoFrame]) -> list[VideoFrame]:
        """Remove the key frame that was yielded before, and frames presented before it."""
        last_ns = self._isolated_pts_ns
        if last_ns is None:
            return frames
        return [frame for frame in frames if frame.pts is None or frame.pts > last_ns]

    def _save(self, packet: "Packet[VideoStream]") -> None:
        if self._backlog_truncated:
            return
        self._backlog.append(packet)
        self._backlog_bytes += packet.size
        if self._backlog_bytes > _BACKLOG_BYTES:
            self._backlog.clear()
            self._backlog_truncated = True

    def _select(self, frames: list[VideoFrame]) -> Iterator[DecodedFrame]:
        while frames:
            frame = frames.pop(0)  # No other reference: its buffer can be used again.
            pts_ns = self._normalizer.next_display_pts(self._timestamps.of(frame))
            sampled = self._sampler.selects(pts_ns)
            if sampled or self._every_frame:
                arrived_ns = frame.opaque
                if not isinstance(arrived_ns, int):  # A frame that the decoder made up.
                    arrived_ns = self._arrived_ns
                yield DecodedFrame(frame, pts_ns, arrived_ns, sampled)

    def _decode(self, packet: "Packet[VideoStream]") -> list[VideoFrame]:
        if packet.is_corrupt:
            self.damaged += 1
        self.packets_without_frame += 1
        began_ns = time.perf_counter_ns()
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError:
            self.damaged += 1
            self.consecutive_errors += 1
            return []
        finally:
            self._decode_time.add(time.perf_counter_ns() - began_ns)
        self.consecutive_errors = 0
        return self._intact(frames)

    def _drain(self) -> list[VideoFrame]:
        """Take all frames out of the decoder, so that the next packet can be any key frame."""
        try:
            return self._intact(self._context.decode(None))
        except av.error.FFmpegError:
            self.damaged += 1
            return []
        finally:
            self._context.flush_buffers()

    def _intact(self, frames: list[VideoFrame]) -> list[VideoFrame]:
        intact = [frame for frame in frames if not frame.is_corrupt]
        self.damaged += len(frames) - len(intact)
        self.decoded += len(intact)
        if intact:
            self.packets_without_frame = 0
        return intact


class _BestEffortTimestamps:
    """The time of each decoded frame: of PTS and DTS, the one that decreased less often.

    Old containers store decoding times as presentation times. FFmpeg's own tools choose in the
    same way (`best_effort_timestamp`).
    """

    def __init__(self) -> None:
        self._last_pts = self._last_dts = -(1 << 63)
        self._pts_errors = self._dts_errors = 0
        self._first_dts: int | None = None
        self._had_pts = False  # Whether the last frame had one.
        self._delay: int | None = None  # Of the first frame behind the first packet.

    def note_packet(self, dts: int) -> None:
        """Note the decoding time of the next packet."""
        if self._first_dts is None:
            self._first_dts = dts

    def of(self, frame: VideoFrame) -> int | None:
        """Return the presentation time of the next decoded frame; `None` if it has none."""
        pts, dts = frame.pts, frame.dts
        alone = pts is None and self._had_pts
        self._had_pts = pts is not None
        if dts is not None:
            self._dts_errors += dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._pts_errors += pts <= self._last_pts
            self._last_pts = pts
        if self._delay is None and dts is not None and self._first_dts is not None:
            self._delay = dts - self._first_dts
        if alone:  # One frame behind the last one is closer than a decoding time.
            return None
        if pts is None or (self._pts_errors > self._dts_errors and dts is not None):
            # `dts` is that of the packet that the decoder took last, not of this frame's packet.
            return dts if dts is None or self._delay is None else dts - self._delay
        return pts
