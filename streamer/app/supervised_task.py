"""A supervised task: one thread that runs its work to the end and again after each failure."""

import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from streamer.core.backoff import Backoff, FailureCounter
from streamer.core.clock import CancelToken, Clock
from streamer.core.errors import Cancelled, as_exception, is_expected, leaves
from streamer.health.reports import ErrorReport, TaskPhase, TaskReport

_log = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000
_HOUR_NS: Final = 3600 * _NS

_PROVEN_S: Final = 60.0
"""How long a task must run without a failure, for each failure of the last hour, before it counts
as healthy again: a camera that fails every 90 s never does. Arbitrary."""

_LONGEST_PROOF_S: Final = 600.0
"""The longest such time."""


class SupervisedTask:
    """One thread that runs *work* to its end and, where it may, again after each failure.

    Args:
        name: For the thread and the report.
        work: What to run.
        cancel: Ends the pauses, and with them the restarts.
        backoff: Pauses before a restart; `None` does not restart.
        clock: For the times of the report.
        redact: Removes secrets from errors.
        on_end: Called at the end with the error of a task that failed for good.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        cancel: CancelToken,
        *,
        backoff: Backoff | None,
        clock: Clock,
        redact: Callable[[str], str],
        on_end: Callable[[Exception | None], None],
    ) -> None:
        self.name = name
        self.cancel = cancel
        self.over = False
        """Whether the task has ended for good."""

        self._work = work
        self._failures = FailureCounter(backoff) if backoff else None
        self._clock = clock
        self._redact = redact
        self._on_end = on_end
        self._thread = threading.Thread(target=self._run, name=name)
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._phase = TaskPhase.RUNNING
        self._since_ns = clock.monotonic_ns()
        self._restarts = 0
        self._failed_ns: deque[int] = deque()  # When it failed in the last hour.
        self._failing_since_ns: int | None = None
        self._last_error: ErrorReport | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; returns whether it came in time. Returns at once before `start`."""
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def report(self) -> TaskReport:
        """Return what is known of the task. From any thread."""
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            failures = self._failures_last_hour(now_ns)
            if self._phase is TaskPhase.RUNNING and self._is_healthy(now_ns):
                self._failing_since_ns = None
            return TaskReport(
                name=self.name,
                phase=self._phase,
                since_ns=self._since_ns,
                restarts=self._restarts,
                failures_last_hour=failures,
                failing_since_ns=self._failing_since_ns,
                last_error=self._last_error,
            )

    def _run(self) -> None:
        error = self._run_to_the_end()
        with self._lock:
            self._phase = TaskPhase.ENDED if error is None else TaskPhase.FAILED
            self._since_ns = self._clock.monotonic_ns()
        self.over = True
        self._on_end(error)

    def _run_to_the_end(self) -> Exception | None:
        """Run and restart; returns the error of a task that is not restarted."""
        while True:
            self._enter(TaskPhase.RUNNING)
            try:
                self._work()
            except Cancelled:
                return None
            except BaseException as error:  # noqa: BLE001  any failure of any part ends here
                # No variable may outlive this block: its traceback holds the frames of the old run.
                delay_s = self._note(as_exception(error))
                if delay_s is None:
                    return as_exception(error)
            else:
                return None
            self._enter(TaskPhase.BACKOFF)
            try:
                self.cancel.sleep(delay_s)
            except Cancelled:
                return None
            with self._lock:
                self._restarts += 1

    def _enter(self, phase: TaskPhase) -> None:
        with self._lock:
            self._phase, self._since_ns = phase, self._clock.monotonic_ns()

    def _note(self, error: Exception) -> float | None:
        """Remember and log a failure; return the pause before the restart, if there is one."""
        message = self._redact(one_line(error))
        text = self._redact("".join(traceback.format_exception(error)))
        now_ns = self._clock.monotonic_ns()
        delay_s = None
        with self._lock:
            if self._failing_since_ns is None or self._is_healthy(now_ns):
                self._failing_since_ns = now_ns
            self._failed_ns.append(now_ns)
            if self._failures is not None:
                self._failures.note_success((now_ns - self._since_ns) / _NS)
                delay_s = self._failures.delay_s()
            self._last_error = ErrorReport(message, text, now_ns)
        _log.error("failed", part=self.name, error=message, restart_in_s=delay_s, exc_info=error)
        return delay_s

    def _failures_last_hour(self, now_ns: int) -> int:
        while self._failed_ns and self._failed_ns[0] <= now_ns - _HOUR_NS:
            self._failed_ns.popleft()
        return len(self._failed_ns)

    def _is_healthy(self, now_ns: int) -> bool:
        """Whether the present run has lasted long enough, for what the last hour was like."""
        proof_s = min(_PROVEN_S * max(1, self._failures_last_hour(now_ns)), _LONGEST_PROOF_S)
        return now_ns - self._since_ns >= proof_s * _NS


def one_line(error: BaseException) -> str:
    """Return the first cause on one line, with the notes that name the failed part."""
    first = next(leaves(error))
    text = " ".join(str(first).split()) or type(first).__name__
    if not is_expected(first):
        text = f"{type(first).__name__}: {text}"
    return f"{text} ({', '.join(first.__notes__)})" if hasattr(first, "__notes__") else text
