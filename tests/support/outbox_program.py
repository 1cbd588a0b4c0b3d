"""Programs that record and deliver events, made to be killed.

`python -m tests.support.outbox_program work DATABASE URL LIFE` adds events until it is killed,
says `added ID` after each one, and delivers them all the while. `drain DATABASE URL` delivers what
is left and ends. `crash FOLDER` runs one event from the first statement to the last, once for
each point at which it could be killed, and prints what each life left behind, as JSON.
"""

import itertools
import json
import logging
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import structlog

from streamer.core.backoff import Backoff
from streamer.core.clock import CancelToken
from streamer.notify import Dispatcher, Notification, RetryPolicy
from streamer.notify.delivery_worker import DeliveryWorker, Outcome
from streamer.notify.webhook import WebhookChannel
from streamer.store import DeliveryState
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import event

QUICK = RetryPolicy(Backoff(initial_s=0.02, max_delay_s=0.1))
ALARM_LENGTH = 4


def siren(url: str) -> WebhookChannel:
    return WebhookChannel("siren", url=url, timeout_s=0.3)


def work(database: str, url: str, life: str) -> None:
    store = SqliteEventStore(Path(database))
    dispatcher = Dispatcher(store.outbox, [siren(url)], retry=QUICK)
    threading.Thread(target=dispatcher.run, args=(CancelToken(),)).start()
    for number in itertools.count():
        alarm, sequence = divmod(number, ALARM_LENGTH)
        last = sequence == ALARM_LENGTH - 1
        what = event(f"life{life}-{alarm}", sequence, kind="cleared" if last else None)
        store.add(what, channels=["siren"])
        print(f"added {what.id}", flush=True)  # noqa: T201  what the test reads
        CancelToken().sleep(0.03)  # As alarms come: not as fast as the disk.


def drain(database: str, url: str) -> None:
    cancel = CancelToken()
    store = SqliteEventStore(Path(database))

    def end_when_empty(*_: Any) -> None:
        if not store.outbox.pending():
            cancel.set()

    end_when_empty()
    Dispatcher(store.outbox, [siren(url)], retry=QUICK, on_confirmed=end_when_empty).run(cancel)
    store.close()


@dataclass
class Life:
    """What a life that was cut short left behind, and what was so after the next one."""

    point: int
    completed: bool = False
    added: bool = False
    recorded: bool = False
    sent: int = 0
    confirmed: bool = False
    sent_in_the_end: int = 0
    confirmed_in_the_end: bool = False


class LogChannel:
    """A receiver that acknowledges what is in its file."""

    name = "siren"

    def __init__(self, log: Path, tick: Callable[[], None]) -> None:
        self._log, self._tick = log, tick

    def deliver(self, notice: Notification) -> None:
        self._tick()
        with self._log.open("a") as log:
            log.write(notice.key + "\n")
        self._tick()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def live(folder: Path, kill_at: int | None) -> None:
    """Add and deliver one event; be killed at the given statement or step."""
    ticks = itertools.count()

    def tick(_statement: str = "") -> None:
        if next(ticks) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def traced(*arguments: Any, **more: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **more)
        connection.set_trace_callback(tick)
        return connection

    sqlite3.connect = traced
    with SqliteEventStore(folder / "events.db") as store:
        store.add(event(), channels=["siren"])
        (folder / "added").touch()
        lock = store.outbox.lock("siren")
        assert lock.acquire()
        store.outbox.recover("siren")
        channel = LogChannel(folder / "log", tick)
        worker = DeliveryWorker(channel, store.outbox, retry=QUICK, on_confirmed=lambda *_: tick())
        while worker.step() is not Outcome.IDLE:
            pass


def forked(work: Callable[[], None]) -> int:
    """Do it in a process of its own; returns how that ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def left_behind(folder: Path) -> tuple[bool, bool, int]:
    """Whether the event is recorded, whether confirmed, and how often it was sent."""
    log = folder / "log"
    sent = len(log.read_text().split()) if log.exists() else 0
    with SqliteEventStore(folder / "events.db") as store:
        deliveries = store.outbox.of_event(event().id)
    states = [each.state for each in deliveries]
    return bool(states), states == [DeliveryState.CONFIRMED], sent


def crash(root: str) -> None:
    for point in itertools.count():
        folder = Path(root) / str(point)
        folder.mkdir()
        status = forked(lambda: live(folder, point))  # noqa: B023  ends within the turn
        assert status in (0, -signal.SIGKILL), f"point {point}: {status}"
        life = Life(point, completed=status == 0, added=(folder / "added").exists())
        life.recorded, life.confirmed, life.sent = left_behind(folder)
        assert forked(lambda: live(folder, None)) == 0  # noqa: B023  ends within the turn
        _, life.confirmed_in_the_end, life.sent_in_the_end = left_behind(folder)
        print(json.dumps(asdict(life)), flush=True)  # noqa: T201  what the test reads
        if life.completed:
            return


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    {"work": work, "drain": drain, "crash": crash}[sys.argv[1]](*sys.argv[2:])
