"""Checks of time: each frame at its time, none missing, none too many, for as long as before."""

from fractions import Fraction
from typing import Final

import numpy as np

from streamer.convert.media_info import StreamInfo, VideoInfo

from . import allowed_differences
from .comparison import NAMES, Comparison
from .frame_matching import Timeline, tolerance_between
from .packets import UNKNOWN
from .report import Check, check, in_seconds

_BROKEN: Final = 2
"""Frames that may be missing at the end of an input that is cut short: the last whole packet need
not hold a whole picture."""


_ROUNDED: Final = 2
"""Ticks by which intervals of a constant rate may differ on a coarse clock."""


def check_times(sides: Comparison, matched: Timeline) -> list[Check]:
    """All checks of the main video's times."""
    return [
        _frames(sides, matched),
        _new_frames(matched),
        _order(sides),
        _start(sides),
        _duration(sides),
    ]


def _frames(sides: Comparison, matched: Timeline) -> Check:
    count = len(matched.originals)
    lost = [int(place) for place in matched.lost]
    note = ""
    if sides.before.inventory.broken and lost and min(lost) >= count - _BROKEN:
        note = f"; the input is cut short ({sides.before.inventory.broken}), so its last are not"
        lost = []
    faults = [
        f"frame {place} of {in_seconds(matched.seconds(matched.originals[place]))} is missing"
        for place in lost
    ]
    there = int((matched.at >= 0).sum())
    fine = f"{there} of {count} original frames are at their times{note}"
    if sides.expected.rate is not None:
        fine = f"{count} frames became {len(matched.actual)} of a constant rate, {there} in both"
    return check("frames", faults, fine)


def _new_frames(matched: Timeline) -> Check:
    faults = [
        f"no frame at {in_seconds(matched.seconds(time))}" for time in matched.missing.tolist()
    ]
    faults += [
        f"frame {place} at {in_seconds(matched.seconds(matched.actual[place]))} is one too many"
        for place in matched.extra.tolist()
    ]
    new = len(matched.actual) - int((matched.at >= 0).sum())
    return check("new frames", faults, f"{new} frames beside the originals, as many as expected")


def _order(sides: Comparison) -> Check:
    assert sides.after.inventory.video is not None
    packets = sides.after.of(sides.after.inventory.video.stream)
    base = sides.after.inventory.video.time_base
    faults = []
    pts = np.sort(packets.pts[(packets.pts != UNKNOWN) & ~packets.hidden])
    faults += [
        f"two frames at {in_seconds(int(pts[place]) * base)}"
        for place in np.flatnonzero(np.diff(pts) == 0)
    ]
    unknown = int((packets.pts == UNKNOWN).sum())
    if unknown:
        faults.append(f"{unknown} frames have no time")
    dts = packets.dts[packets.dts != UNKNOWN]
    falls = np.flatnonzero(np.diff(dts) <= 0)
    faults += [f"decoding time {dts[place + 1]} comes after {dts[place]}" for place in falls]
    both = (packets.dts != UNKNOWN) & (packets.pts != UNKNOWN)
    late = int((packets.dts[both] > packets.pts[both]).sum())
    if late:
        faults.append(f"{late} frames are decoded after they are to be shown")
    return check("order", faults, "times rise strictly, and decoding comes before showing")


def _start(sides: Comparison) -> Check:
    """That all is later by the same is harmless where a container cannot begin below zero."""
    before, after = sides.before.inventory, sides.after.inventory
    assert before.video is not None
    assert after.video is not None
    begins = f"the first frame is shown at {in_seconds(after.video.begin)}"
    if sides.shift == 0:
        return check("start", [], begins)
    earliest = min(begin for one in before.streams if (begin := _first(sides, one)) is not None)
    needed = -earliest / sides.expected.speed
    tolerance = tolerance_between(before.video, after.video, shift=sides.shift)
    moved = f"all is {in_seconds(abs(sides.shift))} {'later' if sides.shift > 0 else 'earlier'}"
    clock = allowed_differences.DELAY_CLOCK.get(sides.after.family, Fraction(0))
    if abs(sides.shift) <= clock / 2:
        return check("start", [], f"{begins}; {moved}, as {sides.after.name} rounds delays")
    if earliest < 0 and abs(sides.shift - needed) <= tolerance:
        return check("start", [], f"{begins}; {moved}, as {sides.after.name} begins at zero")
    return check("start", [f"{begins} and not at {in_seconds(before.video.begin)}; {moved}"], "")


def _first(sides: Comparison, stream: StreamInfo) -> Fraction | None:
    """When the first packet of a stream of the input is, hidden ones among them."""
    packets = sides.before.of(stream)
    known = packets.pts[packets.pts != UNKNOWN]
    if not len(known):
        return None
    return int(known.min()) * stream.time_base - sides.before.inventory.origin


def _duration(sides: Comparison) -> Check:
    before, after = sides.before.inventory.video, sides.after.inventory.video
    assert before is not None
    assert after is not None
    wanted = (before.end - before.begin) / sides.expected.speed
    actual = after.end - after.begin
    difference = actual - wanted
    allowed = max(before.time_base / sides.expected.speed, after.time_base)
    if sides.expected.rate is not None:
        # The end is on the grid of the new rate.
        allowed += 1 / sides.expected.rate
    untold = [
        one.family
        for one in (sides.before, sides.after)
        if one.family in allowed_differences.NO_LAST
    ]
    note = ""
    if untold and (uneven(before) or uneven(after)):
        longest = max(one.last_duration * one.time_base for one in (before, after))
        allowed += longest
        note = f"; {NAMES[untold[0]]} does not say how long the last frame is shown"
    words = (
        f"{in_seconds(actual)} of pictures for {in_seconds(wanted)}: "
        f"{round(difference * 1_000_000):+d} microseconds{note}"
    )
    if (
        sides.before.inventory.broken
        and -_BROKEN * before.last_duration * before.time_base < difference < 0
    ):
        return check("duration", [], f"{words}; the input is cut short")
    return check("duration", [] if abs(difference) <= allowed else [words], words)


def uneven(video: VideoInfo) -> bool:
    """Whether frames are shown for different times, by more than rounding explains."""
    gaps = np.diff(video.times)
    return len(gaps) > 0 and int(gaps.max() - gaps.min()) > _ROUNDED
