"""Checks that decode frames: originals are preserved, scene changes not blended, side data kept.

Both recordings are decoded in parallel, in the segments that `sample_decode` chooses.
"""

import contextlib
import gc
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from . import allowed_differences
from .comparison import Comparison
from .frame_matching import MatchedFrames
from .image_metrics import (
    Thumbnail,
    blend_ratio,
    correlation,
    is_duplicate,
    mean_difference,
    psnr,
    scene_changes,
    thumbnail,
)
from .report import Check, check, in_seconds
from .sample_decode import choose_segments, decode_range

_MIN_PSNR: Final = 28.0
"""Minimum PSNR of an original in the output, in dB: x264 reaches 38 and more at crf 23 and about 30
at crf 35; with motion, the next frame is at 20."""

_MAX_BLEND: Final = 0.12
"""Weight of the other scene up to which a frame at a scene change counts as unblended: lossy coding
adds that much."""

_DISTINCT: Final = 4.0
"""Mean difference of neighbouring thumbnails from which their frames can be distinguished."""

_DUPLICATE_CANDIDATE: Final = 3.0
"""Mean difference of thumbnails above which frames are no duplicates."""

_COLLECT_PIXELS: Final = 100_000_000
"""Pixels, of 1.5 bytes or more each, of frames in reference cycles after which the garbage
collector runs."""


@dataclass(slots=True)
class _Findings:
    compared: int = 0
    undecodable: int = 0
    """Originals that could not be decoded."""

    duplicates: int = 0
    min_psnr: float = np.inf
    min_psnr_at: Fraction | None = None
    faults: list[str] = field(default_factory=list)
    scene_changes: int = 0
    at_scene_changes: int = 0
    """Output frames between the two originals of a scene change."""

    blended: list[str] = field(default_factory=list)
    lost_side_data: dict[SideDataType, list[str]] = field(default_factory=dict)
    """Frames that lost it, by kind."""

    side_data: set[SideDataType] = field(default_factory=set)
    """All kinds found in the source."""


def check_frame_content(
    comparison: Comparison, matched: MatchedFrames, *, thorough: bool
) -> tuple[list[Check], bool]:
    """Return the checks, and whether all frames were decoded."""
    before, after = comparison.videos
    if comparison.source.media.encrypted or not before.pixel_format:
        reason = "the frames of the source cannot be decoded"
        names = ("frame content", "scene changes", "side data")
        return [check(name, [], reason) for name in names], False
    segments = choose_segments(before, after, thorough=thorough)
    findings = _Findings()
    for first, last in segments.ranges:
        _compare_segment(comparison, matched, findings, first, last)
    where = "all" if segments.cover_all else f"{len(segments.ranges)} samples"
    checks = [
        _frame_content(findings, where),
        _scene_changes(findings, where),
        _side_data(comparison, findings),
    ]
    return checks, segments.cover_all


def _compare_segment(
    comparison: Comparison, matched: MatchedFrames, findings: _Findings, first: int, last: int
) -> None:
    """Compare the originals from *first* to *last*, and the frames between them."""
    begin, end = matched.originals[first], matched.originals[last]
    originals = decode_range(comparison.source.media, first, last)
    begin_index = int(np.searchsorted(matched.actual, begin - 1))
    end_index = int(np.searchsorted(matched.actual, end, side="right"))
    at = matched.at[first : last + 1]
    at = at[at >= 0]
    if len(at):
        begin_index, end_index = min(begin_index, at[0]), max(end_index - 1, at[-1])
    outputs = decode_range(comparison.output.media, int(begin_index), int(end_index))
    segment = _Segment(comparison, matched, findings, first)
    number_at = {int(index): number for number, index in enumerate(matched.at) if index >= 0}
    held: dict[int, av.VideoFrame] = {}
    for index, frame in outputs:
        number = number_at.get(index)
        if number is None or not first <= number <= last:
            segment.add_output(index, frame)
            continue
        while number not in held:
            following = next(originals, None)
            if following is None:
                break
            held[following[0]] = following[1]
            segment.add_original(*following)
        if number in held:
            segment.compare(number, held[number], index, frame)
            for passed in [one for one in held if one <= number]:
                del held[passed]
    for number, frame in originals:
        segment.add_original(number, frame)
    segment.finish(last)


