"""Which container a codec goes into, and how a muxer is set up without a demuxer at hand."""

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
"""Ticks a second in every file: what cameras count in, so their times come out exact."""


@dataclass(frozen=True, slots=True)
class Container:
    """A way to store video that plays up to the place where its writer was killed."""

    suffix: str
    muxer: str
    """FFmpeg's name."""

    options: dict[str, str]


# While it is written the file is a row of fragments of a second at most, each written in one
# piece. When it is whole, an index at its end makes it an ordinary MP4 that says how long it is
# and seeks, in browsers and in every other player: `hybrid_fragmented`. The header comes with
# the first fragment (`delay_moov`), when it is known how far decoding runs ahead of showing, so
# that the first picture stands at time 0.
_MP4: Final = Container(
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
"""What MP4 has a standard form for. Anything else, such as the MJPEG of old cameras, fits
Matroska; no browser shows it, whatever the container."""

_TAGS: Final = {"hevc": "hvc1"}
"""FFmpeg's own choice is `hev1`, which Apple's players refuse."""

_NEEDS_SETS: Final = frozenset({"h264", "hevc"})
"""Codecs whose key frames say nothing without their parameter sets."""

_LENGTH_PREFIXED: Final = b"\x01"
"""First byte of what MP4 and Matroska keep apart: then nothing stands in front of key frames."""

_IN_BAND: Final = _NEEDS_SETS | {"mpeg4"}
"""Codecs whose parameter sets cameras repeat in front of key frames."""


def container_for(stream: EncodedStream) -> Container:
    """The container that fits the stream's codec."""
    return _MP4 if stream.codec in _IN_MP4 else _MATROSKA


def can_begin(packet: EncodedPacket) -> bool:
    """Whether a file may begin here: with a key frame that can be decoded by itself."""
    wants_sets = packet.stream.codec in _NEEDS_SETS
    return packet.keyframe and (not wants_sets or bool(_parameter_sets(packet)))


def open_muxer(file: AtomicFile, key: EncodedPacket) -> tuple[OutputContainer, VideoStream]:
    """A muxer into *file* for the stream that begins with *key*.

    Raises:
        FFmpegError, ValueError: The stream cannot be stored.
    """
    if not can_begin(key):
        raise ValueError("the camera sent no parameter sets: nothing could decode the file")
    coded = key.stream
    container = container_for(coded)
    # PyAV sets up a stream for packets that are coded already only from another stream. This
    # one belongs to a container that is never written; its encoder is never opened.
    with av.open(io.BytesIO(), "w", format=container.muxer) as scratch:
        template = scratch.add_stream(coded.codec, width=coded.width, height=coded.height)
        if not isinstance(template, VideoStream):
            raise ValueError(f"{coded.codec} is no video codec")  # noqa: TRY004  a value, not a type
        output = av.open(file, "w", format=container.muxer, options=container.options)
        stream = output.add_stream_from_template(template)
    stream.time_base = TIME_BASE
    stream.codec_context.extradata = _parameter_sets(key) or None
    if coded.codec in _TAGS:
        stream.codec_context.codec_tag = _TAGS[coded.codec]
    return output, stream


def _parameter_sets(key: EncodedPacket) -> bytes:
    """Those in front of the key frame, else those of the session.

    A camera may change its settings without a new session: then the session's are stale.
    """
    given = key.stream.extradata
    if key.stream.codec not in _IN_BAND or given[:1] == _LENGTH_PREFIXED:
        return given
    filtering = BitStreamFilterContext("extract_extradata", key.stream.codec)
    try:
        packets = filtering.filter(av.Packet(key.payload))
    except av.FFmpegError:  # A damaged key frame: what follows may still be worth a file.
        return given
    for packet in packets:
        if packet.has_sidedata("new_extradata"):
            return bytes(packet.get_sidedata("new_extradata"))
    return given
