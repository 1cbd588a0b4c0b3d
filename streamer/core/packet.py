"""Coded packets on their way from a camera to a recording, detached from the demuxer.

A packet carries its own bytes and times, so it may outlive the connection it came by.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class CodedStream:
    """What a muxer must know of a video stream. Equal values can share one file."""

    codec: str
    """FFmpeg's name: `h264`, `hevc`, `mjpeg`, ..."""

    width: int
    height: int

    extradata: bytes
    """Parameter sets as the container or the session description gave them; may be empty."""


@dataclass(frozen=True, slots=True, eq=False)
class CodedPacket:
    """One access unit. Times are on the same media timeline as `Frame.pts_ns`."""

    stream: CodedStream
    payload: bytes
    pts_ns: int
    dts_ns: int
    duration_ns: int
    """0 when unknown."""

    keyframe: bool
    arrived_ns: int
    """When it was read here, by `Clock.monotonic_ns`."""


class PacketTap(Protocol):
    """Takes every packet on the source's thread, before decoding. Must not block on a disk."""

    def __call__(self, packet: CodedPacket, /) -> None: ...  # noqa: D102  described by the class
