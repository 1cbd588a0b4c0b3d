"""Checks of frame times: every frame at its time, none missing or added, same duration."""

from fractions import Fraction
from typing import Final

import numpy as np

from streamer.convert.media_info import StreamInfo, VideoInfo
from streamer.convert.packet_table import UNKNOWN

from . import allowed_differences
from .comparison import Comparison
from .containers import NAMES
from .frame_matching import MatchedFrames, time_tolerance
from .report import Check, check, in_seconds

_TRUNCATED_FRAMES: Final = 2
"""Frames that may be missing at the end of a truncated source: the last complete packet need not
contain a complete frame."""


_CONSTANT_RATE_JITTER: Final = 2
"""Ticks by which intervals of a constant rate may differ, rounded to a coarse time base."""


def check_frame_times(comparison: Comparison, matched: MatchedFrames) -> list[Check]:
    """Return all checks of the main video's times."""
    return [
        _frames(comparison, matched),
        _added_frames(matched),
        _timestamp_order(comparison),
        _start(comparison),
        _duration(comparison),
    ]


def _frames(comparison: Comparison, matched: MatchedFrames) -> Check:
    count = len(matched.originals)
    lost = [int(place) for place in matched.lost]
    note = ""
    truncation = comparison.source.media.truncation
    if truncation and lost and min(lost) >= count - _TRUNCATED_FRAMES:
        note = f"; the last are missing, as the source is truncated: {truncation}"
        lost = []
    faults = [
        f"frame {place} of {in_seconds(matched.seconds(matched.originals[place]))} is missing"
        for place in lost
    ]
    found = int((matched.at >= 0).sum())
    fine = f"{found} of {count} original frames are at their times{note}"
    if comparison.expected.options.fps is not None:
        fine = f"{count} frames became {len(matched.actual)} at a constant rate, {found} coincide"
    return check("frames", faults, fine)


def _added_frames(matched: MatchedFrames) -> Check:
    faults = [
        f"no frame at {in_seconds(matched.seconds(time))}" for time in matched.missing.tolist()
    ]
    faults += [
        f"frame {place} at {in_seconds(matched.seconds(matched.actual[place]))} is unexpected"
        for place in matched.extra.tolist()
    ]
    added = len(matched.actual) - int((matched.at >= 0).sum())
    return check("added frames", faults, f"{added} frames between the originals, as expected")


def _timestamp_order(comparison: Comparison) -> Check:
    _, video = comparison.videos
    packets, base = video.stream.packets, video.time_base
    faults = []
    pts = np.sort(packets.pts[(packets.pts != UNKNOWN) & ~packets.discard])
    faults += [
        f"two frames at {in_seconds(int(pts[place]) * base)}"
        for place in np.flatnonzero(np.diff(pts) == 0)
    ]
    unknown = int((packets.pts == UNKNOWN).sum())
    if unknown:
        faults.append(f"{unknown} frames have no presentation timestamp")
    dts = packets.dts[packets.dts != UNKNOWN]
    falls = np.flatnonzero(np.diff(dts) <= 0)
    faults += [
        f"decoding timestamp {dts[place]} is followed by {dts[place + 1]}" for place in falls
    ]
    both = (packets.dts != UNKNOWN) & (packets.pts != UNKNOWN)
    late = int((packets.dts[both] > packets.pts[both]).sum())
    if late:
        faults.append(f"{late} frames have a decoding timestamp above the presentation timestamp")
    return check(
        "timestamp order", faults, "timestamps rise strictly, and no frame is decoded too late"
    )


def _start(comparison: Comparison) -> Check:
    """Check the first frame. A common shift passes where a container cannot begin below zero."""
    before, after = comparison.videos
    begins = f"the first frame is shown at {in_seconds(after.begin)}"
    if comparison.shift == 0:
        return check("start", [], begins)
    streams = comparison.source.media.streams
    earliest = min(begin for one in streams if (begin := _first(comparison, one)) is not None)
    required = -earliest / comparison.expected.options.speed
    tolerance = time_tolerance(before, after, shift=comparison.shift)
    direction = "later" if comparison.shift > 0 else "earlier"
    moved = f"everything is {in_seconds(abs(comparison.shift))} {direction}"
    resolution = allowed_differences.OFFSET_RESOLUTION.get(comparison.output.family, Fraction(0))
    if abs(comparison.shift) <= resolution / 2:
        return check(
            "start", [], f"{begins}; {moved}, as {comparison.output.container} rounds offsets"
        )
    if earliest < 0 and abs(comparison.shift - required) <= tolerance:
        return check(
            "start", [], f"{begins}; {moved}, as {comparison.output.container} begins at zero"
        )
    return check("start", [f"{begins} and not at {in_seconds(before.begin)}; {moved}"], "")


def _first(comparison: Comparison, stream: StreamInfo) -> Fraction | None:
    """Return the time of the first packet of a source stream, discarded ones included."""
    packets = stream.packets
    known = packets.pts[packets.pts != UNKNOWN]
    if not len(known):
        return None
    return int(known.min()) * stream.time_base - comparison.source.media.origin


def _duration(comparison: Comparison) -> Check:
    before, after = comparison.videos
    expected = (before.end - before.begin) / comparison.expected.options.speed
    actual = after.end - after.begin
    difference = actual - expected
    allowed = max(before.time_base / comparison.expected.options.speed, after.time_base)
    if comparison.expected.options.fps is not None:
        # The output ends at a multiple of the new frame interval.
        allowed += 1 / comparison.expected.options.fps
    without_duration = [
        one.family
        for one in (comparison.source, comparison.output)
        if one.family in allowed_differences.NO_LAST_DURATION
    ]
    note = ""
    if without_duration and (is_variable_rate(before) or is_variable_rate(after)):
        longest = max(one.last_duration * one.time_base for one in (before, after))
        allowed += longest
        note = f"; {NAMES[without_duration[0]]} stores no duration of the last frame"
    detail = (
        f"{in_seconds(actual)} of video, expected {in_seconds(expected)}: "
        f"{round(difference * 1_000_000):+d} microseconds{note}"
    )
    if (
        comparison.source.media.truncation
        and -_TRUNCATED_FRAMES * before.last_duration * before.time_base < difference < 0
    ):
        return check("duration", [], f"{detail}; the source is truncated")
    return check("duration", [] if abs(difference) <= allowed else [detail], detail)


def is_variable_rate(video: VideoInfo) -> bool:
    """Whether frame durations differ by more than rounding explains."""
    gaps = np.diff(video.times)
    return len(gaps) > 0 and int(gaps.max() - gaps.min()) > _CONSTANT_RATE_JITTER
