"""Proves that a conversion lost nothing: `verify`."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from streamer.core.errors import SourceFault, SourceRejected

from .comparison import Comparison, Recording, match_streams, side
from .frame_content import check_pictures
from .frame_matching import Timeline, deduced, shift_between, timeline
from .frame_times import check_times
from .metadata import check_said
from .report import NAMES, Check, Expectation, Report, check
from .streams import check_streams
from .video_params import check_facts

__all__ = ["NAMES", "Check", "Expectation", "Report", "verify"]

_SAME_LENGTH: Final = Fraction(1, 20)
"""Share by which sound may be longer or shorter and still be taken for stretched."""

_PLACES: Final = {name: place for place, name in enumerate(NAMES)}


def verify(
    before: Path,
    after: Path,
    *,
    expected: Expectation | None = None,
    thorough: bool = False,
    altered: bool = False,
) -> Report:
    """Compare a recording with what it was converted to.

    Args:
        before: The input.
        after: The output.
        expected: What was asked for; by default what the two themselves suggest: a factor, a
            constant rate, a speed.
        thorough: Decode all frames, however many there are.
        altered: As in `Expectation`, where nobody says more.

    Raises:
        SourceError: One of them is not there, or nothing FFmpeg can read.
    """
    ours, theirs = side(before), side(after)
    if expected is None:
        told = _deduced(ours, theirs, altered=altered)
    elif expected.factor is None and expected.rate is None:
        told = replace(expected, factor=Fraction(1))
    else:
        told = expected
    sides = _sides(ours, theirs, told)
    checks = [_whole(theirs), *check_streams(sides), *check_said(sides)]
    whole = True
    matched = _matched(sides)
    if matched is not None:
        has_fresh_result, whole = check_pictures(sides, matched, thorough=thorough)
        checks += [*check_times(sides, matched), *check_facts(sides), *has_fresh_result]
    return Report(
        before=before,
        after=after,
        expected=told,
        deduced=expected is None,
        frames_before=len(matched.originals) if matched else 0,
        frames_after=len(matched.actual) if matched else 0,
        thorough=whole,
        checks=tuple(sorted(checks, key=lambda one: _PLACES[one.name])),
    )


def _deduced(before: Recording, after: Recording, *, altered: bool) -> Expectation:
    ours, theirs = before.inventory.video, after.inventory.video
    if ours is None or theirs is None:
        return Expectation(factor=Fraction(1))
    found = deduced(ours, theirs, whole=after.inventory.broken is None)
    told = replace(found, altered=altered, deinterlaced=ours.interlaced and not theirs.interlaced)
    return told if told.speed == 1 else _with_sound(told, before, after)


def _with_sound(told: Expectation, before: Recording, after: Recording) -> Expectation:
    """At another speed sound is left out, or stretched; all of it."""
    ours, theirs = (
        [one for one in side.inventory.streams if one.kind == "audio" and one.packets]
        for side in (before, after)
    )
    indexes = tuple(one.index for one in ours)
    if not theirs:
        return replace(told, dropped_streams=indexes)
    if not ours:
        return told
    was, became = ((one[0].end or Fraction(0)) - (one[0].begin or 0) for one in (ours, theirs))
    stretched = abs(became * told.speed - was) < _SAME_LENGTH * was
    return replace(told, stretched=indexes) if stretched else told


def _sides(before: Recording, after: Recording, expected: Expectation) -> Comparison:
    ours, theirs = before.inventory.video, after.inventory.video
    shift = shift_between(ours, theirs, expected) if ours and theirs else Fraction(0)
    pairs, missing, extra = match_streams(before, after, expected)
    return Comparison(before, after, expected, shift, pairs, missing, extra)


def _matched(sides: Comparison) -> Timeline | None:
    """The frames of both; None if neither has any.

    Raises:
        SourceRejected: The output has none.
    """
    ours, theirs = sides.before.inventory.video, sides.after.inventory.video
    if ours is None:
        return None
    if theirs is None:
        where = sides.after.inventory.path
        raise SourceRejected(f"{where}: no frame is in it", fault=SourceFault.NO_VIDEO)
    return timeline(ours, theirs, sides.expected, shift=sides.shift)


def _whole(after: Recording) -> Check:
    broken = after.inventory.broken
    return check("whole", [broken] if broken else [], "nothing seems to be cut off")
