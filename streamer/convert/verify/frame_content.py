"""Checks that decode: originals are those of the input, cuts are not blended, side data is there.

Both recordings are decoded side by side, in stretches. Of a short recording the one stretch is
all of it; of a long one several short stretches are spread over it, each begun at a key frame.
"""

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from . import allowed_differences
from .comparison import Comparison
from .frame_matching import Timeline
from .image_metrics import Thumb, cuts_among, difference, likeness, mixture, psnr, repeats, thumb
from .report import Check, check, in_seconds
from .sample_decode import frames, stretches

_LEAST_DB: Final = 28.0
"""PSNR that an original must have in the output, dB: x264 at crf 23 gives 38 and more, at crf 35
about 30; the next frame of a moving picture is at 20."""

_PURE: Final = 0.12
"""Share of the other side up to which a picture beside a cut is one side: coding adds that much."""

_TOLD_APART: Final = 4.0
"""Mean difference of neighbours from which on a frame can be told from the next."""

_CLOSE: Final = 3.0
"""Mean difference of small pictures beyond which nobody takes one for a repeat of the other."""


_UNFREED: Final = 100_000_000
"""Pixels, of 1.5 bytes and more, that are waited for before Python is made to look."""


@dataclass(slots=True)
class _Findings:
    """What was found so far."""

    compared: int = 0
    missing: int = 0
    """Originals that could not be decoded."""

    repeats: int = 0
    lowest: float = np.inf
    lowest_at: Fraction | None = None
    faults: list[str] = field(default_factory=list)
    cuts: int = 0
    between: int = 0
    """Frames of the output that stand between the two sides of a cut."""

    blended: list[str] = field(default_factory=list)
    beside: dict[SideDataType, list[str]] = field(default_factory=dict)
    seen: set[SideDataType] = field(default_factory=set)


def check_pictures(
    sides: Comparison, matched: Timeline, *, thorough: bool
) -> tuple[list[Check], bool]:
    """The checks, and whether they looked at all frames."""
    before, after = sides.before.inventory, sides.after.inventory
    assert before.video is not None
    assert after.video is not None
    if before.encrypted or not before.video.pixel_format:
        why = "the input's pictures cannot be decoded"
        return [check(name, [], why) for name in ("pictures", "cuts", "side data")], False
    chosen = stretches(before.video, after.video, thorough=thorough)
    findings = _Findings()
    for first, last in chosen.pieces:
        _look(sides, matched, findings, first, last)
    whole = chosen.whole
    where = "all" if whole else f"in {len(chosen.pieces)} places"
    return [_pictures(findings, where), _cuts(findings, where), _side_data(sides, findings)], whole


def _look(sides: Comparison, matched: Timeline, findings: _Findings, first: int, last: int) -> None:
    """Compare the originals from *first* to *last*, and what is between them."""
    begin, end = matched.originals[first], matched.originals[last]
    ours = frames(sides.before, first, last)
    begin_place = int(np.searchsorted(matched.actual, begin - 1))
    end_place = int(np.searchsorted(matched.actual, end, side="right"))
    wanted = matched.at[first : last + 1]
    wanted = wanted[wanted >= 0]
    if len(wanted):
        begin_place, end_place = min(begin_place, wanted[0]), max(end_place - 1, wanted[-1])
    theirs = frames(sides.after, int(begin_place), int(end_place))
    stretch = _Stretch(sides, matched, findings, first)
    original = {int(place): number for number, place in enumerate(matched.at) if place >= 0}
    held: dict[int, av.VideoFrame] = {}
    for place, frame in theirs:
        number = original.get(place)
        if number is None or not first <= number <= last:
            stretch.made(place, frame)
            continue
        while number not in held:
            following = next(ours, None)
            if following is None:
                break
            held[following[0]] = following[1]
            stretch.original(*following)
        if number in held:
            stretch.compare(number, held[number], place, frame)
            for passed in [one for one in held if one <= number]:
                del held[passed]
    for number, frame in ours:
        stretch.original(number, frame)
    stretch.finish(last)