class _Segment:
    """Compares the frames of one segment, which are added in order."""

    def __init__(
        self, comparison: Comparison, matched: MatchedFrames, findings: _Findings, first: int
    ) -> None:
        self._comparison = comparison
        self._matched = matched
        self._findings = findings
        self._uncollected = 0  # Pixels of frames that may be in reference cycles.
        self._due = first  # Number of the next original.
        self._damaged_gops: set[int] = set()  # GOPs of the source with an undecodable frame.
        self._faults: list[tuple[int, str]] = []  # With the number of the original.
        self._originals: dict[int, Thumbnail] = {}  # By number.
        self._outputs: dict[int, Thumbnail] = {}  # By index in the output.
        self._last: av.VideoFrame | None = None  # The original before.
        self._duplicates: set[int] = set()  # Originals that motion may replace.

    def add_original(self, number: int, frame: av.VideoFrame) -> None:
        """Add a frame of the source."""
        self._skip_to(number)
        self._originals[number] = thumbnail(frame)
        if self._last is not None and self._comparison.expected.options.interpolates:
            before = self._originals.get(number - 1)  # `None` if it could not be decoded.
            close = (
                before is not None
                and mean_difference(self._originals[number], before) < _DUPLICATE_CANDIDATE
            )
            if close and is_duplicate(self._last, frame):
                self._duplicates.add(number)
                self._findings.duplicates += 1
        self._last = frame

    def add_output(self, index: int, frame: av.VideoFrame) -> None:
        """Add a frame of the output that is no original."""
        self._outputs[index] = thumbnail(frame)

    def compare(
        self, number: int, original: av.VideoFrame, index: int, output: av.VideoFrame
    ) -> None:
        """Add and compare a frame of the output with the original that it shows."""
        findings = self._findings
        self._outputs[index] = thumbnail(output)
        self._compare_side_data(number, original, output)
        findings.compared += 1
        expected = self._comparison.expected
        if expected.is_altered or expected.deinterlaced or original.width != output.width:
            return
        if number in self._duplicates:
            return
        decibels = psnr(original, output)
        at = self._time(index)
        if decibels < findings.min_psnr:
            findings.min_psnr, findings.min_psnr_at = decibels, at
        if decibels < _MIN_PSNR:
            fault = f"frame {number} at {in_seconds(at)} differs from the source"
            self._faults.append((number, f"{fault}: {decibels:.1f} dB"))

    def finish(self, last: int) -> None:
        """Run the checks that need all frames up to the original *last*."""
        self._skip_to(last + 1)
        self._check_order()
        self._check_scene_changes()
        self._findings.faults += [
            fault for number, fault in self._faults if self._is_reliable(number)
        ]

    def _skip_to(self, number: int) -> None:
        for missing in range(self._due, number):
            self._damaged_gops.add(self._gop(missing))
            self._findings.undecodable += 1
        self._due = max(self._due, number + 1)

    def _gop(self, number: int) -> int:
        video, _ = self._comparison.videos
        return int(np.searchsorted(video.key_times, video.times[number], side="right"))

    def _is_reliable(self, number: int) -> bool:
        """Whether decoders agree on an original: nothing that it depends on is damaged.

        It may depend on its own GOP and be stored in the next one.
        """
        gop = self._gop(number)
        return not self._damaged_gops & {gop, gop + 1}

    def _time(self, index: int) -> Fraction:
        return self._matched.seconds(self._matched.actual[index])

    def _compare_side_data(
        self, number: int, original: av.VideoFrame, output: av.VideoFrame
    ) -> None:
        kinds = _side_data_kinds(original) & allowed_differences.FRAME_SIDE_DATA.keys()
        self._findings.side_data |= kinds
        for kind in kinds - _side_data_kinds(output):
            self._findings.lost_side_data.setdefault(kind, []).append(f"frame {number}")
        # PyAV's frames and their side data reference each other: at 4K such cycles add up to
        # gigabytes before Python's garbage collector runs.
        self._uncollected += original.width * original.height + output.width * output.height
        if self._uncollected > _COLLECT_PIXELS:
            gc.collect()
            self._uncollected = 0

    def _check_order(self) -> None:
        """An output frame must resemble its original more than the original's neighbours."""
        for number, original in self._originals.items():
            index = int(self._matched.at[number])
            output = self._outputs.get(index) if index >= 0 else None
            if output is None or number in self._duplicates:
                continue
            own = correlation(original, output)
            for other in (number - 1, number + 1):
                neighbour = self._originals.get(other)
                if neighbour is None or mean_difference(original, neighbour) < _DISTINCT:
                    continue
                if correlation(neighbour, output) > own:
                    fault = f"frame {number} at {in_seconds(self._time(index))} shows frame {other}"
                    self._faults.append((number, fault))

    def _check_scene_changes(self) -> None:
        for number in scene_changes(self._originals):
            if not (self._is_reliable(number - 1) and self._is_reliable(number)):
                continue  # Damage resembles a scene change.
            self._findings.scene_changes += 1
            left, right = (int(self._matched.at[one]) for one in (number - 1, number))
            if left >= 0 and right >= 0:
                self._check_between_outputs(left, right)
            else:
                self._check_between_originals(number)

    def _check_between_outputs(self, left: int, right: int) -> None:
        """Each frame between the two of a scene change must show one of the scenes."""
        for index in range(left + 1, right):
            if {left, index, right} <= self._outputs.keys():
                self._check_blend(index, self._outputs[left], self._outputs[right])

    def _check_between_originals(self, number: int) -> None:
        """As `_check_between_outputs`, by the source's frames where the output lacks originals."""
        left, right = (self._matched.originals[one] for one in (number - 1, number))
        for index in np.flatnonzero((self._matched.actual > left) & (self._matched.actual < right)):
            if int(index) in self._outputs:
                self._check_blend(int(index), self._originals[number - 1], self._originals[number])

    def _check_blend(self, index: int, left: Thumbnail, right: Thumbnail) -> None:
        self._findings.at_scene_changes += 1
        ratio = blend_ratio(self._outputs[index], left, right)
        if _MAX_BLEND < ratio < 1 - _MAX_BLEND:
            self._findings.blended.append(
                f"the frame at {in_seconds(self._time(index))} blends both scenes of a scene "
                f"change: {ratio:.0%} of the later"
            )


