"""The thread that writes: the newest event of each alarm first, and never more than fits."""

import threading

import pytest

from streamer.evidence.disk_worker import DiskWorker, Job


class Blocked:
    """A worker whose first job waits until it is let go."""

    def __init__(self, *, capacity):
        self.worker = DiskWorker("writer", capacity=capacity)
        self.done, self.dropped = [], []
        self._go, self._begun = threading.Event(), threading.Event()
        self.worker.put(Job(self._wait))
        assert self._begun.wait(10)

    def _wait(self):
        self._begun.set()
        self._go.wait(20)

    def put(self, *names, supersedes=False):
        for name in names:
            self.worker.put(
                Job(
                    lambda name=name: self.done.append(name),
                    lambda reason, name=name: self.dropped.append((name, reason)),
                    group=name[0],
                    supersedes=supersedes,
                )
            )

    def let_go(self):
        self._go.set()
        assert self.worker.finish(timeout_s=20)
        return self.done


@pytest.fixture
def blocked():
    made = Blocked(capacity=4)
    yield made
    made.let_go()


def test_of_each_alarm_the_newest_event_comes_first(blocked):
    blocked.put("a0", "a1", "b0", "a2")
    assert blocked.worker.pending()[0] == 5
    assert blocked.let_go() == ["a2", "a1", "a0", "b0"]


def test_when_too_many_wait_older_ones_of_the_longest_alarm_are_given_up_but_not_its_first(blocked):
    blocked.put("a0", "a1", "a2", "b0", "a3", "c0")
    assert [name for name, _ in blocked.dropped] == ["a1", "a2"]
    assert blocked.dropped[0][1].startswith("the disk was too slow")
    assert sorted(blocked.let_go()) == ["a0", "a3", "b0", "c0"]


def test_a_job_that_supersedes_others_is_the_only_one_of_its_group(blocked):
    blocked.put("p0", "a0")
    blocked.put("p1", supersedes=True)
    assert blocked.let_go() == ["a0", "p1"]
    assert blocked.dropped == []


def test_the_end_waits_for_a_bounded_time_and_what_is_left_is_given_up(blocked):
    blocked.put("a0")
    assert not blocked.worker.finish(timeout_s=0.01)
    blocked.put("a1")
    assert [name for name, _ in blocked.dropped] == ["a0", "a1"]


def test_a_job_that_fails_does_not_end_the_worker():
    worker, reasons, done = DiskWorker("writer"), [], threading.Event()

    def fail():
        raise OSError(5, "the disk is damaged")

    worker.put(Job(fail, reasons.append))
    worker.put(Job(done.set))
    assert worker.finish(timeout_s=20)
    assert done.is_set()
    assert "the disk is damaged" in reasons[0]
