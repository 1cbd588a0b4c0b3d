"""Checks of what is said beside the pictures: names, tags, chapters, attachments, covers."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from av.stream import Disposition

from streamer.convert.media_info import Chapter, StreamInfo

from . import allowed_differences
from .comparison import Comparison, StreamPair, can_hold
from .report import Check, check, in_seconds

_MILLISECOND: Final = Fraction(1, 1000)
"""MP4 keeps chapters so."""


def check_said(sides: Comparison) -> list[Check]:
    """All checks of what a recording says about itself and its streams."""
    return [
        _languages(sides),
        _titles(sides),
        _dispositions(sides),
        _tags(sides),
        _chapters(sides),
        _attachments(sides),
        _covers(sides),
    ]


def _described(sides: Comparison) -> Iterator[StreamPair]:
    """All streams that are in both, the main video first."""
    before, after = sides.before.inventory.video, sides.after.inventory.video
    if before is not None and after is not None:
        yield StreamPair(before.stream, after.stream)
    yield from sides.pairs


def _languages(sides: Comparison) -> Check:
    faults, said = [], 0
    for pair in _described(sides):
        ours, theirs = (
            allowed_differences.language(one.tags.get("language"))
            for one in (pair.before, pair.after)
        )
        said += ours != "und"
        if ours not in ("und", theirs):
            faults.append(f"{pair.before}: {ours} became {theirs}")
    return check("languages", faults, f"{said} streams say theirs")


def _title(stream: StreamInfo) -> str | None:
    tags = _lower(stream.tags)
    return tags.get("title") or tags.get("name")


def _titles(sides: Comparison) -> Check:
    faults, said = [], 0
    for pair in _described(sides):
        ours, theirs = _title(pair.before), _title(pair.after)
        said += ours is not None
        if ours is not None and ours != theirs:
            faults.append(f"{pair.before}: {ours!r} became {theirs!r}")
    return check("titles", faults, f"{said} streams have one")


def _dispositions(sides: Comparison) -> Check:
    faults, notes = [], []
    pairs = list(_described(sides))
    for pair in pairs:
        ours, theirs = Disposition(pair.before.disposition), Disposition(pair.after.disposition)
        alike = [one.before for one in pairs if one.before.kind == pair.before.kind]
        held = allowed_differences.HELD[sides.after.family]
        lost, new = ours & ~theirs, theirs & ~ours
        if not any(one.disposition & allowed_differences.MARKED_BY_ITSELF for one in alike):
            new &= ~allowed_differences.MARKED_BY_ITSELF
        if lost & held or new:
            faults.append(f"{pair.before}: {_flags(ours)} became {_flags(theirs)}")
        elif lost:
            notes.append(f"{pair.before}: {sides.after.name} has no place for {_flags(lost)}")
    return check("dispositions", faults, "; ".join(notes) or "all are kept")


def _flags(disposition: Disposition) -> str:
    return "+".join(one.name or "?" for one in disposition) or "none"


def _lower(tags: Mapping[str, str]) -> dict[str, str]:
    """Matroska writes most names in capitals."""
    return {name.lower(): value for name, value in tags.items()}


def _tags(sides: Comparison) -> Check:
    after = sides.after
    faults = [
        f"{name} = {value!r} {became}"
        for name, value, became in _lost(
            "recording", sides.before.inventory.tags, after.inventory.tags, sides
        )
    ]
    for pair in _described(sides):
        faults += [
            f"{pair.before}: {name} = {value!r} {became}"
            for name, value, became in _lost("stream", pair.before.tags, pair.after.tags, sides)
        ]
    count = len(sides.before.inventory.tags)
    return check("tags", faults, f"of the recording's {count} none is lost that has a place")


def _lost(
    of: allowed_differences.Of,
    before: Mapping[str, str],
    after: Mapping[str, str],
    sides: Comparison,
) -> Iterator[tuple[str, str, str]]:
    there = _lower(after)
    for name, value in _lower(before).items():
        if allowed_differences.known(of, name, sides.after.family) is not None:
            continue
        if name not in there:
            yield name, value, "is missing"
        elif not _same_value(name, value, there[name]):
            yield name, value, f"became {there[name]!r}"


def _same_value(name: str, one: str, other: str) -> bool:
    if one == other:
        return True
    if name != "creation_time":
        return False
    ours, theirs = _instant(one), _instant(other)
    if ours is None or theirs is None:
        return False
    return abs((ours - theirs).total_seconds()) < 1  # MP4 knows whole seconds only.


def _instant(text: str) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _chapters(sides: Comparison) -> Check:
    before, after = sides.before.inventory.chapters, sides.after.inventory.chapters
    if len(before) != len(after):
        return check("chapters", [f"{len(after)} chapters for {len(before)}"], "")
    faults = [
        fault
        for number, (one, other) in enumerate(zip(before, after, strict=True), 1)
        for fault in _of_chapter(sides, number, one, other)
    ]
    return check("chapters", faults, f"{len(before)} with their times and titles")


def _of_chapter(sides: Comparison, number: int, one: Chapter, other: Chapter) -> Iterator[str]:
    speed, family = sides.expected.speed, sides.after.family
    moments = [("begins", one.begin, other.begin)]
    if family in allowed_differences.CHAPTER_ENDS:
        moments.append(("ends", one.end, other.end))
    for what, ours, theirs in moments:
        off = theirs - ours / speed
        if min(abs(off), abs(off - sides.shift)) > _MILLISECOND:
            yield f"chapter {number} {what} at {in_seconds(theirs)}, not {in_seconds(ours / speed)}"
    ours_tags, theirs_tags = _lower(one.tags), _lower(other.tags)
    names = (
        ours_tags if family in allowed_differences.CHAPTER_TAGS else ours_tags.keys() & {"title"}
    )
    for name in names:
        if ours_tags[name] != theirs_tags.get(name):
            yield (f"chapter {number}: {name} {ours_tags[name]!r} became {theirs_tags.get(name)!r}")


def _attachments(sides: Comparison) -> Check:
    ours = _attached(sides.before.inventory.streams)
    theirs = {name: data for name, data, _ in _attached(sides.after.inventory.streams)}
    left_out = [name for name, _, _ in ours]
    if not can_hold(sides.after.family, "attachment", "none"):
        words = f"{sides.after.name} holds none: left out: {', '.join(left_out)}"
        return check("attachments", [], words if left_out else "none")
    faults = []
    for name, data, index in ours:
        if index in sides.expected.dropped_streams:
            continue
        if name not in theirs:
            faults.append(f"{name} is missing")
        elif theirs[name] != data:
            faults.append(f"{name} holds other bytes")
    return check("attachments", faults, f"{len(ours)}: the same bytes under the same names")


def _attached(streams: tuple[StreamInfo, ...]) -> list[tuple[str, bytes | None, int]]:
    return [
        (one.tags.get("filename", "?"), one.attachment, one.index)
        for one in streams
        if one.kind == "attachment"
    ]


def _covers(sides: Comparison) -> Check:
    theirs = [one.attachment for one in sides.after.inventory.streams if one.cover]
    ours = [
        one
        for one in sides.before.inventory.streams
        if one.cover and one.index not in sides.expected.dropped_streams
    ]
    if sides.after.family not in allowed_differences.COVERS:
        words = f"{sides.after.name} holds none" if ours else "none"
        return check("covers", [], words)
    faults = [f"{one} is no cover any more" for one in ours if one.attachment not in theirs]
    return check("covers", faults, f"{len(ours)} are kept")
