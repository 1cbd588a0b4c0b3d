"""One thread that writes files for a camera, so that no disk ever holds its alarms or frames up.

The thread is a daemon: a write to a dead network share cannot be interrupted, and must not keep the
program from ending.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

_log = structlog.get_logger(__name__)

_CAPACITY: Final = 16
"""Jobs that wait; the frames of 16 events of a 4K camera take 200 MB. Arbitrary."""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to write."""

    run: Callable[[], None]
    """Does it; may take any time."""

    dropped: Callable[[str], None] = lambda _: None
    """Called with the reason if it will not be done."""

    group: str = ""
    """Jobs of one group replace each other's turn: of each alarm the newest event comes first."""

    supersedes: bool = False
    """Whether jobs of its group that still wait need not be done any more."""

    queued_s: float = field(default_factory=time.monotonic)


class DiskWorker:
    """Does jobs one at a time, in a thread that begins with the first. For any thread.

    When it is behind, the newest job of the group that has waited longest is next. When too many
    wait, an older job of the largest group is dropped.

    Args:
        name: Of the thread.
        capacity: Number of jobs that may wait.
    """

    def __init__(self, name: str, *, capacity: int = _CAPACITY) -> None:
        self._name = name
        self._capacity = capacity
        self._changed = threading.Condition()
        # All below are guarded by _changed.
        self._jobs: list[Job] = []
        self._current: Job | None = None
        self._thread: threading.Thread | None = None
        self._ending = False

    def put(self, job: Job) -> None:
        """Add a job. Never waits."""
        dropped: Job | None = job
        with self._changed:
            if self._ending:
                reason = "the program ended before it was written"
            else:
                if job.supersedes:
                    self._jobs = [one for one in self._jobs if one.group != job.group]
                self._jobs.append(job)
                dropped = self._excess()
                reason = "the disk was too slow: too many events wait for it"
                self._begin()
                self._changed.notify_all()
        if dropped is not None:
            dropped.dropped(reason)

    def pending(self) -> tuple[int, float]:
        """Return how many jobs are not done, and the age of the oldest in seconds."""
        with self._changed:
            jobs = [*self._jobs, *([self._current] if self._current else [])]
            oldest_s = min((job.queued_s for job in jobs), default=None)
            return len(jobs), 0.0 if oldest_s is None else time.monotonic() - oldest_s

    def finish(self, *, timeout_s: float | None) -> bool:
        """Do what waits, for at most so long, and end; the rest is dropped.

        Returns:
            Whether everything was done.
        """
        with self._changed:
            done = self._changed.wait_for(
                lambda: not self._jobs and self._current is None, timeout_s
            )
            self._ending = True
            left, self._jobs = self._jobs, []
            self._changed.notify_all()
            thread = self._thread
        for job in left:
            job.dropped("the program ended before it was written")
        if done and thread is not None:
            thread.join()
        return done

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _excess(self) -> Job | None:
        """Take out the job that is worth least, if there are too many."""
        if len(self._jobs) <= self._capacity:
            return None
        sizes = Counter(job.group for job in self._jobs)
        largest = max(sizes.values())
        # Not the first of its group either, which documents how the alarm began.
        of_group = [job for job in self._jobs if sizes[job.group] == largest]
        job = next((j for j in of_group[1:-1] if j.group == of_group[0].group), of_group[0])
        self._jobs.remove(job)
        return job

    def _next(self) -> Job:
        oldest = self._jobs[0]
        newest = [job for job in self._jobs if job.group == oldest.group][-1]
        self._jobs.remove(newest)
        return newest

    def _run(self) -> None:
        while True:
            with self._changed:
                self._current = None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._jobs or self._ending)
                if not self._jobs:
                    return
                self._current = job = self._next()
            try:
                job.run()
            except BaseException as error:  # noqa: BLE001  the next event needs this thread
                _log.error("writing failed", worker=self._name, error=str(error), exc_info=True)
                job.dropped(str(error) or type(error).__name__)
