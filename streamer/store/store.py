"""The event store: what happened, on disk before anyone is told."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from streamer.alarm.event import Event, EventKind
from streamer.core.clock import Clock, SystemClock
from streamer.core.errors import StorageError

from .database import Database
from .events import EVENT_COLUMNS, RecordedEvent, event_columns, recorded_event, to_us
from .outbox import Outbox

_PAGE: Final = 500
"""Events read at once, so that an export neither needs much memory nor holds up an alarm."""

_INSERT: Final = """
INSERT INTO event (id, alarm_id, sequence, kind, camera, pts_ns, utc_us, onset_ns, why, score,
                   regions, evidence, picture, added_us)
VALUES (:id, :alarm_id, :sequence, :kind, :camera, :pts_ns, :utc_us, :onset_ns, :why, :score,
        :regions, :evidence, :picture, :added_us)
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
"""Above every number."""


class Store:
    """Events and their deliveries in one SQLite file. For any thread, and several processes.

    Args:
        path: Of the file; missing folders are made.
        create: Whether a missing file is made; without, it is an error.
        clock: Tells when an event was recorded and a delivery is due.

    Raises:
        StorageError: It cannot be used; the message says in one line what to do.
    """

    def __init__(self, path: Path, *, create: bool = True, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._database = Database(path, create=create)
        self.outbox = Outbox(self._database, clock=self._clock)
        """What is still to be told, and to whom."""

    @property
    def path(self) -> Path:
        """Of the file."""
        return self._database.path

    def add(
        self,
        event: Event,
        *,
        evidence: Path | None = None,
        picture: Path | None = None,
        channels: Sequence[str] = (),
    ) -> bool:
        """Record *event* and one delivery per channel; both are on disk when this returns.

        Args:
            event: What happened.
            evidence: Folder of the alarm's evidence.
            picture: File that is sent along, by channels that send pictures.
            channels: Names of those who are to be told.

        Returns:
            False if this event was recorded before; then nothing is changed.

        Raises:
            StorageError: It is not on disk; or another event has the same id.
        """
        values = event_columns(event)
        now_us = to_us(self._clock.utc_at(self._clock.monotonic_ns()))
        with self._database.transaction() as connection:
            known = connection.execute(f"{_SELECT} WHERE id = :id", values).fetchone()
            if known is not None:
                if event_columns(recorded_event(known).event) != values:
                    raise StorageError(f"another event was recorded as {event.id!r}")
                return False
            paths = {
                "evidence": _absolute(evidence),
                "picture": _absolute(picture),
                "added_us": now_us,
            }
            number = connection.execute(_INSERT, values | paths).lastrowid
            assert number is not None, "an insert has a row"
            self.outbox.enqueue(
                connection, number, event.alarm_id, channels=channels, now_us=now_us
            )
        self.outbox.announce()
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
        """Events in the order of recording, read page by page.

        Args:
            camera: Only its events.
            kind: Only such events.
            since: Only events of that wall time or later, aware.
            limit: At most so many.
            newest_first: The other way round.
        """
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
            yield from map(recorded_event, rows)
            if len(rows) < values["page"]:
                return
            left -= len(rows)
            values["last"] = rows[-1]["event_number"]

    def event(self, event_id: str) -> RecordedEvent | None:
        """The event with this id, if it was recorded."""
        rows = self._database.read(f"{_SELECT} WHERE id = :id", {"id": event_id})
        return recorded_event(rows[0]) if rows else None

    def open_alarms(self) -> list[RecordedEvent]:
        """The newest event of each alarm that was never cleared.

        After a restart these are the alarms that a killed program left behind.
        """
        return [recorded_event(row) for row in self._database.read(_OPEN_ALARMS)]

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
