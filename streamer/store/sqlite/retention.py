"""Legal holds and deletion of alarms in SQLite."""
# ruff: noqa: D102  the methods are described by the protocol

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from streamer.core.clock import Clock
from streamer.store.retention import Expired, Hold, StoredAlarm

from .database import Database
from .rows import from_us, resolved_path, to_us

_PROTECTED: Final = """
(SELECT kind FROM event WHERE alarm_id = :id ORDER BY number DESC LIMIT 1) <> 'cleared'
OR EXISTS (SELECT 1 FROM hold WHERE alarm_id = :id)
OR EXISTS (SELECT 1 FROM delivery WHERE state IN ('waiting', 'sending')
           AND event IN (SELECT number FROM event WHERE alarm_id = :id))
OR EXISTS (SELECT 1 FROM event WHERE alarm_id = :id AND evidence_state = 'pending')
"""

_ALARMS: Final = """
SELECT event.alarm_id, camera, number, added_us, kind <> 'cleared' AS open,
       (SELECT evidence FROM event AS other
        WHERE other.alarm_id = event.alarm_id AND evidence IS NOT NULL
          AND evidence_deleted_us IS NULL LIMIT 1) AS evidence,
       EXISTS (SELECT 1 FROM hold WHERE hold.alarm_id = event.alarm_id) AS held,
       EXISTS (SELECT 1 FROM delivery WHERE delivery.event IN
                   (SELECT number FROM event AS other WHERE other.alarm_id = event.alarm_id)
                 AND state IN ('waiting', 'sending')) AS undelivered,
       EXISTS (SELECT 1 FROM event AS other WHERE other.alarm_id = event.alarm_id
                 AND evidence_state = 'pending') AS evidence_pending
FROM event
WHERE number IN (SELECT max(number) FROM event GROUP BY alarm_id)
ORDER BY number
"""

_STEP_PAGES: Final = 256
"""Free pages given back in one step: one megabyte, a few milliseconds of the store's lock."""

_INCREMENTAL: Final = 2
"""`PRAGMA auto_vacuum` of a store that can give pages back in steps."""

_WASTE: Final = 0.25
"""Share of free pages from which an older store, which cannot give them back, is rewritten."""


class SqliteEventRetention:
    """Implements `streamer.store.EventRetention`, which describes the methods."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def alarms(self) -> list[StoredAlarm]:
        with self._reading() as connection:
            rows = connection.execute(_ALARMS).fetchall()
        return [
            StoredAlarm(
                alarm_id=row["alarm_id"],
                camera=row["camera"],
                number=row["number"],
                added=from_us(row["added_us"]),
                evidence=self._folder(row["evidence"]),
                open=bool(row["open"]),
                held=bool(row["held"]),
                undelivered=bool(row["undelivered"]),
                evidence_pending=bool(row["evidence_pending"]),
            )
            for row in rows
        ]

    def delete(self, alarm_id: str) -> bool:
        values = {"id": alarm_id}
        with self._database.transaction() as connection:
            if self._is_protected(connection, alarm_id):
                return False
            gone = connection.execute(
                "SELECT count(*) AS events, max(utc_us) AS until_us FROM event"
                " WHERE alarm_id = :id",
                values,
            ).fetchone()
            # By event and not by `alarm_id`: an index leads from the event to its deliveries.
            connection.execute(
                """DELETE FROM delivery
                   WHERE event IN (SELECT number FROM event WHERE alarm_id = :id)""",
                values,
            )
            connection.execute("DELETE FROM alarm WHERE alarm_id = :id", values)
            connection.execute("DELETE FROM event WHERE alarm_id = :id", values)
            connection.execute(
                """INSERT INTO expired (one, alarms, events, until_us)
                   VALUES (1, 1, :events, :until_us)
                   ON CONFLICT (one) DO UPDATE SET
                       alarms = alarms + 1, events = events + excluded.events,
                       until_us = max(until_us, excluded.until_us)""",
                {"events": gone["events"], "until_us": gone["until_us"]},
            )
        return True

    def forget_evidence(self, alarm_id: str) -> bool:
        with self._database.transaction() as connection:
            if self._is_protected(connection, alarm_id):
                return False
            connection.execute(
                """UPDATE event SET evidence_deleted_us = :now_us
                   WHERE alarm_id = :id AND evidence IS NOT NULL""",
                {"id": alarm_id, "now_us": self._now_us()},
            )
        return True

    def hold(self, alarm_id: str, reason: str = "") -> bool:
        with self._database.transaction() as connection:
            known = connection.execute(
                "SELECT 1 FROM event WHERE alarm_id = :id LIMIT 1", {"id": alarm_id}
            ).fetchone()
            if known is None:
                return False
            connection.execute(
                """INSERT INTO hold (alarm_id, since_us, reason) VALUES (:id, :now_us, :reason)
                   ON CONFLICT (alarm_id) DO UPDATE SET reason = excluded.reason""",
                {"id": alarm_id, "now_us": self._now_us(), "reason": reason},
            )
        return True

    def release(self, alarm_id: str) -> bool:
        with self._database.transaction() as connection:
            done = connection.execute("DELETE FROM hold WHERE alarm_id = :id", {"id": alarm_id})
        return bool(done.rowcount)

    def holds(self) -> list[Hold]:
        rows = self._database.read("SELECT alarm_id, since_us, reason FROM hold ORDER BY since_us")
        return [Hold(row["alarm_id"], from_us(row["since_us"]), row["reason"]) for row in rows]

    def expired(self) -> Expired | None:
        rows = self._database.read("SELECT alarms, events, until_us FROM expired")
        if not rows:
            return None
        return Expired(rows[0]["alarms"], rows[0]["events"], from_us(rows[0]["until_us"]))

    def size_bytes(self) -> int:
        pages, free = self._pragma("page_count"), self._pragma("freelist_count")
        return (pages - free) * self._pragma("page_size")

    def compact(self) -> None:
        if self._pragma("auto_vacuum") != _INCREMENTAL:
            self._rewrite()
            return
        while free := self._pragma("freelist_count"):
            with self._database.exclusive() as connection:
                # `execute` would free one page only: it takes one step of the statement.
                connection.executescript(f"PRAGMA incremental_vacuum({_STEP_PAGES})")
            if self._pragma("freelist_count") >= free:  # Another process reads the old pages.
                return

    def _rewrite(self) -> None:
        """Rewrite a store of an older version once, so that it can give pages back from then on."""
        if self._pragma("freelist_count") < _WASTE * self._pragma("page_count"):
            return
        with self._database.exclusive() as connection:
            connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
            connection.execute("VACUUM")

    def _pragma(self, name: str) -> int:
        return int(self._database.read(f"PRAGMA {name}")[0][0])

    def _is_protected(self, connection: sqlite3.Connection, alarm_id: str) -> bool:
        """Whether it is protected, or not there."""
        found = connection.execute(f"SELECT {_PROTECTED}", {"id": alarm_id}).fetchone()[0]
        return found is None or bool(found)

    def _folder(self, text: str | None) -> Path | None:
        return resolved_path(text, self._database.data_dir)

    def _now_us(self) -> int:
        return to_us(self._clock.utc_at(self._clock.monotonic_ns()))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own: a long read in WAL mode delays no alarm."""
        with (
            self._database.translated(),
            contextlib.closing(sqlite3.connect(self._database.path)) as connection,
        ):
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA query_only = ON")
            yield connection
