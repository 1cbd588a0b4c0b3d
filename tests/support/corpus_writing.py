"""Writes small recordings as described: tracks of video, audio, subtitles, data and cover art."""

import heapq
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from . import corpus_frames

_QUIET = {
    "libx264": {"preset": "veryfast", "sc_threshold": "0", "forced-idr": "1"},
    "libx265": {"preset": "ultrafast"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}
"""Default options of encoders: fast, and key frames only at the GOP size."""

_X265 = "log-level=error:pools=1:frame-threads=1:scenecut=0"
DEFAULT = 1
"""FFmpeg's disposition flag: players choose this stream."""


class Track(Protocol):
    """One stream of a recording."""

    def add(self, output: OutputContainer) -> Iterator[av.Packet]:
        """Add the stream now; yield its packets in order of decoding when iterated."""
        ...


@dataclass(frozen=True, kw_only=True)
class Video:
    """A stream of frames that carry their number."""

    times: Sequence[Fraction]
    """Presentation time of each frame, in seconds; whole numbers of `clock`."""

    clock: Fraction
    """Time base of encoder and stream, in seconds."""

    rate: Fraction | None = None
    """What the encoder believes; by default from the first two times."""

    numbers: Sequence[int] | None = None
    """What each frame shows, where that is not its place: the same twice is a repeated frame."""

    cuts: Sequence[int] = ()
    """Places at which a new scene begins."""

    width: int = 160
    height: int = 120
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)
    x265: str = ""
    """More of x265's own parameters."""

    gop: int = 24
    b_frames: int = 0
    aspect: Fraction | None = None
    """Of one pixel."""

    color: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Primaries, transfer, matrix and range in FFmpeg's numbers; 0 or 2 is not known."""

    rotated: int = 0
    """Degrees counter-clockwise to turn for display, as cameras in phones write it."""

    tags: Mapping[str, str] = field(default_factory=dict)
    disposition: int = DEFAULT
    interlaced: bool = False
    """Top field first; the fields of a frame are two neighbours of the video."""

    draw: Callable[[int, int], NDArray[np.uint8]] | None = None
    """Place and number to an RGB or RGBA image, in place of the default pattern."""

    def shown(self, place: int) -> int:
        """The number in the frame at *place*."""
        return self.numbers[place] if self.numbers else place

    def image(self, place: int) -> NDArray[np.uint8]:
        """(height, width, 3 or 4)."""
        if self.draw is not None:
            return self.draw(place, self.shown(place))
        scene = sum(cut <= place for cut in self.cuts)
        size = {"width": self.width, "height": self.height}
        image = corpus_frames.frame_image(self.shown(place), scene=scene, **size)
        if self.interlaced:
            code = max(self.height // 20, 6) * corpus_frames.ROWS
            later = corpus_frames.frame_image(self.shown(place) + 1, scene=scene, **size)
            image[1:-code:2] = later[1:-code:2]
        return image

    def add(self, output: OutputContainer) -> Iterator[av.Packet]:
        rate = self.rate or (1 / (self.times[1] - self.times[0]) if len(self.times) > 1 else 25)
        stream = output.add_stream(self.codec, rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, self.pixel_format
        context = stream.codec_context
        context.time_base = self.clock
        context.thread_count = 1
        context.gop_size, context.max_b_frames = self.gop, self.b_frames
        _set_colour(context, self.color)
        if self.aspect is not None:
            context.sample_aspect_ratio = self.aspect
        if self.rotated:
            stream.set_display_rotation(self.rotated)
        stream.options = {**_QUIET.get(self.codec, {}), **self.options}
        if self.codec == "libx265":
            stream.options["x265-params"] = ":".join(filter(None, (_X265, self.x265)))
        stream.metadata.update(self.tags)
        stream.disposition = self.disposition
        return self._packets(stream)

    def _packets(self, stream: av.VideoStream) -> Iterator[av.Packet]:
        for place, time in enumerate(self.times):
            ticks = time / self.clock
            assert ticks.denominator == 1, f"{time} is no whole number of {self.clock}"
            frame = self._frame(place)
            frame.time_base, frame.pts = self.clock, ticks.numerator
            after = self.times[place + 1] if place + 1 < len(self.times) else None
            length = after - time if after is not None else self._last_length()
            frame.duration = round(length / self.clock)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    def _last_length(self) -> Fraction:
        return self.times[-1] - self.times[-2] if len(self.times) > 1 else Fraction(1, 25)

    def _frame(self, place: int) -> av.VideoFrame:
        image = self.image(place)
        frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[2] == 4 else "rgb24")
        # Bit-exact scaling: the same frame on every processor.
        frame = frame.reformat(format=self.pixel_format, dst_colorspace=None)
        _set_frame_colour(frame, self.color)
        return frame


def _set_colour(context: av.VideoCodecContext, color: tuple[int, int, int, int]) -> None:
    primaries, transfer, matrix, full = color
    if any(color):
        context.color_primaries, context.color_trc = primaries, transfer
        context.colorspace, context.color_range = matrix, full


def _set_frame_colour(frame: av.VideoFrame, color: tuple[int, int, int, int]) -> None:
    if any(color):
        frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = color


@dataclass(frozen=True, kw_only=True)
class Audio:
    """A tone that rises, so that no two packets are alike."""

    seconds: float = 2.0
    start: Fraction = Fraction(0)
    """Presentation time of the first sample that is meant to be heard."""

    codec: str = "aac"
    rate: int = 48000
    layout: str = "mono"
    pitch: float = 300.0
    """Hertz at the beginning."""

    tags: Mapping[str, str] = field(default_factory=dict)
    disposition: int = DEFAULT
    bit_rate: int = 32000

    def add(self, output: OutputContainer) -> Iterator[av.Packet]:
        stream = output.add_stream(self.codec, rate=self.rate, layout=self.layout)
        stream.codec_context.time_base = Fraction(1, self.rate)
        stream.bit_rate = self.bit_rate
        stream.metadata.update(self.tags)
        stream.disposition = self.disposition
        return self._packets(stream)

    def _packets(self, stream: av.AudioStream) -> Iterator[av.Packet]:
        start, total = round(self.start * self.rate), round(self.seconds * self.rate)
        step = self.rate  # A second at a time: two hours fit in memory.
        channels = stream.codec_context.layout.nb_channels
        for first in range(0, total, step):
            seconds = np.arange(first, min(first + step, total)) / self.rate
            tone = 0.3 * np.sin(2 * np.pi * (self.pitch + 20 * np.sin(seconds / 7)) * seconds)
            samples = np.repeat((tone * 32767).astype(np.int16)[None, :], channels, axis=0)
            frame = av.AudioFrame.from_ndarray(samples, format="s16p", layout=self.layout)
            frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
            frame.pts = start + first
            yield from stream.encode(frame)
        yield from stream.encode(None)


@dataclass(frozen=True, kw_only=True)
class Subtitles:
    """Subtitles."""

    codec: str
    """`ass`, `subrip`, `webvtt` or `mov_text`."""

    lines: Sequence[tuple[float, float, str]] = (
        (0.2, 0.9, "One"),
        (1.0, 1.5, "Two"),
        (1.6, 1.9, "Three"),
    )
    """Start and end in seconds, and the words."""

    tags: Mapping[str, str] = field(default_factory=dict)
    disposition: int = 0

    def add(self, output: OutputContainer) -> Iterator[av.Packet]:
        if self.codec == "mov_text":
            stream = output.add_mux_stream("mov_text", time_base=Fraction(1, 1000))
        else:
            source = av.open(io.BytesIO(self._file()), format=_TEXT_FORMATS[self.codec])
            stream = output.add_stream_from_template(source.streams[0])
        stream.metadata.update(self.tags)
        stream.disposition = self.disposition
        return self._boxed(stream) if self.codec == "mov_text" else _copied(source, stream)

    def _boxed(self, stream: av.stream.Stream) -> Iterator[av.Packet]:
        clock = Fraction(1, 1000)
        for start, end, words in self.lines:
            text = words.encode()
            packet = av.Packet(len(text).to_bytes(2, "big") + text)
            packet.stream, packet.time_base = stream, clock
            packet.pts = packet.dts = round(start / clock)
            packet.duration = round((end - start) / clock)
            packet.is_keyframe = True
            yield packet

    def _file(self) -> bytes:
        if self.codec == "ass":
            spoken = [
                f"Dialogue: 0,{_clock_time(start)[1:11]},{_clock_time(end)[1:11]},"
                f"Default,,0,0,0,,{words}"
                for start, end, words in self.lines
            ]
            return "\n".join([_ASS, *spoken, ""]).encode()
        comma = self.codec == "subrip"
        spoken = [
            f"{_clock_time(start)} --> {_clock_time(end)}\n{words}\n"
            for start, end, words in self.lines
        ]
        if comma:
            return (
                "\n".join(f"{n}\n{s}" for n, s in enumerate(spoken, 1)).replace(".", ",").encode()
            )
        return ("WEBVTT\n\n" + "\n".join(spoken)).encode()


_TEXT_FORMATS = {"ass": "ass", "subrip": "srt", "webvtt": "webvtt"}

_ASS = """[Script Info]
ScriptType: v4.00+
PlayResX: 160
PlayResY: 120

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, \
Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Corpus Sans,16,&H00FFFFFF,&H000000FF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,\
1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text"""


def _clock_time(seconds: float) -> str:
    """`00:00:01.500`."""
    return f"00:00:{seconds:06.3f}"


def _copied(source: av.container.InputContainer, stream: av.stream.Stream) -> Iterator[av.Packet]:
    with source:
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = stream
                yield packet


@dataclass(frozen=True, kw_only=True)
class Data:
    """A stream of data that nobody decodes."""

    codec: str
    payloads: Sequence[tuple[Fraction, bytes]]
    """Time in seconds, and what is there."""

    clock: Fraction = Fraction(1, 90000)
    tags: Mapping[str, str] = field(default_factory=dict)

    def add(self, output: OutputContainer) -> Iterator[av.Packet]:
        stream = output.add_data_stream(self.codec)
        stream.time_base = self.clock
        stream.metadata.update(self.tags)
        return self._packets(stream)

    def _packets(self, stream: av.stream.Stream) -> Iterator[av.Packet]:
        for time, payload in self.payloads:
            packet = av.Packet(payload)
            packet.stream, packet.time_base = stream, self.clock
            packet.pts = packet.dts = round(time / self.clock)
            packet.is_keyframe = True
            yield packet


@dataclass(frozen=True, kw_only=True)
class Cover:
    """A frame that goes with the recording, as MP4 keeps it."""

    def add(self, output: OutputContainer) -> Iterator[av.Packet]:
        stream = output.add_mux_stream("mjpeg", width=48, height=48, time_base=Fraction(1, 90000))
        stream.disposition = int(av.stream.Disposition.attached_pic)
        packet = av.Packet(jpeg())
        packet.stream, packet.time_base = stream, Fraction(1, 90000)
        packet.pts = packet.dts = 0
        packet.is_keyframe = True
        return iter((packet,))


def jpeg() -> bytes:
    """A small frame."""
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = 48, 48, "yuvj420p"
    context.time_base = Fraction(1, 25)
    image = corpus_frames.frame_image(7, width=48, height=48)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))


