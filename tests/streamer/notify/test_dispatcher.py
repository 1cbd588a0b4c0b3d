"""The dispatcher: at once, side by side, and to an orderly end."""

import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from streamer.core.backoff import Backoff
from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import StorageError
from streamer.notify import ChannelOptions, ChannelState, Dispatcher, RetryPolicy
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import ScriptedChannel, event, failed

QUICK = RetryPolicy(Backoff(initial_s=0.01, max_delay_s=0.02))


@pytest.fixture
def store(tmp_path):
    with SqliteEventStore(tmp_path / "events.db") as opened:
        yield opened


@contextmanager
def running(store, *channels, dispatcher=None, **more):
    cancel = CancelToken()
    more.setdefault("retry", QUICK)
    dispatcher = dispatcher or Dispatcher(store.outbox, channels, **more)
    thread = threading.Thread(target=dispatcher.run, args=(cancel,))
    thread.start()
    try:
        yield dispatcher
    finally:
        cancel.set()
        thread.join(timeout=30)
        assert not thread.is_alive()


def until(condition):
    """Wait until another thread makes *condition* true."""
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends


def test_an_event_is_delivered_as_soon_as_it_is_added(store, monkeypatch):
    monkeypatch.setattr("streamer.notify.dispatcher._POLL_S", 1000)
    siren = ScriptedChannel()
    with running(store, siren):
        for number in range(3):
            store.add(event("a", number), channels=["siren"])
            siren.wait_for(lambda: len(siren.taken) > number)  # noqa: B023  waited for here


def test_what_waits_from_an_earlier_run_is_delivered_first(store):
    store.add(event(), channels=["siren"])
    store.outbox.claim("siren")  # And then it was killed.
    siren = ScriptedChannel()
    with running(store, siren):
        siren.wait_for(lambda: siren.taken == ["north-1-0"])
    assert siren.tried[0].attempt == 2


def test_an_event_that_another_process_adds_is_delivered(store):
    program = (
        "import sys; from pathlib import Path; "
        "from streamer.store.sqlite import SqliteEventStore;"
        "from tests.support.deliveries import event;"
        "store = SqliteEventStore(Path(sys.argv[1]));"
        "store.add(event(), channels=['siren']); store.close()"
    )
    siren = ScriptedChannel()
    with running(store, siren):
        subprocess.run([sys.executable, "-c", program, store.path], check=True, timeout=60)
        siren.wait_for(lambda: siren.taken == ["north-1-0"])


def test_a_stuck_channel_does_not_delay_another_one(store):
    release = threading.Event()

    class Stuck(ScriptedChannel):
        def deliver(self, what):
            release.wait(30)
            super().deliver(what)

    stuck, mail = Stuck("stuck"), ScriptedChannel("mail")
    with running(store, stuck, mail):
        for number in range(5):
            store.add(event("a", number), channels=["stuck", "mail"])
        mail.wait_for(lambda: len(mail.taken) == 5)
        assert stuck.taken == []
        release.set()
        stuck.wait_for(lambda: len(stuck.taken) == 5)


def test_events_of_an_alarm_arrive_in_order_however_often_they_fail(store):
    siren = ScriptedChannel(script=[failed() if n % 3 else None for n in range(60)])
    with running(store, siren):
        for number in range(10):
            for alarm in ("a", "b"):
                store.add(event(alarm, number), channels=["siren"])
        siren.wait_for(lambda: len(siren.taken) == 20)
    for alarm in ("a", "b"):
        ours = [each for each in siren.taken if each.startswith(alarm)]
        assert ours == [f"{alarm}-{number}" for number in range(10)]


def test_confirmations_are_reported_with_their_channel(store):
    confirmations = []
    siren, mail = ScriptedChannel("siren"), ScriptedChannel("mail")
    with running(
        store, siren, mail, on_confirmed=lambda *what: confirmations.append(what)
    ) as dispatcher:
        store.add(event(), channels=["siren", "mail"])
        siren.wait_for(lambda: bool(siren.taken))
        mail.wait_for(lambda: bool(mail.taken))
    assert sorted((what.id, channel) for what, channel, _ in confirmations) == [
        ("north-1-0", "mail"),
        ("north-1-0", "siren"),
    ]
    assert [(each.name, each.confirmed) for each in dispatcher.status()] == [
        ("siren", 1),
        ("mail", 1),
    ]