def _side_data_kinds(frame: av.VideoFrame) -> set[SideDataType]:
    kinds = set()
    side_data: Any = frame.side_data
    for data in side_data:
        with contextlib.suppress(ValueError):  # A kind that PyAV has no name for.
            kinds.add(data.type)
    return kinds


def _frame_content(findings: _Findings, where: str) -> Check:
    detail = f"{findings.compared} originals compared ({where})"
    if findings.min_psnr_at is not None:
        at = in_seconds(findings.min_psnr_at)
        detail += f", minimum {findings.min_psnr:.1f} dB at {at}"
    if findings.duplicates:
        detail += f", {findings.duplicates} duplicates that motion may replace"
    if findings.undecodable:
        detail += f", except {findings.undecodable} damaged ones and those that depend on them"
    return check("frame content", findings.faults, detail)


def _scene_changes(findings: _Findings, where: str) -> Check:
    detail = (
        f"{findings.scene_changes} scene changes ({where}), "
        f"{findings.at_scene_changes} frames between, none blended"
    )
    return check("scene changes", findings.blended, detail)


def _side_data(comparison: Comparison, findings: _Findings) -> Check:
    faults: list[str] = []
    notes: list[str] = []
    for kind, numbers in findings.lost_side_data.items():
        loss = f"{kind.name.lower()} is lost in {', '.join(numbers[:3])}"
        (notes if _loss_is_allowed(comparison, kind) else faults).append(loss)
    lost = findings.lost_side_data.keys()
    kept = sorted(kind.name.lower() for kind in findings.side_data - lost)
    notes = [f"{note}, which the encoder cannot write" for note in notes]
    return check("side data", faults, "; ".join([*kept, *notes]) or "none")


def _loss_is_allowed(comparison: Comparison, kind: SideDataType) -> bool:
    before, after = comparison.videos
    if (
        kind == SideDataType.DOVI_METADATA
        and before.color.transfer not in allowed_differences.BASE_LAYER_TRANSFERS
    ):
        return False  # Without the metadata such frames have wrong colors.
    codecs = allowed_differences.FRAME_SIDE_DATA[kind]
    return codecs is not None and after.stream.codec not in codecs
