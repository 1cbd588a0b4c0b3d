"""The program status: one immutable snapshot of all that people and machines may know.

It is built here and nowhere else. The page, `/status`, MQTT, `/metrics` and `doctor` read it and
collect nothing themselves. The field names are the JSON keys; README.md of this folder documents
them.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final, Literal

from streamer.core.clock import Clock
from streamer.core.link import LinkStatistics
from streamer.notify import ChannelStatus
from streamer.store import Backlog

from .disk import DiskStatus
from .reports import CameraReport, TaskPhase, TaskReport

_NS: Final = 1_000_000_000
_START_S: Final = 20.0
"""A camera without a frame for this long after its start is stale rather than starting. Twice the
default timeout of a source, so that its own reason is shown first."""


class CameraState(enum.Enum):
    """Whether a camera is watched, and if not, what prevents it."""

    STARTING = "starting"
    """Started less than 20 s ago; no frame yet."""

    LIVE = "live"
    """Frames arrive."""

    STALE = "stale"
    """No frame within the expected time, although no part reports a fault."""

    RECONNECTING = "reconnecting"
    """The source has lost the camera, or cannot open it, and tries again."""

    RESTARTING = "restarting"
    """The camera's pipeline failed; no frame has come since."""

    UNSTABLE = "unstable"
    """Frames arrive, but the pipeline failed less than a minute ago."""

    FAILED = "failed"
    """The pipeline failed and is not started again: the source is a file."""

    ENDED = "ended"
    """The source ended, or the camera was stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """Counts of one link since the program started."""

    link: str
    """The part behind it."""

    depth: int
    received: int
    delivered: int
    dropped_full: int
    dropped_late: int
    discarded: int
    p99_age_ms: float
    """Of the frames delivered since the pipeline was last started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraStatus:
    """One camera."""

    camera: str
    state: CameraState
    since_utc: datetime
    reason: str
    """Why it is not live; empty while it is."""

    alarm: str
    frames: int
    fps: float
    last_frame_utc: datetime | None
    age_s: float | None
    width: int | None
    height: int | None

    restarts: int
    last_error: str | None
    last_error_utc: datetime | None
    last_traceback: str | None

    failed_attempts: int
    connections: int
    packets: int
    damaged: int
    timestamp_repairs: int
    decoder: str

    dropped_full: int
    dropped_late: int
    discarded: int
    links: tuple[LinkStatus, ...]

    ring_packets: int
    ring_bytes: int
    ring_seconds: float
    ring_discarded: int
    ring_lost: int

    recorder: Literal["off", "waiting", "recording", "stopped"]
    recorder_reason: str
    recorded_files: int
    recorded_bytes: int
    recorder_missed: int

    def summary(self) -> dict[str, Any]:
        """The JSON object that channels publish: what changes rarely, without the traceback."""
        keys = ("camera", "state", "since_utc", "reason", "alarm", "width", "height", "recorder",
                "recorder_reason", "restarts", "last_error", "last_error_utc")  # fmt: skip
        return {key: _plain(getattr(self, key)) for key in keys}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One background service: delivery, retention, the web server."""

    service: str
    state: TaskPhase
    since_utc: datetime
    restarts: int
    last_error: str | None
    last_error_utc: datetime | None
    last_traceback: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """One engine: what runs a model at this moment."""

    engine: str
    """Name of the model."""

    backend: str
    """Library, version, device and precision."""

    device: str
    degraded: bool
    """Whether a requested GPU is not used, or not for everything."""

    reason: str
    """Why it runs there; empty when nothing deviates from the configuration."""

    building: float | None
    """Progress of the plan that is being built, 0 to 1; `None` while none is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """One notification channel: its deliveries and what waits for it."""

    channel: str
    reason: str
    """Why nothing is delivered or the last attempt failed; empty when all is well."""

    confirmed: int
    """Deliveries since the program started."""

    failed: int
    """Attempts since the program started."""

    last_confirmed_utc: datetime | None
    waiting: int
    dead_letters: int
    oldest_waiting_utc: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStatus:
    """The snapshot."""

    version: str
    utc: datetime
    """When it was taken."""

    started_utc: datetime
    problems: tuple[str, ...]
    """One line for each condition that needs attention; empty when there is none."""

    cameras: tuple[CameraStatus, ...]
    services: tuple[ServiceStatus, ...]
    engines: tuple[EngineStatus, ...]
    outbox: tuple[OutboxStatus, ...]
    outbox_error: str
    """Why the outbox cannot be read; empty when it can."""

    disk: DiskStatus | None

    def as_json(self) -> dict[str, Any]:
        """The snapshot as a JSON object."""
        found = _plain(self)
        assert isinstance(found, dict)
        return found