def test_an_alarm_raised_while_the_program_ends_is_still_delivered(store):
    cancel = CancelToken()
    cancel.set()
    siren = ScriptedChannel()
    for number in range(3):
        store.add(event("a", number), channels=["siren"])
    Dispatcher(store.outbox, [siren]).run(cancel)
    assert len(siren.taken) == 3


def test_the_end_does_not_wait_for_a_receiver_that_is_gone(store):
    cancel = CancelToken()
    cancel.set()
    siren = ScriptedChannel(script=[failed()])
    for alarm in ("a", "b", "c"):
        store.add(event(alarm), channels=["siren"])
    Dispatcher(store.outbox, [siren]).run(cancel)
    assert len(siren.tried) == 1
    assert len(store.outbox.pending()) == 3


def test_channels_are_left_and_may_be_entered_again(store):
    siren = ScriptedChannel()
    for number in range(2):
        with running(store, siren):
            store.add(event("a", number), channels=["siren"])
            siren.wait_for(lambda: len(siren.taken) > number)  # noqa: B023  waited for here
            assert siren.entered == 1
        assert siren.entered == 0


def test_two_dispatchers_never_deliver_the_same(store, monkeypatch):
    monkeypatch.setattr("streamer.notify.dispatcher._POLL_S", 0.01)
    first, second = ScriptedChannel(), ScriptedChannel()
    with SqliteEventStore(store.path) as other:
        with running(store, first):
            store.add(event("a"), channels=["siren"])
            first.wait_for(lambda: bool(first.taken))
            with running(other, second) as waiting:
                for number in range(1, 20):
                    other.add(event("a", number), channels=["siren"])
                first.wait_for(lambda: len(first.taken) == 20)
                assert waiting.status()[0].blocked == "another process delivers for this channel"
                assert second.entered == 0
        assert second.taken == []


def test_trouble_with_the_store_is_shown_and_ends_nothing(store, monkeypatch):
    monkeypatch.setattr("streamer.notify.dispatcher._POLL_S", 0.01)
    trouble = threading.Event()
    claim = store.outbox.claim
    again = threading.Event()

    def failing(channel, **more):
        if not again.is_set():
            trouble.set()
            raise StorageError("the disk is full")
        return claim(channel, **more)

    monkeypatch.setattr(store.outbox, "claim", failing)
    siren = ScriptedChannel()
    store.add(event(), channels=["siren"])
    with running(store, siren) as dispatcher:
        assert trouble.wait(20)
        again.set()
        siren.wait_for(lambda: bool(siren.taken))
        until(lambda: dispatcher.status()[0].blocked is None)


def test_a_bug_in_the_handler_of_confirmations_costs_no_delivery(store):
    def faulty(*_):
        raise RuntimeError("fault")

    siren = ScriptedChannel("siren")
    with running(store, siren, on_confirmed=faulty):
        for number in range(3):
            store.add(event("a", number), channels=["siren"])
        siren.wait_for(lambda: len(siren.taken) == 3)
    assert store.outbox.pending() == []


class Unusable(ScriptedChannel):
    """Fails where no channel may: when it is entered."""

    broken = True

    def __enter__(self):
        if self.broken:
            raise KeyError("https://example.org/?token=t0psecret")
        return super().__enter__()


def test_a_channel_that_cannot_even_start_disturbs_no_other_and_recovers(store, monkeypatch):
    monkeypatch.setattr("streamer.notify.dispatcher._RESTART", Backoff.constant(0.01))
    unusable, mail = Unusable("unusable"), ScriptedChannel("mail")
    with running(store, unusable, mail) as dispatcher:
        for number in range(3):
            store.add(event("a", number), channels=["unusable", "mail"])
        mail.wait_for(lambda: len(mail.taken) == 3)
        until(lambda: dispatcher.status()[0].state is ChannelState.BLOCKED)
        assert dispatcher.status()[0].reason == "unexpected KeyError in the delivery"
        unusable.broken = False
        unusable.wait_for(lambda: len(unusable.taken) == 3)
        until(lambda: dispatcher.status()[0].blocked is None)


