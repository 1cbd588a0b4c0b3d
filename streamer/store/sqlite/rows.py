"""Events as rows: nothing is lost or rounded on the way there and back."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from streamer.alarm.event import Event, EventKind
from streamer.core.frame import Detection
from streamer.store.records import EvidenceState, RecordedEvent

_log = structlog.get_logger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

EVENT_COLUMNS: Final = (
    "event.number AS event_number, id, event.alarm_id AS alarm_id, sequence, kind, camera, pts_ns,"
    " utc_us, onset_ns, reason, score, regions, evidence, image, added_us, evidence_deleted_us,"
    " evidence_state, evidence_reason"
)
"""The columns that `recorded_event` reads."""


UNREADABLE: Final = (ValueError, KeyError, TypeError, OverflowError)
"""What decoding a damaged row raises."""

Value = TypeVar("Value")


def readable(
    rows: Iterable[sqlite3.Row], decode: Callable[[sqlite3.Row], Value]
) -> Iterator[Value]:
    """Yield the values of all rows that can be decoded: a damaged one must not hide the others."""
    for row in rows:
        try:
            yield decode(row)
        except UNREADABLE as error:
            _log.error("stored event cannot be read", event_id=row["id"], error=str(error))


def to_us(moment: datetime) -> int:
    """Return the microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """Return the time of `to_us`, aware UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def stored_path(path: Path | None, data_dir: Path) -> str | None:
    """Return *path* relative to *data_dir* if it lies below it, else absolute.

    A data folder that is moved to another place or disk keeps its evidence.
    """
    if path is None:
        return None
    path = path.absolute()
    return str(path.relative_to(data_dir) if path.is_relative_to(data_dir) else path)


def resolved_path(text: str | None, data_dir: Path) -> Path | None:
    """Return the absolute path of `stored_path`."""
    return None if text is None else data_dir / text


def event_columns(event: Event) -> dict[str, Any]:
    """Return column names and values of *event* itself, without its files and time of recording.

    Numbers become plain ones: SQLite and JSON do not accept NumPy's, and an alarm must not be lost
    for that.
    """
    return {
        "id": event.id,
        "alarm_id": event.alarm_id,
        "sequence": event.sequence,
        "kind": event.kind.value,
        "camera": event.camera,
        "pts_ns": int(event.pts_ns),
        "utc_us": to_us(event.utc),
        "onset_ns": int(event.onset_ns),
        "reason": event.reason,
        "score": float(event.score),
        "regions": json.dumps([_region_values(each) for each in event.regions], default=float),
    }


def recorded_event(row: sqlite3.Row, data_dir: Path) -> RecordedEvent:
    """Return the event of a row that has `EVENT_COLUMNS`."""
    event = Event(
        alarm_id=row["alarm_id"],
        sequence=row["sequence"],
        kind=EventKind(row["kind"]),
        camera=row["camera"],
        pts_ns=row["pts_ns"],
        utc=from_us(row["utc_us"]),
        onset_ns=row["onset_ns"],
        reason=row["reason"],
        score=row["score"],
        regions=tuple(_region(values) for values in json.loads(row["regions"])),
    )
    deleted_us = row["evidence_deleted_us"]
    return RecordedEvent(
        number=row["event_number"],
        event=event,
        evidence=resolved_path(row["evidence"], data_dir) if deleted_us is None else None,
        image=resolved_path(row["image"], data_dir) if deleted_us is None else None,
        added=from_us(row["added_us"]),
        evidence_deleted=None if deleted_us is None else from_us(deleted_us),
        evidence_state=EvidenceState(row["evidence_state"]),
        evidence_reason=row["evidence_reason"],
    )


def _region_values(region: Detection) -> dict[str, Any]:
    # Named one by one: these names are part of the schema and change by a migration only.
    return {
        "box": region.box,
        "centroid": region.centroid,
        "ground_point": region.ground_point,
        "area": region.area,
        "confidence": region.confidence,
        "peak": region.peak,
        "motion": region.motion,
    }


def _region(values: dict[str, Any]) -> Detection:
    return Detection(
        box=tuple(values["box"]),
        centroid=tuple(values["centroid"]),
        ground_point=tuple(values["ground_point"]),
        area=values["area"],
        confidence=values["confidence"],
        peak=values["peak"],
        motion=values.get("motion"),
    )
