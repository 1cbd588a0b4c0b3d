"""The alarm: observations in, events out. A pure state machine in time, without clock or I/O.

Nothing here counts looks: every figure is in seconds, so one look a second and twenty-five give
the same alarm at the same time.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from streamer.core.frame import AlarmState, AlarmStatus, Detection

from .event import Event, EventKind
from .tracks import Track, Tracker

_NS: Final = 1_000_000_000
_HISTORY: Final = 3
"""Windows of persistence for which sightings are kept: growth is judged over all of them."""


@dataclass(frozen=True, slots=True)
class AlarmPolicy:
    """When smoke becomes an alarm. Times in seconds, areas as shares of the picture."""

    hysteresis_ratio: float = 0.8
    """While smoke is suspected or alarmed, the threshold is this share of itself: a plume that
    thins for a moment is still there."""

    min_area: float = 0.0002
    """Smaller regions are specks. 0.0002 is 7x7 pixels of a 640x384 map."""

    confirm_window_s: float = 6.0
    """Smoke must have been seen for so long."""

    confirm_ratio: float = 0.6
    """In at least this share of the looks of that time."""

    min_hits: int = 3
    """And in at least so many looks; where looks are rare, more time is looked back for them."""

    min_score: float = 0.55
    """Least score that raises, once the network compares with a background."""

    min_score_without_background: float = 0.75
    """The same while there is none: a network is wrong far more often about a single picture."""

    max_drift: float = 0.15
    """A region whose base went this far within the time above drifts as a whole: a cloud."""

    track_timeout_s: float = 10.0
    """A region not seen for so long, nor in the last look, has ended."""

    clear_after_s: float = 60.0
    """The alarm ends when nothing was seen for so long."""

    cooldown_s: float = 600.0
    """After an alarm was delivered and ended, smoke at the same place continues it for so long."""

    update_every_s: float = 30.0
    """Shortest time between two updates."""

    update_growth: float = 1.0
    """Growth since the last event that is worth an update: 1 for doubled."""

    def __post_init__(self) -> None:
        for name in (
            "hysteresis_ratio",
            "confirm_ratio",
            "min_score",
            "min_score_without_background",
        ):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")
        for name in (
            "confirm_window_s",
            "track_timeout_s",
            "clear_after_s",
            "cooldown_s",
            "update_every_s",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.min_hits < 1:
            raise ValueError(f"min_hits must be at least 1, got {self.min_hits}")


@dataclass(frozen=True, slots=True)
class Observation:
    """What one look showed. Observations come in order of `pts_ns`."""

    pts_ns: int
    utc: datetime
    """Wall time of the picture, aware UTC."""

    regions: tuple[Detection, ...]
    used_background: bool = False
    """Whether the network had a background to compare with."""


@dataclass(slots=True)
class _ActiveAlarm:
    """The alarm that is on."""

    alarm_id: str
    sequence: int
    told_ns: int
    told_area: float
    told_tracks: int
    seen_ns: int
    confirmed: bool = False
    """Whether somebody was told for certain."""


class Alarm:
    """The alarm of one camera.

    Args:
        camera: Its name, for the events.
        rule: When to raise.
    """

    def __init__(self, camera: str, rule: AlarmPolicy | None = None) -> None:
        self.camera = camera
        """Its name."""

        self.rule = rule or AlarmPolicy()
        self._window_ns = round(self.rule.confirm_window_s * _NS)
        self._tracker = Tracker(
            window_ns=max(_HISTORY * self._window_ns, 20 * _NS),
            gap_ns=round(self.rule.track_timeout_s * _NS),
            least=_HISTORY * self.rule.min_hits,
        )
        self._looks: list[int] = []  # Media times of the looks that are judged together.
        self._open: _ActiveAlarm | None = None
        self._last: _ActiveAlarm | None = None  # The one before, for the cool-down.
        self._ended_ns = 0
        self.alarm_status = AlarmStatus(AlarmState.IDLE, since_ns=0)
        """What to show, after the newest observation."""

    @property
    def active_or_pending(self) -> bool:
        """Whether something is suspected or alarmed, so that the lower threshold holds."""
        return self.alarm_status.state is not AlarmState.IDLE

    def mark_delivered(self, alarm_id: str) -> None:
        """Somebody was told for certain: only now may this alarm swallow new smoke. Any thread."""
        for alarm in (self._open, self._last):
            if alarm is not None and alarm.alarm_id == alarm_id:
                alarm.confirmed = True

    def resume(self, last: Event) -> None:
        """Go on with an alarm that was not cleared when the program ended.

        Args:
            last: Its newest event. The alarm clears when nothing is seen from the next look on.
        """
        self._open = _ActiveAlarm(last.alarm_id, last.sequence, 0, 0, len(last.regions), 0)
        self.alarm_status = AlarmStatus(AlarmState.ALARM, since_ns=0)

    def update(self, seen: Observation) -> Event | None:
        """Take one look into account; at most one event comes of it."""
        if self._open and not self._looks:  # Resumed: time begins here.
            self._open.seen_ns = self._open.told_ns = seen.pts_ns
        self._remember(seen)
        tracks = [track for track in self._tracker.tracks if self._persists(track, seen.pts_ns)]
        event = self._changed(seen, tracks)
        state = AlarmState.IDLE
        if self._open:
            state = AlarmState.ALARM
        elif self._tracker.tracks:
            state = AlarmState.PENDING
        since = self.alarm_status.since_ns if state is self.alarm_status.state else seen.pts_ns
        self.alarm_status = AlarmStatus(state, since, seen.regions)
        return event

    def _remember(self, seen: Observation) -> None:
        self._tracker.update(seen.pts_ns, seen.regions)
        self._looks.append(seen.pts_ns)
        first_ns = seen.pts_ns - self._window_ns
        while len(self._looks) > self.rule.min_hits and self._looks[0] < first_ns:
            self._looks.pop(0)

    def _changed(self, seen: Observation, tracks: list[Track]) -> Event | None:
        best = max(tracks, key=lambda track: self._score(track, seen.pts_ns), default=None)
        if self._open is None:
            least = (
                self.rule.min_score
                if seen.used_background
                else self.rule.min_score_without_background
            )
            if best is None or self._score(best, seen.pts_ns) < least:
                return None
            return self._raise(seen, best, tracks)
        if seen.regions:
            self._open.seen_ns = seen.pts_ns
        if seen.pts_ns - self._open.seen_ns >= self.rule.clear_after_s * _NS:
            return self._clear(seen)
        return self._update(seen, best, tracks)

    def _since_ns(self, now_ns: int) -> int:
        """From when on sightings are judged together."""
        return min(now_ns - self._window_ns, self._looks[0])

    def _persists(self, track: Track, now_ns: int) -> bool:
        since_ns = self._since_ns(now_ns)
        sighted = len(track.within(since_ns))
        return (
            track.last.pts_ns == now_ns
            and track.first_ns <= since_ns
            and sighted >= self.rule.min_hits
            and sighted >= self.rule.confirm_ratio * len(self._looks)
            and track.drift(since_ns) < self.rule.max_drift
        )

    def _score(self, track: Track, now_ns: int) -> float:
        """How sure: mean probability, lifted by what speaks for smoke, lowered for what is still.

        Persistence, growth, an anchored base and billowing speak for smoke. Haze, a bright roof
        and dirt on the glass are what a network takes for smoke most often: they stand still, and
        it is seldom sure of them.
        """
        since_ns = self._since_ns(now_ns)
        sightings = track.within(since_ns)
        chance = math.fsum(seen.region.confidence for seen in sightings) / len(sightings)
        motion = track.motion(since_ns)
        share = min(1.0, len(sightings) / len(self._looks))
        growing = _between(0.0, track.growth(0), 1.0)
        anchored = 1 - _between(0.0, track.drift(since_ns), self.rule.max_drift)
        billowing = _between(1.0, motion, 4.0)
        support = 0.5 * share + 0.15 * growing + 0.15 * anchored + 0.3 * billowing
        still = 1 - _between(0.5, motion, 1.5)
        unsure = 1 - _between(0.5, chance, 0.8)
        return math.pow(chance, 1.5 - 0.75 * support) * (1 - 0.4 * still * unsure)

    def _raise(self, seen: Observation, best: Track, tracks: list[Track]) -> Event:
        continued = self._last is not None and self._cooling(seen.pts_ns)
        if continued:
            assert self._last is not None
            self._open = self._last
            self._open.seen_ns = seen.pts_ns
            return self._tell(EventKind.UPDATED, seen, best, tracks, "seen again: ")
        stamp = seen.utc.strftime("%Y%m%dT%H%M%S.%f")[:-3]
        self._open = _ActiveAlarm(f"{self.camera}-{stamp}Z", -1, seen.pts_ns, 0, 0, seen.pts_ns)
        return self._tell(EventKind.RAISED, seen, best, tracks, "")

    def _cooling(self, now_ns: int) -> bool:
        """Whether the last alarm goes on: only what was delivered may swallow new smoke."""
        assert self._last is not None
        return self._last.confirmed and now_ns - self._ended_ns < self.rule.cooldown_s * _NS

    def _update(self, seen: Observation, best: Track | None, tracks: list[Track]) -> Event | None:
        alarm = self._open
        assert alarm is not None
        if best is None or seen.pts_ns - alarm.told_ns < self.rule.update_every_s * _NS:
            return None
        area = sum(track.last.region.area for track in tracks)
        if len(tracks) > alarm.told_tracks:
            return self._tell(EventKind.UPDATED, seen, best, tracks, f"now {len(tracks)} places: ")
        if 0 < alarm.told_area * (1 + self.rule.update_growth) <= area:
            times = area / alarm.told_area
            words = f"{times:.1f} times as large as last reported: "
            return self._tell(EventKind.UPDATED, seen, best, tracks, words)
        return None

    def _clear(self, seen: Observation) -> Event:
        alarm = self._open
        assert alarm is not None
        alarm.sequence += 1
        quiet_s = (seen.pts_ns - alarm.seen_ns) / _NS
        event = Event(
            alarm.alarm_id, alarm.sequence, EventKind.CLEARED, self.camera, seen.pts_ns, seen.utc,
            onset_ns=alarm.seen_ns, reason=f"nothing seen for {quiet_s:.0f} s",
            score=0.0, regions=(),
        )  # fmt: skip
        self._last, self._open, self._ended_ns = alarm, None, seen.pts_ns
        return event

    def _tell(
        self, kind: EventKind, seen: Observation, best: Track, tracks: list[Track], words: str
    ) -> Event:
        alarm = self._open
        assert alarm is not None
        alarm.sequence += 1
        alarm.told_ns = seen.pts_ns
        alarm.told_area = max(1e-9, sum(track.last.region.area for track in tracks))
        alarm.told_tracks = len(tracks)
        regions = sorted((t.last.region for t in tracks), key=lambda region: -region.area)
        return Event(
            alarm.alarm_id, alarm.sequence, kind, self.camera, seen.pts_ns, seen.utc,
            onset_ns=best.first_ns, reason=words + self._why(best, seen.pts_ns),
            score=self._score(best, seen.pts_ns), regions=tuple(regions),
        )  # fmt: skip

    def _why(self, track: Track, now_ns: int) -> str:
        since_ns = self._since_ns(now_ns)
        sightings = track.within(since_ns)
        first_s = (now_ns - track.sightings[0].pts_ns) / _NS
        region = track.last.region
        growth = track.growth(0)
        judged_s = (now_ns - since_ns) / _NS
        said = [f"seen in {len(sightings)} of {len(self._looks)} inferences over {judged_s:.0f} s"]
        if abs(growth) >= 0.05:  # noqa: PLR2004  less is within the flicker of a mask
            verb = "grew" if growth > 0 else "shrank"
            said.append(f"{verb} {abs(growth) * 100:.0f} % in {first_s:.0f} s")
        place = "anchored" if track.drift(since_ns) < self.rule.max_drift / 2 else "drifting"
        said.append(f"{place} at {region.ground_point[0]:.2f}, {region.ground_point[1]:.2f}")
        said.append(f"covers {region.area * 100:.2g} % of the picture")
        mean = math.fsum(seen.region.confidence for seen in sightings) / len(sightings)
        said.append(f"mean probability {mean:.2f}")
        return ", ".join(said)


def _between(low: float, value: float, high: float) -> float:
    """0 at *low* or below, 1 at *high* or above, and straight between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))
