"""The container of each codec, and muxers for packets without a demuxer."""

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.video.stream import VideoStream

from streamer.core.atomic_file import AtomicFile
from streamer.core.packet import EncodedPacket, EncodedStream

TICKS: Final = 90_000
TIME_BASE: Final = Fraction(1, TICKS)
"""Ticks per second in every file: the RTP clock of cameras, so that timestamps stay exact."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container whose files play up to the place where their writer was killed."""

    suffix: str
    muxer: str
    """FFmpeg's name."""

    options: dict[str, str]


# `hybrid_fragmented`: while it is written, the file is a sequence of fragments of at most a second.
# When it is complete, an index at its end makes it an ordinary MP4 with a duration, seekable in
# browsers and all other players. `delay_moov`: the header is written with the first fragment, when
# the delay between decoding and presentation is known, so that the first frame has time 0.
MP4: Final = Container(
    suffix=".mp4",
    muxer="mp4",
    options={
        "movflags": "hybrid_fragmented+frag_keyframe+delay_moov+default_base_moof",
        "frag_duration": "1000000",  # Microseconds.
        "flush_packets": "1",
    },
)

_MATROSKA: Final = Container(
    suffix=".mkv",
    muxer="matroska",
    options={"cluster_time_limit": "1000", "flush_packets": "1"},  # Milliseconds.
)

_IN_MP4: Final = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
"""Codecs with a standard form in MP4. Others, such as the MJPEG of old cameras, go into Matroska;
no browser plays them in any container."""

_TAGS: Final = {"hevc": "hvc1"}
"""FFmpeg's default is `hev1`, which Apple's players refuse."""

_NEEDS_SETS: Final = frozenset({"h264", "hevc"})
"""Codecs whose key frames cannot be decoded without parameter sets."""

_LENGTH_PREFIXED: Final = b"\x01"
"""First byte of parameter sets as MP4 and Matroska store them, apart from the key frames."""

_IN_BAND: Final = _NEEDS_SETS | {"mpeg4"}
"""Codecs whose parameter sets are repeated before key frames."""


def container_for(stream: EncodedStream) -> Container:
    """Return the container for the codec of *stream*."""
    return MP4 if stream.codec in _IN_MP4 else _MATROSKA


def can_begin(packet: EncodedPacket) -> bool:
    """Whether a file may begin with *packet*: a key frame that can be decoded by itself."""
    wants_sets = packet.stream.codec in _NEEDS_SETS
    return packet.keyframe and (not wants_sets or bool(_parameter_sets(packet)))


def open_muxer(file: AtomicFile, key: EncodedPacket) -> tuple[OutputContainer, VideoStream]:
    """Return a muxer into *file* for the stream that begins with *key*.

    Raises:
        FFmpegError, ValueError: The stream cannot be stored.
    """
    if not can_begin(key):
        raise ValueError("the camera sent no parameter sets: nothing could decode the file")
    encoded = key.stream
    container = container_for(encoded)
    # PyAV makes a stream for encoded packets only from another stream. This one belongs to a
    # container that is never written; its encoder is never opened.
    with av.open(io.BytesIO(), "w", format=container.muxer) as scratch:
        template = scratch.add_stream(encoded.codec, width=encoded.width, height=encoded.height)
        if not isinstance(template, VideoStream):
            raise ValueError(f"{encoded.codec} is no video codec")  # noqa: TRY004  a value, not a type
        output = av.open(file, "w", format=container.muxer, options=container.options)
        stream = output.add_stream_from_template(template)
    stream.time_base = TIME_BASE
    stream.codec_context.extradata = _parameter_sets(key) or None
    if encoded.codec in _TAGS:
        stream.codec_context.codec_tag = _TAGS[encoded.codec]
    return output, stream


def _parameter_sets(key: EncodedPacket) -> bytes:
    """Return the parameter sets before the key frame, else those of the session.

    A camera may change its settings without a new session: then those of the session are stale.
    """
    given = key.stream.extradata
    if key.stream.codec not in _IN_BAND or given[:1] == _LENGTH_PREFIXED:
        return given
    filtering = BitStreamFilterContext("extract_extradata", key.stream.codec)
    try:
        packets = filtering.filter(av.Packet(key.payload))
    except av.FFmpegError:  # A damaged key frame: what follows may still be useful.
        return given
    for packet in packets:
        if packet.has_sidedata("new_extradata"):
            return bytes(packet.get_sidedata("new_extradata"))
    return given
