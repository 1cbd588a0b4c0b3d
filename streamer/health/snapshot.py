"""Builds the program status from what the parts report: states of cameras, figures, problems."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from streamer.core.clock import Clock
from streamer.core.link import LinkStatistics
from streamer.notify import ChannelStatus
from streamer.store import Backlog

from .disk import DiskStatus
from .problems import problems
from .program_status import (
    CameraState,
    CameraStatus,
    ConditionStatus,
    EngineStatus,
    LinkStatus,
    OutboxStatus,
    ProgramStatus,
    ServiceStatus,
)
from .reports import CameraReport, Condition, TaskPhase, TaskReport

_NS: Final = 1_000_000_000
_START_S: Final = 20.0
"""A camera without a frame for this long after its start is stale rather than starting. Twice the
default timeout of a source, so that its own reason is shown first."""


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
    conditions: Iterable[Condition] = (),
    instance: str = "",
) -> ProgramStatus:
    """Build the snapshot of this moment.

    *backlog* is `None` where the outbox cannot be read; *conditions* are those of the program,
    besides those that cameras report.
    """
    cameras = tuple(cameras)
    found: list[tuple[str | None, Condition]] = [(None, one) for one in conditions]
    found += [(camera.camera, one) for camera in cameras for one in camera.conditions]
    status = ProgramStatus(
        version=version,
        utc=clock.utc_at(clock.monotonic_ns()),
        started_utc=clock.utc_at(started_ns),
        instance=instance,
        problems=(),
        conditions=tuple(_condition(camera, one, clock) for camera, one in found),
        cameras=tuple(_camera(one, tasks[one.camera], clock) for one in cameras),
        services=tuple(_service(one, clock) for one in services),
        engines=tuple(engines),
        outbox=tuple(_outbox(channels, backlog or {})),
        outbox_error=outbox_error,
        disk=disk,
    )
    return replace(status, problems=tuple(problems(status)))


def _condition(camera: str | None, condition: Condition, clock: Clock) -> ConditionStatus:
    return ConditionStatus(
        condition=condition.kind,
        camera=camera,
        reason=condition.reason,
        since_utc=clock.utc_at(condition.since_ns),
    )


def _camera(report: CameraReport, task: TaskReport, clock: Clock) -> CameraStatus:
    now_ns = clock.monotonic_ns()
    state, since_ns, reason = _state(report, task, now_ns)
    last_ns = report.last_frame_ns
    height, width = report.size or (None, None)
    ring, recorder, dropped = report.ring, report.recorder, _dropped(report)
    return CameraStatus(
        camera=report.camera,
        state=state,
        since_utc=clock.utc_at(since_ns),
        reason=reason,
        alarm=report.alarm.value,
        frames=report.frames,
        fps=round(report.fps, 2),
        inferences=report.inferences,
        inferred_fps=round(report.inferred_fps, 2),
        wanted_fps=round(report.wanted_fps, 2),
        late_inferences=report.late_inferences,
        skipped_superseded=report.skipped_inferences.get("superseded", 0),
        skipped_no_time=report.skipped_inferences.get("no_time", 0),
        skipped_failed=report.skipped_inferences.get("failed", 0),
        skipped_discarded=report.skipped_inferences.get("discarded", 0),
        latency_p50_ms=round(report.latency.p50_ms, 1),
        latency_p99_ms=round(report.latency.p99_ms, 1),
        source_lag_s=report.source_lag_s,
        last_frame_utc=None if last_ns is None else clock.utc_at(last_ns),
        age_s=None if last_ns is None else round((now_ns - last_ns) / _NS, 3),
        width=width,
        height=height,
        restarts=task.restarts,
        failures_last_hour=task.failures_last_hour,
        **_error(task, clock),
        failed_attempts=report.failed_attempts,
        connections=report.connections,
        packets=report.packets,
        damaged=report.damaged,
        timestamp_repairs=report.timestamp_repairs,
        decoder=report.decoder,
        dropped_full=dropped["full"],
        dropped_late=dropped["late"],
        discarded=dropped["discarded"],
        dropped=dropped,
        links=tuple(map(_link, report.links)),
        latencies={
            "end_to_end": report.end_to_end,
            "inference": report.inference_time,
            "decode": report.decode_time,
        },
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
        evidence_pending=report.evidence_pending,
    )


def _dropped(report: CameraReport) -> dict[str, int]:
    """Frames that were dropped, by reason: by all links, and before them."""
    return {
        "full": sum(link.dropped_full for link in report.links),
        "late": sum(link.dropped_late for link in report.links),
        "discarded": sum(link.discarded for link in report.links),
        **report.dropped,
    }


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
        if now_ns - task.since_ns < _START_S * _NS:
            return CameraState.STARTING, task.since_ns, ""
        return CameraState.STALE, task.since_ns, "no frame since the start"
    if now_ns - last_ns > report.stale_after_s * _NS:
        return CameraState.STALE, last_ns, "no frames arrive"
    if report.overload is not None:
        return CameraState.OVERLOADED, report.overload.since_ns, report.overload.reason
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
        ages=link.ages,
    )


def _recorder_state(report: CameraReport) -> Literal["off", "waiting", "recording", "stopped"]:
    if report.recorder is None:
        return "off"
    if report.recorder.error:
        return "stopped"
    return "waiting" if report.recorder.recording is None else "recording"


def _service(task: TaskReport, clock: Clock) -> ServiceStatus:
    failing_ns = task.failing_since_ns if task.phase is TaskPhase.RUNNING else None
    return ServiceStatus(
        service=task.name,
        state=task.phase if failing_ns is None else TaskPhase.BACKOFF,
        since_utc=clock.utc_at(task.since_ns if failing_ns is None else failing_ns),
        restarts=task.restarts,
        failures_last_hour=task.failures_last_hour,
        **_error(task, clock),
    )


def _outbox(
    channels: Iterable[ChannelStatus], backlog: Mapping[str, Backlog]
) -> Iterable[OutboxStatus]:
    """Every channel of the configuration, then others for which something waits."""
    reports = {channel.name: channel for channel in channels}
    for name in [*reports, *(name for name in backlog if name not in reports)]:
        known, waits = reports.get(name), backlog.get(name)
        report = known or ChannelStatus(name, blocked="not in the configuration")
        yield OutboxStatus(
            channel=name,
            state=known.state if known else None,
            since_utc=report.since,
            reason=report.reason,
            attempts=report.attempts,
            next_attempt_utc=report.next_attempt,
            last_error=report.last_error,
            last_error_utc=report.last_error_at,
            down_since_utc=report.down_since,
            checked_utc=report.checked,
            confirmed=report.confirmed,
            failed=report.failed,
            last_confirmed_utc=report.last_confirmed,
            waiting=waits.waiting if waits else 0,
            dead_letters=waits.dead if waits else 0,
            oldest_waiting_utc=waits.oldest if waits else None,
        )
