"""Retention of the whole program: free space, recordings, output files, evidence and events.

One service for all cameras, also those that are switched off or gone. Every few seconds it measures
the disks; every minute, and at once when space is short, it deletes what the limits say. When
deleting does not help, recordings, clips and output files pause; events go on.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog

from streamer.config import Config
from streamer.core.clock import CancelToken, Clock
from streamer.core.clock_guard import ClockGuard, ClockState
from streamer.core.errors import StorageError
from streamer.core.file_names import safe_file_name
from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls
from streamer.health.disk import DiskLevel, DiskStatus, disk_status
from streamer.health.reports import Condition
from streamer.recording.expiry import Limits
from streamer.recording.recording_paths import RecordingNumbers
from streamer.recording.retention import DeletionRound, Recordings
from streamer.sinks.output_files import output_round
from streamer.store import EventStore

from .event_retention import EventLimits, expire_events

_log = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000

_MEASURE_S: Final = 5.0
"""Time between two measurements of free space: 62 MB are recorded in it at 100 Mbit/s."""

_ROUND_S: Final = 60.0
"""Least time between two rounds over recordings and output files."""

_ROUND_SHARE: Final = 0.01
"""A round over a hundred thousand files takes seconds of a core: so much of the time at most."""

_SPARE: Final = 1000
"""Oldest files that are remembered, so that space can be made without reading the folders."""

_EVENTS_S: Final = 900.0
"""Time between two rounds over evidence and events, which grow slowly."""

_ANSWER_S: Final = 5.0
"""A disk that has not answered by then hangs: the others are measured without it. Arbitrary."""

_SLACK: Final = 1.05
"""So much more is freed than is missing, so that the next file does not need a round again."""

_UNMEASURED_S: Final = 60.0
"""A measurement older than this says that the disk does not answer."""


class Pausable(Protocol):
    """What may be paused by a full disk: a camera with its recorder, clips and output file."""

    def pause_storage(self, reason: str) -> None:
        """Write nothing but events while *reason* is not empty."""
        ...

    def pause_output(self, reason: str) -> None:
        """Write no output file while *reason* is not empty."""
        ...

    @property
    def output_path(self) -> Path | None:
        """Path of the output file in the configuration, if the camera has one."""
        ...


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What the configuration says about retention."""

    data_dir: Path
    recordings_folder: Path
    evidence_folder: Path
    min_free_bytes: int
    recordings: Limits
    cameras: dict[str, Limits]
    """Limits of the recordings of each camera, by the name of its folder."""

    others: Limits
    """Limits of cameras that are no longer in the configuration."""

    outputs: Limits
    output_paths: tuple[Path, ...]
    """Output files of all cameras, also of those that are switched off."""

    events: EventLimits


def retention_plan(config: Config) -> RetentionPlan:
    """Return what *config* says about retention."""
    settings = config.retention
    records = {name: camera.record for name, camera in config.cameras.items()}
    recording = [record.min_free_gb for record in records.values() if record.enabled]
    outputs = [camera.outputs.file for camera in config.cameras.values()]
    default = config.defaults.record
    return RetentionPlan(
        data_dir=config.data_dir,
        recordings_folder=config.recordings_folder,
        evidence_folder=config.evidence_folder,
        min_free_bytes=_bytes(max([settings.min_free_gb, *recording])) or 0,
        recordings=_limits(settings.recordings.max_age_days, settings.recordings.max_gb),
        cameras={
            safe_file_name(name): _limits(record.max_age_days, record.max_gb)
            for name, record in records.items()
        },
        others=_limits(default.max_age_days, default.max_gb),
        outputs=_limits(settings.outputs.max_age_days, settings.outputs.max_gb),
        output_paths=tuple(dict.fromkeys(one.path for one in outputs if one is not None)),
        events=EventLimits(
            events=_limits(settings.events.max_age_days, settings.events.max_gb),
            evidence=_limits(settings.evidence.max_age_days, settings.evidence.max_gb),
        ),
    )


