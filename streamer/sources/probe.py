"""A short look at an address: what is there, and what watching it will cost."""

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Final

from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import SourceError, SourceFault
from streamer.core.packet import EncodedPacket
from streamer.core.redact import redact

from .address import SourceKind, kind_of
from .frame_sampler import FrameSampler, SamplingPlan
from .options import VideoOptions
from .snapshot import SnapshotSource
from .video import VideoSource

_LIMIT_S: Final = 6.0
"""Long enough to see two key frames of most cameras; people wait for the answer."""

_ENOUGH_GOPS: Final = 2
_FILE_S: Final = 60.0
"""Media time of a file that is looked at."""

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SamplingCost:
    """What is decoded at a wanted rate of looks."""

    looks_per_s: float
    plan: SamplingPlan


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What an address delivers, as measured."""

    address: str
    """Without secrets."""

    kind: SourceKind
    codec: str
    """FFmpeg's name."""

    width: int
    height: int
    pixel_format: str
    """As decoded, FFmpeg's name."""

    rate: float | None
    """Pictures per second by their time stamps; None when only one came."""

    bit_rate: float | None
    """Bits per second of media time; None for snapshots."""

    gop_s: float | None
    """Longest distance of two key frames; None when fewer than two came."""

    reordered: bool
    """Whether there are B frames: pictures are delayed by the camera."""

    first_frame_ms: float
    """From the attempt to the first decoded picture."""

    seconds: float
    """Media time that was looked at."""

    damaged: int
    """Packets and pictures that could not be used."""

    timestamp_repairs: int
    plans: tuple[SamplingCost, ...]
    """For some rates of looks, from rare to often."""


def probe(
    address: str,
    *,
    options: VideoOptions,
    cancel: CancelToken,
    looks_per_s: tuple[float, ...] = (0.2, 0.5, 1, 2, 5),
    limit_s: float = _LIMIT_S,
) -> ProbeReport:
    """Open *address*, watch it for some seconds, and say what is there.

    Args:
        address: A video or a snapshot address.
        options: How to log in and so on; looks, pace and loop in it do not matter.
        cancel: Ends the probe early; then the report says what was seen so far.
        looks_per_s: Rates to plan for.
        limit_s: Longest time after the first picture.

    Raises:
        SourceError: Nothing is there; with the fault and what to do about it.
    """
    kind = kind_of(address)
    if kind in (SourceKind.FOLDER, SourceKind.PATTERN):
        raise ValueError(f"only videos and snapshots can be probed, got a {kind.value}")
    if kind is SourceKind.SNAPSHOT:
        return _probe_snapshot(address, options, cancel)
    packets: list[_Seen] = []
    wanted = VideoOptions(
        transport=options.transport,
        user=options.user,
        password=options.password,
        timeout_s=options.timeout_s,
        frame_rate=options.frame_rate,
        tls_verify=options.tls_verify,
        ca_file=options.ca_file,
    )
    tap = _Tap(packets)
    source = VideoSource(address, clock=SystemClock(), live=kind.live, options=wanted, tap=tap)
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
            waited_s = time.monotonic() - began - first_frame_ms / 1000
            if waited_s > limit_s or _enough(packets, live=kind.live):
                break
    except SourceError:
        if first_frame_ms is None:  # What breaks off later has shown enough.
            raise
    if first_frame_ms is None:
        raise SourceError(f"{redact(address)}: stopped", fault=SourceFault.NO_VIDEO)
    counts = source.statistics()
    return ProbeReport(
        address=redact(address),
        kind=kind,
        codec=tap.codec,
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
        plans=tuple(SamplingCost(rate, _plan(packets, rate)) for rate in looks_per_s),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    pts_ns: int
    dts_ns: int
    size: int
    keyframe: bool


class _Tap:
    """Keeps what a report needs of each packet; not its bytes."""

    def __init__(self, packets: list[_Seen]) -> None:
        self._packets = packets
        self.codec = ""

    def __call__(self, packet: EncodedPacket, /) -> None:
        self.codec = packet.stream.codec
        seen = _Seen(packet.pts_ns, packet.dts_ns, len(packet.payload), packet.keyframe)
        self._packets.append(seen)


def _probe_snapshot(address: str, options: VideoOptions, cancel: CancelToken) -> ProbeReport:
    source = SnapshotSource(
        address,
        clock=SystemClock(),
        user=options.user,
        password=options.password,
        timeout_s=options.timeout_s,
        tls_verify=options.tls_verify,
    )
    began = time.monotonic()
    frame = next(source(cancel))
    first_frame_ms = (time.monotonic() - began) * 1000
    decoded = frame.image.video_frame()
    return ProbeReport(
        address=redact(address),
        kind=SourceKind.SNAPSHOT,
        codec="mjpeg",
        width=frame.image.width,
        height=frame.image.height,
        pixel_format=decoded.format.name,
        rate=None,
        bit_rate=None,
        gop_s=None,
        reordered=False,
        first_frame_ms=first_frame_ms,
        seconds=0.0,
        damaged=0,
        timestamp_repairs=0,
        plans=(),
    )


def _enough(packets: list[_Seen], *, live: bool) -> bool:
    if live:
        return sum(packet.keyframe for packet in packets) > _ENOUGH_GOPS and _span_s(packets) > 1
    return _span_s(packets) > _FILE_S


def _span_s(packets: list[_Seen]) -> float:
    return (packets[-1].dts_ns - packets[0].dts_ns) / _NS


def _rate(packets: list[_Seen]) -> float | None:
    span_ns = packets[-1].dts_ns - packets[0].dts_ns
    return float(Fraction((len(packets) - 1) * _NS, span_ns)) if span_ns > 0 else None


def _bit_rate(packets: list[_Seen]) -> float | None:
    span_s = _span_s(packets)
    # The last one's bytes belong to the time after it.
    return sum(packet.size for packet in packets[:-1]) * 8 / span_s if span_s > 0 else None


def _gop_s(packets: list[_Seen]) -> float | None:
    keys = [packet.dts_ns for packet in packets if packet.keyframe]
    gops = [later - earlier for earlier, later in pairwise(keys)]
    return max(gops) / _NS if gops else None


def _plan(packets: list[_Seen], rate: float) -> SamplingPlan:
    planner = FrameSampler(round(_NS / rate))
    for packet in packets:
        planner.observe_packet(packet.dts_ns, keyframe=packet.keyframe)
    if planner.plan.gop_ns is None:
        reason = f"no two key frames came in {_span_s(packets):.1f} s"
        return replace(planner.plan, reason=reason)
    return planner.plan
