"""A disk that hangs, or an event that no store takes, holds up no delivery."""

import contextlib
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from streamer.store import DeliveryState, EvidenceState
from streamer.store.memory import EventMemory
from tests.streamer.store.test_buffered import delivering, opened, states, wait_until
from tests.support.deliveries import ScriptedChannel, event, failed


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


@contextlib.contextmanager
def hanging(store):
    """The disk of the store answers nothing."""
    release = threading.Event()
    store._calls._calls.put(release.wait)
    try:
        yield
    finally:
        release.set()


class HangingChannel(ScriptedChannel):
    """The disk hangs from the moment at which it takes its first notification."""

    def __init__(self, store, hang, **more):
        super().__init__(**more)
        self._hang, self._store = hang, store

    def deliver(self, what):
        if not self.taken:
            self._hang.enter_context(hanging(self._store))
        super().deliver(what)


def test_an_alarm_is_delivered_while_the_disk_has_been_hanging_for_a_while(path):
    siren = ScriptedChannel()
    with opened(path, wait_s=0.1) as store, delivering(store, siren) as dispatcher:
        wait_until(lambda: siren.entered == 1)
        with hanging(store):
            wait_until(lambda: dispatcher.status()[0].blocked is not None)
            store.add(event(), channels=["siren"])
            siren.wait_for(lambda: siren.taken == ["north-1-0"])
        wait_until(lambda: store.problem() is None)
    assert states(path) == {"siren": DeliveryState.CONFIRMED}
    assert siren.taken == ["north-1-0"]


def test_an_alarm_that_was_stored_just_before_the_disk_began_to_hang_is_delivered(path):
    siren = ScriptedChannel(script=[failed()])
    with opened(path, wait_s=0.1) as store, delivering(store, siren):
        wait_until(lambda: siren.entered == 1)
        assert store.add(event(), channels=["siren"], image_wait=timedelta(seconds=0.5))
        with hanging(store):
            store.add(event(sequence=1), channels=["siren"])
            store.add(event("b"), channels=["siren"])
            siren.wait_for(lambda: len(siren.taken) == 3)
            assert {one.id: one.payload["stored"] for one in siren.tried} == {
                "north-1-0": True, "north-1-1": False, "b-0": False
            }  # fmt: skip
        wait_until(lambda: store.problem() is None and not store.outbox.pending())
        assert not store.memory._recent
        assert not store.memory._by_number
    assert states(path) == {"siren": DeliveryState.CONFIRMED}
    assert sorted(siren.taken) == ["b-0", "north-1-0", "north-1-1"]


def test_an_outcome_that_cannot_be_recorded_holds_up_no_later_alarm(path):
    with contextlib.ExitStack() as hang, opened(path, wait_s=0.1) as store:
        siren = HangingChannel(store, hang)
        with delivering(store, siren):
            store.add(event("a"), channels=["siren"])
            siren.wait_for(lambda: siren.taken == ["a-0"])
            store.add(event("b"), channels=["siren"])
            siren.wait_for(lambda: siren.taken == ["a-0", "b-0"])
            hang.close()
            wait_until(lambda: store.problem() is None and not store.outbox.pending())
    assert [states(path, f"{name}-0")["siren"] for name in "ab"] == [DeliveryState.CONFIRMED] * 2
    assert siren.taken == ["a-0", "b-0"]


def test_a_claim_that_took_effect_after_its_caller_had_gone_is_tried_again(path):
    with opened(path, wait_s=0.1) as store:
        lock = store.outbox.lock("siren")
        assert lock.acquire()
        store.add(event(), channels=["siren"])
        hang, begun = threading.Event(), threading.Event()
        inner = store.call(lambda inner: inner)
        claim = inner.outbox.claim

        def late(*arguments, **more):
            begun.set()
            hang.wait()
            return claim(*arguments, **more)

        inner.outbox.claim = late
        failing = store.outbox.claim("siren")
        assert failing.number < 0, "from memory: the disk does not give it back"
        assert begun.wait(20)
        inner.outbox.claim = claim
        hang.set()
        wait_until(lambda: states(path)["siren"] is DeliveryState.SENDING)
        wait_until(lambda: not store._calls.hangs_for_s)
        store.outbox.reschedule(failing.number, after=timedelta(0), error="no answer")
        again = store.outbox.claim("siren")
        assert (again.number > 0, again.key) == (True, failing.key)
        store.outbox.confirm(again.number)
        assert store.outbox.claim("siren") is None
        assert not store.memory._by_number
        lock.release()
    assert states(path) == {"siren": DeliveryState.CONFIRMED}


def test_events_that_no_store_takes_are_delivered_and_keep_no_other_from_being_stored(path):
    siren = ScriptedChannel()
    with capture_logs() as logs, opened(path) as store, delivering(store, siren):
        for name in ("a", "b", "c"):
            assert not store.add(replace(event(name), score=float("nan")), channels=["siren"])
        assert store.add(event("good"), channels=["siren"])
        siren.wait_for(lambda: set(siren.taken) == {"a-0", "b-0", "c-0", "good-0"})
        assert store.problem()[0].startswith("3 events are only in memory: the store refuses")
    lost = [line["event_id"] for line in logs if line["event"] == "event could not be stored"]
    assert lost == ["a-0", "b-0", "c-0"], "the log has them"


def test_an_event_behind_one_that_is_not_due_keeps_no_channel_busy(path):
    siren = ScriptedChannel(script=[failed()] * 9)
    with opened(path) as store, delivering(store, siren):
        bad = [replace(event("a", number), score=float("nan")) for number in (0, 1)]
        for one in bad:
            store.add(one, channels=["siren"])
        siren.wait_for(lambda: siren.tried)
        wait_until(lambda: store.outbox._memory.next_due("siren") is not None)
        assert store.outbox.next_due("siren").total_seconds() > 0
        assert store.outbox.claim("siren") is None


def test_an_all_clear_from_the_disk_leaves_the_camera_in_alarm_for_one_in_memory(path):
    with opened(path) as store:
        for number, kind in enumerate(("raised", "cleared")):
            store.add(event("a", number, kind=kind), channels=["siren"])
        store.outbox.confirm(store.outbox.claim("siren").number)
        store.add(replace(event("b"), score=float("nan")), channels=["siren"])
        store.outbox.confirm(store.outbox.claim("siren").number)
        cleared = store.outbox.claim("siren")
        assert cleared.recorded.event.id == "a-1"
        assert cleared.camera_in_alarm


def test_the_newest_state_of_evidence_wins_while_its_event_is_being_stored(path, monkeypatch):
    with opened(path) as store:
        mark_stored = EventMemory.mark_stored

        def marking(memory, entry, *arguments):
            memory.set_evidence(
                entry.event.id, EvidenceState.PENDING, reason="no stills", image=None
            )
            found = mark_stored(memory, entry, *arguments)
            late = threading.Thread(
                target=store.set_evidence, args=(entry.event.id, EvidenceState.WRITTEN)
            )
            late.start()
            wait_until(lambda: store._late_evidence)
            threads.append(late)
            return found

        threads = []
        monkeypatch.setattr(EventMemory, "mark_stored", marking)
        store.add(event(), evidence_state=EvidenceState.PENDING)
        threads[0].join()
        assert store.event("north-1-0").evidence_state is EvidenceState.WRITTEN