@dataclass(frozen=True)
class Chapter:
    """A named stretch of time, in milliseconds."""

    start: int
    end: int
    title: str


@dataclass(frozen=True)
class Attachment:
    """A file within a Matroska file."""

    name: str
    kind: str
    """MIME type."""

    data: bytes


FONT = Attachment("corpus.ttf", "font/ttf", bytes(range(256)) * 4)
"""Nobody renders it: only its bytes count."""


def write(
    path: Path,
    *tracks: Track,
    tags: Mapping[str, str] | None = None,
    chapters: Sequence[Chapter] = (),
    attachments: Sequence[Attachment] = (),
    container: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write a recording.

    Args:
        path: Its suffix chooses the container unless *container* does.
        tracks: Its streams in order.
        tags: Of the whole file.
        chapters: In order of time.
        attachments: Matroska only.
        container: FFmpeg's name of the muxer.
        options: Of the muxer.
    """
    with av.open(str(path), "w", format=container, container_options=dict(options or {})) as output:
        output.metadata.update(tags or {})
        packets = [track.add(output) for track in tracks]
        for attachment in attachments:
            output.add_attachment(attachment.name, attachment.kind, attachment.data)
        output.set_chapters(
            [
                {
                    "id": number,
                    "start": chapter.start,
                    "end": chapter.end,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": chapter.title},
                }
                for number, chapter in enumerate(chapters, 1)
            ]
        )
        output.start_encoding()
        for packet in heapq.merge(*packets, key=_decoded_at):
            output.mux(packet)
    return path


def _decoded_at(packet: av.Packet) -> Fraction:
    return (packet.dts or 0) * packet.time_base
