"""The outbox: order, states, and one process at a time."""

import subprocess
import sys
from datetime import timedelta

import pytest

from streamer.store import DeliveryState, EvidenceState
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import START, HandClock, event


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(tmp_path, clock):
    with SqliteEventStore(tmp_path / "events.db", clock=clock) as opened:
        yield opened


def test_a_cleared_waits_for_its_raised(store, clock):
    store.add(event("a", 0), channels=["siren"])
    store.add(event("a", 1, kind="cleared"), channels=["siren"])
    raised = store.outbox.claim("siren")
    assert store.outbox.claim("siren") is None
    store.outbox.reschedule(raised.number, after=timedelta(seconds=60), error="down")
    assert store.outbox.claim("siren") is None
    clock.advance(seconds=60)
    again = store.outbox.claim("siren")
    assert (again.recorded.event.sequence, again.attempts) == (0, 2)
    store.outbox.confirm(again.number)
    assert store.outbox.claim("siren").recorded.event.sequence == 1


def test_an_alarm_does_not_wait_for_another_one(store):
    store.add(event("a"), channels=["siren"])
    store.add(event("b"), channels=["siren"])
    first = store.outbox.claim("siren")
    store.outbox.reschedule(first.number, after=timedelta(hours=1), error="down")
    assert store.outbox.claim("siren").recorded.event.alarm_id == "b"


def test_a_channel_does_not_wait_for_another_one(store):
    store.add(event(), channels=["siren", "mail"])
    assert store.outbox.claim("siren").channel == "siren"
    assert store.outbox.claim("mail").channel == "mail"


def test_new_alarms_go_before_what_failed_already(store, clock):
    for alarm in ("old", "older"):
        store.add(event(alarm), channels=["siren"])
        claimed = store.outbox.claim("siren")
        store.outbox.reschedule(claimed.number, after=timedelta(0), error="down")
    store.add(event("new"), channels=["siren"])
    assert store.outbox.claim("siren").recorded.event.alarm_id == "new"


def test_a_raised_that_a_person_brings_back_late_is_superseded(store):
    store.add(event("a", 0), channels=["siren"])
    store.outbox.dead_letter(store.outbox.claim("siren").number, error="no such siren")
    store.add(event("a", 1, kind="cleared"), channels=["siren"])
    store.outbox.confirm(store.outbox.claim("siren").number)
    store.outbox.retry()
    late = store.outbox.claim("siren")
    assert (late.recorded.event.sequence, late.superseded) == (0, True)


def test_a_wall_clock_that_was_set_back_does_not_silence_a_channel(store, clock):
    store.add(event(), channels=["siren"])
    clock.advance(days=-400)
    assert store.outbox.claim("siren") is not None


def test_an_event_says_what_became_of_its_deliveries(store):
    store.add(event(), channels=["siren", "mail"])
    store.outbox.confirm(store.outbox.claim("siren").number)
    states = {each.channel: each.state for each in store.outbox.of_event("north-1-0")}
    assert states == {"siren": DeliveryState.CONFIRMED, "mail": DeliveryState.WAITING}


def test_the_key_of_a_delivery_is_its_event_and_channel(store):
    store.add(event(), channels=["siren"])
    assert store.outbox.pending()[0].key == "north-1-0:siren"


def test_a_confirmation_that_is_recorded_late_holds_all_the_same(store):
    store.add(event(), channels=["siren"])
    number = store.outbox.claim("siren").number
    assert store.outbox.recover("siren") == 1  # The dispatcher was restarted in between.
    store.outbox.confirm(number)
    assert store.outbox.pending() == []
    store.outbox.reschedule(number, after=timedelta(0), error="an older outcome")
    store.outbox.dead_letter(number, error="an older outcome")
    assert store.outbox.pending() == []


def test_a_failure_that_is_recorded_late_changes_nothing_a_person_decided(store):
    store.add(event(), channels=["siren"])
    number = store.outbox.claim("siren").number
    store.outbox.recover("siren")
    assert store.outbox.give_up([number]) == 1
    store.outbox.reschedule(number, after=timedelta(0), error="no answer")
    assert [each.state for each in store.outbox.of_event("north-1-0")] == [DeliveryState.GIVEN_UP]


def test_a_camera_is_in_alarm_until_all_of_its_alarms_are_cleared(store):
    store.add(event("a"), channels=["siren"])
    store.add(event("b"), channels=["siren"])
    store.add(event("a", 1, kind="cleared"), channels=["siren"])
    found = [each.camera_in_alarm for each in store.outbox.pending()]
    assert found == [True, True, True]
    store.add(event("b", 1, kind="cleared"), channels=["siren"])
    assert not any(each.camera_in_alarm for each in store.outbox.pending())


