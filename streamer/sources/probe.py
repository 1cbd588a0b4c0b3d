"""`probe`: measures what an address delivers and what must be decoded at some inference rates."""

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Final, NamedTuple, Self

from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import SourceError, SourceFault
from streamer.core.packet import EncodedPacket
from streamer.core.redact import redact_url

from .address import SourceKind, kind_of, says_kind
from .frame_sampler import FrameSampler, SamplingPlan
from .options import VideoOptions
from .snapshot import SnapshotSource
from .video import VideoSource

_LIMIT_S: Final = 6.0
"""Enough for two key frames of most cameras. A person waits for the answer."""

_MIN_GOPS: Final = 2
_FILE_S: Final = 60.0
"""Media time that is read from a file."""

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SamplingCost:
    """What is decoded at one inference rate."""

    fps: float
    """Inferences per second."""

    plan: SamplingPlan


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Measured properties of the stream behind an address."""

    address: str
    """Without secrets."""

    kind: SourceKind
    codec: str
    """FFmpeg's name."""

    width: int
    height: int
    pixel_format: str
    """As decoded, FFmpeg's name."""

    first_frame_ms: float
    """Time from the attempt to the first decoded frame."""

    rate: float | None = None
    """Frames per second by their timestamps; `None` if there was only one."""

    bit_rate: float | None = None
    """Bits per second of media time; `None` for snapshots."""

    gop_s: float | None = None
    """Longest distance of two key frames; `None` if there were fewer than two."""

    reordered: bool = False
    """Whether there are B-frames, which delay frames in the camera."""

    seconds: float = 0.0
    """Media time that was measured."""

    damaged: int = 0
    """Packets and frames that could not be decoded."""

    timestamp_repairs: int = 0
    plans: tuple[SamplingCost, ...] = ()
    """What is decoded at each requested inference rate."""


def probe(
    address: str,
    *,
    options: VideoOptions,
    cancel: CancelToken,
    fps: tuple[float, ...] = (0.2, 0.5, 1, 2, 5),
    kind: SourceKind | None = None,
) -> ProbeReport:
    """Open *address*, read it for a few seconds and measure.

    Args:
        address: A video or a snapshot address.
        options: Transport, credentials, timeout, frame rate and TLS; other options are ignored.
        cancel: Ends the measurement early; the report then covers what was read.
        fps: Inference rates to plan for.
        kind: What *address* leads to; `None`: what its name or the server says.

    Raises:
        SourceError: The address delivers no frames; with the fault and what to do about it.
        ValueError: The address is a folder or the test pattern.
    """
    kind = kind or _kind(address, options, cancel)
    if kind in (SourceKind.FOLDER, SourceKind.PATTERN):
        raise ValueError(f"only videos and snapshots can be probed, got a {kind.value}")
    if kind is SourceKind.SNAPSHOT:
        return _probe_snapshot(address, options, cancel)
    packets: list[_PacketInfo] = []
    video_options = replace(
        options, inference_interval_ns=None, realtime=False, loop=False, hwaccel=None
    )
    source = VideoSource(
        address,
        clock=SystemClock(),
        live=kind.live,
        options=video_options,
        tap=lambda packet: packets.append(_PacketInfo.of(packet)),
    )
    began = time.monotonic()
    first_frame_ms: float | None = None
    pixel_format = ""
    size = (0, 0)
    try:
        for frame in source(cancel):
            if first_frame_ms is None:
                first_frame_ms = (time.monotonic() - began) * 1000
                pixel_format = frame.image.video_frame().format.name
                size = frame.image.size
            elapsed_s = time.monotonic() - began - first_frame_ms / 1000
            if elapsed_s > _LIMIT_S or _is_enough(packets, live=kind.live):
                break
    except SourceError:
        if first_frame_ms is None:  # A later failure has delivered enough.
            raise
    if first_frame_ms is None:
        raise SourceError(f"{redact_url(address)}: cancelled", fault=SourceFault.NO_VIDEO)
    counts = source.statistics()
    return ProbeReport(
        address=redact_url(address),
        kind=kind,
        codec=packets[-1].codec,
        width=size[1],
        height=size[0],
        pixel_format=pixel_format,
        rate=_rate(packets),
        bit_rate=_bit_rate(packets),
        gop_s=_gop_s(packets),
        reordered=any(a.pts_ns > b.pts_ns for a, b in pairwise(packets)),
        first_frame_ms=first_frame_ms,
        seconds=_span_s(packets),
        damaged=counts.damaged,
        timestamp_repairs=counts.repairs.total,
        plans=tuple(SamplingCost(rate, _plan(packets, rate)) for rate in fps),
    )


def _kind(address: str, options: VideoOptions, cancel: CancelToken) -> SourceKind:
    kind = kind_of(address)
    if kind is not SourceKind.HTTP or says_kind(address):
        return kind
    return SnapshotSource(address, clock=SystemClock(), options=options).served(cancel)


class _PacketInfo(NamedTuple):
    codec: str
    pts_ns: int
    dts_ns: int
    size: int
    keyframe: bool

    @classmethod
    def of(cls, packet: EncodedPacket) -> Self:
        size = len(packet.payload)
        return cls(packet.stream.codec, packet.pts_ns, packet.dts_ns, size, packet.keyframe)


def _probe_snapshot(address: str, options: VideoOptions, cancel: CancelToken) -> ProbeReport:
    source = SnapshotSource(address, clock=SystemClock(), options=options)
    began = time.monotonic()
    frame = next(source(cancel))
    first_frame_ms = (time.monotonic() - began) * 1000
    return ProbeReport(
        address=redact_url(address),
        kind=SourceKind.SNAPSHOT,
        codec="mjpeg",
        width=frame.image.width,
        height=frame.image.height,
        pixel_format=frame.image.video_frame().format.name,
        first_frame_ms=first_frame_ms,
    )


def _is_enough(packets: list[_PacketInfo], *, live: bool) -> bool:
    if live:
        return sum(packet.keyframe for packet in packets) > _MIN_GOPS and _span_s(packets) > 1
    return _span_s(packets) > _FILE_S


def _span_s(packets: list[_PacketInfo]) -> float:
    return (packets[-1].dts_ns - packets[0].dts_ns) / _NS


def _rate(packets: list[_PacketInfo]) -> float | None:
    span_ns = packets[-1].dts_ns - packets[0].dts_ns
    return float(Fraction((len(packets) - 1) * _NS, span_ns)) if span_ns > 0 else None


def _bit_rate(packets: list[_PacketInfo]) -> float | None:
    span_s = _span_s(packets)
    # The bytes of the last packet belong to the time after it.
    return sum(packet.size for packet in packets[:-1]) * 8 / span_s if span_s > 0 else None


def _gop_s(packets: list[_PacketInfo]) -> float | None:
    keys = [packet.dts_ns for packet in packets if packet.keyframe]
    gops = [later - earlier for earlier, later in pairwise(keys)]
    return max(gops) / _NS if gops else None


def _plan(packets: list[_PacketInfo], rate: float) -> SamplingPlan:
    sampler = FrameSampler(round(_NS / rate))
    for packet in packets:
        sampler.observe_packet(packet.dts_ns, keyframe=packet.keyframe)
    if sampler.plan.gop_ns is None:
        reason = f"fewer than two key frames in {_span_s(packets):.1f} s"
        return replace(sampler.plan, reason=reason)
    return sampler.plan
