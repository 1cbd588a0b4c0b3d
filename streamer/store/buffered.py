"""An event store that never holds an alarm up: what the disk does not take in time is in memory.

It wraps a store that may be slow, full, damaged, or on a share that hangs. All calls to that store
are made by one thread and have a time limit. An event that is not on disk within it is delivered
from memory, and stored as soon as the disk takes it again; nothing is sent twice for that.
"""
# ruff: noqa: D102  the methods are described by the protocols

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast

import structlog

from streamer.alarm.event import Event, EventKind
from streamer.core.clock import Clock, SystemClock
from streamer.core.errors import StorageError

from .bounded_calls import BoundedCalls
from .buffered_outbox import BufferedOutbox, DurableStore, stored_number
from .memory import EventMemory, UnstoredEvent
from .protocols import EventRefused
from .records import DeliveryState, EvidenceState, RecordedEvent
from .retention import EventRetention

_log = structlog.get_logger(__name__)

_WAIT_S: Final = 2.0
"""Longest wait for the store: an alarm is then notified from memory. A commit takes 20 ms on a slow
disk; a person who waits for an alarm notices two seconds, but not more. Arbitrary."""

_OPEN_WAIT_S: Final = 30.0
"""The same when it is opened: a large store is checked, and migrated after an update."""

_PROBE_S: Final = 60.0
"""Time between two checks that the store can be written, so that a full disk is seen before a
fire is."""

_CLOSE_S: Final = 2.0
_FAILURES: Final = 2
"""Events that may fail in one attempt to store all; the others are tried next time."""

Value = TypeVar("Value")