# Images.


def test_a_delivery_waits_for_its_image_and_no_longer_than_it_may(store, clock):
    wait = timedelta(seconds=1)
    for alarm in ("quick", "slow"):
        store.add(event(alarm), channels=["siren"], image_wait=wait)
    assert store.outbox.claim("siren") is None
    image = store.path.parent / "overlay-0.jpg"
    store.set_evidence("quick-0", EvidenceState.WRITTEN, image=image)
    claimed = store.outbox.claim("siren")
    assert (claimed.recorded.event.alarm_id, claimed.recorded.image) == ("quick", image)
    assert store.outbox.claim("siren") is None
    clock.advance(seconds=1)
    assert store.outbox.claim("siren").recorded.event.alarm_id == "slow"


# Rows that cannot be read.


def test_a_delivery_that_cannot_be_read_becomes_a_dead_letter_and_holds_up_no_other(store):
    for alarm in ("bad", "good"):
        store.add(event(alarm), channels=["siren"])
    with store._database.transaction() as connection:
        connection.execute("UPDATE event SET regions = '[{' WHERE alarm_id = 'bad'")
    assert store.outbox.claim("siren").recorded.event.alarm_id == "good"
    assert [each.recorded.event.alarm_id for each in store.outbox.pending()] == ["good"]
    assert [each.event.alarm_id for each in store.events()] == ["good"]
    assert [each.event.alarm_id for each in store.open_alarms()] == ["good"]
    assert store.outbox.backlog()["siren"].dead == 1
    error = store._database.read("SELECT error FROM delivery WHERE state = 'dead'")[0][0]
    assert error.startswith("cannot be read: ")


# Speed.


def test_a_poll_reads_only_what_is_not_settled(store):
    with store._database.transaction() as connection:
        connection.executemany(
            "INSERT INTO event (number, id, alarm_id, sequence, kind, camera, pts_ns, utc_us,"
            " onset_ns, reason, score, regions, added_us)"
            " VALUES (?, ?, ?, 0, 'raised', 'north', 0, 0, 0, '', 0, '[]', 0)",
            ((n, f"e{n}", f"a{n}") for n in range(1, 20_001)),
        )
        connection.executemany(
            "INSERT INTO delivery VALUES (?, ?, ?, 'siren', 'confirmed', 1, 0, 0, 0, NULL)",
            ((n, n, f"a{n}") for n in range(1, 20_001)),
        )
    store.add(event(), channels=["siren"])
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    store._database._connection.set_progress_handler(count, 10)
    store.outbox.next_due("siren")
    store.outbox.backlog()
    store.outbox.pending()
    assert store.outbox.claim("siren", untried_only=True) is not None
    store.outbox.expedite("siren")
    store.outbox.recover("siren")
    store.open_alarms()
    assert steps < 500, "10 instructions of SQLite's machine each; a scan takes 200,000"


def test_the_backlog_has_how_old_the_oldest_alarm_is(store, clock):
    store.add(event("a"), channels=["siren"])
    clock.advance(hours=1)
    store.add(event("b"), channels=["siren", "mail"])
    backlog = store.outbox.backlog()
    assert backlog["siren"].oldest == START
    assert backlog["mail"].oldest == START + timedelta(hours=1)


def test_polling_for_what_is_due_writes_nothing(store):
    store.add(event(), channels=["siren"])
    before = store._database.read("PRAGMA data_version")[0][0]
    with SqliteEventStore(store.path) as other:
        opened = store._database.read("PRAGMA data_version")[0][0]
        assert opened != before, "opening writes, so that this test could see a write"
        for _ in range(3):
            assert other.outbox.claim("mail") is None
        assert store._database.read("PRAGMA data_version")[0][0] == opened


# The right to deliver.

HOLD = """
import sys
from pathlib import Path
from streamer.store.sqlite import SqliteEventStore
lock = SqliteEventStore(Path(sys.argv[1])).outbox.lock("siren")
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


def test_one_process_delivers_for_a_channel_and_another_follows_when_it_is_killed(store):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout.readline() == "True\n"
        ours, mail = store.outbox.lock("siren"), store.outbox.lock("mail")
        assert not ours.acquire()
        assert mail.acquire()
        holder.kill()
        holder.wait()
        assert ours.acquire()
    ours.release()
    mail.release()


def test_one_part_of_a_program_delivers_for_a_channel(store):
    first, second = store.outbox.lock("siren"), store.outbox.lock("siren")
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()
    second.release()


def test_the_name_of_a_channel_cannot_lead_elsewhere(store):
    lock = store.outbox.lock("../up")
    assert lock.acquire()
    lock.release()
    assert [each.parent for each in store.path.parent.rglob("*.lock")] == [store.path.parent]
