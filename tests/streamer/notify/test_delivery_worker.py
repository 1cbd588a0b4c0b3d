"""One worker, one channel, a clock moved by hand: what becomes of each kind of failure."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from streamer.core.errors import StorageError
from streamer.notify import RetryPolicy
from streamer.notify.delivery_worker import DeliveryWorker, Outcome
from streamer.store import DeliveryState
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import START, HandClock, ScriptedChannel, event, failed


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(tmp_path, clock):
    with SqliteEventStore(tmp_path / "events.db", clock=clock) as opened:
        yield opened


def worker_for(store, channel, **more):
    confirmations = []
    more.setdefault("retry", RetryPolicy())
    worker = DeliveryWorker(
        channel, store.outbox, on_confirmed=lambda *what: confirmations.append(what), rng=lambda: 0,
        **more,
    )  # fmt: skip
    worker.confirmations = confirmations
    return worker


def test_a_confirmed_delivery_is_reported_and_final(store):
    channel = ScriptedChannel()
    worker = worker_for(store, channel)
    store.add(event(), channels=["siren"])
    assert worker.step() is Outcome.CONFIRMED
    assert worker.step() is Outcome.IDLE
    assert worker.confirmations == [(event(), "siren", START)]
    assert channel.taken == ["north-1-0"]
    assert store.outbox.pending() == []


def test_nothing_is_reported_before_it_is_confirmed(store):
    worker = worker_for(store, ScriptedChannel(script=[failed()]))
    store.add(event(), channels=["siren"])
    assert worker.step() is Outcome.FAILED
    assert worker.confirmations == []
    assert worker.status.last_error == "no answer"


def test_a_failure_is_tried_again_after_growing_pauses(store, clock):
    channel = ScriptedChannel(script=[failed()] * 4)
    worker = worker_for(store, channel)
    store.add(event(), channels=["siren"])
    for pause_s in (2, 4, 8, 16):
        assert worker.step() is Outcome.FAILED
        clock.advance(seconds=pause_s - 0.001)
        assert worker.step() is Outcome.IDLE
        clock.advance(seconds=0.001)
    assert worker.step() is Outcome.CONFIRMED
    assert [each.attempt for each in channel.tried] == [1, 2, 3, 4, 5]
    assert len({each.key for each in channel.tried}) == 1


def test_a_refusal_for_good_is_kept_for_a_person(store, clock):
    channel = ScriptedChannel(script=[failed("cannot be read", permanent=True)])
    worker = worker_for(store, channel)
    store.add(event(), channels=["siren"])
    worker.step()
    clock.advance(days=30)
    assert worker.step() is Outcome.IDLE
    (kept,) = store.outbox.pending()
    assert (kept.state, kept.error) == (DeliveryState.DEAD, "cannot be read")
    assert store.outbox.retry() == 1
    assert worker.step() is Outcome.CONFIRMED


def test_after_days_of_trying_a_person_decides(store, clock):
    channel = ScriptedChannel(script=[failed()] * 10_000)
    worker = worker_for(store, channel, retry=RetryPolicy(give_up_after=timedelta(hours=1)))
    store.add(event(), channels=["siren"])
    while worker.step() is Outcome.FAILED:
        clock.advance(seconds=300)
    (kept,) = store.outbox.pending()
    assert kept.state is DeliveryState.DEAD
    assert timedelta(minutes=50) < kept.backoff_total <= timedelta(hours=1)


def test_time_in_which_the_machine_was_off_does_not_count_as_trying(store, clock):
    worker = worker_for(store, ScriptedChannel(script=[failed()]))
    store.add(event(), channels=["siren"])
    clock.advance(days=400)
    worker.step()
    assert store.outbox.pending()[0].state is DeliveryState.WAITING


def test_a_receiver_that_is_back_gets_all_that_waits(store, clock):
    channel = ScriptedChannel(script=[failed()] * 6)
    worker = worker_for(store, channel)
    for alarm in ("a", "b"):
        store.add(event(alarm), channels=["siren"])
    for _ in range(3):
        assert [worker.step(), worker.step()] == [Outcome.FAILED, Outcome.FAILED]
        clock.advance(seconds=8)
    # Both wait; the next alarm finds the receiver back.
    clock.advance(seconds=-8)
    store.add(event("c"), channels=["siren"])
    assert [worker.step() for _ in range(4)] == [Outcome.CONFIRMED] * 3 + [Outcome.IDLE]
    assert channel.taken == ["c-0", "a-0", "b-0"]


def test_a_receiver_that_asks_for_a_pause_gets_it(store, clock):
    channel = ScriptedChannel(script=[failed(retry_after_s=60)])
    worker = worker_for(store, channel)
    store.add(event("a"), channels=["siren"])
    worker.step()
    store.add(event("b"), channels=["siren"])
    assert worker.step() is Outcome.CONFIRMED
    assert worker.step() is Outcome.IDLE
    clock.advance(seconds=60)
    assert worker.step() is Outcome.CONFIRMED


@pytest.mark.parametrize("kind", [KeyError, asyncio.CancelledError])  # The second is no Exception.
def test_a_fault_in_a_channel_is_a_failure_without_its_secrets(store, kind):
    channel = ScriptedChannel(script=[kind("https://example.org/?token=t0psecret")])
    worker = worker_for(store, channel)
    store.add(event(), channels=["siren"])
    assert worker.step() is Outcome.FAILED
    (kept,) = store.outbox.pending()
    assert kept.state is DeliveryState.WAITING
    assert kept.error == f"unexpected {kind.__name__} in the channel"


@pytest.mark.parametrize("outcome", [None, failed(), failed(permanent=True)])
def test_an_outcome_that_cannot_be_written_is_kept_and_nothing_is_sent_again(store, outcome):
    channel = ScriptedChannel(script=[outcome])
    worker = worker_for(store, channel)
    store.add(event(), channels=["siren"])
    database = store._database
    writing = database.transaction
    calls = iter(range(10))

    def only_the_first():
        if next(calls):
            raise StorageError("the disk is full")
        return writing()

    database.transaction = only_the_first
    for _ in range(3):
        with pytest.raises(StorageError):
            worker.step()
    assert worker.confirmations == []
    database.transaction = writing
    assert worker.step() is (Outcome.FAILED if outcome else Outcome.CONFIRMED)
    assert len(channel.tried) == 1
    assert len(worker.confirmations) == (outcome is None)


def test_what_is_sent_is_what_was_recorded(store, tmp_path):
    image = tmp_path / "still.jpg"
    channel = ScriptedChannel()
    worker = worker_for(store, channel)
    store.add(event(), image=image, channels=["siren"])
    worker.step()
    (sent,) = channel.tried
    assert (sent.image, sent.key) == (image, "north-1-0:siren")
    evidence = {"state": "none", "reason": ""}
    assert sent.payload == {**event().as_json(), "stored": True, "evidence": evidence}
    assert sent.title == "Alarm: north"
    assert "grew 38 %" in sent.text
    assert sent.read_image() is None, "there is no such file, and that is no failure"


@pytest.mark.parametrize(
    ("kind", "title"), [("updated", "Alarm continues: north"), ("cleared", "Alarm over: north")]
)
def test_people_read_what_happened_in_the_title(store, kind, title):
    channel = ScriptedChannel()
    worker = worker_for(store, channel)
    store.add(replace(event("a", 1, kind=kind)), channels=["siren"])
    worker.step()
    assert channel.tried[0].title == title