class _Stretch:
    """Frames of both recordings as they come, in their order."""

    def __init__(
        self, sides: Comparison, matched: Timeline, findings: _Findings, first: int
    ) -> None:
        self._sides = sides
        self._matched = matched
        self._findings = findings
        self._unfreed = 0
        """Pixels of frames that may still be held."""

        self._due = first
        """Number of the original that should come next."""

        self._gaps: set[int] = set()
        """Groups of pictures of the input of which one could not be decoded."""

        self._faults: list[tuple[int, str]] = []
        """With the number of the original that each is about."""

        self._originals: dict[int, Thumb] = {}
        """Small pictures of the input."""

        self._outputs: dict[int, Thumb] = {}
        """Small pictures of the output."""

        self._last: av.VideoFrame | None = None
        """The original that came last."""

        self._replaced: set[int] = set()
        """Originals that repeat the one before: motion may go on across them."""

    def original(self, number: int, frame: av.VideoFrame) -> None:
        """A frame of the input."""
        self._missing_until(number)
        self._originals[number] = thumb(frame)
        if self._last is not None and self._sides.expected.interpolates:
            before = self._originals.get(number - 1)  # Not there if it could not be decoded.
            close = before is not None and difference(self._originals[number], before) < _CLOSE
            if close and repeats(self._last, frame):
                self._replaced.add(number)
                self._findings.repeats += 1
        self._last = frame

    def made(self, place: int, frame: av.VideoFrame) -> None:
        """A frame of the output that is no original."""
        self._outputs[place] = thumb(frame)

    def compare(self, number: int, ours: av.VideoFrame, place: int, theirs: av.VideoFrame) -> None:
        """An original and what became of it."""
        findings = self._findings
        self._outputs[place] = thumb(theirs)
        self._beside(number, ours, theirs)
        findings.compared += 1
        told = self._sides.expected
        if told.altered or told.deinterlaced or ours.width != theirs.width:
            return
        if number in self._replaced:
            return
        decibels = psnr(ours, theirs)
        at = self._at(place)
        if decibels < findings.lowest:
            findings.lowest, findings.lowest_at = decibels, at
        if decibels < _LEAST_DB:
            words = f"frame {number} at {in_seconds(at)} is not that of the input"
            self._faults.append((number, f"{words}: {decibels:.1f} dB"))

    def finish(self, last: int) -> None:
        """All frames up to the original *last* have come."""
        self._missing_until(last + 1)
        self._tell_apart()
        self._look_at_cuts()
        self._findings.faults += [words for number, words in self._faults if self._sound(number)]

    def _missing_until(self, number: int) -> None:
        for missing in range(self._due, number):
            self._gaps.add(self._group(missing))
            self._findings.missing += 1
        self._due = max(self._due, number + 1)

    def _group(self, number: int) -> int:
        video = self._sides.before.inventory.video
        assert video is not None
        return int(np.searchsorted(video.key_times, video.times[number], side="right"))

    def _sound(self, number: int) -> bool:
        """Whether two decoders must make the same of an original: it leans on nothing damaged.

        It may lean on its own group, and be stored in the next one.
        """
        group = self._group(number)
        return not self._gaps & {group, group + 1}

    def _at(self, place: int) -> Fraction:
        return self._matched.seconds(self._matched.actual[place])

    def _beside(self, number: int, ours: av.VideoFrame, theirs: av.VideoFrame) -> None:
        there = {
            data.type for data in _side_data_of(ours)
        } & allowed_differences.PICTURE_DATA.keys()
        self._findings.seen |= there
        for kind in there - {data.type for data in _side_data_of(theirs)}:
            self._findings.beside.setdefault(kind, []).append(f"frame {number}")
        # A frame that was asked for its side data and the answer hold each other: at 4K that adds
        # up to gigabytes before Python looks for such pairs by itself.
        self._unfreed += ours.width * ours.height + theirs.width * theirs.height
        if self._unfreed > _UNFREED:
            gc.collect()
            self._unfreed = 0

    def _tell_apart(self) -> None:
        """An original must be more like itself than like its neighbours, where these differ."""
        for number, ours in self._originals.items():
            place = int(self._matched.at[number])
            theirs = self._outputs.get(place) if place >= 0 else None
            if theirs is None or number in self._replaced:
                continue
            own = likeness(ours, theirs)
            for other in (number - 1, number + 1):
                neighbour = self._originals.get(other)
                if neighbour is None or difference(ours, neighbour) < _TOLD_APART:
                    continue
                if likeness(neighbour, theirs) > own:
                    words = f"frame {number} at {in_seconds(self._at(place))} shows frame {other}"
                    self._faults.append((number, words))

    def _look_at_cuts(self) -> None:
        for number in cuts_among(self._originals):
            if not (self._sound(number - 1) and self._sound(number)):
                continue  # Damage looks like a cut.
            self._findings.cuts += 1
            left, right = (int(self._matched.at[one]) for one in (number - 1, number))
            if left >= 0 and right >= 0:
                self._between(left, right)
            else:
                self._around(number)

    def _between(self, left: int, right: int) -> None:
        """Frames made between the two sides of a cut must be one of them."""
        for place in range(left + 1, right):
            if {left, place, right} <= self._outputs.keys():
                self._judge(place, self._outputs[left], self._outputs[right])

    def _around(self, number: int) -> None:
        """As `_between`, where originals were not kept: judged by the input's own pictures."""
        left, right = (self._matched.originals[one] for one in (number - 1, number))
        for place in np.flatnonzero((self._matched.actual > left) & (self._matched.actual < right)):
            if int(place) in self._outputs:
                sides = self._originals[number - 1], self._originals[number]
                self._judge(int(place), *sides)

    def _judge(self, place: int, left: Thumb, right: Thumb) -> None:
        self._findings.between += 1
        share = mixture(self._outputs[place], left, right)
        if _PURE < share < 1 - _PURE:
            self._findings.blended.append(
                f"the frame at {in_seconds(self._at(place))} mixes both sides of a cut: "
                f"{share:.0%} of the later"
            )


