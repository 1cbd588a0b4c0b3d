"""The program status: one immutable snapshot of all that people and machines may know.

`snapshot.py` builds it and nothing else does. The page, `/status`, MQTT, `/metrics` and `doctor`
read it and collect nothing themselves. The field names are the JSON keys; README.md of this folder
documents them.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Literal

from streamer.core.latency import NO_LATENCIES, LatencyCounts
from streamer.notify import ChannelState

from .disk import DiskStatus
from .reports import TaskPhase


class CameraState(enum.Enum):
    """Whether a camera is watched, and if not, what prevents it."""

    STARTING = "starting"
    """Started less than 20 s ago; no frame yet."""

    LIVE = "live"
    """Frames arrive."""

    STALE = "stale"
    """No frame within the expected time, although no part reports a fault."""

    OVERLOADED = "overloaded"
    """Frames arrive, but fewer are inferred than the configuration asks for."""

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


_NOT_IN_JSON: Final = {"json": False}
"""Metadata of fields that only `/metrics` shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionStatus:
    """A lasting condition that needs attention."""

    condition: str
    """What is affected, in one word."""

    camera: str | None
    """The camera that it is about; `None` for the whole program."""

    reason: str
    since_utc: datetime


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

    ages: LatencyCounts = field(default=NO_LATENCIES, metadata=_NOT_IN_JSON)
    """Of the frames delivered since the program started."""


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
    inferences: int
    inferred_fps: float
    wanted_fps: float
    late_inferences: int
    skipped_superseded: int
    skipped_no_time: int
    skipped_failed: int
    skipped_discarded: int
    latency_p50_ms: float
    latency_p99_ms: float
    source_lag_s: float | None
    last_frame_utc: datetime | None
    age_s: float | None
    width: int | None
    height: int | None

    restarts: int
    failures_last_hour: int
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
    dropped: Mapping[str, int] = field(metadata=_NOT_IN_JSON)
    """By reason: those of all links, and those before them."""

    links: tuple[LinkStatus, ...]
    latencies: Mapping[str, LatencyCounts] = field(metadata=_NOT_IN_JSON)
    """Of `end_to_end`, `inference` and `decode`."""

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

    evidence_pending: int

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
    """`backoff` also for one that runs again, until it has proven itself."""

    since_utc: datetime
    restarts: int
    failures_last_hour: int
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
    state: ChannelState | None
    """`None` if the channel is not in the configuration, but something waits for it."""

    since_utc: datetime | None
    reason: str
    """Why nothing is delivered or the last attempt failed; empty when all is well."""

    attempts: int
    """Attempts so far at the delivery that was attempted last."""

    next_attempt_utc: datetime | None
    last_error: str | None
    last_error_utc: datetime | None
    down_since_utc: datetime | None
    checked_utc: datetime | None
    """When the receiver was last reached."""

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
    instance: str
    """Differs for each start of the program."""

    problems: tuple[str, ...]
    """One line for each condition that needs attention; empty when there is none."""

    conditions: tuple[ConditionStatus, ...]
    cameras: tuple[CameraStatus, ...]
    services: tuple[ServiceStatus, ...]
    engines: tuple[EngineStatus, ...]
    outbox: tuple[OutboxStatus, ...]
    outbox_error: str
    """Why the outbox cannot be read; empty when it can."""

    disk: DiskStatus | None

    def summary(self) -> dict[str, Any]:
        """The JSON object that channels publish of the program: what changes rarely."""
        keys = ("version", "instance", "problems")
        entry = {key: _plain(getattr(self, key)) for key in keys}
        return {**entry, "cameras": {one.camera: one.state.value for one in self.cameras}}

    def as_json(self) -> dict[str, Any]:
        """The snapshot as a JSON object."""
        found = _plain(self)
        assert isinstance(found, dict)
        return found


def _plain(value: Any) -> Any:
    """*value* as JSON types: objects by their field names, times in ISO 8601 with milliseconds."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        shown = [each.name for each in fields(value) if each.metadata.get("json", True)]
        return {name: _plain(getattr(value, name)) for name in shown}
    return value
