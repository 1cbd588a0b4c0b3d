"""Checks of metadata: languages, titles, dispositions, tags, chapters, attachments, cover art."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from av.stream import Disposition

from streamer.convert.media_info import Chapter, StreamInfo

from . import allowed_differences
from .comparison import Comparison, StreamPair, can_store
from .report import Check, check, in_seconds

_MILLISECOND: Final = Fraction(1, 1000)
"""Resolution of chapter times in MP4, in seconds."""


def check_metadata(comparison: Comparison) -> list[Check]:
    """Return all checks of metadata."""
    return [
        _preserved("languages", comparison, _language),
        _preserved("titles", comparison, _title),
        _dispositions(comparison),
        _tags(comparison),
        _chapters(comparison),
        _attachments(comparison),
        _cover_art(comparison),
    ]


def _all_pairs(comparison: Comparison) -> Iterator[StreamPair]:
    before, after = comparison.source.media.video, comparison.output.media.video
    if before is not None and after is not None:
        yield StreamPair(before.stream, after.stream)
    yield from comparison.pairs


def _language(stream: StreamInfo) -> str | None:
    code = allowed_differences.normalized_language(stream.tags.get("language"))
    return None if code == "und" else code


def _title(stream: StreamInfo) -> str | None:
    tags = _lower(stream.tags)
    return tags.get("title") or tags.get("name")


def _preserved(
    name: str, comparison: Comparison, value_of: Callable[[StreamInfo], str | None]
) -> Check:
    """Check that each stream that has such a value still has it."""
    faults, count = [], 0
    for pair in _all_pairs(comparison):
        before, after = value_of(pair.source), value_of(pair.output)
        count += before is not None
        if before is not None and before != after:
            faults.append(f"{pair.source}: {before!r} became {after!r}")
    return check(name, faults, f"{count} streams have one")


def _dispositions(comparison: Comparison) -> Check:
    faults, notes = [], []
    pairs = list(_all_pairs(comparison))
    for pair in pairs:
        before, after = Disposition(pair.source.disposition), Disposition(pair.output.disposition)
        same_kind = [one.source for one in pairs if one.source.kind == pair.source.kind]
        supported = allowed_differences.SUPPORTED_DISPOSITIONS[comparison.output.family]
        lost, added = before & ~after, after & ~before
        automatic = allowed_differences.AUTOMATIC_DISPOSITION
        if not any(one.disposition & automatic for one in same_kind):
            added &= ~automatic
        if lost & supported or added:
            faults.append(f"{pair.source}: {_flags(before)} became {_flags(after)}")
        elif lost:
            notes.append(
                f"{pair.source}: {comparison.output.container} cannot store {_flags(lost)}"
            )
    return check("dispositions", faults, "; ".join(notes) or "all are preserved")


def _flags(disposition: Disposition) -> str:
    return "+".join(one.name or "?" for one in disposition) or "none"


def _lower(tags: Mapping[str, str]) -> dict[str, str]:
    """Return *tags* with names in lower case: Matroska writes most in capitals."""
    return {name.lower(): value for name, value in tags.items()}


def _tags(comparison: Comparison) -> Check:
    after = comparison.output
    faults = list(_lost("recording", comparison.source.media.tags, after.media.tags, comparison))
    for pair in _all_pairs(comparison):
        lost = _lost("stream", pair.source.tags, pair.output.tags, comparison)
        faults += [f"{pair.source}: {fault}" for fault in lost]
    count = len(comparison.source.media.tags)
    return check(
        "tags", faults, f"of the recording's {count} tags none is lost that the container can store"
    )


def _lost(
    owner: allowed_differences.TagOwner,
    before: Mapping[str, str],
    after: Mapping[str, str],
    comparison: Comparison,
) -> Iterator[str]:
    remaining = _lower(after)
    for name, value in _lower(before).items():
        if allowed_differences.find_allowed(owner, name, comparison.output.family) is not None:
            continue
        if name not in remaining:
            yield f"{name} = {value!r} is missing"
        elif not _same_value(name, value, remaining[name]):
            yield f"{name} = {value!r} became {remaining[name]!r}"


def _same_value(name: str, one: str, other: str) -> bool:
    if one == other:
        return True
    if name != "creation_time":
        return False
    first, second = _parse_time(one), _parse_time(other)
    if first is None or second is None:
        return False
    return abs((first - second).total_seconds()) < 1  # MP4 stores whole seconds.


def _parse_time(text: str) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _chapters(comparison: Comparison) -> Check:
    before, after = comparison.source.media.chapters, comparison.output.media.chapters
    if len(before) != len(after):
        return check("chapters", [f"{len(after)} chapters, expected {len(before)}"], "")
    faults = [
        fault
        for number, (one, other) in enumerate(zip(before, after, strict=True), 1)
        for fault in _chapter_faults(comparison, number, one, other)
    ]
    return check("chapters", faults, f"{len(before)} chapters with their times and titles")


def _chapter_faults(
    comparison: Comparison, number: int, one: Chapter, other: Chapter
) -> Iterator[str]:
    speed, family = comparison.expected.options.speed, comparison.output.family
    times = [("begins", one.begin, other.begin)]
    if family in allowed_differences.CHAPTER_ENDS:
        times.append(("ends", one.end, other.end))
    for what, before, after in times:
        error = after - before / speed
        if min(abs(error), abs(error - comparison.shift)) > _MILLISECOND:
            expected = in_seconds(before / speed)
            yield f"chapter {number} {what} at {in_seconds(after)}, not {expected}"
    old, new = _lower(one.tags), _lower(other.tags)
    names = old if family in allowed_differences.CHAPTER_TAGS else old.keys() & {"title"}
    for name in names:
        if old[name] != new.get(name):
            yield f"chapter {number}: {name} {old[name]!r} became {new.get(name)!r}"


def _attachments(comparison: Comparison) -> Check:
    before = _attached(comparison.source.media.streams)
    after = {name: data for name, data, _ in _attached(comparison.output.media.streams)}
    names = [name for name, _, _ in before]
    if not can_store(comparison.output.family, "attachment", "none"):
        detail = f"{comparison.output.container} cannot store: {', '.join(names)}"
        return check("attachments", [], detail if names else "none")
    faults = []
    for name, data, index in before:
        if index in comparison.expected.dropped_streams:
            continue
        if name not in after:
            faults.append(f"{name} is missing")
        elif after[name] != data:
            faults.append(f"{name} has different content")
    return check("attachments", faults, f"{len(before)} with the same names and content")


def _attached(streams: tuple[StreamInfo, ...]) -> list[tuple[str, bytes | None, int]]:
    return [
        (one.tags.get("filename", "?"), one.attachment, one.index)
        for one in streams
        if one.kind == "attachment"
    ]


def _cover_art(comparison: Comparison) -> Check:
    after = [one.attachment for one in comparison.output.media.streams if one.is_cover]
    before = [
        one
        for one in comparison.source.media.streams
        if one.is_cover and one.index not in comparison.expected.dropped_streams
    ]
    if comparison.output.family not in allowed_differences.COVER_ART:
        detail = f"{comparison.output.container} cannot store it" if before else "none"
        return check("cover art", [], detail)
    faults = [f"{one} is missing as cover art" for one in before if one.attachment not in after]
    return check("cover art", faults, f"{len(before)} preserved")
