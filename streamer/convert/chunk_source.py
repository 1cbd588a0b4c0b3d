"""The source of one chunk: its pictures, and as many around them as the stages need."""

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
from .media_info import MediaInfo, VideoInfo, open_recording

_EARLIER: Final = (Fraction(0), Fraction(2), Fraction(15))
"""Seconds before a chunk at which decoding is begun in turn, until its first picture comes out:
an index may be coarse, and MPEG-TS has none. After the last, from the very beginning."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How pictures are had from packets."""

    pixel_format: str
    """Planar; what the stages and the encoder get."""

    deinterlace: bool = False
    hwaccel: str | None = None
    """What decodes, as in `hwaccel.hwaccel`; `None` for the CPU."""

    threads: int = 0
    """Of the decoder; 0 for as many as there are cores."""


class ChunkSource:
    """Yields a chunk's frames, times by the recording's clock. One call; belongs to one thread.

    Args:
        inventory: Of the recording.
        chunk: The piece wanted.
        options: How to decode.
        lead_ns: Time before the chunk from which on frames are wanted, for stages with a memory.
        follow: Frames wanted after its end.
    """

    def __init__(
        self,
        inventory: MediaInfo,
        chunk: Chunk,
        options: DecodeOptions,
        *,
        lead_ns: int = 0,
        follow: int = 0,
    ) -> None:
        assert inventory.video is not None
        self._inventory = inventory
        self._video: VideoInfo = inventory.video
        self._chunk = chunk
        self._options = options
        self._lead_ns = lead_ns
        self._follow = follow
        self._origin = round(inventory.origin / self._video.time_base)
        self._before: av.VideoFrame | None = None  # The last one before the lead.
        self.pictures = 0
        """Pictures of the chunk itself that could be decoded."""

    def __call__(self, cancel: CancelToken) -> Iterator[Frame]:
        """Decode.

        Raises:
            SourceRejected: Neither the chunk nor anything around it can be decoded, or its pictures
                change their size.
            DecoderUnavailable: The hardware that is to decode is not here or cannot.
        """
        planarize = Converter(self._options.pixel_format)
        follow = self._follow
        for decoded, at_ns, number, stands_in in self._complete():
            if cancel.is_set():
                return
            if at_ns >= self._chunk.end_ns and not self._chunk.last:
                if follow == 0:
                    break
                follow -= 1
            elif at_ns >= self._chunk.begin_ns:
                self.pictures += not stands_in
            self._check_size(decoded, at_ns)
            yield Frame(Image(planarize(decoded)), at_ns, at_ns, number, synthetic=stands_in)

    def _check_size(self, decoded: av.VideoFrame, at_ns: int) -> None:
        if (decoded.width, decoded.height) != (self._video.width, self._video.height):
            raise SourceRejected(
                f"{self._inventory.path}: its pictures change from {self._video.width}x"
                f"{self._video.height} to {decoded.width}x{decoded.height} at {at_ns / 1e9:.3f} s",
                fault=SourceFault.DAMAGED,
            )

    def _complete(self) -> Iterator[tuple[av.VideoFrame, int, int, bool]]:
        """As `_placed`, and in place of each picture that cannot be decoded one beside it.

        So as many come out as there are times, and a stage that goes across repeats fills the gap
        with motion. The fourth says whether a picture stands in for another.
        """
        due, beyond = self._wanted()
        before: av.VideoFrame | None = None
        for decoded, at_ns, number in self._placed():
            for missing in range(due, min(number, beyond)):
                yield before or self._before or decoded, self._at_ns(missing), missing, True
            due = max(due, number + 1)
            yield decoded, at_ns, number, False
            before = decoded
        before = before or self._before
        if before is None:
            raise SourceRejected(
                f"{self._inventory.path}: nothing can be decoded from "
                f"{self._chunk.begin_ns / 1e9:.3f} s on",
                fault=SourceFault.DAMAGED,
            )
        for missing in range(due, beyond):
            yield before, self._at_ns(missing), missing, True

    def _wanted(self) -> tuple[int, int]:
        """Numbers of the chunk's first picture and of the one behind the last that is wanted."""
        times, base, chunk = self._video.times, self._video.time_base, self._chunk
        if self._video.timestamp_quality != "known":
            return 0, 0  # Nothing tells what is missing.
        begin, end = (
            int(np.searchsorted(times, round(Fraction(at_ns, NS) / base)))
            for at_ns in (chunk.begin_ns, chunk.end_ns)
        )
        return begin, len(times) if chunk.last else min(end + self._follow, len(times))

    def _at_ns(self, number: int) -> int:
        return nanoseconds(int(self._video.times[number]), self._video.time_base)

    def _placed(self) -> Iterator[tuple[av.VideoFrame, int, int]]:
        """Frames from the lead on, each with its time and its number in the recording."""
        times, base = self._video.times, self._video.time_base
        if self._video.timestamp_quality != "known":
            for number, frame in enumerate(self._from_beginning()):
                # A decoder that gives more pictures than there are packets: nothing says when.
                if number < len(times):
                    yield frame, self._at_ns(number), number
            return
        begin = self._chunk.begin_ns - self._lead_ns
        last = None
        for frame in self._found(begin):
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

    def _found(self, begin_ns: int) -> Iterator[av.VideoFrame]:
        """Frames from at or before *begin_ns* on."""
        first = self._video.times[0]
        wanted = max(Fraction(begin_ns, NS) / self._video.time_base, Fraction(int(first)))
        if self._chunk.number == 0:
            yield from self._from_beginning()
            return
        for earlier in _EARLIER:
            with self._open() as container:
                frames = self._seek(container, wanted - earlier / self._video.time_base)
                frame = next(frames, None)
                # Half a tick: the beginning is rounded to nanoseconds.
                if frame is None or frame.pts is None or frame.pts - self._origin > wanted + 0.5:
                    continue
                yield frame
                yield from frames
                return
        yield from self._from_beginning()

    def _open(self) -> InputContainer:
        wanted = self._options.hwaccel
        return open_recording(
            self._inventory.path, hwaccel=None if wanted is None else open_hwaccel(wanted)
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
                "CPU does it"
            )
        context.thread_type = "AUTO"
        context.thread_count = self._options.threads
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
            except av.error.FFmpegError:  # What is missing is counted by its time.
                pass
            if packet is None:
                return


def deinterlaced(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Whole pictures made of fields, one for each frame, by FFmpeg's bwdif."""
    first = next(frames, None)
    if first is None:
        return
    base = first.time_base
    assert base is not None, "what comes from a recording has a time base"
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
        yield from _ready(graph, base)
    graph.push(None)
    yield from _ready(graph, base)


def _ready(graph: av.filter.Graph, time_base: Fraction) -> Iterator[av.VideoFrame]:
    """What the filter has finished, in the time base that it was given: its own is half of that."""
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
