"""The supervisor: runs cameras and background services, and restarts what fails.

A failure never affects another camera. Cameras are added, replaced and removed while the others
run. Background services (delivery, retention, the web server) end after the last camera.

Ending is bounded: after `finish`, frames on their way have `_FINISH_S`, then every part is stopped
and has `_STOP_S`, then evidence that is being written has `_CLOSE_S`, then the services have
`_SERVICES_S`. A thread that has not ended by then, for example in a system call that nothing
interrupts, is given up: `run` returns without it.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from streamer.core.backoff import Backoff
from streamer.core.clock import CancelToken, Clock, SystemClock
from streamer.core.redact import redact
from streamer.health.reports import TaskReport

from .supervised_task import SupervisedTask

if TYPE_CHECKING:
    from .camera_runtime import CameraRuntime

_log = structlog.get_logger(__name__)

_RESTART: Final = Backoff(initial_s=1.0, max_delay_s=30.0, reset_after_s=60.0)
"""Delays before a restart. The next failure after a minute without one begins anew. Arbitrary."""

_FINISH_S: Final = 1.3
"""How long cameras may take to end by themselves after `finish` or `remove`. With those below
4.1 s: container runtimes kill after 10 s, and `streamer watch` ends by force after 4.5 s."""

_STOP_S: Final = 0.8
"""How long cameras may take to end after `stop`."""

_CLOSE_S: Final = 1.1
"""How long cameras may take to close, all at once, when the program is ended."""

_SERVICES_S: Final = 0.9
"""How long services may take to end: last deliveries are attempted in it."""


class Supervisor:
    """Runs cameras until they end or are stopped; *redact* removes secrets from error reports."""

    def __init__(
        self, *, clock: Clock | None = None, redact: Callable[[str], str] = redact
    ) -> None:
        self._clock = clock or SystemClock()
        self._redact = redact
        self._services_stop = CancelToken()
        self._changed = threading.Condition()
        # All below are guarded by _changed.
        self._services: dict[str, SupervisedTask] = {}
        self._cameras: dict[str, tuple[CameraRuntime, SupervisedTask]] = {}
        self._errors: list[Exception] = []
        self._running = self._finishing = self._ended_early = False
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

        Its frames on their way are processed; after a grace period it is stopped, and given up if
        a thread of it does not end.

        Raises:
            KeyError: There is no camera of this name.
        """
        with self._changed:
            camera, task = self._cameras[name]
        task.cancel.set()
        camera.finish()
        if not task.join(_FINISH_S):
            camera.stop()
            if not task.join(_STOP_S):
                _log.error("does not end and is given up", part=name)
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
        """Run until no camera is left that runs, or until the time after `finish` is over.

        Raises:
            ExceptionGroup: With the failures of cameras that are not started again.
        """
        with self._changed:
            self._running = True
            tasks = [*self._services.values(), *(task for _, task in self._cameras.values())]
            for task in tasks:
                task.start()
            self._changed.wait_for(lambda: self._finishing or self._is_over())
            self._finishing = True  # Nothing is added from here on.
        if not self._wait_until_over(_FINISH_S):
            self.stop()
            self._wait_until_over(_STOP_S)
        cameras = self._all_cameras()
        for _, task in cameras:
            if task.over:
                task.join(_STOP_S)  # Its thread has nothing left but to say so.
        self._close([camera for camera, _ in cameras])
        self._services_stop.set()
        end_s = time.monotonic() + _SERVICES_S
        for service in self._services.values():
            service.join(max(0.0, end_s - time.monotonic()))
        for task in (*self._services.values(), *(task for _, task in cameras)):
            if not task.join(0):
                _log.error("does not end and is given up", part=task.name)
        if self._errors:
            raise ExceptionGroup("not all cameras ended without an error", self._errors)

    def finish(self) -> None:
        """End every source and process the frames on their way; `run` stops what takes too long."""
        with self._changed:
            if self._finishing:
                return
            self._finishing = self._ended_early = True
            self._changed.notify_all()
        for camera, task in self._all_cameras():
            task.cancel.set()
            camera.finish()

    def stop(self) -> None:
        """End everything soon. From any thread, any number of times."""
        with self._changed:
            self._finishing = self._ended_early = True
            self._changed.notify_all()
        for camera, task in self._all_cameras():
            task.cancel.set()
            camera.stop()

    def cameras(self) -> "list[tuple[CameraRuntime, TaskReport]]":
        """Return all cameras with their reports, in the order in which they were added."""
        return [(camera, task.report()) for camera, task in self._all_cameras()]

    def services(self) -> list[TaskReport]:
        """Return the reports of the background services."""
        return [task.report() for task in self._services.values()]

    def _close(self, cameras: "list[CameraRuntime]") -> None:
        """Close cameras, side by side: a share that hangs holds up each that writes to it."""
        if not self._ended_early:  # Files have come to their end: all of their evidence is written.
            for camera in cameras:
                camera.close()
            return
        threads = [
            threading.Thread(target=camera.close, name=f"{camera.name}/close", daemon=True)
            for camera in cameras
        ]
        for thread in threads:
            thread.start()
        end_s = time.monotonic() + _CLOSE_S
        for thread in threads:
            thread.join(max(0.0, end_s - time.monotonic()))
            if thread.is_alive():
                _log.error("does not end and is given up", part=thread.name)

    def _all_cameras(self) -> "list[tuple[CameraRuntime, SupervisedTask]]":
        with self._changed:
            return list(self._cameras.values())

    def _wait_until_over(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(self._is_over, timeout_s)

    def _is_over(self) -> bool:
        return not self._replacing and all(task.over for _, task in self._cameras.values())

    def _task(
        self, name: str, work: Callable[[], None], cancel: CancelToken, *, restart: bool
    ) -> "SupervisedTask":
        return SupervisedTask(
            name, work, cancel, backoff=_RESTART if restart else None, clock=self._clock,
            redact=self._redact, on_end=self._ended,
        )  # fmt: skip

    def _ended(self, error: Exception | None) -> None:
        with self._changed:
            if error is not None:
                self._errors.append(error)
            self._changed.notify_all()
