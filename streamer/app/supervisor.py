"""Many cameras at once: start, restart with growing pauses, health, and an orderly end.

A failed camera is started again; it never takes another one down. What all cameras share
(delivery, retention, the preview) runs beside them and ends after them.
"""

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import structlog

from streamer.core.backoff import Backoff, FailureCounter
from streamer.core.clock import CancelToken
from streamer.core.errors import Cancelled
from streamer.core.pipeline import Pipeline

_log = structlog.get_logger(__name__)

_RESTART: Final = Backoff(initial_s=1.0, max_delay_s=30.0, reset_after_s=60.0)
"""Delays before a camera that failed starts again. Arbitrary."""

_GRACE_S: Final = 10.0
"""What `finish` gives the parts to end by themselves before they are stopped."""


class Camera(Protocol):
    """What the service must know of a camera; `build` makes them."""

    name: str
    live: bool
    """Whether the camera is started again when it fails. A file is not."""

    def pipeline(self) -> Pipeline:
        """A fresh pipeline, ready to run."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a camera does not run, and since how many tries."""

    message: str
    tries: int


class Supervisor:
    """Runs cameras until they end or somebody stops them.

    Args:
        cameras: Each runs in threads of its own.
        beside: Shared work by name; each returns soon after its `CancelToken` is set. It is started
            again when it fails: a delivery that died in silence would lose alarms.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        *,
        background_services: Mapping[str, Callable[[CancelToken], None]],
    ) -> None:
        self._cameras = cameras
        self._beside = background_services
        self._finish = CancelToken()
        self._beside_stop = CancelToken()
        self._guard = threading.Lock()
        # All below are guarded by _guard.
        self._running: dict[str, Pipeline] = {}
        self._failures: dict[str, Failure] = {}
        self._errors: list[Exception] = []

    def run(self) -> None:
        """Run until every camera has ended.

        Raises:
            ExceptionGroup: With what ended the cameras that are not started again.
        """
        cameras = [
            self._thread(
                camera.name, partial(self._run_camera, camera), self._finish, again=camera.live
            )
            for camera in self._cameras
        ]
        background_services = [
            self._thread(name, partial(work, self._beside_stop), self._beside_stop, again=True)
            for name, work in self._beside.items()
        ]
        for thread in (*background_services, *cameras):
            thread.start()
        for thread in cameras:
            thread.join()
        self._beside_stop.set()
        for thread in background_services:
            thread.join()
        if self._errors:
            raise ExceptionGroup("not everything ended well", self._errors)

    def finish(self) -> None:
        """End every source and let what is on its way arrive; stop what takes too long."""
        if self._finish.is_set():
            return
        self._finish.set()
        for pipeline in self._pipelines():
            pipeline.finish()
        grace = threading.Timer(_GRACE_S, self.stop)
        grace.name = "grace"
        grace.start()
        self._beside_stop.on_cancel(grace.cancel)

    def stop(self) -> None:
        """End everything soon. From any thread, any number of times."""
        self._finish.set()
        for pipeline in self._pipelines():
            pipeline.stop()

    def call(self, what: Callable[[], None]) -> None:
        """Run `finish` or `stop` from a signal handler, which may interrupt whoever holds locks."""
        threading.Thread(target=what, name="signal").start()

    def failures(self) -> dict[str, Failure]:
        """What failed and waits to be started again, by the name of camera or shared work."""
        with self._guard:
            return dict(self._failures)

    def _pipelines(self) -> list[Pipeline]:
        with self._guard:
            return list(self._running.values())

    def _run_camera(self, camera: Camera) -> None:
        pipeline = camera.pipeline()
        with self._guard:
            self._running[camera.name] = pipeline
            self._failures.pop(camera.name, None)
        if self._finish.is_set():  # `finish` came before it could see this pipeline.
            pipeline.finish()
        try:
            pipeline.run()
        finally:
            with self._guard:
                del self._running[camera.name]

    def _thread(
        self, name: str, work: Callable[[], None], until: CancelToken, *, again: bool
    ) -> threading.Thread:
        return threading.Thread(
            target=self._keep_running, args=(name, work, until), kwargs={"again": again}, name=name
        )

    def _keep_running(
        self, name: str, work: Callable[[], None], until: CancelToken, *, again: bool
    ) -> None:
        """Run *work* to its end; where it fails, run it *again* with growing pauses."""
        failures = FailureCounter(_RESTART)
        for tries in itertools.count(1):
            began_ns = time.monotonic_ns()
            try:
                return work()
            except Cancelled:
                return None
            except Exception as error:  # noqa: BLE001  one failure is not the others'
                if not again:
                    with self._guard:
                        self._errors.append(error)
                    return None
                failures.note_success((time.monotonic_ns() - began_ns) / 1e9)
                pause_s = failures.delay_s()
                message = one_line(error)
                _log.error("failed", part=name, error=message, again_in_s=pause_s)
                with self._guard:
                    self._failures[name] = Failure(message, tries)
            try:
                until.sleep(pause_s)
            except Cancelled:
                return None
        return None


def one_line(error: BaseException) -> str:
    """The first cause, with the notes that say where, on one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text} ({', '.join(error.__notes__)})" if hasattr(error, "__notes__") else text