class BufferedEventStore:
    """Implements `EventStore`; `add` returns within two seconds and never fails for the disk.

    Args:
        open_store: Opens the wrapped store; called again until it succeeds.
        name: Of the wrapped store, for messages.
        clock: Gives the wall time of what is in memory.
        wait_s: Longest wait for the wrapped store.
    """

    def __init__(
        self,
        open_store: Callable[[], DurableStore],
        *,
        name: str,
        clock: Clock | None = None,
        wait_s: float = _WAIT_S,
    ) -> None:
        self._open_store = open_store
        self._clock = clock or SystemClock()
        self.memory = EventMemory(self._now)
        """What is not on disk."""

        self._calls = BoundedCalls(
            f"event store {name}", name="store", timeout_s=wait_s, idle=self._maintain
        )
        # Used by the thread of the calls only.
        self._store: DurableStore | None = None
        self._checked_s = time.monotonic()

        self._guard = threading.Lock()
        # Guarded by _guard.
        # Newest event of each open alarm; replaced as a whole, and read without the lock, because
        # the memory asks for it under its own.
        self._open: dict[str, Event] = {}
        self._late_evidence: dict[str, tuple[EvidenceState, str, Path | None]] = {}
        self._warning = ""
        self._since_ns: int | None = None
        self.error: StorageError | None = None
        """Why the wrapped store could not be used last; `None` if it could."""

        self._outbox = BufferedOutbox(self, self.memory)
        try:
            self.call(lambda _: None, timeout_s=_OPEN_WAIT_S)
        except StorageError as error:
            _log.error("events are held in memory", error=str(error))

    @property
    def outbox(self) -> "BufferedOutbox":
        return self._outbox

    @property
    def retention(self) -> EventRetention:
        return cast("EventRetention", _Retention(self))

    def problem(self) -> tuple[str, int] | None:
        """Return why events are not safe on the disk, and since when (monotonic, nanoseconds)."""
        error = self.error
        unstored = [entry for entry in self.memory.unstored() if entry.deliverable]
        text = str(error) if error is not None else self._warning
        if self._calls.hangs_for_s:
            text = "the disk of the event store does not answer: check it"
        if unstored:
            if not text and all(entry.refused for entry in unstored):
                text = "the store refuses what is in them; the log says why"
            reason = text or "they are being stored"
            text = f"{len(unstored)} events are only in memory: {reason}"
        if not text:
            self._since_ns = None
            return None
        if self._since_ns is None:
            self._since_ns = self._clock.monotonic_ns()
        return text, self._since_ns

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
        """Store *event*, in memory if the disk does not take it in time.

        Returns:
            Whether it is on disk now.
        """
        assert not states, "only this class adds events that were attempted"
        entry = self.memory.add(
            event, evidence=evidence, image=image, evidence_state=evidence_state,
            channels=tuple(dict.fromkeys(channels)), image_wait=image_wait,
        )  # fmt: skip
        self._note_alarm(event)  # After it is in memory: see `_read_open_alarms`.
        try:
            self.call(self._store_all)
        except BaseException as error:  # noqa: BLE001  whatever it is, the alarm goes out
            if not entry.stored:
                bug = not isinstance(error, StorageError)
                _log.error(
                    "event held in memory", event_id=event.id, error=str(error), exc_info=bug
                )
        entry.deliverable = True  # Without effect if it is stored.
        self._outbox.announce()
        return entry.stored

    def set_evidence(
        self, event_id: str, state: EvidenceState, *, reason: str = "", image: Path | None = None
    ) -> None:
        if self.memory.set_evidence(event_id, state, reason=reason, image=image):
            self._outbox.announce()
            return

        with self._guard:
            self._late_evidence[event_id] = state, reason, image
        try:
            self.call(self._store_evidence)
        except StorageError as error:
            _log.error("state of evidence not stored yet", event_id=event_id, error=str(error))

    def events(
        self,
        *,
        camera: str | None = None,
        kind: EventKind | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[RecordedEvent]:
        yield from self.call(lambda store: store).events(
            camera=camera, kind=kind, since=since, limit=limit, newest_first=newest_first
        )

    def event(self, event_id: str) -> RecordedEvent | None:
        entry = self.memory.find(event_id)
        if entry is not None:
            return entry.recorded()
        return self.call(lambda store: store.event(event_id))

    def open_alarms(self) -> list[RecordedEvent]:
        """Return the open alarms, those in memory too; without the disk, only those."""
        newest = {one.event.alarm_id: one.recorded() for one in self.memory.unstored()}
        try:
            stored = self.call(lambda store: store.open_alarms())
        except StorageError:
            stored = []
        found = {one.event.alarm_id: one for one in stored} | newest
        return [one for one in found.values() if one.event.kind is not EventKind.CLEARED]

    def pending_evidence(self, *, camera: str) -> list[RecordedEvent]:
        return self.call(lambda store: store.pending_evidence(camera=camera))

    def is_in_alarm(self, camera: str) -> bool:
        """Whether an alarm of this camera is open, as far as this process knows. Never waits."""
        return any(event.camera == camera for event in self._open.values())

    def known_open_alarms(self) -> list[Event]:
        """Return the newest event of each open alarm that this process knows. Never waits."""
        return list(self._open.values())

    def close(self) -> None:
        """Store what is in memory, if the disk takes it now, and close the store."""
        self._calls.close(self._end, timeout_s=_CLOSE_S)
        for entry in self.memory.unstored():
            # The log is the last place where the event can be kept.
            record = json.dumps(entry.recorded().as_json())
            _log.error("event could not be stored", event_id=entry.event.id, record=record)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self, work: Callable[[DurableStore], Value], *, timeout_s: float | None = None
    ) -> Value:
        """Use the wrapped store in its thread, opening it if it is not open.

        Raises:
            StorageError: It cannot be used, or not in time.
        """
        return self._calls.call(lambda: work(self._opened()), timeout_s=timeout_s)

    # In the thread of the calls.

    def _opened(self) -> DurableStore:
        if self._store is None:
            store = self._noting(self._open_store)
            self._noting(lambda: self._read_open_alarms(store))
            store.outbox.subscribe(self._outbox.announce)
            self._store = store
            with contextlib.suppress(StorageError):
                self._check(store)
        return self._store

    def _read_open_alarms(self, store: DurableStore) -> None:
        """Read which alarms are open: a person may have closed one beside the program."""
        stored = store.open_alarms()
        with self._guard:  # An event that comes to memory from here on is noted after this.
            found = {one.event.alarm_id: one.event for one in stored}
            for entry in self.memory.unstored():  # Newer, in their order.
                found[entry.event.alarm_id] = entry.event
            self._open = _without_cleared(found)

    def _maintain(self) -> None:
        """Store what is in memory, and check now and then that the disk can be written."""
        due = time.monotonic() - self._checked_s >= _PROBE_S
        if not (due or self.error or self._late_evidence or self.memory.unstored()):
            return
        try:
            store = self._opened()
            if due or self.error:
                self._check(store)
                self._read_open_alarms(store)
            self._store_all(store)
            self._store_evidence(store)
        except StorageError:
            pass  # Noted in `error`, which the status shows.

    def _check(self, store: DurableStore) -> None:
        self._checked_s = time.monotonic()
        self._warning = self._noting(store.check)

    def _store_all(self, store: DurableStore) -> None:
        failures = 0
        for entry in self.memory.unstored():
            if entry.refused:
                continue
            try:
                self._noting(lambda: self._store_one(store, entry))  # noqa: B023  called at once
            except EventRefused as error:
                entry.refused = True
                _log.error("event cannot be stored", event_id=entry.event.id, error=str(error))
            except StorageError:
                failures += 1
                if failures >= _FAILURES:
                    raise
        if failures:
            assert self.error is not None, "it was noted"
            raise self.error

    def _store_one(self, store: DurableStore, entry: UnstoredEvent) -> None:
        states = self.memory.states(entry)
        recorded = entry.recorded()
        store.add(
            entry.event, evidence=recorded.evidence, image=recorded.image,
            evidence_state=recorded.evidence_state, channels=tuple(states),
            states=states if entry.deliverable else None,
            image_wait=timedelta(0) if entry.deliverable else self._image_wait(entry),
        )  # fmt: skip
        confirmed = self.memory.mark_stored(entry, states)
        now = entry.recorded()
        if now != recorded or now.evidence_reason:
            evidence = now.evidence_state, now.evidence_reason, now.image
            with self._guard:  # What has come since it left the memory is newer.
                self._late_evidence.setdefault(entry.event.id, evidence)
            self._store_evidence(store)
        for channel in confirmed:
            number = stored_number(store, entry.event.id, channel)
            if number is not None:
                store.outbox.confirm(number)
        if entry.deliverable:
            _log.warning("event of the memory stored", event_id=entry.event.id)

    def _image_wait(self, entry: UnstoredEvent) -> timedelta:
        dues = [one.due for one in entry.deliveries.values()]
        return max(timedelta(0), min(dues) - self._now()) if dues else timedelta(0)

    def _store_evidence(self, store: DurableStore) -> None:
        with self._guard:
            late = dict(self._late_evidence)
        for event_id, (state, reason, image) in late.items():
            self._noting(
                lambda: store.set_evidence(event_id, state, reason=reason, image=image)  # noqa: B023
            )
            with self._guard:
                if self._late_evidence[event_id] == late[event_id]:
                    del self._late_evidence[event_id]

    def _noting(self, work: Callable[[], Value]) -> Value:
        """Write, and note whether the disk takes it."""
        try:
            value = work()
        except EventRefused:
            raise
        except StorageError as error:
            self.error = error
            raise
        self.error = None
        return value

    def _end(self) -> None:
        if self._store is not None:
            try:
                self._store_all(self._store)
                self._store_evidence(self._store)
            finally:
                self._store.close()

    # In any thread.

    def _note_alarm(self, event: Event) -> None:
        with self._guard:
            self._open = _without_cleared({**self._open, event.alarm_id: event})

    def _now(self) -> datetime:
        return self._clock.utc_at(self._clock.monotonic_ns())


def _without_cleared(newest: Mapping[str, Event]) -> dict[str, Event]:
    return {key: event for key, event in newest.items() if event.kind is not EventKind.CLEARED}


class _Retention:
    """The retention of a store that may not be open yet."""

    def __init__(self, events: BufferedEventStore) -> None:
        self._events = events

    def __getattr__(self, name: str) -> Any:
        # Not within the time limit of the calls: it has a thread of its own and may take long.
        return getattr(self._events.call(lambda store: store).retention, name)
