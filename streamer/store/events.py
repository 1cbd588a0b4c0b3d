"""Events as rows: nothing is lost or rounded on the way there and back."""

import json
import sqlite3
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from streamer.alarm.event import Event, EventKind
from streamer.core.frame import Detection

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

EVENT_COLUMNS: Final = (
    "event.number AS event_number, id, event.alarm_id AS alarm_id, sequence, kind, camera, pts_ns,"
    " utc_us, onset_ns, why, score, regions, evidence, picture, added_us"
)
"""What `recorded_event` reads."""

_RENAMED: Final = {"base": "ground_point", "mean": "confidence"}
"""Fields of a region as they were called in rows before version 0.2."""


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event that is on disk."""

    number: int
    """Order of recording, from 1."""

    event: Event

    evidence: Path | None
    """Folder with the evidence of the alarm."""

    picture: Path | None
    """Picture that is sent along."""

    added: datetime
    """When it was recorded, aware UTC."""

    def as_json(self) -> dict[str, Any]:
        """The event as scripts read it, and where its evidence is."""
        evidence = None if self.evidence is None else str(self.evidence)
        return {**self.event.as_json(), "evidence": evidence}


def to_us(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """The aware UTC time of `to_us`."""
    return _EPOCH + timedelta(microseconds=microseconds)


def event_columns(event: Event) -> dict[str, Any]:
    """Column names and values of *event* itself, without when and with what it was recorded.

    Numbers are made plain ones: SQLite and JSON know nothing of NumPy's, and an alarm must not be
    lost for that.
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
        "why": event.reason,
        "score": float(event.score),
        "regions": json.dumps([asdict(region) for region in event.regions], default=float),
    }


def recorded_event(row: sqlite3.Row) -> RecordedEvent:
    """The event of a row with `EVENT_COLUMNS`."""
    event = Event(
        alarm_id=row["alarm_id"],
        sequence=row["sequence"],
        kind=EventKind(row["kind"]),
        camera=row["camera"],
        pts_ns=row["pts_ns"],
        utc=from_us(row["utc_us"]),
        onset_ns=row["onset_ns"],
        reason=row["why"],
        score=row["score"],
        regions=tuple(_region(values) for values in json.loads(row["regions"])),
    )
    return RecordedEvent(
        number=row["event_number"],
        event=event,
        evidence=_path(row["evidence"]),
        picture=_path(row["picture"]),
        added=from_us(row["added_us"]),
    )


def _region(values: dict[str, Any]) -> Detection:
    values = {_RENAMED.get(name, name): value for name, value in values.items()}
    pairs = {name: tuple(values[name]) for name in ("box", "centroid", "ground_point")}
    return Detection(**{**values, **pairs})


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