@pytest.mark.parametrize("fault", [StorageError("the disk is full"), RuntimeError("a bug")])
def test_an_outcome_that_could_not_be_recorded_jams_no_channel_after_a_restart(
    store, monkeypatch, fault
):
    monkeypatch.setattr("streamer.notify.dispatcher._POLL_S", 0.01)
    monkeypatch.setattr("streamer.notify.dispatcher._RESTART", Backoff.constant(0.01))
    confirm = store.outbox.confirm
    failed_once = threading.Event()

    def failing(*_, **__):
        failed_once.set()
        raise fault

    siren, mail = ScriptedChannel("siren"), ScriptedChannel("mail")
    dispatcher = Dispatcher(store.outbox, [siren, mail], retry=QUICK)
    store.add(event("a"), channels=["siren"])
    monkeypatch.setattr(store.outbox, "confirm", failing)
    with running(store, dispatcher=dispatcher):
        assert failed_once.wait(20)
    monkeypatch.setattr(store.outbox, "confirm", confirm)
    with running(store, dispatcher=dispatcher):
        for channel in (siren, mail):
            store.add(event(channel.name), channels=[channel.name])
            channel.wait_for(lambda: f"{channel.name}-0" in channel.taken)  # noqa: B023  waited for here
        until(lambda: store.outbox.pending() == [])
    assert siren.taken == ["a-0", "siren-0"], "what had arrived is not sent again"


def test_the_end_does_not_wait_for_an_attempt_that_hangs(store):
    release = threading.Event()
    entered = threading.Event()

    class Stuck(ScriptedChannel):
        def deliver(self, what):
            entered.set()
            release.wait(30)
            super().deliver(what)

    stuck = Stuck("stuck")
    dispatcher = Dispatcher(store.outbox, [stuck], retry=QUICK)
    store.add(event(), channels=["stuck"])
    with running(store, dispatcher=dispatcher):
        assert entered.wait(20)
        began = time.monotonic()
    assert time.monotonic() - began < 1.5
    # Its lock is still held: until it has ended, nothing else delivers for this channel.
    with running(store, dispatcher=dispatcher):
        release.set()
        store.add(event("b"), channels=["stuck"])
        stuck.wait_for(lambda: stuck.taken[-1:] == ["b-0"])


class FastClock(SystemClock):
    """A day passes in an hour and a half: so outages last long enough within a test."""

    def monotonic_ns(self):
        return super().monotonic_ns() * 1000

    def utc_at(self, monotonic_ns):
        return super().utc_at(monotonic_ns // 1000)


def test_the_other_channels_get_news_of_a_channel_that_is_down_and_up_again(
    store, capsys, monkeypatch
):
    monkeypatch.setattr("streamer.notify.dispatcher._POLL_S", 0.01)
    home, mail, hook = (ScriptedChannel(name) for name in ("home", "mail", "hook"))
    home.unreachable = failed("broker h:1883: connection refused")
    options = {
        name: ChannelOptions(check_interval_s=120, channel_alerts=name != "hook")
        for name in ("home", "mail", "hook")
    }
    with running(store, home, mail, hook, options=options, clock=FastClock()) as dispatcher:
        mail.wait_for(lambda: len(mail.tried) == 1)
        status, *others = dispatcher.status()
        assert (status.state, status.reason) == (ChannelState.DOWN, str(home.unreachable))
        assert [each.state for each in others] == [ChannelState.IDLE, ChannelState.IDLE]
        home.unreachable = None
        mail.wait_for(lambda: len(mail.tried) == 2)
        until(lambda: dispatcher.status()[0].state is ChannelState.IDLE)
    down, up = mail.tried
    assert [each.payload["kind"] for each in mail.tried] == ["channel_down", "channel_up"]
    assert down.payload["channel"] == up.payload["channel"] == "home"
    assert "home" in down.title
    assert "connection refused" in down.text
    assert home.tried == hook.tried == [], "the channel itself, and one that did not ask"
    assert "".join(capsys.readouterr()).count("channel is down") == 1


def test_news_that_a_channel_does_not_take_is_tried_again(store, monkeypatch):
    monkeypatch.setattr("streamer.notify.dispatcher._POLL_S", 0.01)
    home, mail = ScriptedChannel("home"), ScriptedChannel("mail", script=[failed()] * 2)
    home.unreachable = failed("refused")
    options = {
        name: ChannelOptions(check_interval_s=120, channel_alerts=True) for name in ("home", "mail")
    }
    with running(store, home, mail, options=options, clock=FastClock()):
        mail.wait_for(lambda: len(mail.taken) == 1)
    assert len(mail.tried) == 3


def test_channels_of_one_name_are_refused(store):
    with pytest.raises(ValueError, match="unique"):
        Dispatcher(store.outbox, [ScriptedChannel(), ScriptedChannel()])


def test_deliveries_for_unknown_channels_wait(store):
    store.add(event(), channels=["gone", "siren"])
    siren = ScriptedChannel()
    with running(store, siren):
        siren.wait_for(lambda: bool(siren.taken))
    assert [each.channel for each in store.outbox.pending()] == ["gone"]
