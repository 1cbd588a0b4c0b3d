"""The outbox: which event is still to be told to which channel.

    waiting -> sending -> confirmed
       ^          |
       |          +--> waiting    failed, again later
       |          +--> dead       failed for good: a dead letter, kept for a person
       +------------- dead        a person brings it back
    waiting, dead -> given up     a person gives up on it

`sending` is on disk before the attempt begins. Only the process that holds the channel's lock
makes such rows, so whatever it finds as `sending` when it takes the lock was cut off by the end
of an earlier process, and is tried again.
"""

import enum
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from streamer.core.clock import Clock

from .channel_lock import ChannelLock
from .database import Database
from .events import EVENT_COLUMNS, RecordedEvent, from_us, recorded_event, to_us

_MICROSECOND: Final = timedelta(microseconds=1)


class DeliveryState(enum.Enum):
    """Where a delivery stands."""

    WAITING = "waiting"
    """For its first try or the next."""

    SENDING = "sending"
    """An attempt has begun; whether it arrived is not known."""

    CONFIRMED = "confirmed"
    """The receiver has acknowledged it."""

    DEAD = "dead"
    """Refused for good, or tried for too long: a person decides."""

    GIVEN_UP = "given up"
    """A person has given up on it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one channel."""

    number: int
    """Names the delivery, from 1."""

    channel: str

    recorded: RecordedEvent

    state: DeliveryState

    attempts: int
    """How often it was tried, the present attempt included."""

    waited: timedelta
    """Sum of the pauses between its attempts."""

    due: datetime
    """When it may be tried, aware UTC."""

    changed: datetime
    """When its state last changed, aware UTC."""

    error: str | None
    """Why the last attempt failed."""

    superseded: bool
    """Whether a later event of the same camera has already been confirmed on this channel."""

    @property
    def key(self) -> str:
        """The same for each attempt, and for no other delivery."""
        return f"{self.recorded.event.id}:{self.channel}"


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a channel has not been told yet."""

    waiting: int
    dead: int

    oldest: datetime | None
    """When the oldest event that waits was recorded; `None` if none waits."""


_SELECT: Final = f"""
SELECT delivery.number AS delivery_number, channel, state, attempts, waited_us, due_us, changed_us,
       error, {EVENT_COLUMNS},
       EXISTS (SELECT 1 FROM delivery AS later JOIN event AS what ON what.number = later.event
               WHERE later.channel = delivery.channel AND later.number > delivery.number
                 AND later.state = 'confirmed' AND what.camera = event.camera) AS overtaken
