"""Checks of all streams except the main video: present, same packets, in sync."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.convert.media_info import StreamInfo
from streamer.convert.packet_table import UNKNOWN, PacketTable

from . import allowed_differences
from .comparison import Comparison, StreamPair, can_store
from .report import Check, check, in_seconds

_REENCODED_TOLERANCE: Final = Fraction(1, 10)
"""Seconds by which the start and end of re-encoded audio may move: encoder frames and priming."""

_TRUNCATED_PACKETS: Final = 2
"""Packets that may be missing at the end of each stream of a truncated source."""

_EMPTY_TEXT: Final = 2
"""Bytes of an MP4 subtitle packet without text: its length field."""


def check_streams(comparison: Comparison) -> list[Check]:
    """Return all checks of streams other than the main video."""
    return [
        _streams(comparison),
        _packets(comparison),
        _av_sync(comparison),
    ]


def _streams(comparison: Comparison) -> Check:
    faults: list[str] = []
    notes: list[str] = []
    for stream in comparison.missing:
        if can_store(comparison.output.family, stream.kind, stream.codec):
            faults.append(f"{stream} is missing")
        else:
            notes.append(
                f"{comparison.output.container} cannot store {stream.codec}: {stream} is left out"
            )
    faults += [f"{stream} is not in the source" for stream in comparison.extra]
    for kind in ("audio", "subtitle", "data", "video"):
        indexes = [pair.output.index for pair in comparison.pairs if pair.source.kind == kind]
        if indexes != sorted(indexes):
            faults.append(f"{kind} streams are in a different order")
    for pair in comparison.pairs:
        if pair.source.index in comparison.expected.stretched_streams:
            continue
        if not pair.is_copied and can_store(
            comparison.output.family, pair.source.kind, pair.source.codec
        ):
            faults.append(
                f"{pair.source} was re-encoded to {pair.output.codec}, though it could be copied"
            )
    dropped = [str(index) for index in comparison.expected.dropped_streams]
    if dropped:
        notes.append(f"left out as requested: {', '.join(dropped)}")
    return check(
        "streams", faults, "; ".join([f"{len(comparison.pairs)} streams besides the video", *notes])
    )


def _packets(comparison: Comparison) -> Check:
    faults: list[str] = []
    copied = 0
    for pair in comparison.pairs:
        if pair.source.index in comparison.expected.stretched_streams:
            continue
        if not pair.is_copied:
            faults += _converted_faults(comparison, pair)
            continue
        copied += 1
        faults += _copied_faults(comparison, pair)
    return check("packets", faults, f"all packets of {copied} copied streams are equal")


def _copied_faults(comparison: Comparison, pair: StreamPair) -> Iterator[str]:
    before, after = _packet_tables(pair)
    if pair.source.codec.startswith("pcm_"):
        # Muxers choose the packet size of PCM; the samples must be the same.
        if pair.source.digest != pair.output.digest:
            yield f"{pair.source}: samples differ"
        return
    if _bitstream_converted(comparison, pair):
        if len(before) != len(after):
            yield f"{pair.source}: {len(after)} packets, expected {len(before)}"
        return
    if not np.array_equal(before.digests, after.digests):
        fault = _first_difference(comparison, pair, before, after)
        if fault is not None:
            yield fault
        return
    scale = _time_scale(comparison, pair)
    expected = _relative_times(before, pair.source.time_base, scale)
    error = _relative_times(after, pair.output.time_base, Fraction(1)) - expected
    allowed = float(pair.tick * max(scale, Fraction(1))) * 1.001
    if len(error) and np.abs(error).max() > allowed:
        number = int(np.abs(error).argmax())
        yield f"{pair.source}: packet {number} is off by {error[number] * 1000:+.3f} ms"


def _packet_tables(pair: StreamPair) -> tuple[PacketTable, PacketTable]:
    """Return the packets of both streams; of MP4's subtitles only those with text."""
    before, after = pair.source.packets, pair.output.packets
    if pair.source.codec == "mov_text":  # Each muxer inserts its own empty packets.
        return before.select(before.sizes > _EMPTY_TEXT), after.select(after.sizes > _EMPTY_TEXT)
    return before, after


def _bitstream_converted(comparison: Comparison, pair: StreamPair) -> bool:
    """Whether the same NAL units may be delimited differently: by start codes or by lengths."""
    return pair.source.codec in ("h264", "hevc") and "other" in (
        comparison.source.family,
        comparison.output.family,
    )


