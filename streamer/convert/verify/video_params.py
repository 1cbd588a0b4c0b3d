"""Checks of video parameters: codec, resolution, aspect ratio, color, HDR, pixel format."""

from fractions import Fraction
from typing import Final

from streamer.convert.media_info import VideoInfo
from streamer.core.pixel_format import pixel_layout

from .comparison import Comparison
from .report import Check, check

_HDR_TOLERANCE: Final = Fraction(1, 10_000)
"""Difference allowed in chromaticities and luminances: containers store them in other units."""

_RGB_MATRIX: Final = 0
"""FFmpeg's matrix number for RGB."""


def check_video_params(comparison: Comparison) -> list[Check]:
    """Return all checks of the main video that need at most one decoded frame."""
    before, after = comparison.videos
    return [
        _codec(comparison, after),
        _resolution(before, after),
        _aspect_ratio(before, after),
        _rotation(before, after),
        _color(before, after),
        _hdr_metadata(before, after),
        _pixel_format(comparison, before, after),
        _interlacing(comparison, before, after),
    ]


def _codec(comparison: Comparison, after: VideoInfo) -> Check:
    expected, found = comparison.expected.video_codec, after.stream.codec
    faults = [] if expected in (None, found) else [f"{found}, not {expected}"]
    return check("codec", faults, found)


def _resolution(before: VideoInfo, after: VideoInfo) -> Check:
    expected, found = f"{before.width}x{before.height}", f"{after.width}x{after.height}"
    return check("resolution", [] if expected == found else [f"{found}, not {expected}"], found)


def _aspect_ratio(before: VideoInfo, after: VideoInfo) -> Check:
    expected, found = before.sample_aspect_ratio, after.sample_aspect_ratio
    detail = f"sample aspect ratio {found.numerator}:{found.denominator}"
    # Matroska stores the display size in whole pixels.
    allowed = Fraction(1, max(before.width, before.height))
    same = abs(found / expected - 1) <= allowed
    faults = [] if same else [f"{detail}, not {expected.numerator}:{expected.denominator}"]
    return check("aspect ratio", faults, detail)


def _rotation(before: VideoInfo, after: VideoInfo) -> Check:
    expected, found = before.display_matrix, after.display_matrix
    if expected == found:
        return check("rotation", [], "none" if expected is None else f"preserved: {expected}")
    return check("rotation", [f"the display matrix {expected} became {found}"], "")


def _color(before: VideoInfo, after: VideoInfo) -> Check:
    faults = []
    rgb = pixel_layout(before.pixel_format).rgb or pixel_layout(after.pixel_format).rgb
    for name in ("primaries", "transfer", "matrix", "full_range"):
        expected, found = getattr(before.color, name), getattr(after.color, name)
        # RGB is full range and needs no matrix, whether that is stored or not.
        if rgb and (name == "full_range" or (name == "matrix" and expected in (_RGB_MATRIX, 2))):
            continue
        if expected != found:
            faults.append(f"{name} {expected} became {found}")
    color = after.color
    detail = (
        f"primaries {color.primaries}, transfer {color.transfer}, matrix {color.matrix}, "
        f"{'full' if color.full_range else 'limited'} range"
    )
    return check("color", faults, detail)


def _hdr_metadata(before: VideoInfo, after: VideoInfo) -> Check:
    expected, found = before.hdr, after.hdr
    faults = []
    light = expected.content_light_level
    if light is not None and light != found.content_light_level:
        faults.append(f"MaxCLL and MaxFALL of {light} cd/m2 became {found.content_light_level}")
    if expected.mastering_display is not None:
        numbers = found.mastering_display or ()
        same = len(numbers) == len(expected.mastering_display) and all(
            abs(one - other) <= _HDR_TOLERANCE
            for one, other in zip(expected.mastering_display, numbers, strict=True)
        )
        if not same:
            faults.append("the mastering display " + ("differs" if numbers else "is missing"))
    return check("HDR metadata", faults, "preserved" if expected.is_present else "none")


def _pixel_format(comparison: Comparison, before: VideoInfo, after: VideoInfo) -> Check:
    requested, found = comparison.expected.options.pixel_format, after.pixel_format
    if requested is not None:
        same = _same_format(requested, found)
        faults = [] if same else [f"{found}, not {requested} as requested"]
        return check("pixel format", faults, found)
    old, new = pixel_layout(before.pixel_format), pixel_layout(found)
    faults = []
    if new.depth < old.depth:
        faults.append(f"{old.depth} bits became {new.depth}")
    if old.colored and not new.colored:
        faults.append("color is lost")
    if old.colored and any(a < b for a, b in zip(old.log2_chroma, new.log2_chroma, strict=True)):
        faults.append(f"chroma of {before.pixel_format} became that of {found}")
    if _has_alpha(before) and not _has_alpha(after):
        faults.append("alpha is lost")
    return check("pixel format", faults, f"{before.pixel_format} became {found}")


def _same_format(one: str, other: str) -> bool:
    """Whether both names mean one format: `yuvj420p` is an old name of full-range `yuv420p`."""
    return one.replace("yuvj", "yuv") == other.replace("yuvj", "yuv")


def _has_alpha(video: VideoInfo) -> bool:
    """Whether frames have alpha: VP9 stores it in a second stream, which only a tag shows."""
    tags = {name.lower(): value for name, value in video.stream.tags.items()}
    return pixel_layout(video.pixel_format).alpha or tags.get("alpha_mode") == "1"


def _interlacing(comparison: Comparison, before: VideoInfo, after: VideoInfo) -> Check:
    if after.interlaced and not before.interlaced:
        return check("interlacing", ["progressive frames became interlaced"], "")
    if before.interlaced and not after.interlaced:
        detail = "interlaced frames became progressive"
        faults = [] if comparison.expected.deinterlaced else [detail]
        return check("interlacing", faults, detail)
    return check("interlacing", [], "interlaced" if after.interlaced else "progressive")
