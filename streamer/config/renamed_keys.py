"""The one table of configuration keys that were renamed, and how old files are read.

An old key is accepted for one release: its value moves to the new key, and a warning names file,
line and new key. Delete a row one release after it was added; see CHANGELOG.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .diagnostics import Problem
from .field_types import Loc
from .yaml_reader import Document


@dataclass(frozen=True, slots=True)
class Renamed:
    """One key, or one value of a key, that has a new name."""

    old: tuple[str, ...]
    """Keys from the holder down."""

    new: tuple[str, ...]

    values: Mapping[Any, Any] | None = None
    """Old value to new value, where values were renamed as well."""


# A row for a section stands before the rows for the keys inside it, which use its new name.
CAMERA: Final = (
    Renamed(("source", "pace"), ("source", "realtime")),
    Renamed(("watch",), ("detect",)),
    Renamed(("detect", "looks_per_second"), ("detect", "fps")),
    Renamed(("detect", "usual"), ("detect", "false_positive_prior")),
    Renamed(
        ("detect", "false_positive_prior", "learn_min"),
        ("detect", "false_positive_prior", "learn_minutes"),
    ),
    Renamed(("detect", "lift_dark"), ("detect", "low_light")),
    Renamed(("detect", "second_look"), ("detect", "zoom_verification")),
    Renamed(("alarm", "outline"), ("alarm", "low_threshold")),
    Renamed(("alarm", "keep_ratio"), ("alarm", "hysteresis_ratio")),
    Renamed(("alarm", "persist_s"), ("alarm", "confirm_window_s")),
    Renamed(("alarm", "persist_share"), ("alarm", "confirm_ratio")),
    Renamed(("alarm", "min_looks"), ("alarm", "min_hits")),
    Renamed(("alarm", "min_score_alone"), ("alarm", "min_score_without_background")),
    Renamed(("alarm", "drift_limit"), ("alarm", "max_drift")),
    Renamed(("alarm", "gap_s"), ("alarm", "track_timeout_s")),
    Renamed(("clip", "ring_max_mb"), ("clip", "pre_roll_buffer_mb")),
    Renamed(("reconnect", "cap_s"), ("reconnect", "max_delay_s")),
)
"""Keys below `defaults` and below each camera."""

CHANNEL: Final = (Renamed(("picture",), ("include_image",)),)
"""Keys below each channel of `notify`."""

TOP: Final = (
    Renamed(("log", "format"), ("log", "format"), {"people": "text"}),
    Renamed(("retry", "cap_s"), ("retry", "max_delay_s")),
    Renamed(("convert", "cuts"), ("convert", "scene_change")),
    Renamed(("convert", "repeats"), ("convert", "duplicates"), {"across": "interpolate"}),
)
"""Keys at the top of the file."""


def accept_old_names(document: Document) -> list[Problem]:
    """Move what stands under old names of *document* to the new ones, in place.

    Returns:
        A warning per key, with file, line and new key. A key that stands under both names becomes
        a problem of the document instead.
    """
    data = document.data
    holders: list[tuple[Loc, tuple[Renamed, ...]]] = [((), TOP), (("defaults",), CAMERA)]
    for section, rows in (("cameras", CAMERA), ("notify", CHANNEL)):
        names = data.get(section)
        if isinstance(names, dict):
            holders += [((section, name), rows) for name in names]
    moved: list[tuple[Loc, Loc]] = []
    return [
        warning
        for holder, rows in holders
        for row in rows
        for warning in _apply(document, holder, row, moved)
    ]


def _apply(
    document: Document, holder: Loc, row: Renamed, moved: list[tuple[Loc, Loc]]
) -> Iterator[Problem]:
    """Apply one row below *holder*; *moved* holds (old, new) of the rows before it."""
    old, new = (*holder, *row.old), (*holder, *row.new)
    above = _mapping_at(document.data, old[:-1])
    if above is None or old[-1] not in above:
        return
    value, line = above[old[-1]], document.lines.get(old)
    renamed_value = row.values is not None and isinstance(value, str) and value in row.values
    if renamed_value and row.values is not None:
        value = row.values[value]
    if old == new:
        if renamed_value:
            above[old[-1]] = value
            yield _warning(document, _as_written(old, moved), f"{row.new[-1]}: {value}", line)
        return
    if new[-1] in above:
        key = _dotted(_as_written(old, moved))
        message = f"is the old name of `{new[-1]}`, which stands here as well; delete this one"
        document.problems.append(Problem(document.file, line, key, message))
        return
    # The new key takes the old one's place, so that the order of cameras and channels stays.
    items = [(row.new[-1], value) if key == old[-1] else (key, kept) for key, kept in above.items()]
    above.clear()
    above.update(items)
    for loc in [loc for loc in document.lines if loc[: len(old)] == old]:
        document.lines[new + loc[len(old) :]] = document.lines.pop(loc)
    yield _warning(document, _as_written(old, moved), ".".join(row.new), line)
    moved.append((old, new))


def _as_written(loc: Loc, moved: list[tuple[Loc, Loc]]) -> Loc:
    """Where the file says it, before sections above it were renamed."""
    for old, new in reversed(moved):
        if loc[: len(new)] == new:
            loc = old + loc[len(new) :]
    return loc


def _mapping_at(data: Any, loc: Loc) -> dict[str, Any] | None:
    for key in loc:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else None


def _warning(document: Document, old: Loc, new: str, line: int | None) -> Problem:
    return Problem(document.file, line, _dotted(old), f"old name, read until 0.3; write `{new}`")


def _dotted(loc: Loc) -> str:
    return ".".join(map(str, loc))
