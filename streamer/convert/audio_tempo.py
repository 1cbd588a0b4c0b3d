"""Re-encodes audio at another speed with its pitch kept: decode, `atempo`, encode."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
from av.audio.frame import AudioFrame
from av.container import OutputContainer

from .inspection import open_recording
from .media_info import StreamInfo

_LOSSLESS: Final = ("flac", "alac", "pcm_", "truehd", "wavpack")
"""Prefixes of FFmpeg's names of lossless audio formats."""

_MIN_TEMPO: Final = Fraction(1, 2)
"""Minimum of one `atempo` filter; slower audio takes several in a row."""

_MAX_TEMPO: Final = Fraction(2)
"""Above it, one `atempo` filter skips samples instead of blending them."""


def add_stream(output: OutputContainer, source: Any, info: StreamInfo, muxer: str) -> Any:
    """Add a stream to *output* for stretched audio, in a format that suits the container."""
    context = source.codec_context
    lossless = info.codec.startswith(_LOSSLESS)
    if muxer == "webm":
        codec, rate = "libopus", 48_000
    else:
        lossless_codecs = {"matroska": "flac", "mov": "alac", "mp4": "alac"}
        codec = lossless_codecs[muxer] if lossless else "aac"
        rate = context.sample_rate
    stream: Any = output.add_stream(codec, rate=rate)
    stream.layout = context.layout
    if codec in ("aac", "libopus"):
        stream.bit_rate = 96_000 * max(1, context.layout.nb_channels)
    return stream


def packets(path: Path, info: StreamInfo, stream: Any, *, speed: Fraction) -> Iterator[Any]:
    """Yield the packets of the stretched audio; the container of *stream* has been started."""
    rate = stream.codec_context.sample_rate
    pts = round((info.begin or Fraction(0)) / speed * rate)
    with open_recording(path) as recording:
        for frame in _stretched(recording, recording.streams[info.index], speed, rate):
            frame.pts, frame.time_base = pts, Fraction(1, rate)
            pts += frame.samples
            yield from stream.encode(frame)
    yield from stream.encode(None)


def _stretched(recording: Any, source: Any, speed: Fraction, rate: int) -> Iterator[AudioFrame]:
    graph = av.filter.Graph()
    nodes = [graph.add_abuffer(template=source)]
    # Gaps are filled with silence first, so that what follows them does not move.
    nodes.append(graph.add("aresample", f"{rate}:async=1000:min_hard_comp=0.05"))
    nodes.extend(graph.add("atempo", f"{float(tempo):.9f}") for tempo in tempo_chain(speed))
    nodes.append(graph.add("abuffersink"))
    graph.link_nodes(*nodes).configure()
    for packet in recording.demux(source):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:  # A damaged packet becomes silence.
            continue
        for frame in frames:
            graph.push(frame)
            yield from _filtered(graph)
    graph.push(None)
    yield from _filtered(graph)


def _filtered(graph: av.filter.Graph) -> Iterator[AudioFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, AudioFrame)
        yield frame


def tempo_chain(speed: Fraction) -> list[Fraction]:
    """Return factors within the range of `atempo` whose product is *speed*."""
    chain = []
    while speed < _MIN_TEMPO:
        chain.append(_MIN_TEMPO)
        speed /= _MIN_TEMPO
    while speed > _MAX_TEMPO:
        chain.append(_MAX_TEMPO)
        speed /= _MAX_TEMPO
    return [*chain, speed]
