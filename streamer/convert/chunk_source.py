"""The source of one chunk: decodes its frames, and those around them that the stages need."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Discard

from streamer.core.clock import CancelToken
from streamer.core.errors import DecoderUnavailable, SourceFault, SourceRejected
from streamer.core.frame import Frame
from streamer.core.frame_schedule import NS
from streamer.core.hwaccel import open_hwaccel
from streamer.core.image import Image
from streamer.core.pixel_format import Converter

from .chunks import Chunk, nanoseconds
from .inspection import open_recording
from .media_info import MediaInfo, VideoInfo

_SEEK_BACK: Final = (Fraction(0), Fraction(2), Fraction(15))
"""Seconds before a chunk to seek to, in turn, until decoding yields the chunk's first frame: an
index may be coarse, and MPEG-TS has none. If all fail, decoding starts at the beginning."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How packets are decoded to frames."""

    pixel_format: str
    """Planar pixel format that the stages and the encoder receive."""

    deinterlace: bool = False
    hwaccel: str | None = None
    """FFmpeg's name of a hardware decoder, such as `cuda`; `None` decodes on the CPU."""


class ChunkSource:
    """Yields a chunk's frames with times on the recording's clock. For one call, in one thread.

    Args:
        media: The recording.
        chunk: The chunk to decode.
        options: How to decode.
        lead_ns: Time before the chunk whose frames are yielded too, for stages with state.
        follow: Frames after the chunk that are yielded too.
    """

    def __init__(
        self,
        media: MediaInfo,
        chunk: Chunk,
        options: DecodeOptions,
        *,
        lead_ns: int = 0,
        follow: int = 0,
    ) -> None:
        assert media.video is not None
        self._media = media
        self._video: VideoInfo = media.video
        self._chunk = chunk
        self._options = options
        self._lead_ns = lead_ns
        self._follow = follow
        self._origin = round(media.origin / self._video.time_base)
        self._before: av.VideoFrame | None = None  # The last frame before the lead.
        self.decoded_frames = 0
        """Frames of the chunk itself that could be decoded."""

    def __call__(self, cancel: CancelToken) -> Iterator[Frame]:
        """Decode the chunk.

        Raises:
            SourceRejected: No frame in or around the chunk can be decoded, or the frame size
                changes.
            DecoderUnavailable: The hardware decoder is missing or does not support the codec.
        """
        convert = Converter(self._options.pixel_format)
        follow = self._follow
        for decoded, at_ns, number, is_substitute in self._complete():
            if cancel.is_set():
                return
            if at_ns >= self._chunk.end_ns and not self._chunk.is_last:
                if follow == 0:
                    break
                follow -= 1
            elif at_ns >= self._chunk.begin_ns:
                self.decoded_frames += not is_substitute
            self._check_size(decoded, at_ns)
            yield Frame(Image(convert(decoded)), at_ns, at_ns, number, synthetic=is_substitute)

    def _check_size(self, decoded: av.VideoFrame, at_ns: int) -> None:
        if (decoded.width, decoded.height) != (self._video.width, self._video.height):
            raise SourceRejected(
                f"{self._media.path}: its frame size changes from {self._video.width}x"
                f"{self._video.height} to {decoded.width}x{decoded.height} at {at_ns / 1e9:.3f} s",
                fault=SourceFault.DAMAGED,
            )

    def _complete(self) -> Iterator[tuple[av.VideoFrame, int, int, bool]]:
        """Yield frame, time, number, and whether the frame is a substitute for a damaged one.

        Each frame that cannot be decoded is replaced by the one before it, or after it if there is
        none. So there are as many frames as timestamps, and the frame rate converter interpolates
        across the gap as across any duplicates.
        """
        due, beyond = self._range()
        before: av.VideoFrame | None = None
        for decoded, at_ns, number in self._numbered():
            for missing in range(due, min(number, beyond)):
                yield before or self._before or decoded, self._at_ns(missing), missing, True
            due = max(due, number + 1)
            yield decoded, at_ns, number, False
            before = decoded
        before = before or self._before
        if before is None:
            raise SourceRejected(
                f"{self._media.path}: no frame can be decoded from "
                f"{self._chunk.begin_ns / 1e9:.3f} s on",
                fault=SourceFault.DAMAGED,
            )
        for missing in range(due, beyond):
            yield before, self._at_ns(missing), missing, True

    def _range(self) -> tuple[int, int]:
        """Return the half-open range of frame numbers to yield; empty if times are not exact."""
        times, base, chunk = self._video.times, self._video.time_base, self._chunk
        if self._video.timestamp_quality != "exact":
            return 0, 0  # Missing frames cannot be recognized.
        begin, end = (
            int(np.searchsorted(times, round(Fraction(at_ns, NS) / base)))
            for at_ns in (chunk.begin_ns, chunk.end_ns)
        )
        return begin, len(times) if chunk.is_last else min(end + self._follow, len(times))

    def _at_ns(self, number: int) -> int:
        return nanoseconds(int(self._video.times[number]), self._video.time_base)

    def _numbered(self) -> Iterator[tuple[av.VideoFrame, int, int]]:
        """Yield frames from the lead on, each with its time and its number in the recording."""
        times, base = self._video.times, self._video.time_base
        if self._video.timestamp_quality != "exact":
            for number, frame in enumerate(self._from_beginning()):
                # A frame beyond the number of packets has no time.
                if number < len(times):
                    yield frame, self._at_ns(number), number
            return
        begin = self._chunk.begin_ns - self._lead_ns
        last = None
        for frame in self._from(begin):
            if frame.pts is None:
                continue
            ticks = frame.pts - self._origin
            at_ns = nanoseconds(ticks, base)
            if at_ns < begin:
                self._before = frame
                continue
            if last is not None and ticks <= last:
                continue
            last = ticks
            yield frame, at_ns, int(np.searchsorted(times, ticks))

    def _from(self, begin_ns: int) -> Iterator[av.VideoFrame]:
        """Yield frames from *begin_ns* or earlier on."""
        first = self._video.times[0]
        target = max(Fraction(begin_ns, NS) / self._video.time_base, Fraction(int(first)))
        if self._chunk.number == 0:
            yield from self._from_beginning()
            return
        for seconds in _SEEK_BACK:
            with self._open() as container:
                frames = self._seek(container, target - seconds / self._video.time_base)
                frame = next(frames, None)
                # Half a tick of tolerance: the target is rounded to nanoseconds.
                if frame is None or frame.pts is None or frame.pts - self._origin > target + 0.5:
                    continue
                yield frame
                yield from frames
                return
        yield from self._from_beginning()

    def _open(self) -> InputContainer:
        name = self._options.hwaccel
        return open_recording(
            self._media.path, hwaccel=None if name is None else open_hwaccel(name)
        )

    def _seek(self, container: InputContainer, ticks: Fraction) -> Iterator[av.VideoFrame]:
        stream = container.streams[self._video.stream.index]
        try:
            container.seek(int(ticks) + self._origin, stream=stream)
        except av.error.FFmpegError:
            return
        yield from self._decode(container)

    def _from_beginning(self) -> Iterator[av.VideoFrame]:
        with self._open() as container:
            yield from self._decode(container)

    def _decode(self, container: InputContainer) -> Iterator[av.VideoFrame]:
        frames = (frame for frame in self._packets(container) if not frame.is_corrupt)
        if not self._options.deinterlace:
            yield from frames
            return
        yield from deinterlaced(frames)

    def _packets(self, container: InputContainer) -> Iterator[av.VideoFrame]:
        stream: Any = container.streams[self._video.stream.index]
        for other in container.streams:
            other.discard = Discard.default if other is stream else Discard.all
        context = stream.codec_context
        if self._options.hwaccel and not context.is_hwaccel:
            raise DecoderUnavailable(
                f"{self._options.hwaccel} cannot decode {context.name}; without --hwaccel the "
                "CPU decodes"
            )
        context.thread_type = "AUTO"
        context.thread_count = 0  # One per core.
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                packet = None
            try:
                yield from context.decode(packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError:  # `_complete` counts missing frames by their times.
                pass
            if packet is None:
                return


def deinterlaced(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Deinterlace with FFmpeg's bwdif: one progressive frame for each interlaced frame."""
    first = next(frames, None)
    if first is None:
        return
    base = first.time_base
    assert base is not None, "frames of a recording have a time base"
    graph = av.filter.Graph()
    buffer = graph.add_buffer(
        width=first.width,
        height=first.height,
        format=first.format,
        time_base=base,
    )
    graph.link_nodes(
        buffer, graph.add("bwdif", "mode=send_frame:deint=all"), graph.add("buffersink")
    ).configure()
    graph.push(first)
    for frame in frames:
        graph.push(frame)
        yield from _filtered(graph, base)
    graph.push(None)
    yield from _filtered(graph, base)


def _filtered(graph: av.filter.Graph, time_base: Fraction) -> Iterator[av.VideoFrame]:
    """Yield finished frames in *time_base*; the filter's own time base is half of it."""
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        if frame.pts is not None and frame.time_base is not None:
            frame.pts = round(frame.pts * frame.time_base / time_base)
        frame.time_base = time_base
        yield frame
