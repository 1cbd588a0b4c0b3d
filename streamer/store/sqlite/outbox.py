"""The outbox in SQLite: states, order and due times of the deliveries."""
# ruff: noqa: D102  the methods are described by the protocol

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

import structlog

from streamer.core.clock import Clock
from streamer.core.process_lock import ProcessLock
from streamer.store.records import Backlog, Delivery, DeliveryState

from .database import Database
from .rows import EVENT_COLUMNS, UNREADABLE, from_us, readable, recorded_event, to_us

_log = structlog.get_logger(__name__)

_MICROSECOND: Final = timedelta(microseconds=1)

_SELECT: Final = f"""
SELECT delivery.number AS delivery_number, channel, state, attempts, backoff_us, due_us, changed_us,
       error, {EVENT_COLUMNS},
       EXISTS (SELECT 1 FROM delivery AS later JOIN event AS what ON what.number = later.event
               WHERE later.channel = delivery.channel AND later.number > delivery.number
                 AND later.state = 'confirmed' AND what.camera = event.camera) AS superseded,
       EXISTS (SELECT 1 FROM alarm WHERE alarm.camera = event.camera AND alarm.open = 1)
       AS camera_in_alarm
FROM delivery JOIN event ON event.number = delivery.event
"""  # noqa: S608  put together from constants

_SELECT_UNSETTLED: Final = _SELECT.replace(
    "FROM delivery JOIN", "FROM delivery INDEXED BY delivery_unsettled JOIN"
)
"""The same for conditions with `_OPEN`. Left alone, SQLite reads all deliveries in their order."""

_NEXT: Final = """
WITH head AS (
    SELECT number, attempts, due_us, changed_us FROM delivery
    WHERE channel = :channel AND state IN ('waiting', 'sending', 'dead') AND state = 'waiting'
      AND NOT EXISTS (
        SELECT 1 FROM delivery AS earlier
        WHERE earlier.channel = delivery.channel AND earlier.alarm_id = delivery.alarm_id
          AND earlier.number < delivery.number
          AND earlier.state IN ('waiting', 'sending', 'dead') AND earlier.state <> 'dead')
)
"""
"""The first open delivery of each alarm: the events of an alarm keep their order. The condition of
the partial index stands in it word for word, or SQLite would not use that index."""

_DUE: Final = f"""{_NEXT}
SELECT number FROM head
WHERE (due_us <= :now_us OR changed_us > :now_us) AND attempts <= :most_attempts
ORDER BY attempts, number LIMIT 1
"""  # noqa: S608  put together from constants
"""Untried deliveries come before failed ones. A change that lies in the future means that the wall
clock was set back; nothing waits for it to catch up."""

_BEGIN_ATTEMPT: Final = """
UPDATE delivery SET state = 'sending', attempts = attempts + 1, changed_us = :now_us
WHERE number = :number
"""
_BURY: Final = "UPDATE delivery SET state = 'dead', error = :error WHERE number = :number"

_OPEN: Final = "state IN ('waiting', 'sending', 'dead')"
_ANY_NUMBER_OF_TRIES: Final = 2**62