def _first_difference(
    comparison: Comparison, pair: StreamPair, before: PacketTable, after: PacketTable
) -> str | None:
    """Describe the first difference in payloads; `None` if the source is truncated there."""
    common = min(len(before), len(after))
    same = before.digests[:common] == after.digests[:common]
    first = int(np.argmin(same)) if not same.all() else common
    missing = len(before) - len(after)
    if comparison.source.media.truncation and first == len(after) and missing <= _TRUNCATED_PACKETS:
        return None
    count = f"{len(after)} packets, expected {len(before)}"
    where = first if first < len(before) else len(before) - 1
    at = in_seconds(int(before.pts[where]) * pair.source.time_base)
    return f"{pair.source}: {count}, the first difference is packet {first} at {at}"


def _relative_times(packets: PacketTable, base: Fraction, scale: Fraction) -> NDArray[np.float64]:
    times = np.where(packets.pts == UNKNOWN, packets.dts, packets.pts)
    if not len(times):
        return np.zeros(0)
    return np.asarray((times - times[0]) * float(base * scale), np.float64)


def _time_scale(comparison: Comparison, pair: StreamPair) -> Fraction:
    """Return the factor for the timestamps of a stream: copied audio keeps its speed."""
    return Fraction(1) if pair.source.kind == "audio" else 1 / comparison.expected.options.speed


def _converted_faults(comparison: Comparison, pair: StreamPair) -> Iterator[str]:
    """Check converted subtitles by their texts; re-encoded audio is checked by its times only."""
    if pair.source.kind != "subtitle":
        return
    before, after = pair.source.cues, pair.output.cues
    if [one.text for one in before] != [one.text for one in after]:
        yield f"{pair.source}: its text differs from the {pair.output.codec} that it became"
        return
    scale = _time_scale(comparison, pair)
    for one, other in zip(before, after, strict=True):
        difference = other.start - (one.start * scale + comparison.shift)
        if abs(difference) > pair.tick:
            yield f"{pair.source}: '{one.text}' is off by {float(difference) * 1000:+.3f} ms"
            return


def _av_sync(comparison: Comparison) -> Check:
    faults, details = [], []
    for pair in comparison.pairs:
        if not len(pair.source.times) or not len(pair.output.times):
            continue
        start, end, allowed = _offsets(comparison, pair)
        found = f"{pair.source} {_micro(start)} at its start, {_micro(end)} at its end"
        if max(abs(start), abs(end)) > allowed:
            faults.append(f"{found}, more than {_micro(allowed)}")
        elif pair.source.kind == "audio":
            details.append(found)
    return check("A/V sync", faults, "; ".join(details) or "no other streams")


def _offsets(comparison: Comparison, pair: StreamPair) -> tuple[Fraction, Fraction, Fraction]:
    """Return how much later a stream is relative to the video, at both ends, and the tolerance."""
    stretched = pair.source.index in comparison.expected.stretched_streams
    if stretched or not pair.is_copied:
        scale = (
            1 / comparison.expected.options.speed if stretched else _time_scale(comparison, pair)
        )
        one, other = pair.source, pair.output
        assert one.begin is not None
        assert one.end is not None
        assert other.begin is not None
        assert other.end is not None
        if pair.source.kind == "subtitle":  # `_converted_faults` compares the times of its texts.
            return Fraction(0), Fraction(0), pair.tick
        start = other.begin - comparison.shift - one.begin * scale
        return start, other.end - comparison.shift - one.end * scale, _REENCODED_TOLERANCE
    before, after = _packet_tables(pair)
    scale = _time_scale(comparison, pair)
    ends = [
        _packet_time(after, number_after, pair.output, comparison.output.media.origin)
        - comparison.shift
        - _packet_time(before, number, pair.source, comparison.source.media.origin) * scale
        for number, number_after in _common_ends(before, after)
    ]
    video = comparison.output.media.video
    tick = max(
        pair.tick * max(scale, Fraction(1)),
        video.time_base if video else Fraction(0),
        allowed_differences.OFFSET_RESOLUTION.get(comparison.output.family, Fraction(0)),
    )
    return ends[0], ends[-1], tick


def _micro(time: Fraction) -> str:
    return f"{round(time * 1_000_000):+d} microseconds"


def _packet_time(
    packets: PacketTable, number: int, stream: StreamInfo, origin: Fraction
) -> Fraction:
    ticks = packets.pts[number] if packets.pts[number] != UNKNOWN else packets.dts[number]
    return int(ticks) * stream.time_base - origin


def _common_ends(before: PacketTable, after: PacketTable) -> list[tuple[int, int]]:
    """Return the numbers of the first and last packet in both; the ends if none is in both."""
    if len(before) and np.array_equal(before.digests, after.digests):
        return [(0, 0), (len(before) - 1, len(after) - 1)]
    shared, one, other = np.intersect1d(before.digests, after.digests, return_indices=True)
    if not len(shared):
        return [(0, 0), (-1, -1)]
    order = np.argsort(one)
    first, last = order[0], order[-1]
    return [(int(one[first]), int(other[first])), (int(one[last]), int(other[last]))]
