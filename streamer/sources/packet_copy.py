"""Copies demuxed packets to values that outlive the demuxer and hold all that a muxer needs."""

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
"""NAL unit types of parameter sets (SPS and PPS)."""


class PacketCopier:
    """Copies the packets of one connection. Used by one thread.

    A camera may change its frame size inside the stream. So the parameter sets in front of the key
    frames are compared, and different ones make a new `EncodedStream`.
    """

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        self.stream: EncodedStream = EncodedStream(
            codec=context.codec.canonical_name,
            width=context.width,
            height=context.height,
            extradata=bytes(context.extradata or b""),
        )
        """The stream of the last copied packet."""

        in_stream = self.stream.extradata[:1] != b"\x01"  # 1: the packets contain none.
        self._types = _PARAMETER_SETS.get(self.stream.codec, ()) if in_stream else ()
        self._sets = b""

    def copy(
        self, packet: "Packet[VideoStream]", timestamps: NormalizedTimestamps, *, arrived_ns: int
    ) -> EncodedPacket:
        """Return the packet with its bytes copied."""
        payload = bytes(packet)
        if packet.has_sidedata("new_extradata"):
            self._change(bytes(packet.get_sidedata("new_extradata")), payload)
        elif packet.is_keyframe and self._types:
            sets = parameter_sets(payload, codec=self.stream.codec)
            known = self._sets or self.stream.extradata
            # The first sets in the stream may be those of the container in another order.
            if sets and (not known or (self._sets and sets != self._sets)):
                self._change(sets, payload)
            self._sets = sets or self._sets
        return EncodedPacket(
            stream=self.stream,
            payload=payload,
            pts_ns=timestamps.pts_ns,
            dts_ns=timestamps.dts_ns,
            duration_ns=timestamps.duration_ns,
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
    """Return the parameter sets before the first slice of an Annex B packet; empty if it has none.

    Args:
        payload: NAL units, each behind a start code.
        codec: `h264` or `hevc`.
    """
    types = _PARAMETER_SETS[codec]
    found = []
    start = payload.find(_START)
    while 0 <= start < len(payload) - 3:
        header = payload[start + 3]
        kind = header & 0x1F if codec == "h264" else header >> 1 & 0x3F
        if (1 <= kind <= 5) if codec == "h264" else kind < 32:  # noqa: PLR2004  types of slices
            break
        following = payload.find(_START, start + 3)
        end = following if following >= 0 else len(payload)
        if kind in types:
            found.append(b"\x00" + payload[start:end].rstrip(b"\x00"))
        start = following
    return b"".join(found)


def _size(stream: EncodedStream, payload: bytes) -> tuple[int, int] | None:
    """Return (width, height) of a key frame by decoding it alone."""
    context = CodecContext.create(stream.codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    if stream.extradata:
        context.extradata = stream.extradata
    try:
        frames = [*context.decode(Packet(payload)), *context.decode(None)]
    except av.error.FFmpegError:
        return None
    return (frames[0].width, frames[0].height) if frames else None
