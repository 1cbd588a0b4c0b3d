"""Verifies that a conversion lost nothing: `verify`, and `compare` for inspected recordings."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from streamer.convert.inspection import inspect
from streamer.convert.media_info import MediaInfo, StreamInfo
from streamer.core.errors import SourceFault, SourceRejected

from .comparison import Comparison, Recording, match_streams, recording
from .frame_content import check_frame_content
from .frame_matching import MatchedFrames, infer_options, match_frames, start_shift
from .frame_times import check_frame_times
from .metadata import check_metadata
from .report import CHECK_NAMES, Check, Expectation, Report, check
from .streams import check_streams
from .video_params import check_video_params

__all__ = ["CHECK_NAMES", "Check", "Expectation", "Report", "compare", "verify"]

_STRETCH_TOLERANCE: Final = Fraction(1, 20)
"""Relative difference in duration up to which audio counts as stretched."""

_ORDER: Final = {name: place for place, name in enumerate(CHECK_NAMES)}


def verify(
    source: Path,
    output: Path,
    *,
    expected: Expectation | None = None,
    thorough: bool = False,
    altered: bool = False,
) -> Report:
    """Compare a recording with the output of its conversion. As `compare`, by paths.

    Raises:
        SourceError: A file is missing, or FFmpeg cannot read it.
    """
    return compare(
        inspect(source), inspect(output), expected=expected, thorough=thorough, altered=altered
    )


def compare(
    source: MediaInfo,
    output: MediaInfo,
    *,
    expected: Expectation | None = None,
    thorough: bool = False,
    altered: bool = False,
) -> Report:
    """Compare a recording with the output of its conversion.

    Each file has been read once by `inspect`; here only samples of the frames are decoded.

    Args:
        source: The recording.
        output: The output of the conversion.
        expected: What the conversion was to do. By default it is inferred: a factor, a constant
            frame rate, a speed.
        thorough: Decode all frames, however many there are.
        altered: Without *expected*: the frames were enhanced or drawn on.

    Raises:
        SourceRejected: The output has no frame, though the recording has.
    """
    before, after = recording(source), recording(output)
    resolved = expected or _infer(before, after, altered=altered)
    comparison = _comparison(before, after, resolved)
    faults = [output.truncation] if output.truncation else []
    complete = check("complete", faults, "the file is not truncated")
    checks = [complete, *check_streams(comparison), *check_metadata(comparison)]
    all_decoded = True
    matched = _match(comparison)
    if matched is not None:
        content, all_decoded = check_frame_content(comparison, matched, thorough=thorough)
        checks += [
            *check_frame_times(comparison, matched),
            *check_video_params(comparison),
            *content,
        ]
    return Report(
        source=source.path,
        output=output.path,
        expected=resolved,
        inferred=expected is None,
        source_frames=len(matched.originals) if matched else 0,
        output_frames=len(matched.actual) if matched else 0,
        thorough=all_decoded,
        checks=tuple(sorted(checks, key=lambda one: _ORDER[one.name])),
    )


def _infer(source: Recording, output: Recording, *, altered: bool) -> Expectation:
    before, after = source.media.video, output.media.video
    if before is None or after is None:
        return Expectation()
    options = infer_options(before, after, complete=output.media.truncation is None)
    expected = Expectation(
        options=options.model_copy(update={"enhance": altered}),
        deinterlaced=before.interlaced and not after.interlaced,
    )
    return expected if options.speed == 1 else _with_audio(expected, source, output)


def _with_audio(expected: Expectation, source: Recording, output: Recording) -> Expectation:
    """At another speed all audio was either dropped or stretched: infer which."""
    before, after = _audio(source), _audio(output)
    indexes = tuple(one.index for one in before)
    if not after:
        return replace(expected, dropped_streams=indexes)
    if not before:
        return expected
    original, actual = (
        (one[0].end or Fraction(0)) - (one[0].begin or 0) for one in (before, after)
    )
    difference = abs(actual * expected.options.speed - original)
    stretched = difference < _STRETCH_TOLERANCE * original
    return replace(expected, stretched_streams=indexes) if stretched else expected


def _audio(side: Recording) -> list[StreamInfo]:
    return [one for one in side.media.streams if one.kind == "audio" and len(one.times)]


def _comparison(source: Recording, output: Recording, expected: Expectation) -> Comparison:
    before, after = source.media.video, output.media.video
    shift = Fraction(0)
    if before is not None and after is not None:
        shift = start_shift(before, after, expected.options)
    pairs, missing, extra = match_streams(source, output, expected)
    return Comparison(source, output, expected, shift, pairs, missing, extra)


def _match(comparison: Comparison) -> MatchedFrames | None:
    """Match the frames of both recordings; `None` if neither has any.

    Raises:
        SourceRejected: The output has none.
    """
    before, after = comparison.source.media.video, comparison.output.media.video
    if before is None:
        return None
    if after is None:
        path = comparison.output.media.path
        raise SourceRejected(f"{path}: contains no frame", fault=SourceFault.NO_VIDEO)
    return match_frames(before, after, comparison.expected.options, shift=comparison.shift)
