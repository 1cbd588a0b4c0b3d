"""The supervisor: runs cameras and background services, and restarts what fails.

A failure never affects another camera. Cameras are added, replaced and removed while the others
run. Background services (delivery, retention, the web server) end after the last camera.
"""

import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from streamer.core.backoff import Backoff, FailureCounter
from streamer.core.clock import CancelToken, Clock, SystemClock
from streamer.core.errors import Cancelled
from streamer.health.reports import ErrorReport, TaskPhase, TaskReport

if TYPE_CHECKING:
    from .camera_runtime import CameraRuntime

_log = structlog.get_logger(__name__)

_RESTART: Final = Backoff(initial_s=1.0, max_delay_s=30.0, reset_after_s=60.0)
"""Delays before a restart. A task that has run for a minute is healthy: its next failure begins a
new series. Arbitrary."""

_GRACE_S: Final = 10.0
"""How long parts may take to end by themselves after `finish` or `remove`."""


class Supervisor:
    """Runs cameras until they end or are stopped; *redact* removes secrets from error reports."""

    def __init__(self, *, clock: Clock | None = None, redact: Callable[[str], str] = str) -> None:
        self._clock = clock or SystemClock()
        self._redact = redact
        self._services_stop = CancelToken()
        self._changed = threading.Condition()
        # All below are guarded by _changed.
        self._services: dict[str, _Task] = {}
        self._cameras: dict[str, tuple[CameraRuntime, _Task]] = {}
        self._errors: list[Exception] = []
        self._running = self._finishing = False
        self._replacing = 0

    def add_service(self, name: str, work: Callable[[CancelToken], None]) -> None:
        """Add a background service before `run`. It is started again when it fails.

        Args:
            name: For threads and reports.
            work: Returns soon after its `CancelToken` is set.
        """
        self._services[name] = self._task(
            name, partial(work, self._services_stop), self._services_stop, restart=True
        )

    def add(self, camera: "CameraRuntime") -> None:
        """Add a camera; it starts at once when the supervisor runs.

        Raises:
            ValueError: A camera of this name is there already.
            RuntimeError: The supervisor is ending.
        """
        with self._changed:
            if camera.name in self._cameras:
                raise ValueError(f"there is a camera {camera.name!r} already")
            if self._finishing:
                raise RuntimeError(f"camera {camera.name!r} not added: the program is ending")
            task = self._task(camera.name, camera.run, CancelToken(), restart=camera.live)
            self._cameras[camera.name] = camera, task
            if self._running:
                task.start()

    def remove(self, name: str) -> None:
        """End a camera and wait for it; the other cameras are not affected.

        Its frames on their way are processed; after a grace period it is stopped.

        Raises:
            KeyError: There is no camera of this name.
        """
        with self._changed:
            camera, task = self._cameras[name]
        task.cancel.set()
        camera.finish()
        if not task.join(_GRACE_S):
            camera.stop()
            task.join(None)
        camera.close()
        with self._changed:
            self._cameras.pop(name, None)
            self._changed.notify_all()

    def replace(self, camera: "CameraRuntime") -> None:
        """Remove the camera of the same name, if there is one, and add this one."""
        with self._changed:
            known = camera.name in self._cameras
            self._replacing += 1
        try:
            if known:
                self.remove(camera.name)
            self.add(camera)
        finally:
            with self._changed:
                self._replacing -= 1
                self._changed.notify_all()

    def run(self) -> None:
        """Run until no camera is left that runs.

        Raises:
            ExceptionGroup: With the failures of cameras that are not started again.
        """
        with self._changed:
            self._running = True
            tasks = [*self._services.values(), *(task for _, task in self._cameras.values())]
            for task in tasks:
                task.start()
            self._changed.wait_for(self._is_over)
            self._finishing = True  # Nothing is added from here on.
            cameras = list(self._cameras.values())
        for camera, task in cameras:
            task.join(None)
            camera.close()
        self._services_stop.set()
        for service in self._services.values():
            service.join(None)
        if self._errors:
            raise ExceptionGroup("not all cameras ended without an error", self._errors)

    def finish(self) -> None:
        """End every source and process the frames on their way; stop what takes too long."""
        with self._changed:
            if self._finishing:
                return
            self._finishing = True
        for camera, task in self._all_cameras():
            task.cancel.set()
            camera.finish()
        grace = threading.Timer(_GRACE_S, self.stop)
        grace.name = "grace"
        grace.start()
        self._services_stop.on_cancel(grace.cancel)

    def stop(self) -> None:
        """End everything soon. From any thread, any number of times."""
        with self._changed:
            self._finishing = True
        for camera, task in self._all_cameras():
            task.cancel.set()
            camera.stop()

    def call(self, method: Callable[[], None]) -> None:
        """Run `finish` or `stop` from a signal handler, which may interrupt a holder of locks."""
        threading.Thread(target=method, name="signal").start()

    def cameras(self) -> "list[tuple[CameraRuntime, TaskReport]]":
        """Return all cameras with their reports, in the order in which they were added."""
        return [(camera, task.report()) for camera, task in self._all_cameras()]

    def services(self) -> list[TaskReport]:
        """Return the reports of the background services."""
        return [task.report() for task in self._services.values()]

    def _all_cameras(self) -> "list[tuple[CameraRuntime, _Task]]":
        with self._changed:
            return list(self._cameras.values())

    def _is_over(self) -> bool:
        return not self._replacing and all(task.over for _, task in self._cameras.values())

    def _task(
        self, name: str, work: Callable[[], None], cancel: CancelToken, *, restart: bool
    ) -> "_Task":
        return _Task(
            name, work, cancel, restart=restart, clock=self._clock, redact=self._redact,
            on_end=self._ended,
        )  # fmt: skip

    def _ended(self, error: Exception | None) -> None:
        with self._changed:
            if error is not None:
                self._errors.append(error)
            self._changed.notify_all()