def program_status(
    *,
    clock: Clock,
    version: str,
    started_ns: int,
    cameras: Iterable[CameraReport],
    tasks: Mapping[str, TaskReport],
    services: Iterable[TaskReport] = (),
    engines: Iterable[EngineStatus] = (),
    channels: Iterable[ChannelStatus] = (),
    backlog: Mapping[str, Backlog] | None = None,
    outbox_error: str = "",
    disk: DiskStatus | None = None,
) -> ProgramStatus:
    """Build the snapshot of this moment; *backlog* is `None` where the outbox cannot be read."""
    status = ProgramStatus(
        version=version,
        utc=clock.utc_at(clock.monotonic_ns()),
        started_utc=clock.utc_at(started_ns),
        problems=(),
        cameras=tuple(_camera(one, tasks[one.camera], clock) for one in cameras),
        services=tuple(_service(one, clock) for one in services),
        engines=tuple(engines),
        outbox=tuple(_outbox(channels, backlog or {})),
        outbox_error=outbox_error,
        disk=disk,
    )
    return replace(status, problems=tuple(_problems(status)))


def _camera(report: CameraReport, task: TaskReport, clock: Clock) -> CameraStatus:
    now_ns = clock.monotonic_ns()
    state, since_ns, reason = _state(report, task, now_ns)
    last_ns = report.last_frame_ns
    height, width = report.size or (None, None)
    ring, recorder = report.ring, report.recorder
    return CameraStatus(
        camera=report.camera,
        state=state,
        since_utc=clock.utc_at(since_ns),
        reason=reason,
        alarm=report.alarm.value,
        frames=report.frames,
        fps=round(report.fps, 2),
        last_frame_utc=None if last_ns is None else clock.utc_at(last_ns),
        age_s=None if last_ns is None else round((now_ns - last_ns) / _NS, 3),
        width=width,
        height=height,
        restarts=task.restarts,
        **_error(task, clock),
        failed_attempts=report.failed_attempts,
        connections=report.connections,
        packets=report.packets,
        damaged=report.damaged,
        timestamp_repairs=report.timestamp_repairs,
        decoder=report.decoder,
        dropped_full=sum(link.dropped_full for link in report.links),
        dropped_late=sum(link.dropped_late for link in report.links),
        discarded=sum(link.discarded for link in report.links),
        links=tuple(map(_link, report.links)),
        ring_packets=ring.packets if ring else 0,
        ring_bytes=ring.bytes if ring else 0,
        ring_seconds=round(ring.span_ns / _NS, 3) if ring else 0.0,
        ring_discarded=ring.discarded if ring else 0,
        ring_lost=ring.lost if ring else 0,
        recorder=_recorder_state(report),
        recorder_reason=recorder.error if recorder else "",
        recorded_files=recorder.files if recorder else 0,
        recorded_bytes=recorder.bytes if recorder else 0,
        recorder_missed=recorder.missed if recorder else 0,
    )


def _state(report: CameraReport, task: TaskReport, now_ns: int) -> tuple[CameraState, int, str]:
    """State, when it began, and why it is not `LIVE`: first the pipeline's, then the source's."""
    error = task.last_error.message if task.last_error else ""
    if task.phase is TaskPhase.ENDED:
        return CameraState.ENDED, task.since_ns, ""
    if task.phase is TaskPhase.FAILED:
        return CameraState.FAILED, task.since_ns, error
    if task.failing_since_ns is not None:
        running = task.phase is TaskPhase.RUNNING and _delivers(report, task)
        state = CameraState.UNSTABLE if running else CameraState.RESTARTING
        return state, task.failing_since_ns, error
    if report.fault and report.connection_since_ns is not None:
        return CameraState.RECONNECTING, report.connection_since_ns, report.fault
    return _frame_state(report, task, now_ns)


