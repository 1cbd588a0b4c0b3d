"""The backlog is read beside those who want it, because its disk may hang."""

import threading

import pytest

from streamer.app import outbox_backlog
from streamer.app.outbox_backlog import OutboxBacklog
from streamer.core.clock import CancelToken
from streamer.core.errors import Cancelled, StorageError
from streamer.store import Backlog
from tests.support.stepping import START

LIMIT_S = 20
WAITS = {"ops": Backlog(2, 0, START)}


class HangingOutbox:
    """Answers once, and then hangs until the test lets it go on to fail."""

    def __init__(self) -> None:
        self.calls = 0
        self.hangs, self.go_on, self.failed = (threading.Event() for _ in range(3))

    def backlog(self):
        self.calls += 1
        if self.calls == 1:
            return WAITS
        self.hangs.set()
        assert self.go_on.wait(LIMIT_S)
        if self.calls > 2:
            self.failed.set()
        raise StorageError("disk full")


def test_before_it_runs_the_backlog_is_read_when_it_is_wanted():
    reading = OutboxBacklog(HangingOutbox()).newest()
    assert (reading.backlog, reading.error) == (WAITS, "")


def test_a_disk_that_hangs_delays_nobody_and_an_error_is_part_of_the_reading(monkeypatch):
    monkeypatch.setattr(outbox_backlog, "_EVERY_S", 0.001)
    outbox, cancel = HangingOutbox(), CancelToken()
    watched = OutboxBacklog(outbox)

    def run():
        with pytest.raises(Cancelled):
            watched.run(cancel)

    thread = threading.Thread(target=run)
    thread.start()
    assert outbox.hangs.wait(LIMIT_S)
    assert watched.newest().backlog == WAITS
    outbox.go_on.set()
    assert outbox.failed.wait(LIMIT_S)
    assert (watched.newest().backlog, watched.newest().error) == (None, "disk full")
    cancel.set()
    thread.join(LIMIT_S)
    assert not thread.is_alive()
