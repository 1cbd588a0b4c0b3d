"""The conditions of a program status that need attention, one line of text each."""

from collections.abc import Iterable, Iterator
from typing import Final

from .program_status import CameraState, CameraStatus, OutboxStatus, ProgramStatus
from .reports import TaskPhase

_HEALTHY: Final = (CameraState.LIVE, CameraState.STARTING, CameraState.ENDED)


def problems(status: ProgramStatus) -> Iterator[str]:
    """Yield one line for each condition that needs attention."""
    yield from _camera_problems(status.cameras)
    for one in status.conditions:
        about = one.condition if one.camera is None else f"camera {one.camera}: {one.condition}"
        yield f"{about}: {one.reason}"
    for service in status.services:
        if service.state is TaskPhase.BACKOFF:
            often = _often(service.failures_last_hour)
            yield f"service {service.service}: failed: {service.last_error}{often}"
    for engine in status.engines:
        if engine.degraded:
            yield f"engine {engine.engine}: runs on {engine.device}: {engine.reason}"
    yield from _outbox_problems(status.outbox, status.outbox_error)
    if status.disk is not None and status.disk.state != "ok":
        yield f"disk: {status.disk.reason}"


def _camera_problems(cameras: Iterable[CameraStatus]) -> Iterator[str]:
    for camera in cameras:
        if camera.state not in _HEALTHY:
            often = _often(camera.failures_last_hour)
            yield f"camera {camera.camera}: {camera.state.value}: {camera.reason}{often}"
        if camera.recorder == "stopped":
            yield f"camera {camera.camera}: nothing is recorded: {camera.recorder_reason}"


def _outbox_problems(outbox: Iterable[OutboxStatus], error: str) -> Iterator[str]:
    for channel in outbox:
        if channel.reason:
            yield f"channel {channel.channel}: {channel.reason}"
        if channel.dead_letters:
            count = channel.dead_letters
            letters = "1 dead letter waits" if count == 1 else f"{count} dead letters wait"
            yield f"channel {channel.channel}: {letters} for a decision: see `deliveries`"
    if error:
        yield f"outbox: {error}"


def _often(failures: int) -> str:
    return f" (failed {failures} times in the last hour)" if failures > 1 else ""
