"""No failure of a channel or of the store jams delivery, loses a message or repeats it."""

import logging
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streamer.core.backoff import Backoff
from streamer.core.clock import CancelToken
from streamer.core.errors import StorageError
from streamer.notify import Dispatcher, RetryPolicy
from streamer.store.buffered import BufferedEventStore
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import ScriptedChannel, event

QUICK = RetryPolicy(Backoff(initial_s=0.001, max_delay_s=0.002))
CALLS = ("claim", "confirm", "reschedule", "recover", "expedite", "next_due")


class FlakyOutbox:
    """A real outbox whose calls fail as a plan says, before or after they had their effect."""

    def __init__(self, outbox, plan):
        self._outbox = outbox
        self._plan = dict(plan)
        self._counts = dict.fromkeys(CALLS, 0)
        self._lock = threading.Lock()

    def __getattr__(self, name):
        method = getattr(self._outbox, name)
        if name not in CALLS:
            return method

        def call(*arguments, **more):
            with self._lock:
                number = self._counts[name]
                self._counts[name] += 1
            fault = self._plan.get((name, number))
            if fault == "before":
                raise StorageError("the disk is full")
            result = method(*arguments, **more)
            if fault == "after":
                raise StorageError("the disk is full")
            if fault == "bug":
                raise RuntimeError("a bug in the store")
            return result

        return call


class FlakyStore:
    """A real store with such an outbox."""

    def __init__(self, path, plan):
        self._store = SqliteEventStore(path)
        self.outbox = FlakyOutbox(self._store.outbox, plan)

    def __getattr__(self, name):
        return getattr(self._store, name)


FAULTS = st.dictionaries(
    st.tuples(st.sampled_from(CALLS), st.integers(0, 6)),
    st.sampled_from(["before", "after", "bug"]),
    max_size=6,
)


@settings(
    max_examples=25,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(plan=FAULTS)
def test_whichever_call_of_the_store_fails_each_event_arrives_once_and_in_order(
    tmp_path_factory, plan
):
    folder = tmp_path_factory.mktemp("store")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    patch = pytest.MonkeyPatch()
    patch.setattr("streamer.notify.dispatcher._POLL_S", 0.002)
    patch.setattr("streamer.notify.dispatcher._RESTART", Backoff.constant(0.002))
    flaky = partial(FlakyStore, folder / "events.db", plan)
    with patch.context(), BufferedEventStore(flaky, name="flaky") as store:
        siren, mail = ScriptedChannel("siren"), ScriptedChannel("mail")
        for number in range(3):
            store.add(event("a", number), channels=["siren", "mail"])
        dispatcher = Dispatcher(store.outbox, [siren, mail], retry=QUICK)
        for _ in range(2):  # The second run goes on where the first one was stopped.
            cancel = CancelToken()
            thread = threading.Thread(target=dispatcher.run, args=(cancel,), daemon=True)
            thread.start()
            try:
                for channel in (siren, mail):
                    channel.wait_for(lambda: len(channel.taken) == 3)  # noqa: B023  waited for here
            finally:
                cancel.set()
                thread.join(20)
            assert not thread.is_alive()
        assert siren.taken == mail.taken == ["a-0", "a-1", "a-2"]
        wait_until(lambda: settled(store, dispatcher))
    structlog.reset_defaults()


def settled(store, dispatcher) -> bool:
    """Whether nothing is left to record; one more run records what is."""
    cancel = CancelToken()
    cancel.set()
    dispatcher.run(cancel)
    return store.outbox.pending() == []


def wait_until(condition) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends


FULL = """
import os, sys, threading
from pathlib import Path
from streamer.core.backoff import Backoff
from streamer.core.clock import CancelToken
from streamer.notify import Dispatcher, RetryPolicy, dispatcher
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import ScriptedChannel, event

folder = Path(sys.argv[1])
dispatcher._POLL_S = 0.05
ballast = folder / "ballast"

class Filling(ScriptedChannel):
    def deliver(self, what):
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        super().deliver(what)

with SqliteEventStore(folder / "events.db") as store:
    siren, mail = Filling("siren"), ScriptedChannel("mail")
    delivering = Dispatcher(
        store.outbox, [siren, mail], retry=RetryPolicy(Backoff(initial_s=0.01, max_delay_s=0.02))
    )
    store.add(event("a"), channels=["siren"])
    def run():
        cancel = CancelToken()
        thread = threading.Thread(target=delivering.run, args=(cancel,))
        thread.start()
        return cancel, thread
    cancel, thread = run()
    siren.wait_for(lambda: siren.taken == ["a-0"])
    while not delivering.status()[0].blocked:
        pass
    print(delivering.status()[0].blocked)
    cancel.set(); thread.join(20); assert not thread.is_alive()
    cancel, thread = run()
    ballast.unlink()
    store.add(event("b"), channels=["mail"])
    mail.wait_for(lambda: mail.taken == ["b-0"])
    while store.outbox.pending():
        pass
    cancel.set(); thread.join(20); assert not thread.is_alive()
    assert siren.taken == ["a-0"], siren.taken
    print("recorded")
"""


@pytest.mark.system
def test_an_outcome_that_a_full_disk_does_not_take_is_recorded_after_a_restart(tmp_path):
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    own_disk = [unshare, "--map-root-user", "--mount", "sh", "-ec"]
    mount = 'mount -t tmpfs -o size=1m none "$0"; '
    if subprocess.run(
        [*own_disk, mount, str(tmp_path)], capture_output=True, check=False
    ).returncode:
        pytest.skip("no disk of its own may be mounted here")
    program = [sys.executable, "-c", FULL, str(tmp_path)]
    ended = subprocess.run(
        [*own_disk, mount + 'exec "$@"', str(tmp_path), *program],
        cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "full" in ended.stdout
    assert ended.stdout.endswith("recorded\n")