def _frame_state(
    report: CameraReport, task: TaskReport, now_ns: int
) -> tuple[CameraState, int, str]:
    """The state of a camera without a known fault, by the age of its newest frame."""
    last_ns = report.last_frame_ns
    if last_ns is None or not _delivers(report, task):
        waited_s = (now_ns - task.since_ns) / _NS
        if waited_s < _START_S:
            return CameraState.STARTING, task.since_ns, ""
        return CameraState.STALE, task.since_ns, f"no frame in {waited_s:.0f} s since the start"
    age_s = (now_ns - last_ns) / _NS
    if age_s > report.stale_after_s:
        return CameraState.STALE, last_ns, f"no frame for {age_s:.0f} s"
    return CameraState.LIVE, max(task.since_ns, report.connection_since_ns or 0), ""


def _delivers(report: CameraReport, task: TaskReport) -> bool:
    """Whether a frame has come since the pipeline was last started."""
    return report.last_frame_ns is not None and report.last_frame_ns >= task.since_ns


def _error(task: TaskReport, clock: Clock) -> dict[str, Any]:
    error = task.last_error
    return {
        "last_error": error.message if error else None,
        "last_error_utc": clock.utc_at(error.at_ns) if error else None,
        "last_traceback": error.traceback if error else None,
    }


def _link(link: LinkStatistics) -> LinkStatus:
    return LinkStatus(
        link=link.name.rpartition("/")[2],
        depth=link.depth,
        received=link.received,
        delivered=link.delivered,
        dropped_full=link.dropped_full,
        dropped_late=link.dropped_late,
        discarded=link.discarded,
        p99_age_ms=round(link.age.p99_ms, 1),
    )


def _recorder_state(report: CameraReport) -> Literal["off", "waiting", "recording", "stopped"]:
    if report.recorder is None:
        return "off"
    if report.recorder.error:
        return "stopped"
    return "waiting" if report.recorder.recording is None else "recording"


def _service(task: TaskReport, clock: Clock) -> ServiceStatus:
    return ServiceStatus(
        service=task.name,
        state=task.phase,
        since_utc=clock.utc_at(task.since_ns),
        restarts=task.restarts,
        **_error(task, clock),
    )


def _outbox(
    channels: Iterable[ChannelStatus], backlog: Mapping[str, Backlog]
) -> Iterable[OutboxStatus]:
    """Every channel of the configuration, then others for which something waits."""
    reports = {channel.name: channel for channel in channels}
    for name in [*reports, *(name for name in backlog if name not in reports)]:
        report, waits = reports.get(name), backlog.get(name)
        if report is None:
            reason = "not in the configuration"
        else:
            reason = report.blocked or report.last_error or ""
        yield OutboxStatus(
            channel=name,
            reason=reason,
            confirmed=report.confirmed if report else 0,
            failed=report.failed if report else 0,
            last_confirmed_utc=report.last_confirmed if report else None,
            waiting=waits.waiting if waits else 0,
            dead_letters=waits.dead if waits else 0,
            oldest_waiting_utc=waits.oldest if waits else None,
        )


_HEALTHY: Final = (CameraState.LIVE, CameraState.STARTING, CameraState.ENDED)


def _problems(status: ProgramStatus) -> Iterable[str]:
    yield from _camera_problems(status.cameras)
    for service in status.services:
        if service.state is TaskPhase.BACKOFF:
            yield f"service {service.service}: failed: {service.last_error}"
    for engine in status.engines:
        if engine.degraded:
            yield f"engine {engine.engine}: runs on {engine.device}: {engine.reason}"
    yield from _outbox_problems(status.outbox, status.outbox_error)
    if status.disk is not None and status.disk.state != "ok":
        yield f"disk: {status.disk.reason}"


def _camera_problems(cameras: Iterable[CameraStatus]) -> Iterable[str]:
    for camera in cameras:
        if camera.state not in _HEALTHY:
            yield f"camera {camera.camera}: {camera.state.value}: {camera.reason}"
        if camera.recorder == "stopped":
            yield f"camera {camera.camera}: nothing is recorded: {camera.recorder_reason}"


def _outbox_problems(outbox: Iterable[OutboxStatus], error: str) -> Iterable[str]:
    for channel in outbox:
        if channel.reason:
            yield f"channel {channel.channel}: {channel.reason}"
        if channel.dead_letters:
            count = channel.dead_letters
            yield f"channel {channel.channel}: {count} dead letters wait for a decision"
    if error:
        yield f"outbox: {error}"


def _plain(value: Any) -> Any:
    """*value* as JSON types: objects by their field names, times in ISO 8601 with milliseconds."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value
