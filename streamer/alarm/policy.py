"""Alarm: observations in, events out. A pure state machine in time, without clock or I/O.

**States**: idle, pending (a track exists), alarm (an event was raised and not yet cleared).

**Hysteresis**: outside of idle, a region needs only `AlarmSettings.active_threshold`, a share
(`hysteresis_ratio`) of the threshold, so that a plume that thins for a moment is not lost; and an
alarm is cleared only after `clear_after_s` without smoke.

All settings are in seconds, not in inferences: one inference per second and twenty-five raise the
same alarm at the same time.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from streamer.config.alarm import AlarmSettings
from streamer.core.frame import AlarmState, AlarmStatus, Detection

from .event import Event, EventKind
from .tracks import Track, Tracker

_NS: Final = 1_000_000_000
_HISTORY: Final = 3
"""Confirm windows for which track points are stored: growth is measured over all of them."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The detections of one inference. Observations come in order of `pts_ns`."""

    pts_ns: int
    utc: datetime
    """Wall time of the frame, aware UTC."""

    regions: tuple[Detection, ...]
    used_background: bool = False
    """Whether the network compared the frame with a background."""


@dataclass(slots=True)
class _ActiveAlarm:
    alarm_id: str
    sequence: int
    """Of its newest event."""

    last_reported_ns: int
    last_reported_area: float
    last_reported_tracks: int
    last_detected_ns: int
    delivered: bool = False
    """Whether the delivery of one of its events was confirmed."""


