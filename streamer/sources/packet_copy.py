"""Demuxed packets as values that outlive the demuxer, and what a muxer must know to store them."""

from dataclasses import replace
from typing import Final

import av
import av.error
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from streamer.core.packet import EncodedPacket, EncodedStream

from .timestamps import NormalizedTimestamps

_START: Final = b"\x00\x00\x01"

_PARAMETER_SETS: Final = {"h264": (7, 8), "hevc": (32, 33, 34)}
"""NAL unit types that say how the pictures after them are coded."""


class PacketCopier:
    """Copies the packets of one connection. Belongs to one thread.

    A camera may change its picture's size without a word outside of the stream. So the
    parameter sets in front of the key frames are watched, and other ones make another
    `EncodedStream`.
    """

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        self.stream: EncodedStream = EncodedStream(
            codec=context.codec.canonical_name,
            width=context.width,
            height=context.height,
            extradata=bytes(context.extradata or b""),
        )
        """As the last copied packet is coded."""

        in_stream = self.stream.extradata[:1] != b"\x01"  # 1: the sets are kept out of packets.
        self._types = _PARAMETER_SETS.get(self.stream.codec, ()) if in_stream else ()
        self._sets = b""

    def copy(
        self, packet: "Packet[VideoStream]", placed: NormalizedTimestamps, *, arrived_ns: int
    ) -> EncodedPacket:
        """The packet with its bytes copied.

        Args:
            packet: As demuxed.
            placed: Where it lies on the continuous media time.
            arrived_ns: When it was read.
        """
        payload = bytes(packet)
        if packet.has_sidedata("new_extradata"):
            self._change(bytes(packet.get_sidedata("new_extradata")), payload)
        elif packet.is_keyframe and self._types:
            sets = parameter_sets(payload, codec=self.stream.codec)
            known = self._sets or self.stream.extradata
            # The first sets in the stream may repeat those from outside in another order.
            if sets and (not known or (self._sets and sets != self._sets)):
                self._change(sets, payload)
            self._sets = sets or self._sets
        return EncodedPacket(
            stream=self.stream,
            payload=payload,
            pts_ns=placed.pts_ns,
            dts_ns=placed.dts_ns,
            duration_ns=placed.duration_ns,
            keyframe=packet.is_keyframe,
            arrived_ns=arrived_ns,
        )

    def _change(self, extradata: bytes, payload: bytes) -> None:
        if extradata == self.stream.extradata:
            return
        self.stream = replace(self.stream, extradata=extradata)
        size = _size(self.stream, payload)
        if size is not None:
            self.stream = replace(self.stream, width=size[0], height=size[1])


def parameter_sets(payload: bytes, *, codec: str) -> bytes:
    """The parameter sets before the first picture of an Annex B packet; empty if there are none.

    Args:
        payload: NAL units, each behind a start code.
        codec: `h264` or `hevc`.
    """
    wanted = _PARAMETER_SETS[codec]
    found = []
    start = payload.find(_START)
    while 0 <= start < len(payload) - 3:
        header = payload[start + 3]
        kind = header & 0x1F if codec == "h264" else header >> 1 & 0x3F
        if (1 <= kind <= 5) if codec == "h264" else kind < 32:  # noqa: PLR2004  types of slices
            break
        following = payload.find(_START, start + 3)
        end = following if following >= 0 else len(payload)
        if kind in wanted:
            found.append(b"\x00" + payload[start:end].rstrip(b"\x00"))
        start = following
    return b"".join(found)


def _size(stream: EncodedStream, payload: bytes) -> tuple[int, int] | None:
    """(width, height) of a key frame, by decoding it apart: changes are rare."""
    context = CodecContext.create(stream.codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    if stream.extradata:
        context.extradata = stream.extradata
    try:
        pictures = [*context.decode(Packet(payload)), *context.decode(None)]
    except av.error.FFmpegError:
        return None
    return (pictures[0].width, pictures[0].height) if pictures else None
