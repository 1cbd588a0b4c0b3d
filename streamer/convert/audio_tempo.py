"""Sound at another speed, with the pitch that it had: decoded, stretched, encoded again."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
from av.audio.frame import AudioFrame
from av.container import OutputContainer

from .media_info import StreamInfo, open_recording

_LOSSLESS: Final = ("flac", "alac", "pcm_", "truehd", "wavpack")
"""Beginnings of the names of formats that lose nothing."""

_SLOWEST: Final = Fraction(1, 2)
"""Of one `atempo` filter; slower sound takes several in a row."""

_FASTEST: Final = Fraction(2)
"""Above it, `atempo` leaves samples out instead of blending them."""


def add_stream(output: OutputContainer, source: Any, facts: StreamInfo, muxer: str) -> Any:
    """A stream of *output* for stretched sound, in a format that suits the container."""
    context = source.codec_context
    lossless = facts.codec.startswith(_LOSSLESS)
    if muxer == "webm":
        codec, rate = "libopus", 48_000
    else:
        fitting = {"matroska": "flac", "mov": "alac", "mp4": "alac"}
        codec = fitting[muxer] if lossless else "aac"
        rate = context.sample_rate
    stream: Any = output.add_stream(codec, rate=rate)
    stream.layout = context.layout
    if codec in ("aac", "libopus"):
        stream.bit_rate = 96_000 * max(1, context.layout.nb_channels)
    return stream


def packets(path: Path, facts: StreamInfo, stream: Any, *, speed: Fraction) -> Iterator[Any]:
    """The packets of stretched sound.

    Args:
        path: The recording.
        facts: Of its stream.
        stream: Of the output, its container started.
        speed: How fast it is to be.
    """
    rate = stream.codec_context.sample_rate
    at = round((facts.begin or Fraction(0)) / speed * rate)
    with open_recording(path) as recording:
        for frame in _stretched(recording, recording.streams[facts.index], speed, rate):
            frame.pts, frame.time_base = at, Fraction(1, rate)
            at += frame.samples
            yield from stream.encode(frame)
    yield from stream.encode(None)


def _stretched(recording: Any, source: Any, speed: Fraction, rate: int) -> Iterator[AudioFrame]:
    graph = av.filter.Graph()
    nodes = [graph.add_abuffer(template=source)]
    # Gaps are filled first: what comes after them must not move.
    nodes.append(graph.add("aresample", f"{rate}:async=1000:min_hard_comp=0.05"))
    nodes.extend(graph.add("atempo", f"{float(tempo):.9f}") for tempo in tempos(speed))
    nodes.append(graph.add("abuffersink"))
    graph.link_nodes(*nodes).configure()
    for packet in recording.demux(source):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:  # Damaged: silence takes its place.
            continue
        for frame in frames:
            graph.push(frame)
            yield from _ready(graph)
    graph.push(None)
    yield from _ready(graph)


def _ready(graph: av.filter.Graph) -> Iterator[AudioFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, AudioFrame)
        yield frame


def tempos(speed: Fraction) -> list[Fraction]:
    """Factors that `atempo` takes, whose product is *speed*."""
    found = []
    while speed < _SLOWEST:
        found.append(_SLOWEST)
        speed /= _SLOWEST
    while speed > _FASTEST:
        found.append(_FASTEST)
        speed /= _FASTEST
    return [*found, speed]
