"""Alarm: observations in, events out. A pure state machine in time, without clock or I/O.

**States**: idle, pending (a track exists), alarm (an event was raised and not yet cleared).

**Places**: an alarm is smoke at one place. Several alarms of a camera may be active at once; smoke
at a place that belongs to none of them raises another one.

**Hysteresis**: outside of idle, a region needs only `AlarmSettings.active_threshold`, a share
(`hysteresis_ratio`) of the threshold, so that a plume that thins for a moment is not lost; and an
alarm is cleared only after `clear_after_s` *of observation* without smoke at its place. Time in
which the camera was blind proves nothing.

All settings are in seconds, not in inferences: one inference per second and twenty-five raise the
same alarm at the same time.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from streamer.config.alarm import AlarmSettings
from streamer.core.frame import AlarmState, AlarmStatus, Detection

from .event import Event, EventKind
from .tracks import Track, Tracker, same_place

_NS: Final = 1_000_000_000
_HISTORY: Final = 3
"""Confirm windows for which track points are stored: growth is measured over all of them."""

_OBSERVED_INTERVALS: Final = 3
"""Between two inferences further apart than so many intervals and a second, nothing was watched."""

_MOST_COOLING: Final = 16
"""Cleared alarms that new smoke may continue. Arbitrary."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The detections of one inference. Observations come in order of `pts_ns`."""

    pts_ns: int
    utc: datetime
    """Wall time of the frame, aware UTC."""

    regions: tuple[Detection, ...]
    used_background: bool = False
    """Whether the network compared the frame with a background."""


@dataclass(slots=True, eq=False)
class _ActiveAlarm:
    """One alarm, active or cooling down."""

    alarm_id: str
    sequence: int
    """Of its newest event."""

    origin: tuple[Detection, ...]
    """Where its smoke was when it was raised; empty if that is not known: then it is everywhere."""

    newest: tuple[Detection, ...]
    """Where its smoke was last."""

    last_detected_ns: int
    last_reported_ns: int
    last_reported_area: float = 0.0
    last_reported_tracks: int = 0
    tracks: set[int] = field(default_factory=set)
    """Numbers of the tracks that are its smoke."""

    smokeless_ns: int = 0
    """Time observed without smoke at its place, since it was last detected."""

    cleared_ns: int = 0
    delivered: bool = False
    """Whether the delivery of one of its events was confirmed."""

    def owns(self, track: Track) -> bool:
        """Whether a track is smoke of this alarm: its own track, or at its place."""
        if track.number in self.tracks or not self.origin:
            return True
        region = track.last.region
        return any(same_place(place, region) for place in (*self.newest, *self.origin))


