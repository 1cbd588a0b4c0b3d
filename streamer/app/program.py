"""The whole program that `streamer watch` runs: cameras, background services and their status."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from streamer import __version__
from streamer.alarm.event import Event
from streamer.config import Config
from streamer.core.clock import CancelToken, SystemClock
from streamer.core.clock_guard import ClockGuard
from streamer.core.redact import redact
from streamer.health.program_status import ProgramStatus
from streamer.health.reports import Condition
from streamer.health.snapshot import program_status
from streamer.notify import Channel, Dispatcher, RetryPolicy, ShowsStatus
from streamer.notify.retry import DELIVERY_BACKOFF
from streamer.recording.recording_paths import RecordingNumbers
from streamer.sinks.mjpeg import MjpegSink
from streamer.store.buffered import BufferedEventStore

from .camera_runtime import AppContext, CameraRuntime
from .camera_spec import CameraSpec, camera_specs
from .channels import channel_options, open_channels
from .data_folder import own_data_folder
from .event_store import open_event_store
from .inference_report import OverloadLog
from .models import Models, open_models, provenance
from .outbox_backlog import OutboxBacklog
from .retention import RetentionService, retention_plan
from .supervisor import Supervisor

_log = structlog.get_logger(__name__)

_STATUS_S: Final = 1.0
"""Time between two snapshots for the channels that publish the status."""


class Program:
    """Cameras and background services under one supervisor, and their status.

    *channels* are not entered yet; *redact* removes secrets from errors that the status shows.
    """

    def __init__(
        self,
        config: Config,
        *,
        context: AppContext,
        store: BufferedEventStore,
        channels: list[Channel],
        redact: Callable[[str], str],
    ) -> None:
        self._context = context
        self._store = store
        self._clock = context.clock
        self._started_ns = context.clock.monotonic_ns()
        self._instance = uuid.uuid4().hex[:12]
        self._publishers = [one for one in channels if isinstance(one, ShowsStatus)]
        self.supervisor = Supervisor(clock=context.clock, redact=redact)
        """Runs everything; cameras are added, replaced and removed through it."""

        retry = config.retry
        policy = RetryPolicy(
            replace(DELIVERY_BACKOFF, initial_s=retry.initial_s, max_delay_s=retry.max_delay_s),
            give_up_after=timedelta(days=retry.give_up_after_days),
        )
        self._dispatcher = Dispatcher(
            store.outbox,
            channels,
            options=channel_options(config),
            retry=policy,
            on_confirmed=self._mark_delivered,
            clock=context.clock,
        )
        if channels:
            self.supervisor.add_service("delivery", self._dispatcher.run)
        if self._publishers:
            self.supervisor.add_service("status", self._publish_status)
        self._backlog = OutboxBacklog(store.outbox)
        self.supervisor.add_service("backlog", self._backlog.run)
        self._retention = self._retention_service(config)
        self.supervisor.add_service("retention", self._retention.run)
        if context.scheduler is not None:
            self.supervisor.add_service("overload", OverloadLog(context.scheduler).run)
        for spec in camera_specs(config):
            self.supervisor.add(self.camera(spec))

    def camera(self, spec: CameraSpec) -> CameraRuntime:
        """Return a runtime for `Supervisor.add` and `replace`."""
        return CameraRuntime(spec, self._context)

    def cameras(self) -> list[CameraRuntime]:
        """Return the cameras of this moment."""
        return [camera for camera, _ in self.supervisor.cameras()]

    def live_views(self) -> dict[str, MjpegSink]:
        """Return the cameras that the web page shows, by name."""
        views = {camera.name: camera.live_view for camera in self.cameras()}
        return {name: view for name, view in views.items() if view is not None}

    def status(self) -> ProgramStatus:
        """Build the status of this moment."""
        tasks = {task.name: task for _, task in self.supervisor.cameras()}
        waiting = self._backlog.newest()
        return program_status(
            version=__version__,
            started_ns=self._started_ns,
            cameras=[one.report() for one in self.cameras() if one.name in tasks],
            tasks=tasks,
            services=self.supervisor.services(),
            engines=self._context.models.status(),
            channels=self._dispatcher.status(),
            backlog=waiting.backlog,
            outbox_error=waiting.error,
            disk=self._retention.disk(),
            conditions=self._conditions(),
            instance=self._instance,
            clock=self._clock,
        )

    def _conditions(self) -> Iterator[Condition]:
        """What is wrong with the program as a whole."""
        yield from self._retention.conditions()
        if problem := self._store.problem():
            yield Condition("store", *problem)
        now_ns = self._clock.monotonic_ns()
        watched = {camera.name for camera in self.cameras()}
        for event in self._store.known_open_alarms():
            if event.camera not in watched:
                age = self._clock.utc_at(now_ns) - event.utc
                yield Condition(
                    "open_alarm",
                    f"alarm {event.alarm_id} was never cleared, and its camera is not watched:"
                    " `streamer events close` closes it",
                    now_ns - round(age.total_seconds() * 1e9),
                )

    def _retention_service(self, config: Config) -> RetentionService:
        guard = self._context.clock_guard or ClockGuard(None)
        numbers = self._context.recording_numbers or RecordingNumbers(config.recordings_folder)
        return RetentionService(
            retention_plan(config),
            store=self._store,
            guard=guard,
            numbers=numbers,
            cameras=self.cameras,
            clock=self._clock,
        )

    def _mark_delivered(self, event: Event, channel: str, when: datetime) -> None:
        del channel, when
        for camera in self.cameras():
            if camera.name == event.camera:
                camera.mark_delivered(event.alarm_id)

    def _publish_status(self, cancel: CancelToken) -> None:
        """Hand the status to the channels that publish it."""
        while True:
            status = self.status()
            cameras = {camera.camera: camera.summary() for camera in status.cameras}
            for channel in self._publishers:
                channel.show_cameras(cameras)
                channel.show_program(status.summary())
            cancel.sleep(_STATUS_S)


@contextmanager
def open_program(
    config: Config,
    *,
    models: Models | None = None,
    on_event: Callable[[Event], None] | None = None,
    redact: Callable[[str], str] = redact,
) -> Iterator[Program]:
    """Open everything that *config* describes; it is closed at the end of the block.

    Args:
        config: The configuration.
        models: Networks that are open already; by default those of the configuration are opened.
        on_event: Called with each event after it is on disk.
        redact: Removes secrets from errors that the status shows.

    Raises:
        EngineError: A network cannot be used here.
        StorageError: The event store cannot be made, or the file is something else.
        ConfigError: A channel cannot be made of its settings.
    """
    with ExitStack() as opened:
        guard = opened.enter_context(own_data_folder(config))
        models = models or opened.enter_context(open_models(config))
        store = opened.enter_context(open_event_store(config.events_file))
        in_alarm = {recorded.event.camera for recorded in store.open_alarms()}
        clock = SystemClock()
        # The clock's history counts numbers of files that may be gone.
        first = max((span.first for span in guard.history().spans), default=1)
        numbers = RecordingNumbers(config.recordings_folder, at_least=first)
        context = AppContext(
            clock=clock,
            models=models,
            scheduler=models.scheduler(clock),
            provenance=partial(provenance, config, models),
            store=store,
            live_view=config.preview.enabled,
            on_event=on_event,
            recording_numbers=numbers,
            clock_guard=guard,
        )
        channels = open_channels(config, in_alarm=in_alarm)
        yield Program(config, context=context, store=store, channels=channels, redact=redact)