class RetentionService:
    """Measures the disks and deletes what has expired: `run` is a background service.

    Args:
        plan: What the configuration says.
        store: The events.
        guard: Whether the wall clock can be believed.
        numbers: Counts the recordings.
        cameras: Returns the cameras of this moment.
        clock: For ages.
    """

    def __init__(
        self,
        plan: RetentionPlan,
        *,
        store: EventStore,
        guard: ClockGuard,
        numbers: RecordingNumbers,
        cameras: Callable[[], Sequence[Pausable]],
        clock: Clock,
    ) -> None:
        self._plan = plan
        self._store = store
        self._guard = guard
        self._numbers = numbers
        self._cameras = cameras
        self._clock = clock
        # Below: the service's thread writes whole values, any thread reads them.
        self._disks: dict[Path, DiskStatus] = {}
        self._hangs_since_ns: dict[Path, int] = {}
        self._measured_ns = clock.monotonic_ns()
        self._paused_since_ns: int | None = None
        self._pause_reason = ""
        # Below: of the service's thread.
        self._round_due_ns = self._events_due_ns = -math.inf
        self._spare: dict[Path, list[DeletionRound]] = {}
        self._calls = {folder: UninterruptibleCalls("disk", limit=1) for folder in _folders(plan)}

    def run(self, cancel: CancelToken) -> None:
        """Measure and delete until *cancel* is set."""
        while True:
            self.step(cancel.is_set)
            cancel.sleep(_MEASURE_S)

    def step(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Measure once, and do what is due."""
        self._guard.observe(self._numbers.peek())
        self._measure()
        if self._is_short() and self._spare:
            self._make_room(self._spare)
        begun_ns = self._clock.monotonic_ns()
        if begun_ns >= self._round_due_ns or (self._is_short() and not self._pause_reason):
            self._round(stop)
            took_ns = self._clock.monotonic_ns() - begun_ns
            self._round_due_ns = begun_ns + max(_ROUND_S * _NS, took_ns / _ROUND_SHARE)
            self._measure()
        self._pause()
        if begun_ns >= self._events_due_ns and not stop():
            self._events_due_ns = begun_ns + _EVENTS_S * _NS
            self._expire_events(stop)

    def _is_short(self) -> bool:
        return any(disk.missing_bytes for disk in self._disks.values())

    def disk(self) -> DiskStatus | None:
        """Return the last measurement of the disk of the data folder; never waits for the disk.

        `None` until it is measured for the first time.
        """
        age_s = (self._clock.monotonic_ns() - self._measured_ns) / _NS
        if age_s < _UNMEASURED_S:
            return self._disks.get(self._plan.data_dir)
        return _hanging(self._plan.data_dir)

    def conditions(self) -> list[Condition]:
        """Return what is not as it should be: the clock, and what is paused."""
        found = []
        clock = self._guard.status()
        if clock.reason:
            since_ns = self._clock.monotonic_ns() - self._guard.doubted_for_ns()
            found.append(Condition("clock", clock.reason, since_ns))
        since = self._paused_since_ns
        if since is not None:
            found.append(Condition("recording", self._pause_reason, since))
        found += [
            Condition(
                "recording" if folder == self._plan.recordings_folder else "output",
                _hanging(folder).reason,
                since_ns,
            )
            for folder, since_ns in self._hangs_since_ns.items()
            if folder != self._plan.data_dir
        ]
        return found

    def _measure(self) -> None:
        self._disks = {folder: self._measured(folder) for folder in self._calls}
        self._measured_ns = now_ns = self._clock.monotonic_ns()
        self._hangs_since_ns = {
            folder: self._hangs_since_ns.get(folder, now_ns)
            for folder, disk in self._disks.items()
            if disk == _hanging(folder)
        }

    def _measured(self, folder: Path) -> DiskStatus:
        """Measure one disk: a share that hangs must not keep the others from being emptied."""
        least = self._plan.min_free_bytes
        try:
            return self._calls[folder].call(
                lambda: disk_status(folder, min_free_bytes=least), timeout_s=_ANSWER_S
            )
        except (TimeoutError, TooManyCalls):
            return _hanging(folder)

    def _now(self) -> datetime:
        return self._clock.utc_at(self._clock.monotonic_ns())

    def _believed_now(self) -> datetime | None:
        """Wall time for ages; `None` while the clock is not believed."""
        return self._now() if self._guard.status().state is ClockState.OK else None

    def _round(self, stop: Callable[[], bool]) -> None:
        plan, now = self._plan, self._believed_now()
        rounds: dict[Path, list[DeletionRound]] = {}
        recordings = Recordings(plan.recordings_folder)
        recordings_hang = plan.recordings_folder in self._hangs_since_ns
        if not recordings_hang:
            rounds[plan.recordings_folder] = [self._recordings_round(recordings, now, stop)]
        for path in plan.output_paths:
            if path.parent in self._hangs_since_ns:
                continue
            done = output_round(path, now=self._now(), stop=stop)
            done.apply(total=plan.outputs, now=now)
            rounds.setdefault(path.parent, []).append(done)
        self._make_room(rounds)
        if not recordings_hang:
            recordings.remove_empty_days(self._now())
        self._spare = {
            folder: [one.oldest(_SPARE) for one in many] for folder, many in rounds.items()
        }

    def _recordings_round(
        self, recordings: Recordings, now: datetime | None, stop: Callable[[], bool]
    ) -> DeletionRound:
        plan = self._plan
        for correction in self._guard.history().corrections():
            if recordings.correct(correction):
                self._guard.mark_corrected(correction)
        known = self._guard.history().is_known
        done = recordings.round(now=self._now(), is_known=known, stop=stop)
        done.apply(
            total=plan.recordings,
            limits_of=lambda camera: plan.cameras.get(camera, plan.others),
            now=now,
        )
        return done

    def _make_room(self, rounds: dict[Path, list[DeletionRound]]) -> None:
        """Free what is missing on each disk: recordings first, then the output files there."""
        self._measure()
        for folder, disk in self._disks.items():
            missing = int(disk.missing_bytes * _SLACK)
            # Folders on one disk have one free space: what the first has freed is measured again.
            if missing:
                missing = int(self._measured(folder).missing_bytes * _SLACK)
            for one in rounds.get(folder, []):
                missing = one.free(missing)
                if text := one.describe():
                    _log.info("retention", report=text)
                one.deleted.clear()
        self._measure()

    def _pause(self) -> None:
        """Pause or resume what writes to each disk."""
        data = self._disks[self._plan.data_dir]
        reason = f"paused: {data.reason}" if data.state.paused else ""
        if reason and self._paused_since_ns is None:
            self._paused_since_ns = self._clock.monotonic_ns()
            _log.error("recording paused", reason=data.reason)
        elif not reason and self._paused_since_ns is not None:
            self._paused_since_ns = None
            _log.warning("recording resumed")
        self._pause_reason = reason
        for camera in self._cameras():
            camera.pause_storage(reason)
            path = camera.output_path
            disk = None if path is None else self._disks.get(path.parent)
            if disk is not None:
                camera.pause_output(f"paused: {disk.reason}" if disk.state.paused else "")

    def _expire_events(self, stop: Callable[[], bool]) -> None:
        try:
            report = expire_events(
                self._store.retention,
                self._plan.evidence_folder,
                limits=self._plan.events,
                now=self._now(),
                believed=self._believed_now() is not None,
                stop=stop,
            )
        except (StorageError, OSError) as error:
            # A full or damaged store has its own condition; the recordings must be kept in bounds.
            _log.error("retention of events failed", error=str(error))
            return
        if report:
            _log.info("retention", report=report)


def _folders(plan: RetentionPlan) -> tuple[Path, ...]:
    """Return the folders whose disks are measured, each once.

    Recordings may be a mount or a link to a disk of their own, which is freed by itself.
    """
    outputs = (path.parent for path in plan.output_paths)
    return tuple(dict.fromkeys((plan.data_dir, plan.recordings_folder, *outputs)))


def _hanging(folder: Path) -> DiskStatus:
    return DiskStatus(
        path=str(folder),
        state=DiskLevel.UNKNOWN,
        reason=f"the disk of {folder} does not answer",
        free_bytes=None,
        total_bytes=None,
    )


def _limits(days: float | None, gigabytes: float | None) -> Limits:
    return Limits(None if days is None else timedelta(days=days), _bytes(gigabytes))


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else round(gigabytes * 1e9)
