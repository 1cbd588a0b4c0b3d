"""The event store in SQLite."""
# ruff: noqa: D102  the methods are described by the protocol

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from streamer.alarm.event import Event, EventKind
from streamer.core.clock import Clock, SystemClock
from streamer.core.errors import StorageError
from streamer.store.records import RecordedEvent

from .database import Database
from .outbox import SqliteOutbox
from .retention import SqliteEventRetention
from .rows import EVENT_COLUMNS, event_columns, recorded_event, stored_path, to_us

_PAGE: Final = 500
"""Events read at once, so that an export neither needs much memory nor delays an alarm."""

_INSERT: Final = """
INSERT INTO event (id, alarm_id, sequence, kind, camera, pts_ns, utc_us, onset_ns, reason, score,
                   regions, evidence, image, added_us)
VALUES (:id, :alarm_id, :sequence, :kind, :camera, :pts_ns, :utc_us, :onset_ns, :reason, :score,
        :regions, :evidence, :image, :added_us)
"""

_SELECT: Final = f"SELECT {EVENT_COLUMNS} FROM event"  # noqa: S608  put together from constants

_CHOSEN: Final = f"""{_SELECT}
WHERE (:camera IS NULL OR camera = :camera)
  AND (:kind IS NULL OR kind = :kind)
  AND (:since_us IS NULL OR utc_us >= :since_us)
"""
_OLDEST_FIRST: Final = f"{_CHOSEN} AND number > :last ORDER BY number LIMIT :page"
_NEWEST_FIRST: Final = f"{_CHOSEN} AND number < :last ORDER BY number DESC LIMIT :page"

_OPEN_ALARMS: Final = f"""{_SELECT}
WHERE number IN (SELECT max(number) FROM event GROUP BY alarm_id) AND kind <> 'cleared'
ORDER BY number
"""  # noqa: S608  put together from constants

_BEYOND: Final = 2**62
"""Larger than every number of an event."""


class SqliteEventStore:
    """Implements `streamer.store.EventStore` in one file. For any thread, and several processes.

    Args:
        path: The file. Paths of evidence below its folder are stored relative to that folder.
        create: Whether to make a missing file and its folder; without, it is an error.
        clock: Returns when an event is recorded and a delivery is due.

    Raises:
        StorageError: It cannot be used; the message says in one line what to do.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._database = Database(path, create=create)
        self._outbox = SqliteOutbox(self._database, clock=self._clock)
        self._retention = SqliteEventRetention(self._database, clock=self._clock)

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    @property
    def outbox(self) -> SqliteOutbox:
        return self._outbox

    @property
    def retention(self) -> SqliteEventRetention:
        return self._retention

    def add(
        self,
        event: Event,
        *,
        evidence: Path | None = None,
        image: Path | None = None,
        channels: Sequence[str] = (),
    ) -> bool:
        values = event_columns(event)
        now_us = to_us(self._clock.utc_at(self._clock.monotonic_ns()))
        with self._database.transaction() as connection:
            row = connection.execute(f"{_SELECT} WHERE id = :id", values).fetchone()
            if row is not None:
                if event_columns(self._recorded(row).event) != values:
                    raise StorageError(f"another event was recorded as {event.id!r}")
                return False
            paths = {
                "evidence": stored_path(evidence, self._database.data_dir),
                "image": stored_path(image, self._database.data_dir),
                "added_us": now_us,
            }
            number = connection.execute(_INSERT, values | paths).lastrowid
            assert number is not None, "an insert has a row"
            self._outbox.enqueue(
                connection, number, event.alarm_id, channels=channels, now_us=now_us
            )
        self._outbox.announce()
        return True

    def events(
        self,
        *,
        camera: str | None = None,
        kind: EventKind | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[RecordedEvent]:
        values: dict[str, Any] = {
            "camera": camera,
            "kind": None if kind is None else kind.value,
            "since_us": None if since is None else to_us(since),
            "last": _BEYOND if newest_first else 0,
        }
        query = _NEWEST_FIRST if newest_first else _OLDEST_FIRST
        left = _BEYOND if limit is None else limit
        while left > 0:
            values["page"] = min(left, _PAGE)
            rows = self._database.read(query, values)
            yield from map(self._recorded, rows)
            if len(rows) < values["page"]:
                return
            left -= len(rows)
            values["last"] = rows[-1]["event_number"]

    def event(self, event_id: str) -> RecordedEvent | None:
        rows = self._database.read(f"{_SELECT} WHERE id = :id", {"id": event_id})
        return self._recorded(rows[0]) if rows else None

    def open_alarms(self) -> list[RecordedEvent]:
        return [self._recorded(row) for row in self._database.read(_OPEN_ALARMS)]

    def _recorded(self, row: sqlite3.Row) -> RecordedEvent:
        return recorded_event(row, self._database.data_dir)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