class _Task:
    """One thread that runs *work* to its end and, where it may, again after each failure.

    The delays before a restart are those of `_RESTART`.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        cancel: CancelToken,
        *,
        restart: bool,
        clock: Clock,
        redact: Callable[[str], str],
        on_end: Callable[[Exception | None], None],
    ) -> None:
        self.cancel = cancel
        """Ends the pauses, and with them the restarts."""

        self.over = False
        """Whether the task has ended for good."""

        self._name = name
        self._work = work
        self._restart = restart
        self._clock = clock
        self._redact = redact
        self._on_end = on_end
        self._thread = threading.Thread(target=self._run, name=name)
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._phase = TaskPhase.RUNNING
        self._since_ns = clock.monotonic_ns()
        self._restarts = 0
        self._failing_since_ns: int | None = None
        self._last_error: ErrorReport | None = None

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float | None) -> bool:
        """Wait for the end; returns whether it came in time. Returns at once before `start`."""
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def report(self) -> TaskReport:
        with self._lock:
            failing_since_ns = self._failing_since_ns
            if self._phase is TaskPhase.RUNNING and self._is_healthy():
                failing_since_ns = None
            return TaskReport(
                name=self._name,
                phase=self._phase,
                since_ns=self._since_ns,
                restarts=self._restarts,
                failing_since_ns=failing_since_ns,
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
        failures = FailureCounter(_RESTART)
        while True:
            self._enter(TaskPhase.RUNNING)
            try:
                self._work()
            except Cancelled:
                return None
            except Exception as error:  # noqa: BLE001  any failure of any part ends here
                message = self._note(error, failures)
                if not self._restart:
                    _log.error("failed", part=self._name, error=message)
                    return error
                delay_s = failures.delay_s()
                _log.error("failed", part=self._name, error=message, restart_in_s=delay_s)
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

    def _note(self, error: Exception, failures: FailureCounter) -> str:
        """Remember a failure, which may begin a new series, and return its message."""
        message = self._redact(one_line(error))
        text = self._redact("".join(traceback.format_exception(error)))
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            failures.note_success((now_ns - self._since_ns) / 1e9)
            if failures.count == 0:
                self._failing_since_ns = now_ns
            self._last_error = ErrorReport(message, text, now_ns)
        return message

    def _is_healthy(self) -> bool:
        """Whether the present run has lasted long enough. The lock is held."""
        return self._clock.monotonic_ns() - self._since_ns >= _RESTART.reset_after_s * 1e9


def one_line(error: BaseException) -> str:
    """Return the first cause on one line, with the notes that name the failed part."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text} ({', '.join(error.__notes__)})" if hasattr(error, "__notes__") else text
