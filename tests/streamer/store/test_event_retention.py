"""What may leave the store: only what is over, delivered and not held; and the file shrinks."""

import sqlite3
from contextlib import closing

import pytest

from streamer.store import EvidenceState
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import HandClock, event


@pytest.fixture
def store(tmp_path):
    with SqliteEventStore(tmp_path / "events.db", clock=HandClock()) as opened:
        yield opened


def alarm(store, name, *, channels=(), cleared=True, evidence=None):
    """An alarm of two or three events; its deliveries wait."""
    kinds = ["raised", "updated", *(["cleared"] if cleared else [])]
    for sequence, kind in enumerate(kinds):
        store.add(event(name, sequence, kind=kind), channels=channels, evidence=evidence)
    (newest,) = [one for one in store.retention.alarms() if one.alarm_id == name]
    return newest


def ids(store):
    return [each.event.alarm_id for each in store.events()]


def test_an_alarm_that_is_over_is_deleted_with_its_events_and_deliveries(store):
    alarm(store, "a", channels=["siren"])
    alarm(store, "b")
    store.outbox.give_up([one.number for one in store.outbox.pending()])
    assert store.retention.delete("a")
    assert ids(store) == ["b"] * 3
    assert store._database.read("SELECT * FROM delivery") == []
    gone = store.retention.expired()
    assert (gone.alarms, gone.events) == (1, 3)


def test_an_open_alarm_stays(store):
    assert alarm(store, "a", cleared=False).protected
    assert not store.retention.delete("a")
    assert not store.retention.forget_evidence("a")
    assert ids(store) == ["a"] * 2


@pytest.mark.parametrize("state", ["waiting", "sending"])
def test_an_alarm_with_an_unsent_notification_stays(store, state):
    assert alarm(store, "a", channels=["siren"]).undelivered
    if state == "sending":
        store.outbox.claim("siren")
    assert not store.retention.delete("a")
    assert len(ids(store)) == 3


def test_confirmed_dead_and_abandoned_deliveries_protect_nothing(store):
    alarm(store, "a", channels=["siren"])
    store.outbox.confirm(store.outbox.claim("siren").number)
    store.outbox.dead_letter(store.outbox.claim("siren").number, error="refused")
    store.outbox.give_up([store.outbox.pending()[-1].number])
    assert store.retention.delete("a")
    assert store.outbox.pending() == []


def test_a_legal_hold_protects_until_it_is_released(store):
    alarm(store, "a")
    assert not store.retention.hold("nobody", "court")
    assert store.retention.hold("a", "court of north")
    assert [(one.alarm_id, one.reason) for one in store.retention.holds()] == [
        ("a", "court of north")
    ]
    assert not store.retention.delete("a")
    assert store.retention.release("a")
    assert not store.retention.release("a")
    assert store.retention.delete("a")


def test_an_alarm_whose_evidence_is_being_written_stays_where_it_is(store, tmp_path):
    store.add(event("a"), evidence=tmp_path / "e", evidence_state=EvidenceState.PENDING)
    assert alarm(store, "a", evidence=tmp_path / "e").protected
    assert not store.retention.forget_evidence("a")
    store.set_evidence("a-0", EvidenceState.WRITTEN)
    (left,) = store.retention.alarms()
    assert not left.protected


def test_an_alarm_that_is_not_there_is_not_deleted(store):
    assert not store.retention.delete("a")
    assert store.retention.expired() is None


def test_evidence_is_forgotten_and_the_events_stay(store, tmp_path):
    assert alarm(store, "a", evidence=tmp_path / "e").evidence == tmp_path / "e"
    assert store.retention.forget_evidence("a")
    (left,) = store.retention.alarms()
    assert left.evidence is None
    assert {each.as_json()["evidence_deleted_utc"] for each in store.events()} == {
        "2026-07-01T12:00:00+00:00"
    }


def test_alarms_come_in_the_order_of_their_newest_events(store):
    alarm(store, "a", cleared=False)
    alarm(store, "b")
    store.add(event("a", 2, kind="cleared"))
    assert [one.alarm_id for one in store.retention.alarms()] == ["b", "a"]


def test_the_file_shrinks_after_deletion(store):
    for number in range(300):
        alarm(store, f"a{number}")
    used = store.retention.size_bytes()
    for number in range(290):
        assert store.retention.delete(f"a{number}")
    store.retention.compact()
    assert store._database.read("PRAGMA freelist_count")[0][0] == 0
    assert store.retention.size_bytes() < used / 4
    store._database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    assert store.path.stat().st_size < used / 4


def test_a_store_of_an_older_version_shrinks_too(tmp_path):
    path = tmp_path / "events.db"
    with closing(sqlite3.connect(path)) as older:
        older.execute("PRAGMA journal_mode = WAL")
    with SqliteEventStore(path) as store:
        assert store._database.read("PRAGMA auto_vacuum")[0][0] == 0
        for number in range(100):
            alarm(store, f"a{number}")
        for number in range(95):
            store.retention.delete(f"a{number}")
        store.retention.compact()
        assert store._database.read("PRAGMA auto_vacuum")[0][0] == 2
        assert store._database.read("PRAGMA freelist_count")[0][0] == 0
        assert len(ids(store)) == 15
