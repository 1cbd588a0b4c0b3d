"""Checks of what is said of the pictures: size, shape, rotation, colour, brightness, depth."""

from fractions import Fraction
from typing import Final

from streamer.convert.media_info import VideoInfo
from streamer.core.pixel_format import pixel_layout

from .comparison import Comparison
from .report import Check, check

_SAME_BRIGHTNESS: Final = Fraction(1, 10_000)
"""By which chromaticities and luminances may differ: containers count them in other units."""

_RGB_MATRIX: Final = 0
"""FFmpeg's number for planes that are red, green and blue themselves."""


def check_facts(sides: Comparison) -> list[Check]:
    """All checks of the main video that need at most one decoded picture."""
    before, after = sides.before.inventory.video, sides.after.inventory.video
    assert before is not None
    assert after is not None
    return [
        _codec(sides, after),
        _size(before, after),
        _aspect(before, after),
        _rotation(before, after),
        _color(before, after),
        _dynamic_range(before, after),
        _depth(sides, before, after),
        _fields(sides, before, after),
    ]


def _codec(sides: Comparison, after: VideoInfo) -> Check:
    wanted, found = sides.expected.video_codec, after.stream.codec
    faults = [] if wanted in (None, found) else [f"{found}, not {wanted}"]
    return check("codec", faults, found)


def _size(before: VideoInfo, after: VideoInfo) -> Check:
    ours, theirs = f"{before.width}x{before.height}", f"{after.width}x{after.height}"
    return check("size", [] if ours == theirs else [f"{theirs}, not {ours}"], theirs)


def _aspect(before: VideoInfo, after: VideoInfo) -> Check:
    ours, theirs = before.aspect, after.aspect
    words = f"pixels of {theirs.numerator}:{theirs.denominator}"
    # Matroska keeps the shape of the whole picture in whole pixels.
    allowed = Fraction(1, max(before.width, before.height))
    same = abs(theirs / ours - 1) <= allowed
    return check(
        "aspect", [] if same else [f"{words}, not {ours.numerator}:{ours.denominator}"], words
    )


def _rotation(before: VideoInfo, after: VideoInfo) -> Check:
    ours, theirs = before.display_matrix, after.display_matrix
    if ours == theirs:
        return check("rotation", [], "shown as it is" if ours is None else f"kept: {ours}")
    return check("rotation", [f"the display matrix {ours} became {theirs}"], "")


def _color(before: VideoInfo, after: VideoInfo) -> Check:
    faults = []
    rgb = pixel_layout(before.pixel_format).rgb or pixel_layout(after.pixel_format).rgb
    for name in ("primaries", "transfer", "matrix", "full_range"):
        ours, theirs = getattr(before.color, name), getattr(after.color, name)
        # Red, green and blue use the full range, and need no matrix, whether it is said or not.
        if rgb and (name == "full_range" or (name == "matrix" and ours in (_RGB_MATRIX, 2))):
            continue
        if ours != theirs:
            faults.append(f"{name} {ours} became {theirs}")
    color = after.color
    words = (
        f"primaries {color.primaries}, transfer {color.transfer}, matrix {color.matrix}, "
        f"{'full' if color.full_range else 'limited'} range"
    )
    return check("color", faults, words)


def _dynamic_range(before: VideoInfo, after: VideoInfo) -> Check:
    ours, theirs = before.dynamic_range, after.dynamic_range
    faults = []
    if ours.light is not None and ours.light != theirs.light:
        faults.append(
            f"the brightest pixel and picture of {ours.light} cd/m2 became {theirs.light}"
        )
    if ours.mastering is not None:
        numbers = theirs.mastering or ()
        same = len(numbers) == len(ours.mastering) and all(
            abs(one - other) <= _SAME_BRIGHTNESS
            for one, other in zip(ours.mastering, numbers, strict=True)
        )
        if not same:
            faults.append("the mastering display is " + ("another" if numbers else "not said"))
    words = "nothing is said" if ours.light is None and ours.mastering is None else "HDR10 is kept"
    return check("dynamic range", faults, words)


def _depth(sides: Comparison, before: VideoInfo, after: VideoInfo) -> Check:
    wanted, found = sides.expected.pixel_format, after.pixel_format
    if wanted is not None:
        fine = _same_format(wanted, found)
        return check("depth", [] if fine else [f"{found}, not {wanted} as asked"], found)
    ours, theirs = pixel_layout(before.pixel_format), pixel_layout(found)
    faults = []
    if theirs.depth < ours.depth:
        faults.append(f"{ours.depth} bits became {theirs.depth}")
    if ours.colored and not theirs.colored:
        faults.append("colour is gone")
    if ours.colored and any(
        a < b for a, b in zip(ours.log2_chroma, theirs.log2_chroma, strict=True)
    ):
        faults.append(f"chroma of {before.pixel_format} became that of {found}")
    if _transparent(before) and not _transparent(after):
        faults.append("transparency is gone")
    return check("depth", faults, f"{before.pixel_format} became {found}")


def _same_format(one: str, other: str) -> bool:
    """`yuvj420p` is an old name of full-range `yuv420p`; range is compared by itself."""
    return one.replace("yuvj", "yuv") == other.replace("yuvj", "yuv")


def _transparent(video: VideoInfo) -> bool:
    """VP9 keeps transparency beside the picture, where FFmpeg's own decoder does not look."""
    tags = {name.lower(): value for name, value in video.stream.tags.items()}
    return pixel_layout(video.pixel_format).alpha or tags.get("alpha_mode") == "1"


def _fields(sides: Comparison, before: VideoInfo, after: VideoInfo) -> Check:
    if after.interlaced and not before.interlaced:
        return check("fields", ["pictures became two fields each"], "")
    if before.interlaced and not after.interlaced:
        words = "two fields became one picture"
        return check("fields", [] if sides.expected.deinterlaced else [words], words)
    return check("fields", [], "two a picture" if after.interlaced else "whole pictures")
