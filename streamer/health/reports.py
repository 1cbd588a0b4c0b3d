"""Reports: what the parts of the program count and know, as input of the program status.

Times are `Clock.monotonic_ns`. Readers of the status never see these types: they read
`ProgramStatus`, which `snapshot.py` builds from them.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamer.core.frame import AlarmState
from streamer.core.latency import NO_LATENCIES, NO_QUANTILES, LatencyCounts, LatencyQuantiles
from streamer.core.link import LinkStatistics
from streamer.recording.ring import RingStatistics
from streamer.recording.segments import RecorderState


@dataclass(frozen=True, slots=True)
class Condition:
    """A lasting condition of a part that is not as it should be; it ends with its cause."""

    kind: str
    """What is affected, in one word for machines: `overload`, `evidence`, `store`, `clock`."""

    reason: str
    """What is wrong, on one line without secrets."""

    since_ns: int
    """When it began."""


class TaskPhase(enum.Enum):
    """What a supervised task is doing."""

    RUNNING = "running"
    BACKOFF = "backoff"
    """It failed and waits to be started again."""

    FAILED = "failed"
    """It failed and is not started again, as a file is not."""

    ENDED = "ended"
    """It finished, or was stopped."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """One failure of a task, without secrets."""

    message: str
    """One line."""

    traceback: str
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """What the supervisor knows of one camera or background service."""

    name: str
    phase: TaskPhase
    since_ns: int
    """When the phase began."""

    restarts: int = 0
    """How often it was started again after a failure."""

    failures_last_hour: int = 0
    """How often it failed in the last 3600 s."""

    failing_since_ns: int | None = None
    """First failure of the present series; `None` once it has run without one for a minute for each
    failure of the last hour, at most ten minutes."""

    last_error: ErrorReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraReport:
    """What the parts of one camera counted since the program started, over all restarts."""

    camera: str
    stale_after_s: float
    """Age above which the newest frame no longer shows the present."""

    frames: int
    fps: float
    last_frame_ns: int | None
    alarm: AlarmState
    size: tuple[int, int] | None
    """(height, width) of the newest frame."""

    connection_since_ns: int | None = None
    """Since when the source is connected, or has been trying; `None` before its first attempt and
    for sources that are never reopened."""

    fault: str = ""
    """Why the source delivers nothing, on one line without secrets; empty while it delivers."""

    failed_attempts: int = 0
    """Connection attempts that failed in a row."""

    connections: int = 0
    packets: int = 0
    damaged: int = 0
    """Packets and frames that could not be decoded."""

    timestamp_repairs: int = 0
    decoder: str = ""
    """What decodes; empty where nothing is known of it."""

    links: tuple[LinkStatistics, ...] = ()
    ring: RingStatistics | None = None
    recorder: RecorderState | None = None

    inferences: int = 0
    """Inferences whose result reached the alarm."""

    inferred_fps: float = 0.0
    """Inferences per second, recent; falls towards 0 while none end."""

    wanted_fps: float = 0.0
    """Frames per second that were sampled for inference, recent."""

    late_inferences: int = 0
    """Inferences that ended after the latency budget."""

    skipped_inferences: Mapping[str, int] = field(default_factory=dict)
    """Sampled frames that were not inferred, by reason; see `SeatStatistics.skipped`."""

    end_to_end: LatencyCounts = NO_LATENCIES
    """From the arrival of a packet to the alarm's state after its inference."""

    latency: LatencyQuantiles = NO_QUANTILES
    """Quantiles of the same times."""

    inference_time: LatencyCounts = NO_LATENCIES
    """Of each inference, from its start to its result."""

    decode_time: LatencyCounts = NO_LATENCIES
    """Of each decoded packet."""

    dropped: Mapping[str, int] = field(default_factory=dict)
    """Frames dropped outside of links, by reason in one word, e.g. `behind`."""

    source_lag_s: float | None = None
    """How far the newest packet's media time is behind the monotonic clock; `None` if unknown."""

    evidence_pending: int = 0
    """Alarms whose evidence is not complete yet."""

    overload: Condition | None = None
    """Set while the camera gets fewer inferences than it is configured for."""

    conditions: tuple[Condition, ...] = ()
    """What else is wrong, e.g. evidence that could not be written."""