class SqliteOutbox:
    """Implements `streamer.store.Outbox`, which describes the methods."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []

    def _now_us(self) -> int:
        return to_us(self._clock.utc_at(self._clock.monotonic_ns()))

    def enqueue(
        self,
        connection: sqlite3.Connection,
        event_number: int,
        alarm_id: str,
        *,
        channels: Sequence[str],
        now_us: int,
        due_us: int,
        states: Mapping[str, DeliveryState],
    ) -> None:
        """Add a delivery per channel, within the transaction that records the event."""
        connection.executemany(
            """INSERT INTO delivery (event, alarm_id, channel, state, due_us, changed_us)
               VALUES (?, ?, ?, ?, ?, ?)""",
            [
                (
                    event_number, alarm_id, name,
                    states.get(name, DeliveryState.WAITING).value, due_us, now_us,
                )
                for name in dict.fromkeys(channels)
            ],
        )  # fmt: skip

    @staticmethod
    def image_came(connection: sqlite3.Connection, event_number: int, *, now_us: int) -> None:
        """Make due what waited for the image of an event, within the caller's transaction."""
        connection.execute(
            """UPDATE delivery SET due_us = :now_us
               WHERE event = :event AND state = 'waiting' AND attempts = 0 AND due_us > :now_us""",
            {"event": event_number, "now_us": now_us},
        )

    def subscribe(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        self._listeners.remove(listener)

    def announce(self) -> None:
        """Call the listeners: something may be due."""
        for listener in tuple(self._listeners):
            listener()

    def lock(self, channel: str) -> ProcessLock:
        path = self._database.path.resolve()
        return ProcessLock(path.with_name(f"{path.name}.{quote(channel, safe='')}.lock"))

    def recover(self, channel: str) -> int:
        with self._database.transaction() as connection:
            return connection.execute(
                """UPDATE delivery SET state = 'waiting', due_us = :now_us, changed_us = :now_us,
                                       error = 'the program ended during the attempt'
                   WHERE channel = :channel AND state IN ('waiting', 'sending', 'dead')
                     AND state = 'sending'""",
                {"channel": channel, "now_us": self._now_us()},
            ).rowcount

    def claim(self, channel: str, *, untried_only: bool = False) -> Delivery | None:
        values = {
            "channel": channel,
            "now_us": self._now_us(),
            "most_attempts": 0 if untried_only else _ANY_NUMBER_OF_TRIES,
        }
        if not self._database.read(_DUE, values):  # Polling every few seconds writes nothing.
            return None
        with self._database.transaction() as connection:
            while (due := connection.execute(_DUE, values).fetchone()) is not None:
                values["number"] = due["number"]
                connection.execute(_BEGIN_ATTEMPT, values)
                row = connection.execute(f"{_SELECT} WHERE delivery.number = :number", values)
                try:
                    return self._delivery(row.fetchone())
                except UNREADABLE as error:  # It must not hold up all others.
                    reason = f"cannot be read: {error}"
                    _log.error("dead letter", channel=channel, number=due["number"], error=reason)
                    connection.execute(_BURY, {**values, "error": reason})
        return None

    def confirm(self, number: int) -> datetime:
        now_us = self._now_us()
        self._finish(
            number, state=DeliveryState.CONFIRMED, due_us=now_us, now_us=now_us,
            unless="state = 'confirmed'",
        )  # fmt: skip
        return from_us(now_us)

    def reschedule(self, number: int, *, after: timedelta, error: str) -> None:
        now_us, delay_us = self._now_us(), after // _MICROSECOND
        self._finish(
            number, state=DeliveryState.WAITING, due_us=now_us + delay_us, now_us=now_us,
            backoff_us=delay_us, error=error,
        )  # fmt: skip

    def dead_letter(self, number: int, *, error: str) -> None:
        now_us = self._now_us()
        self._finish(number, state=DeliveryState.DEAD, due_us=now_us, now_us=now_us, error=error)

    def _finish(
        self,
        number: int,
        *,
        state: DeliveryState,
        due_us: int,
        now_us: int,
        backoff_us: int = 0,
        error: str | None = None,
        unless: str = "state NOT IN ('waiting', 'sending')",
    ) -> None:
        """Record an outcome, which may come late: nothing is wrong when it changes no row."""
        with self._database.transaction() as connection:
            connection.execute(
                f"""UPDATE delivery SET state = :state, due_us = :due_us, changed_us = :now_us,
                                        backoff_us = backoff_us + :backoff_us, error = :error
                    WHERE number = :number AND NOT ({unless})""",  # noqa: S608  constants
                {
                    "number": number, "state": state.value, "due_us": due_us, "now_us": now_us,
                    "backoff_us": backoff_us, "error": error,
                },
            )  # fmt: skip

    def expedite(self, channel: str) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                """UPDATE delivery SET due_us = :now_us
                   WHERE channel = :channel AND state IN ('waiting', 'sending', 'dead')
                     AND state = 'waiting' AND due_us > :now_us""",
                {"channel": channel, "now_us": self._now_us()},
            )

    def next_due(self, channel: str) -> timedelta | None:
        row = self._database.read(
            f"{_NEXT} SELECT min(due_us) AS due_us FROM head",  # noqa: S608  constants
            {"channel": channel},
        )[0]
        return None if row["due_us"] is None else (row["due_us"] - self._now_us()) * _MICROSECOND

    def pending(self, *, channel: str | None = None) -> list[Delivery]:
        rows = self._database.read(
            f"""{_SELECT_UNSETTLED} WHERE {_OPEN} AND (:channel IS NULL OR channel = :channel)
                ORDER BY delivery.number""",
            {"channel": channel},
        )
        return list(readable(rows, self._delivery))

    def of_event(self, event_id: str) -> list[Delivery]:
        rows = self._database.read(
            f"{_SELECT} WHERE event.id = :id ORDER BY delivery.number", {"id": event_id}
        )
        return list(readable(rows, self._delivery))

    def backlog(self) -> dict[str, Backlog]:
        rows = self._database.read(
            f"""SELECT channel, sum(state <> 'dead') AS waiting, sum(state = 'dead') AS dead,
                       min(CASE WHEN state <> 'dead' THEN added_us END) AS oldest_us
                FROM delivery JOIN event ON event.number = delivery.event
                WHERE {_OPEN} GROUP BY channel ORDER BY channel"""  # noqa: S608  constants
        )
        return {
            row["channel"]: Backlog(
                waiting=row["waiting"],
                dead=row["dead"],
                oldest=None if row["oldest_us"] is None else from_us(row["oldest_us"]),
            )
            for row in rows
        }

    def retry(self, numbers: Collection[int] | None = None) -> int:
        now_us = self._now_us()
        renew = """UPDATE delivery SET state = 'waiting', attempts = 0, backoff_us = 0,
                                       due_us = :now_us, changed_us = :now_us"""
        with self._database.transaction() as connection:
            if numbers is None:
                changed = connection.execute(
                    f"{renew} WHERE {_OPEN} AND state = 'dead'", {"now_us": now_us}
                )
                count = changed.rowcount
            else:
                count = sum(
                    connection.execute(
                        f"{renew} WHERE number = :number AND state IN ('waiting', 'dead')",
                        {"now_us": now_us, "number": number},
                    ).rowcount
                    for number in set(numbers)
                )
        self.announce()
        return count

    def give_up(self, numbers: Collection[int]) -> int:
        with self._database.transaction() as connection:
            return sum(
                connection.execute(
                    """UPDATE delivery SET state = 'given up', changed_us = :now_us
                       WHERE number = :number AND state IN ('waiting', 'dead')""",
                    {"now_us": self._now_us(), "number": number},
                ).rowcount
                for number in set(numbers)
            )

    def _delivery(self, row: sqlite3.Row) -> Delivery:
        return Delivery(
            number=row["delivery_number"],
            channel=row["channel"],
            recorded=recorded_event(row, self._database.data_dir),
            state=DeliveryState(row["state"]),
            attempts=row["attempts"],
            backoff_total=row["backoff_us"] * _MICROSECOND,
            due=from_us(row["due_us"]),
            changed=from_us(row["changed_us"]),
            error=row["error"],
            superseded=bool(row["superseded"]),
            camera_in_alarm=bool(row["camera_in_alarm"]),
        )
