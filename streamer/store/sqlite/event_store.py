"""The event store in SQLite."""
# ruff: noqa: D102  the methods are described by the protocol

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from streamer.alarm.event import Event, EventKind
from streamer.core.clock import Clock, SystemClock
from streamer.store.protocols import EventRefused
from streamer.store.records import DeliveryState, EvidenceState, RecordedEvent

from .database import Database
from .outbox import SqliteOutbox
from .retention import SqliteEventRetention
from .rows import EVENT_COLUMNS, event_columns, readable, recorded_event, stored_path, to_us

_PAGE: Final = 500
"""Events read at once, so that an export neither needs much memory nor delays an alarm."""

_INSERT: Final = """
INSERT INTO event (id, alarm_id, sequence, kind, camera, pts_ns, utc_us, onset_ns, reason, score,
                   regions, evidence, image, added_us, evidence_state)
VALUES (:id, :alarm_id, :sequence, :kind, :camera, :pts_ns, :utc_us, :onset_ns, :reason, :score,
        :regions, :evidence, :image, :added_us, :evidence_state)
"""

_INSERT_ALARM: Final = """
INSERT INTO alarm (alarm_id, camera, newest, open) VALUES (:alarm_id, :camera, :number, :open)
ON CONFLICT (alarm_id) DO UPDATE SET newest = excluded.newest, open = excluded.open
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
WHERE number IN (SELECT newest FROM alarm WHERE open = 1) ORDER BY number
"""  # noqa: S608  put together from constants

_BEYOND: Final = 2**62
"""Larger than every number of an event."""


class SqliteEventStore:
    """Implements `streamer.store.EventStore` in one file. For any thread, and several processes.

    Args:
        path: The file. Paths of evidence below its folder are stored relative to that folder.
        create: Whether to make a missing file and its folder; without, it is an error.
        read_only: See `open_read_only`.
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
        read_only: bool = False,
    ) -> None:
        self._clock = clock or SystemClock()
        self._database = Database(path, create=create, read_only=read_only)
        self._outbox = SqliteOutbox(self._database, clock=self._clock)
        self._retention = SqliteEventRetention(self._database, clock=self._clock)

    @classmethod
    def open_read_only(cls, path: Path) -> Self:
        """Open an existing store for reading: a full or read-only file system suffices.

        Every method that writes raises `StorageError`.

        Raises:
            StorageError: There is no such file, or it cannot be read.
        """
        return cls(path, create=False, read_only=True)

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
        evidence_state: EvidenceState = EvidenceState.NONE,
        channels: Sequence[str] = (),
        image_wait: timedelta = timedelta(0),
        states: Mapping[str, DeliveryState] | None = None,
    ) -> bool:
        now_us = self._now_us()
        self._database.check_in_place()
        with _refusing(event), self._database.transaction() as connection:
            values = event_columns(event)
            row = connection.execute(f"{_SELECT} WHERE id = :id", values).fetchone()
            if row is not None:
                if event_columns(self._recorded(row).event) != values:
                    raise EventRefused(f"another event was recorded as {event.id!r}")
                return False
            paths = {
                "evidence": stored_path(evidence, self._database.data_dir),
                "image": stored_path(image, self._database.data_dir),
                "added_us": now_us,
                "evidence_state": evidence_state.value,
            }
            number = connection.execute(_INSERT, values | paths).lastrowid
            assert number is not None, "an insert has a row"
            is_open = int(event.kind is not EventKind.CLEARED)
            connection.execute(_INSERT_ALARM, {**values, "number": number, "open": is_open})
            self._outbox.enqueue(
                connection, number, event.alarm_id, channels=channels, now_us=now_us,
                due_us=now_us + image_wait // timedelta(microseconds=1), states=states or {},
            )  # fmt: skip
        self._outbox.announce()
        return True

    def set_evidence(
        self, event_id: str, state: EvidenceState, *, reason: str = "", image: Path | None = None
    ) -> None:
        values = {
            "id": event_id,
            "state": state.value,
            "reason": reason,
            "image": stored_path(image, self._database.data_dir),
        }
        with self._database.transaction() as connection:
            row = connection.execute(
                """UPDATE event SET evidence_state = :state, evidence_reason = :reason,
                                    image = coalesce(:image, image)
                   WHERE id = :id RETURNING number""",
                values,
            ).fetchone()
            if row is not None:
                self._outbox.image_came(connection, row["number"], now_us=self._now_us())
        self._outbox.announce()

    def pending_evidence(self, *, camera: str) -> list[RecordedEvent]:
        query = f"{_SELECT} WHERE camera = :camera AND evidence_state = 'pending' ORDER BY number"
        return list(readable(self._database.read(query, {"camera": camera}), self._recorded))

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
            yield from readable(rows, self._recorded)
            if len(rows) < values["page"]:
                return
            left -= len(rows)
            values["last"] = rows[-1]["event_number"]

    def event(self, event_id: str) -> RecordedEvent | None:
        rows = self._database.read(f"{_SELECT} WHERE id = :id", {"id": event_id})
        return self._recorded(rows[0]) if rows else None

    def open_alarms(self) -> list[RecordedEvent]:
        return list(readable(self._database.read(_OPEN_ALARMS), self._recorded))

    def _now_us(self) -> int:
        return to_us(self._clock.utc_at(self._clock.monotonic_ns()))

    def _recorded(self, row: sqlite3.Row) -> RecordedEvent:
        return recorded_event(row, self._database.data_dir)

    def check(self) -> str:
        """Write to the disk; return what will prevent that soon, or an empty string.

        Raises:
            StorageError: It cannot be written.
        """
        self._database.check_writable()
        return self._database.reserve.shortage()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _refusing(event: Event) -> Iterator[None]:
    """Tell an event that can never be stored from a disk that does not take it now."""
    try:
        yield
    except (sqlite3.IntegrityError, ValueError, TypeError, OverflowError) as error:
        # A number that is not one, or too large for a column.
        raise EventRefused(f"event {event.id!r} cannot be stored: {error}") from error
