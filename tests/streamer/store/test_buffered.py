"""A store whose disk is full, locked or missing holds no alarm up, and nothing is sent twice."""

import contextlib
import shutil
import sqlite3
import threading
import time
from datetime import timedelta
from functools import partial

import pytest
from structlog.testing import capture_logs

from streamer.core.clock import CancelToken
from streamer.core.errors import StorageError
from streamer.notify import Dispatcher, Notification, RetryPolicy
from streamer.store import DeliveryState, EvidenceState
from streamer.store.bounded_calls import BoundedCalls, DiskHangs
from streamer.store.buffered import BufferedEventStore
from streamer.store.closing import close_alarm
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import START, ScriptedChannel, event, failed
from tests.support.disks import fill, small_disk


def opened(path, **more):
    return BufferedEventStore(partial(SqliteEventStore, path), name=str(path), **more)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


@contextlib.contextmanager
def locked(path):
    """Another program holds the lock of the store for longer than anybody waits."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextlib.contextmanager
def delivering(store, *channels):
    cancel = CancelToken()
    dispatcher = Dispatcher(store.outbox, channels)
    thread = threading.Thread(target=dispatcher.run, args=(cancel,))
    thread.start()
    try:
        yield dispatcher
    finally:
        cancel.set()
        thread.join()


def wait_until(condition, *, timeout_s=20):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "in time"
        threading.Event().wait(0.01)


def states(path, event_id="north-1-0"):
    with SqliteEventStore.open_read_only(path) as store:
        return {one.channel: one.state for one in store.outbox.of_event(event_id)}


def evidence_state(path):
    with SqliteEventStore.open_read_only(path) as store:
        return store.event("north-1-0").evidence_state


def test_a_store_that_works_stores_at_once(path):
    with opened(path) as store:
        assert store.add(event(), channels=["siren"])
        assert store.problem() is None
        assert [each.event for each in store.events()] == [event()]
        assert store.event("north-1-0").stored
        assert [each.event.id for each in store.open_alarms()] == ["north-1-0"]
        assert store.outbox.backlog()["siren"].waiting == 1
        assert store.retention.holds() == []


def test_events_are_not_written_into_a_file_that_was_taken_away_while_it_was_open(tmp_path):
    """As after `umount --lazy`, `rm -r` or `mv`: SQLite writes on, and all of it is lost."""
    folder, away = tmp_path / "data", tmp_path / "away"
    path = folder / "events.db"
    with opened(path) as store:
        folder.rename(away)
        assert not store.add(event())
        reason, _ = store.problem()
        assert "only in memory" in reason
        assert "its disk was unmounted" in reason
        away.rename(folder)
        wait_until(lambda: store.problem() is None)
    with SqliteEventStore.open_read_only(path) as stored:
        assert stored.event("north-1-0") is not None


def test_an_event_that_a_locked_store_does_not_take_is_delivered_from_memory(path):
    siren, mail = ScriptedChannel("siren"), ScriptedChannel("mail", [failed()] * 50)
    with opened(path, wait_s=0.2) as store, delivering(store, siren, mail):
        wait_until(lambda: siren.entered == 1)
        with locked(path):
            began = time.monotonic()
            assert not store.add(event(), channels=["siren", "mail"])
            assert time.monotonic() - began < 2
            siren.wait_for(lambda: siren.taken == ["north-1-0"])
            mail.wait_for(lambda: mail.tried)
            assert "Not stored" in siren.tried[0].text
            assert siren.tried[0].payload["stored"] is False
            reason, _ = store.problem()
            assert reason.startswith("1 events are only in memory: ")
            assert [each.event.id for each in store.open_alarms()] == ["north-1-0"]
            assert not store.event("north-1-0").stored
        wait_until(lambda: store.problem() is None)
        found = states(path)
        assert found["siren"] is DeliveryState.CONFIRMED, "it is never sent again"
        assert found["mail"] in (DeliveryState.WAITING, DeliveryState.SENDING)
        mail.script.clear()
        store.outbox.expedite("mail")
        store.outbox.announce()
        mail.wait_for(lambda: mail.taken == ["north-1-0"])
        wait_until(lambda: set(states(path).values()) == {DeliveryState.CONFIRMED})
    assert siren.taken == ["north-1-0"]


def test_the_events_of_an_alarm_keep_their_order_in_memory(path):
    with opened(path, wait_s=0.2) as store, locked(path):
        for what in (event(), event("other"), event(sequence=1), event(sequence=2, kind="cleared")):
            store.add(what, channels=["siren"])
        outbox, claimed = store.outbox, []
        while (delivery := outbox.claim("siren", untried_only=len(claimed) == 1)) is not None:
            claimed.append((delivery.recorded.event.id, delivery.camera_in_alarm))
            if len(claimed) == 1:
                outbox.reschedule(delivery.number, after=timedelta(0), error="no answer")
            else:
                outbox.confirm(delivery.number)
            if len(claimed) == 5:
                break
        assert [name for name, _ in claimed] == [
            "north-1-0", "other-0", "north-1-0", "north-1-1", "north-1-2"
        ]  # fmt: skip
        assert claimed[-1][1], "another alarm of the camera is open"
    assert {states(path, f"north-1-{n}")["siren"] for n in range(3)} == {DeliveryState.CONFIRMED}


def test_an_outcome_that_comes_after_the_event_was_stored_is_stored_too(path):
    with opened(path, wait_s=0.2) as store:
        with locked(path):
            for alarm in ("a", "b", "c"):
                store.add(event(alarm), channels=["siren"])
            claimed = [store.outbox.claim("siren") for _ in range(3)]
        wait_until(lambda: store.problem() is None)
        store.outbox.confirm(claimed[0].number)
        store.outbox.reschedule(claimed[1].number, after=timedelta(days=1), error="no answer")
        store.outbox.dead_letter(claimed[2].number, error="refused")
        assert [states(path, f"{name}-0")["siren"] for name in "abc"] == [
            DeliveryState.CONFIRMED, DeliveryState.WAITING, DeliveryState.DEAD
        ]  # fmt: skip
        assert store.outbox.claim("siren") is None


def test_evidence_that_is_written_while_the_event_is_in_memory_is_stored_with_it(path, tmp_path):
    with opened(path, wait_s=0.2) as store:
        with locked(path):
            store.add(event(), evidence_state=EvidenceState.PENDING, image_wait=timedelta(hours=1),
                      channels=["siren"])  # fmt: skip
            with pytest.raises(
                StorageError
            ):  # The stored ones; from memory it waits for its image.
                store.outbox.claim("siren")
            store.set_evidence("north-1-0", EvidenceState.DEGRADED, reason="no clip",
                               image=tmp_path / "a.jpg")  # fmt: skip
            notification = Notification.of(store.outbox.claim("siren"))
            assert notification.image == tmp_path / "a.jpg"
            assert notification.payload["evidence"] == {"state": "degraded", "reason": "no clip"}
        wait_until(lambda: store.problem() is None)
        found = store.event("north-1-0")
        assert (found.evidence_state, found.image) == (
            EvidenceState.DEGRADED, tmp_path / "a.jpg"
        )  # fmt: skip
        with locked(path):
            store.set_evidence("north-1-0", EvidenceState.WRITTEN)
        wait_until(lambda: evidence_state(path) is EvidenceState.WRITTEN)


@pytest.mark.system
def test_a_full_disk_without_reserve_notifies_from_memory_and_stores_when_there_is_room(tmp_path):
    siren = ScriptedChannel()
    with small_disk(tmp_path / "disk", mib=8) as disk:
        path = disk / "events.db"
        with opened(path) as store, delivering(store, siren):
            assert store.add(event("before"), channels=["siren"])
            siren.wait_for(lambda: siren.taken == ["before-0"])
            store.call(lambda inner: list(iter(inner._database.reserve.give_back, False)))
            filler = fill(disk)
            stored = [store.add(event("a", n), channels=["siren"]) for n in range(60)]
            assert not stored[-1]
            siren.wait_for(lambda: len(siren.taken) == 61, timeout_s=30)
            assert "disk" in store.problem()[0]
            filler.unlink()
            wait_until(lambda: store.problem() is None)
            assert len(list(store.events())) == 61
        assert {states(path, f"a-{n}")["siren"] for n in range(60)} == {DeliveryState.CONFIRMED}
    assert len(siren.taken) == len(set(siren.taken)) == 61


def test_a_damaged_store_is_no_reason_not_to_run_and_is_replaced_when_it_is_moved_aside(path):
    path.write_bytes(b"SQLite format 3\0" + b"\xa5" * 8000)
    siren = ScriptedChannel()
    with opened(path) as store, delivering(store, siren):
        assert store.error is not None
        store.add(event(), channels=["siren"])
        siren.wait_for(lambda: siren.taken == ["north-1-0"])
        shutil.move(path, path.with_name("damaged"))
        wait_until(lambda: store.problem() is None)
        assert store.event("north-1-0").stored
    assert states(path) == {"siren": DeliveryState.CONFIRMED}


def test_what_cannot_be_stored_until_the_end_is_written_to_the_log(path):
    path.mkdir()  # Never a store.
    with capture_logs() as logs, opened(path) as store:
        store.add(event(), channels=["siren"])
        with pytest.raises(StorageError):
            store.outbox.pending()
    last = logs[-1]
    assert (last["event"], last["event_id"]) == ("event could not be stored", "north-1-0")
    assert '"reason": "grew 38 %' in last["record"]


def test_an_alarm_that_a_person_closes_beside_the_program_is_no_longer_open(path):
    with opened(path) as store:
        store.add(event(), channels=["siren"])
        store.add(event("other"))
        assert [each.id for each in store.known_open_alarms()] == ["north-1-0", "other-0"]
        with SqliteEventStore(path) as beside:
            closed = close_alarm(beside, "north-1", utc=START)
            assert close_alarm(beside, "north-1", utc=START) is None
        store.call(store._read_open_alarms)
        assert [each.id for each in store.known_open_alarms()] == ["other-0"]
        recorded = store.event("north-1-1")
        assert (recorded.event, recorded.event.kind.value) == (closed, "cleared")
        assert [each.channel for each in store.outbox.of_event("north-1-1")] == ["siren"]


def test_a_call_that_hangs_makes_only_the_first_caller_wait():
    release = threading.Event()
    calls = BoundedCalls("store", name="store", timeout_s=0.1)
    try:
        with pytest.raises(DiskHangs, match="store: its disk does not answer: check it"):
            calls.call(release.wait)
        wait_until(lambda: calls.hangs_for_s > 0)
        began = time.monotonic()
        with pytest.raises(DiskHangs):
            calls.call(release.wait)
        assert time.monotonic() - began < 0.05
        assert not calls.close(lambda: None, timeout_s=0.05)
    finally:
        release.set()
        calls._thread.join()


def test_retries_go_on_for_what_is_only_in_memory(path):
    policy = RetryPolicy()
    siren = ScriptedChannel("siren", [failed()])
    with opened(path, wait_s=0.2) as store, locked(path):
        store.add(event(), channels=["siren"])
        first = store.outbox.claim("siren")
        delay = policy.next_delay(first, failed(), rng=lambda: 0.0)
        store.outbox.reschedule(first.number, after=delay, error="no answer")
        with pytest.raises(StorageError):
            store.outbox.claim("siren")
        store.outbox._memory.expedite("siren")
        second = store.outbox.claim("siren")
        assert (second.attempts, second.error, second.key) == (2, "no answer", first.key)
        store.outbox.confirm(second.number)
        assert store.outbox._memory.backlog() == {}
    assert siren.tried == []
