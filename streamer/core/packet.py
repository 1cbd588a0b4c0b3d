"""Encoded packets on their way from a camera to a recording, detached from the demuxer.

A packet owns its bytes and times, so it may outlive the connection that it came from.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EncodedStream:
    """What a muxer needs to know about a video stream. Equal values can share one file."""

    codec: str
    """FFmpeg's name: `h264`, `hevc`, `mjpeg`, ..."""

    width: int
    height: int

    extradata: bytes
    """Parameter sets from the container or the session description; may be empty."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPacket:
    """One access unit. Its times are on the same media timeline as `Frame.pts_ns`."""

    stream: EncodedStream
    payload: bytes
    pts_ns: int
    dts_ns: int
    duration_ns: int
    """0 if unknown."""

    keyframe: bool
    arrived_ns: int
    """When the demuxer delivered it, by `Clock.arrival_of`."""


PacketTap = Callable[[EncodedPacket], None]
"""Receives every packet on the source's thread before it is decoded. Must not block."""
