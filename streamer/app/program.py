"""The whole program: what all cameras share, and the service that runs them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import structlog

from streamer.alarm.event import Event
from streamer.config import Config
from streamer.core.clock import CancelToken, Clock, SystemClock
from streamer.notify import Channel, Dispatcher, RetryPolicy, ShowsStatus
from streamer.notify.retry import DELIVERY_BACKOFF
from streamer.recording.retention import Retention
from streamer.sinks.preview import PreviewServer
from streamer.sources.reconnect import SourceState
from streamer.store import Store

from .camera_runtime import AppContext, CameraRuntime
from .channels import open_channels
from .models import Models, open_models, provenance
from .supervisor import Supervisor

_log = structlog.get_logger(__name__)

_RETENTION_S: Final = 60.0
"""Between two looks at the disk: at 100 Mbit/s, 750 MB are recorded in that time."""

_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Program:
    """What `streamer watch` runs."""

    service: Supervisor
    cameras: tuple[CameraRuntime, ...]
    preview: PreviewServer | None
    store: Store


@contextmanager
def open_program(
    config: Config, *, on_event: Callable[[Event], None] | None = None
) -> Iterator[Program]:
    """Open everything that *config* asks for; closed again at the end of the block.

    Raises:
        EngineError: The network cannot be used here.
        StorageError: The event store cannot be used.
        SinkError: The preview's address cannot be listened on.
    """
    clock = SystemClock()
    with ExitStack() as opened:
        models = opened.enter_context(open_models(config))
        store = opened.enter_context(Store(config.events_file))
        cameras: list[CameraRuntime] = []
        in_alarm = {recorded.event.camera for recorded in store.open_alarms()}
        channels = open_channels(config, in_alarm=in_alarm)
        preview = None
        if config.preview.enabled:
            token = config.preview.token
            preview = PreviewServer(
                config.preview.host,
                config.preview.port,
                token=None if token is None else token.get_secret_value(),
                status=partial(_status, cameras, models),
            )
            opened.callback(preview.close)
        site = AppContext(
            config=config,
            clock=clock,
            models=models,
            provenance=partial(provenance, config, models),
            store=store,
            evidence=config.evidence_folder,
            usual=config.usual_folder,
            preview=preview,
            on_event=on_event,
            on_state=partial(_show_status, channels),
        )
        cameras.extend(
            CameraRuntime(name, settings, site)
            for name, settings in config.cameras.items()
            if settings.enabled
        )
        service = Supervisor(cameras, background_services=_beside(site, cameras, store, channels))
        yield Program(service, tuple(cameras), preview, store)


def _beside(
    site: AppContext, cameras: list[CameraRuntime], store: Store, channels: list[Channel]
) -> Mapping[str, Callable[[CancelToken], None]]:
    """The work that serves all cameras."""
    config = site.config
    by_name = {camera.name: camera for camera in cameras}

    def confirmed(event: Event, channel: str, when: datetime) -> None:
        del channel, when
        camera = by_name.get(event.camera)
        if camera is not None and camera.alarm is not None:
            camera.alarm.mark_delivered(event.alarm_id)

    work: dict[str, Callable[[CancelToken], None]] = {}
    if config.notify:
        dispatcher = Dispatcher(
            store,
            channels,
            retry=retry_policy(config),
            on_confirmed=confirmed,
        )
        work["delivery"] = dispatcher.run
    if site.preview is not None:
        work["preview"] = site.preview.serve
    if any(settings.record.enabled for settings in config.cameras.values()):
        work["retention"] = partial(_retain, config, cameras, site.clock)
    return work


def retry_policy(config: Config) -> RetryPolicy:
    """How undelivered events are tried again."""
    retry = config.retry
    return RetryPolicy(
        replace(DELIVERY_BACKOFF, initial_s=retry.initial_s, max_delay_s=retry.max_delay_s),
        give_up_after=timedelta(days=retry.give_up_after_days),
    )


def _retain(
    config: Config, cameras: list[CameraRuntime], clock: Clock, cancel: CancelToken
) -> None:
    """Keep the disk from filling up, by each recording camera's own limits."""
    rules = {
        camera.name: Retention(
            config.recordings_folder / camera.folder,
            max_age_s=settings.max_age_days * _DAY_S,
            max_bytes=None if settings.max_gb is None else round(settings.max_gb * 1e9),
            min_free_bytes=round(settings.min_free_gb * 1e9),
        )
        for camera in cameras
        if (settings := config.cameras[camera.name].record).enabled
    }
    while True:
        for camera in cameras:
            if camera.name not in rules:
                continue
            report = rules[camera.name].enforce(clock.utc_at(clock.monotonic_ns()))
            if report.deleted or report.failed:
                _log.info("retention", camera=camera.name, report=report.describe())
            if camera.recorder is not None and report.must_pause:
                camera.recorder.pause(report.describe())
            elif camera.recorder is not None:
                camera.recorder.resume()
        cancel.sleep(_RETENTION_S)


def _show_status(channels: list[Channel], camera: str, state: SourceState) -> None:
    """Tell the channels that show more than alarms how a camera stands."""
    for channel in channels:
        if isinstance(channel, ShowsStatus):
            why = "" if state.fault is None else state.fault.value
            channel.show_status(camera, {"state": state.connection.value, "why": why})


def _status(cameras: list[CameraRuntime], models: Models) -> dict[str, Any]:
    return {
        "cameras": [{**camera.monitor.status().as_json(), "trouble": camera.trouble}
                    for camera in cameras],
        "engines": models.states(),
    }  # fmt: skip