class Alarm:
    """The alarms of one camera. One thread updates it; `mark_delivered` may be called from any.

    Args:
        camera: Name of the camera, for the events.
        policy: When to raise, update and clear.
        inference_interval_ns: Media time between two sampled frames.
    """

    def __init__(
        self,
        camera: str,
        policy: AlarmSettings | None = None,
        *,
        inference_interval_ns: int = _NS,
    ) -> None:
        self.camera = camera
        """Name of the camera."""

        self.policy = policy or AlarmSettings()
        self._interval_ns = inference_interval_ns
        self._window_ns = round(self.policy.confirm_window_s * _NS)
        self._tracker = self._new_tracker()
        self._observed: list[int] = []  # Media times of the inferences in the confirm window.
        self._updated_ns: int | None = None
        self._active: list[_ActiveAlarm] = []  # Oldest first.
        self._cooling: list[_ActiveAlarm] = []  # Cleared; oldest first.
        self.status = AlarmStatus(AlarmState.IDLE, since_ns=0)
        """Status after the newest observation."""

    @property
    def active_or_pending(self) -> bool:
        """Whether the state is not idle, so that the lower threshold applies."""
        return self.status.state is not AlarmState.IDLE

    def mark_delivered(self, alarm_id: str) -> None:
        """Note that a delivery was confirmed: only then a cool-down follows. Any thread."""
        for alarm in (*self._active, *self._cooling):
            if alarm.alarm_id == alarm_id:
                alarm.delivered = True

    def resume(self, last: Event, *, delivered: bool = False) -> None:
        """Continue an alarm that was not cleared when the program ended.

        Args:
            last: Its newest event. `clear_after_s` counts from the next observation.
            delivered: Whether the delivery of one of its events was confirmed.
        """
        area = math.fsum(region.area for region in last.regions)
        self._active.append(
            _ActiveAlarm(
                last.alarm_id, last.sequence, origin=last.regions, newest=last.regions,
                last_detected_ns=0, last_reported_ns=0, last_reported_area=area,
                last_reported_tracks=len(last.regions), delivered=delivered,
            )
        )  # fmt: skip
        self.status = AlarmStatus(AlarmState.ALARM, since_ns=0)

    def update(self, seen: Observation) -> tuple[Event, ...]:
        """Process the detections of one inference; return the events that follow."""
        observed_ns = self._advance(seen.pts_ns)
        self._add(seen)
        confirmed = [
            track for track in self._tracker.tracks if self._is_confirmed(track, seen.pts_ns)
        ]
        # Of this moment: an alarm that is cleared now still owns its place.
        free = [track for track in confirmed if not any(a.owns(track) for a in self._active)]
        events = [
            event
            for alarm in tuple(self._active)
            if (event := self._follow(alarm, seen, confirmed, observed_ns=observed_ns))
        ]
        events += self._raise(seen, free)
        state = AlarmState.IDLE
        if self._active:
            state = AlarmState.ALARM
        elif self._tracker.tracks:
            state = AlarmState.PENDING
        since = self.status.since_ns if state is self.status.state else seen.pts_ns
        self.status = AlarmStatus(state, since, seen.regions)
        return tuple(events)

    def _new_tracker(self) -> Tracker:
        return Tracker(
            window_ns=max(_HISTORY * self._window_ns, 20 * _NS),
            timeout_ns=round(self.policy.track_timeout_s * _NS),
            min_points=_HISTORY * self.policy.min_hits,
        )

    def _advance(self, now_ns: int) -> int:
        """Return how much time was observed since the last inference.

        After a gap an inference vouches for its own interval only, so that a camera that was blind
        for minutes clears nothing, and one that is inferred too rarely clears later, but does.
        """
        before_ns, self._updated_ns = self._updated_ns, now_ns
        if before_ns is None or now_ns <= before_ns:  # Media time begins here, or begins again.
            self._tracker = self._new_tracker()
            self._observed.clear()
            self._cooling.clear()
            for alarm in self._active:
                alarm.last_detected_ns = alarm.last_reported_ns = now_ns
                alarm.tracks.clear()
            return 0
        gap_ns = now_ns - before_ns
        watched = gap_ns <= _OBSERVED_INTERVALS * self._interval_ns + _NS
        return gap_ns if watched else min(gap_ns, self._interval_ns)

    def _add(self, seen: Observation) -> None:
        self._tracker.update(seen.pts_ns, seen.regions)
        self._observed.append(seen.pts_ns)
        first_ns = seen.pts_ns - self._window_ns
        while len(self._observed) > self.policy.min_hits and self._observed[0] < first_ns:
            self._observed.pop(0)

    def _follow(
        self,
        alarm: _ActiveAlarm,
        seen: Observation,
        confirmed: Sequence[Track],
        *,
        observed_ns: int,
    ) -> Event | None:
        """Update an active alarm: where its smoke is, and since when there is none."""
        own = [
            track
            for track in self._tracker.tracks
            if track.last.pts_ns == seen.pts_ns and alarm.owns(track)
        ]
        if not own:
            alarm.smokeless_ns += observed_ns
            if alarm.smokeless_ns < self.policy.clear_after_s * _NS:
                return None
            return self._clear(alarm, seen)
        alarm.last_detected_ns, alarm.smokeless_ns = seen.pts_ns, 0
        alarm.tracks = {track.number for track in own}
        alarm.newest = tuple(track.last.region for track in own)
        alarm.origin = alarm.origin or alarm.newest
        return self._update(alarm, seen, [track for track in confirmed if track in own])

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

    def _raise(self, seen: Observation, free: list[Track]) -> Iterator[Event]:
        """Raise an alarm for confirmed tracks that belong to none; continue one that cools down."""
        now_ns, policy = seen.pts_ns, self.policy
        cooldown_ns = policy.cooldown_s * _NS
        self._cooling = [one for one in self._cooling if now_ns - one.cleared_ns < cooldown_ns]
        min_score = (
            policy.min_score if seen.used_background else policy.min_score_without_background
        )
        for alarm in reversed(self._cooling.copy()):
            # Never if it was not delivered: then nobody knows of it.
            own = [track for track in free if alarm.delivered and alarm.owns(track)]
            if not own or self._score(self._best(own, now_ns), now_ns) < min_score:
                continue
            self._cooling.remove(alarm)
            self._active.append(alarm)
            alarm.last_detected_ns, alarm.smokeless_ns = now_ns, 0
            # Its other places were reported as cleared: smoke there is news again.
            alarm.origin = alarm.newest = tuple(track.last.region for track in own)
            free = [track for track in free if track not in own]
            yield self._report(alarm, EventKind.UPDATED, seen, own, prefix="seen again: ")
        # What scores less is not smoke yet: should it become so, that is another alarm.
        free = [track for track in free if self._score(track, now_ns) >= min_score]
        if not free:
            return
        raised_at = seen.utc.strftime("%Y%m%dT%H%M%S.%f")[:-3]
        regions = tuple(track.last.region for track in free)
        alarm = _ActiveAlarm(
            f"{self.camera}-{raised_at}Z", -1, origin=regions, newest=regions,
            last_detected_ns=now_ns, last_reported_ns=now_ns,
        )  # fmt: skip
        self._active.append(alarm)
        yield self._report(alarm, EventKind.RAISED, seen, free)

    def _best(self, tracks: Sequence[Track], now_ns: int) -> Track:
        return max(tracks, key=lambda track: self._score(track, now_ns))

    def _update(
        self, alarm: _ActiveAlarm, seen: Observation, tracks: Sequence[Track]
    ) -> Event | None:
        elapsed_ns = seen.pts_ns - alarm.last_reported_ns
        if not tracks or elapsed_ns < self.policy.update_every_s * _NS:
            return None
        area = sum(track.last.region.area for track in tracks)
        prefix = ""
        if len(tracks) > alarm.last_reported_tracks:
            prefix = f"now {len(tracks)} places: "
        elif 0 < alarm.last_reported_area * (1 + self.policy.update_growth) <= area:
            prefix = f"{area / alarm.last_reported_area:.1f} times as large as last reported: "
        if not prefix:
            return None
        return self._report(alarm, EventKind.UPDATED, seen, tracks, prefix=prefix)

    def _clear(self, alarm: _ActiveAlarm, seen: Observation) -> Event:
        alarm.sequence += 1
        reason = f"nothing seen for {alarm.smokeless_ns / _NS:.0f} s"
        blind_s = (seen.pts_ns - alarm.last_detected_ns - alarm.smokeless_ns) / _NS
        if blind_s >= 1:
            reason += f" of observation; {blind_s:.0f} s were not observed"
        self._active.remove(alarm)
        alarm.cleared_ns = seen.pts_ns
        alarm.tracks.clear()
        if alarm.origin:
            self._cooling = [*self._cooling, alarm][-_MOST_COOLING:]
        return Event(
            alarm.alarm_id, alarm.sequence, EventKind.CLEARED, self.camera, seen.pts_ns, seen.utc,
            onset_ns=alarm.last_detected_ns, reason=reason, score=0.0, regions=(),
        )  # fmt: skip

    def _report(
        self,
        alarm: _ActiveAlarm,
        kind: EventKind,
        seen: Observation,
        tracks: Sequence[Track],
        *,
        prefix: str = "",
    ) -> Event:
        best = self._best(tracks, seen.pts_ns)
        alarm.sequence += 1
        alarm.tracks |= {track.number for track in tracks}
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