class Alarm:
    """The alarm of one camera. One thread updates it; `mark_delivered` may be called from any.

    Args:
        camera: Name of the camera, for the events.
        policy: When to raise, update and clear.
    """

    def __init__(self, camera: str, policy: AlarmSettings | None = None) -> None:
        self.camera = camera
        """Name of the camera."""

        self.policy = policy or AlarmSettings()
        self._window_ns = round(self.policy.confirm_window_s * _NS)
        self._tracker = Tracker(
            window_ns=max(_HISTORY * self._window_ns, 20 * _NS),
            timeout_ns=round(self.policy.track_timeout_s * _NS),
            min_points=_HISTORY * self.policy.min_hits,
        )
        self._observed: list[int] = []  # Media times of the inferences in the confirm window.
        self._active: _ActiveAlarm | None = None
        self._previous: _ActiveAlarm | None = None  # The one that was cleared last.
        self._cleared_ns = 0
        self.status = AlarmStatus(AlarmState.IDLE, since_ns=0)
        """Status after the newest observation."""

    @property
    def active_or_pending(self) -> bool:
        """Whether the state is not idle, so that the lower threshold applies."""
        return self.status.state is not AlarmState.IDLE

    def mark_delivered(self, alarm_id: str) -> None:
        """Note that a delivery was confirmed: only then a cool-down follows. Any thread."""
        for alarm in (self._active, self._previous):
            if alarm is not None and alarm.alarm_id == alarm_id:
                alarm.delivered = True

    def resume(self, last: Event) -> None:
        """Continue an alarm that was not cleared when the program ended.

        Args:
            last: Its newest event. `clear_after_s` counts from the next observation.
        """
        self._active = _ActiveAlarm(last.alarm_id, last.sequence, 0, 0, len(last.regions), 0)
        self.status = AlarmStatus(AlarmState.ALARM, since_ns=0)

    def update(self, seen: Observation) -> Event | None:
        """Process the detections of one inference; return the event that follows, if any."""
        if self._active and not self._observed:  # Resumed: its times start here.
            self._active.last_detected_ns = self._active.last_reported_ns = seen.pts_ns
        self._add(seen)
        confirmed = [
            track for track in self._tracker.tracks if self._is_confirmed(track, seen.pts_ns)
        ]
        event = self._next_event(seen, confirmed)
        state = AlarmState.IDLE
        if self._active:
            state = AlarmState.ALARM
        elif self._tracker.tracks:
            state = AlarmState.PENDING
        since = self.status.since_ns if state is self.status.state else seen.pts_ns
        self.status = AlarmStatus(state, since, seen.regions)
        return event

    def _add(self, seen: Observation) -> None:
        self._tracker.update(seen.pts_ns, seen.regions)
        self._observed.append(seen.pts_ns)
        first_ns = seen.pts_ns - self._window_ns
        while len(self._observed) > self.policy.min_hits and self._observed[0] < first_ns:
            self._observed.pop(0)

    def _next_event(self, seen: Observation, tracks: list[Track]) -> Event | None:
        best = max(tracks, key=lambda track: self._score(track, seen.pts_ns), default=None)
        if self._active is None:
            policy = self.policy
            min_score = (
                policy.min_score if seen.used_background else policy.min_score_without_background
            )
            if best is None or self._score(best, seen.pts_ns) < min_score:
                return None
            return self._raise(seen, best, tracks)
        if seen.regions:
            self._active.last_detected_ns = seen.pts_ns
        if seen.pts_ns - self._active.last_detected_ns >= self.policy.clear_after_s * _NS:
            return self._clear(self._active, seen)
        return self._update(self._active, seen, best, tracks)

    def _window_start_ns(self, now_ns: int) -> int:
        return min(now_ns - self._window_ns, self._observed[0])

    def _is_confirmed(self, track: Track, now_ns: int) -> bool:
        since_ns = self._window_start_ns(now_ns)
        hits = len(track.points_since(since_ns))
        return (
            track.last.pts_ns == now_ns
            and track.first_ns <= since_ns
            and hits >= self.policy.min_hits
            and hits >= self.policy.confirm_ratio * len(self._observed)
            and track.drift(since_ns) < self.policy.max_drift
        )

    def _score(self, track: Track, now_ns: int) -> float:
        """Return the score of a track, 0 to 1: its mean confidence, raised or lowered by behaviour.

        Persistence, growth, a fixed ground point and motion raise it. No motion lowers it unless
        the confidence is high: haze, bright roofs and dirt on the lens are the most frequent
        mistakes of a network; they do not move, and their confidence is seldom high.
        """
        since_ns = self._window_start_ns(now_ns)
        points = track.points_since(since_ns)
        confidence = math.fsum(point.region.confidence for point in points) / len(points)
        motion = track.motion(since_ns)
        hit_ratio = min(1.0, len(points) / len(self._observed))
        growing = _ramp(0.0, track.growth(0), 1.0)
        anchored = 1 - _ramp(0.0, track.drift(since_ns), self.policy.max_drift)
        billowing = _ramp(1.0, motion, 4.0)
        support = 0.5 * hit_ratio + 0.15 * growing + 0.15 * anchored + 0.3 * billowing
        still = 1 - _ramp(0.5, motion, 1.5)
        uncertain = 1 - _ramp(0.5, confidence, 0.8)
        return math.pow(confidence, 1.5 - 0.75 * support) * (1 - 0.4 * still * uncertain)

    def _raise(self, seen: Observation, best: Track, tracks: list[Track]) -> Event:
        previous = self._previous
        if previous is not None and self._is_cooling_down(previous, seen.pts_ns):
            self._active = previous
            previous.last_detected_ns = seen.pts_ns
            return self._report(
                previous, EventKind.UPDATED, seen, best, tracks, prefix="seen again: "
            )
        raised_at = seen.utc.strftime("%Y%m%dT%H%M%S.%f")[:-3]
        alarm = _ActiveAlarm(f"{self.camera}-{raised_at}Z", -1, seen.pts_ns, 0, 0, seen.pts_ns)
        self._active = alarm
        return self._report(alarm, EventKind.RAISED, seen, best, tracks)

    def _is_cooling_down(self, previous: _ActiveAlarm, now_ns: int) -> bool:
        """Whether smoke continues the previous alarm; never if that one was not delivered."""
        return previous.delivered and now_ns - self._cleared_ns < self.policy.cooldown_s * _NS

    def _update(
        self, alarm: _ActiveAlarm, seen: Observation, best: Track | None, tracks: list[Track]
    ) -> Event | None:
        elapsed_ns = seen.pts_ns - alarm.last_reported_ns
        if best is None or elapsed_ns < self.policy.update_every_s * _NS:
            return None
        area = sum(track.last.region.area for track in tracks)
        prefix = ""
        if len(tracks) > alarm.last_reported_tracks:
            prefix = f"now {len(tracks)} places: "
        elif 0 < alarm.last_reported_area * (1 + self.policy.update_growth) <= area:
            prefix = f"{area / alarm.last_reported_area:.1f} times as large as last reported: "
        if not prefix:
            return None
        return self._report(alarm, EventKind.UPDATED, seen, best, tracks, prefix=prefix)

    def _clear(self, alarm: _ActiveAlarm, seen: Observation) -> Event:
        alarm.sequence += 1
        elapsed_s = (seen.pts_ns - alarm.last_detected_ns) / _NS
        event = Event(
            alarm.alarm_id, alarm.sequence, EventKind.CLEARED, self.camera, seen.pts_ns, seen.utc,
            onset_ns=alarm.last_detected_ns, reason=f"nothing seen for {elapsed_s:.0f} s",
            score=0.0, regions=(),
        )  # fmt: skip
        self._previous, self._active, self._cleared_ns = alarm, None, seen.pts_ns
        return event

    def _report(
        self,
        alarm: _ActiveAlarm,
        kind: EventKind,
        seen: Observation,
        best: Track,
        tracks: list[Track],
        *,
        prefix: str = "",
    ) -> Event:
        alarm.sequence += 1
        alarm.last_reported_ns = seen.pts_ns
        alarm.last_reported_area = max(1e-9, sum(track.last.region.area for track in tracks))
        alarm.last_reported_tracks = len(tracks)
        regions = sorted((t.last.region for t in tracks), key=lambda region: -region.area)
        return Event(
            alarm.alarm_id, alarm.sequence, kind, self.camera, seen.pts_ns, seen.utc,
            onset_ns=best.first_ns, reason=prefix + self._reason(best, seen.pts_ns),
            score=self._score(best, seen.pts_ns), regions=tuple(regions),
        )  # fmt: skip

    def _reason(self, track: Track, now_ns: int) -> str:
        since_ns = self._window_start_ns(now_ns)
        points = track.points_since(since_ns)
        oldest_s = (now_ns - track.points[0].pts_ns) / _NS
        region = track.last.region
        growth = track.growth(0)
        window_s = (now_ns - since_ns) / _NS
        parts = [f"seen in {len(points)} of {len(self._observed)} inferences over {window_s:.0f} s"]
        if abs(growth) >= 0.05:  # noqa: PLR2004  less is within the flicker of a mask
            verb = "grew" if growth > 0 else "shrank"
            parts.append(f"{verb} {abs(growth) * 100:.0f} % in {oldest_s:.0f} s")
        place = "anchored" if track.drift(since_ns) < self.policy.max_drift / 2 else "drifting"
        parts.append(f"{place} at {region.ground_point[0]:.2f}, {region.ground_point[1]:.2f}")
        parts.append(f"covers {region.area * 100:.2g} % of the frame")
        mean = math.fsum(point.region.confidence for point in points) / len(points)
        parts.append(f"mean probability {mean:.2f}")
        return ", ".join(parts)


def _ramp(low: float, value: float, high: float) -> float:
    """Return 0 at *low* or below, 1 at *high* or above, linear in between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))