def _side_data_of(frame: av.VideoFrame) -> Iterator[Any]:
    side_data: Any = frame.side_data
    for data in side_data:
        try:
            data.type  # noqa: B018  raises for kinds that PyAV has no name for
        except ValueError:
            continue
        yield data


def _pictures(findings: _Findings, where: str) -> Check:
    words = f"{findings.compared} originals compared ({where})"
    if findings.lowest_at is not None:
        words += f", the worst {findings.lowest:.1f} dB at {in_seconds(findings.lowest_at)}"
    if findings.repeats:
        words += f", {findings.repeats} repeats that motion may go on across"
    if findings.missing:
        words += f", {findings.missing} damaged and those that lean on them not"
    return check("pictures", findings.faults, words)


def _cuts(findings: _Findings, where: str) -> Check:
    words = f"{findings.cuts} cuts ({where}), {findings.between} frames between, none mixed"
    return check("cuts", findings.blended, words)


def _side_data(sides: Comparison, findings: _Findings) -> Check:
    faults: list[str] = []
    notes: list[str] = []
    for kind, numbers in findings.beside.items():
        words = f"{kind.name.lower()} is gone from {', '.join(numbers[:3])}"
        (notes if _cannot_be_kept(sides, kind) else faults).append(words)
    kept = sorted(kind.name.lower() for kind in findings.seen - findings.beside.keys())
    notes = [f"{note}, as no encoder here writes it" for note in notes]
    return check("side data", faults, "; ".join([*kept, *notes]) or "none")


def _cannot_be_kept(sides: Comparison, kind: SideDataType) -> bool:
    before, after = sides.before.inventory.video, sides.after.inventory.video
    assert before is not None
    assert after is not None
    if (
        kind == SideDataType.DOVI_METADATA
        and before.color.transfer not in allowed_differences.BASE_TRANSFERS
    ):
        return False  # Without it such pictures have the wrong colours.
    writing = allowed_differences.PICTURE_DATA[kind]
    return writing is not None and after.stream.codec not in writing