FROM delivery JOIN event ON event.number = delivery.event
"""  # noqa: S608  put together from constants

_NEXT: Final = """
WITH head AS (
    SELECT number, attempts, due_us, changed_us FROM delivery
    WHERE channel = :channel AND state = 'waiting' AND NOT EXISTS (
        SELECT 1 FROM delivery AS earlier
        WHERE earlier.channel = delivery.channel AND earlier.alarm_id = delivery.alarm_id
          AND earlier.number < delivery.number AND earlier.state IN ('waiting', 'sending'))
)
"""
"""The first open delivery of each alarm: no event overtakes an earlier one of its alarm."""

_DUE: Final = f"""{_NEXT}
SELECT number FROM head
WHERE (due_us <= :now_us OR changed_us > :now_us) AND attempts <= :most_attempts
ORDER BY attempts, number LIMIT 1
"""  # noqa: S608  put together from constants
"""New events go before what failed already. A change that lies in the future says that the wall
clock was set back; nothing waits for it to come round again."""

_OPEN: Final = "state IN ('waiting', 'sending', 'dead')"
_ANY_NUMBER_OF_TRIES: Final = 2**62


class Outbox:
    """The deliveries in the store. For any thread; an attempt belongs to the lock's holder."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []

    def _now_us(self) -> int:
        return to_us(self._clock.utc_at(self._clock.monotonic_ns()))

    # Filling it.

    def enqueue(
        self,
        connection: sqlite3.Connection,
        event_number: int,
        alarm_id: str,
        *,
        channels: Sequence[str],
        now_us: int,
    ) -> None:
        """Add a delivery per channel, within the transaction that records the event."""
        connection.executemany(
            """INSERT INTO delivery (event, alarm_id, channel, state, due_us, changed_us)
               VALUES (?, ?, ?, 'waiting', ?, ?)""",
            [(event_number, alarm_id, name, now_us, now_us) for name in dict.fromkeys(channels)],
        )

    def listen(self, listener: Callable[[], None]) -> None:
        """Call *listener* whenever this process adds or brings back a delivery."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call *listener* no more."""
        self._listeners.remove(listener)

    def announce(self) -> None:
        """Tell the listeners that something may be due."""
        for listener in tuple(self._listeners):
            listener()

    # Working it off.

    def lock(self, channel: str) -> ChannelLock:
        """The right to deliver for *channel*; hold it around `claim` and what follows."""
        return ChannelLock(self._database.path, channel)

    def recover(self, channel: str) -> int:
        """Make due again what an earlier process left as `sending`. The lock must be held."""
        with self._database.transaction() as connection:
            return connection.execute(
                """UPDATE delivery SET state = 'waiting', due_us = :now_us, changed_us = :now_us,
                                       error = 'the program ended during the attempt'
                   WHERE channel = :channel AND state = 'sending'""",
                {"channel": channel, "now_us": self._now_us()},
            ).rowcount

    def claim(self, channel: str, *, untried_only: bool = False) -> Delivery | None:
        """Begin an attempt at the most urgent delivery that is due. The lock must be held.

        Per alarm the order of the events is kept; among alarms, the untried come first.

        Args:
            channel: Whose deliveries.
            untried_only: Only what was never tried.
        """
        values = {
            "channel": channel,
            "now_us": self._now_us(),
            "most_attempts": 0 if untried_only else _ANY_NUMBER_OF_TRIES,
        }
        if not self._database.read(_DUE, values):  # Looking every few seconds writes nothing.
            return None
        with self._database.transaction() as connection:
            due = connection.execute(_DUE, values).fetchone()
            if due is None:  # A person gave up on it in between.
                return None
            values["number"] = due["number"]
            connection.execute(
                """UPDATE delivery
                   SET state = 'sending', attempts = attempts + 1, changed_us = :now_us
                   WHERE number = :number""",
                values,
            )
            row = connection.execute(f"{_SELECT} WHERE delivery.number = :number", values)
            return _delivery(row.fetchone())

    def confirm(self, number: int) -> datetime:
        """Note that the receiver acknowledged it.

        Returns:
            When that was, aware UTC.
        """
        now_us = self._now_us()
        self._finish(number, state=DeliveryState.CONFIRMED, due_us=now_us, now_us=now_us)
        return from_us(now_us)

    def reschedule(self, number: int, *, after: timedelta, error: str) -> None:
        """Note that the attempt failed, and that the next is due *after* a pause."""
        now_us, pause_us = self._now_us(), after // _MICROSECOND
        self._finish(
            number, state=DeliveryState.WAITING, due_us=now_us + pause_us, now_us=now_us,
            waited_us=pause_us, error=error,
        )  # fmt: skip

    def dead_letter(self, number: int, *, error: str) -> None:
        """Make it a dead letter: it is kept, and not tried until a person wants it."""
        now_us = self._now_us()
        self._finish(number, state=DeliveryState.DEAD, due_us=now_us, now_us=now_us, error=error)

    def _finish(
        self,
        number: int,
        *,
        state: DeliveryState,
        due_us: int,
        now_us: int,
        waited_us: int = 0,
        error: str | None = None,
    ) -> None:
        with self._database.transaction() as connection:
            changed = connection.execute(
                """UPDATE delivery SET state = :state, due_us = :due_us, changed_us = :now_us,
                                       waited_us = waited_us + :waited_us, error = :error
                   WHERE number = :number AND state = 'sending'""",
                {
                    "number": number, "state": state.value, "due_us": due_us, "now_us": now_us,
                    "waited_us": waited_us, "error": error,
                },
            ).rowcount  # fmt: skip
            if not changed:
                raise RuntimeError(f"delivery {number} is not being sent")

    def hurry(self, channel: str) -> None:
        """Make all that waits on *channel* due now: its receiver is back."""
        with self._database.transaction() as connection:
            connection.execute(
                """UPDATE delivery SET due_us = :now_us
                   WHERE channel = :channel AND state = 'waiting' AND due_us > :now_us""",
                {"channel": channel, "now_us": self._now_us()},
            )

    def next_due(self, channel: str) -> timedelta | None:
        """How long until something can be claimed; zero or less is now, `None` is never."""
        row = self._database.read(
            f"{_NEXT} SELECT min(due_us) AS due_us FROM head",  # noqa: S608  constants
            {"channel": channel},
        )[0]
        return None if row["due_us"] is None else (row["due_us"] - self._now_us()) * _MICROSECOND

    # For people.

    def pending(self, *, channel: str | None = None) -> list[Delivery]:
        """All that is neither confirmed nor given up, oldest first, dead letters included."""
        rows = self._database.read(
            f"""{_SELECT} WHERE {_OPEN} AND (:channel IS NULL OR channel = :channel)
                ORDER BY delivery.number""",
            {"channel": channel},
        )
        return [_delivery(row) for row in rows]

    def of_event(self, event_id: str) -> list[Delivery]:
        """All deliveries of an event, whatever their state."""
        rows = self._database.read(
            f"{_SELECT} WHERE event.id = :id ORDER BY delivery.number", {"id": event_id}
        )
        return [_delivery(row) for row in rows]

    def backlog(self) -> dict[str, Backlog]:
        """By channel, for all channels that something waits for or died on."""
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
        """Bring dead letters back, as if new, and make due at once what waits.

        Args:
            numbers: Which; `None` for all dead letters.

        Returns:
            How many are due now.
        """
        now_us = self._now_us()
        renew = """UPDATE delivery SET state = 'waiting', attempts = 0, waited_us = 0,
                                       due_us = :now_us, changed_us = :now_us"""
        with self._database.transaction() as connection:
            if numbers is None:
                changed = connection.execute(f"{renew} WHERE state = 'dead'", {"now_us": now_us})
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
        """End deliveries for good because a person says so; an attempt under way is not touched.

        Returns:
            How many were ended.
        """
        with self._database.transaction() as connection:
            return sum(
                connection.execute(
                    """UPDATE delivery SET state = 'given up', changed_us = :now_us
                       WHERE number = :number AND state IN ('waiting', 'dead')""",
                    {"now_us": self._now_us(), "number": number},
                ).rowcount
                for number in set(numbers)
            )


def _delivery(row: sqlite3.Row) -> Delivery:
    return Delivery(
        number=row["delivery_number"],
        channel=row["channel"],
        recorded=recorded_event(row),
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        waited=row["waited_us"] * _MICROSECOND,
        due=from_us(row["due_us"]),
        changed=from_us(row["changed_us"]),
        error=row["error"],
        superseded=bool(row["overtaken"]),
    )
