"""Alarm policy: when an alarm is raised, updated, cleared and continued, and hysteresis."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.alarm.event import EventKind
from streamer.alarm.policy import Alarm, Observation
from streamer.config.alarm import AlarmSettings
from streamer.core.frame import AlarmState, Detection

NS = 1_000_000_000
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
PLUME = Detection(
    box=(0.4, 0.4, 0.5, 0.6), centroid=(0.45, 0.5), ground_point=(0.45, 0.6), area=0.01,
    confidence=0.9, peak=0.95, motion=4.0,
)  # fmt: skip
FAR = replace(PLUME, box=(0.8, 0.1, 0.9, 0.3), centroid=(0.85, 0.2), ground_point=(0.85, 0.3))
BESIDE = replace(PLUME, box=(0.52, 0.4, 0.56, 0.6), centroid=(0.54, 0.5), ground_point=(0.54, 0.6))
"""So near to the plume that it is the same fire, and too far for the same track."""


class Watch:
    """An alarm that gets observations at a fixed rate."""

    def __init__(self, policy=None, *, fps=1.0):
        self.alarm = Alarm("north", policy, inference_interval_ns=round(NS / fps))
        self.fps = fps
        self.now_s = 0.0
        self.states = []

    def see(self, *regions, seconds, used_background=True):
        """Observe *regions* for so long; return the events."""
        events = []
        for _ in range(round(seconds * self.fps)):
            utc = NOON + timedelta(seconds=self.now_s)
            seen = Observation(round(self.now_s * NS), utc, regions, used_background)
            events += self.alarm.update(seen)
            self.states.append(self.alarm.status.state)
            self.now_s += 1 / self.fps
        return events


def kinds(events):
    return [event.kind.value for event in events]


def test_smoke_that_lasts_raises_one_alarm_and_says_why():
    watch = Watch()
    (event,) = watch.see(PLUME, seconds=20)
    assert (event.kind, event.camera, event.sequence) == (EventKind.RAISED, "north", 0)
    assert event.alarm_id == "north-20260601T120006.000Z"
    assert (event.pts_ns, event.onset_ns) == (6 * NS, 0)
    assert event.regions == (PLUME,)
    assert 0.55 <= event.score <= 1
    assert event.reason == (
        "seen in 7 of 7 inferences over 6 s, anchored at 0.45, 0.60, covers 1 % of the frame,"
        " mean probability 0.90"
    )
    assert watch.states == [AlarmState.PENDING] * 6 + [AlarmState.ALARM] * 14


def test_smoke_shorter_than_the_confirm_window_raises_nothing():
    watch = Watch()
    assert watch.see(PLUME, seconds=5) == []
    assert watch.see(seconds=60) == []
    assert watch.states[4:6] == [AlarmState.PENDING] * 2
    assert watch.states[-1] is AlarmState.IDLE


@settings(deadline=None, max_examples=20)
@given(fps=st.sampled_from([1, 2, 4, 5, 10, 25]))
def test_the_rate_of_inferences_does_not_change_when_an_alarm_is_raised(fps):
    (event,) = Watch(fps=fps).see(PLUME, seconds=10)
    assert event.pts_ns == 6 * NS


def test_at_a_low_rate_the_window_is_extended_to_the_fewest_hits():
    watch = Watch(fps=1 / 60)
    (event,) = watch.see(PLUME, seconds=600)
    assert event.pts_ns == 120 * NS, "the third inference"


@pytest.mark.parametrize(("hits", "raised"), [(1, False), (2, True)])
def test_smoke_must_be_in_the_configured_share_of_the_inferences(hits, raised):
    watch = Watch(AlarmSettings(min_score=0.1))
    events = []
    for _ in range(20):
        events += watch.see(PLUME, seconds=hits)
        events += watch.see(seconds=1)
    assert bool(events) == raised


@pytest.mark.parametrize(("used_background", "raised"), [(True, True), (False, False)])
def test_without_a_background_a_higher_score_is_needed(used_background, raised):
    weak = replace(PLUME, confidence=0.7, motion=1.0)
    events = Watch().see(weak, seconds=20, used_background=used_background)
    assert bool(events) == raised


def test_a_region_that_drifts_as_a_whole_raises_nothing():
    watch = Watch()
    for step in range(14):
        x = 0.1 + 0.06 * step
        cloud = replace(PLUME, box=(x, 0.4, x + 0.1, 0.6), ground_point=(x + 0.05, 0.6))
        assert watch.see(cloud, seconds=1) == []


def test_a_still_region_with_a_low_confidence_scores_lower_than_one_that_moves():
    still, moving = (replace(PLUME, confidence=0.6, motion=motion) for motion in (0.3, 4.0))
    assert Watch().see(still, seconds=20) == []
    assert kinds(Watch().see(moving, seconds=20)) == ["raised"]


def test_outside_of_idle_the_threshold_is_lower():
    policy = AlarmSettings(hysteresis_ratio=0.8)
    assert policy.active_threshold(0.5) == pytest.approx(0.4)
    watch = Watch(policy)
    assert not watch.alarm.active_or_pending
    watch.see(PLUME, seconds=1)
    assert watch.alarm.active_or_pending


def test_an_alarm_is_cleared_after_the_configured_time_without_smoke_and_not_before():
    watch = Watch()
    watch.see(PLUME, seconds=10)
    assert watch.see(seconds=59) == []
    assert watch.see(PLUME, seconds=1) == []
    assert watch.see(seconds=59) == []
    (event,) = watch.see(seconds=1)
    assert (event.kind, event.sequence, event.score) == (EventKind.CLEARED, 1, 0)
    assert (event.reason, event.regions) == ("nothing seen for 60 s", ())
    assert event.onset_ns == 69 * NS, "when it was last seen"
    assert watch.states[-1] is AlarmState.IDLE


def test_growth_and_a_second_place_update_the_alarm_at_most_every_thirty_seconds():
    watch = Watch()
    (raised,) = watch.see(PLUME, seconds=7)
    grown = replace(PLUME, area=0.025)
    (first,) = watch.see(grown, seconds=60)
    assert first.pts_ns - raised.pts_ns == 30 * NS
    assert first.reason.startswith("2.5 times as large as last reported: seen in")
    (second,) = watch.see(grown, BESIDE, seconds=60)
    assert second.reason.startswith("now 2 places: seen in")
    assert len(second.regions) == 2
    assert {event.alarm_id for event in (raised, first, second)} == {raised.alarm_id}
    assert [event.sequence for event in (raised, first, second)] == [0, 1, 2]


@pytest.mark.parametrize(("delivered", "kind"), [(True, "updated"), (False, "raised")])
def test_smoke_after_a_cleared_alarm_continues_it_only_if_it_was_delivered(delivered, kind):
    watch = Watch()
    (raised,) = watch.see(PLUME, seconds=10)
    if delivered:
        watch.alarm.mark_delivered(raised.alarm_id)
    watch.see(seconds=90)
    (event,) = watch.see(PLUME, seconds=10)
    assert event.kind.value == kind
    assert (event.alarm_id == raised.alarm_id) == delivered
    assert event.reason.startswith("seen again: ") == delivered


def test_after_the_cool_down_smoke_raises_a_new_alarm():
    watch = Watch(AlarmSettings(cooldown_s=100))
    (raised,) = watch.see(PLUME, seconds=10)
    watch.alarm.mark_delivered(raised.alarm_id)
    watch.see(seconds=200)
    (event,) = watch.see(PLUME, seconds=10)
    assert event.kind is EventKind.RAISED
    assert event.alarm_id != raised.alarm_id


def test_the_delivery_of_another_alarm_starts_no_cool_down():
    watch = Watch()
    watch.see(PLUME, seconds=10)
    watch.alarm.mark_delivered("south-20260601T120006.000Z")
    watch.see(seconds=90)
    assert kinds(watch.see(PLUME, seconds=10)) == ["raised"]


def test_an_alarm_resumed_after_a_restart_goes_on_and_clears():
    (raised,) = Watch().see(PLUME, seconds=10)
    watch = Watch()
    watch.now_s = 1000
    watch.alarm.resume(raised)
    assert watch.alarm.active_or_pending
    assert kinds(watch.see(seconds=60)) == []
    (cleared,) = watch.see(seconds=1)
    assert (cleared.alarm_id, cleared.sequence) == (raised.alarm_id, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hysteresis_ratio": 0}, "greater than 0"),
        ({"confirm_ratio": 1.1}, "less than or equal to 1"),
        ({"clear_after_s": -1}, "greater than or equal to 0"),
        ({"min_hits": 0}, "greater than or equal to 1"),
    ],
)
def test_an_invalid_policy_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        AlarmSettings(**wrong)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([(), (PLUME,), (FAR,), (PLUME, FAR)]), max_size=200))
def test_events_of_an_alarm_are_numbered_and_begin_with_raised_and_end_with_cleared(shown):
    watch = Watch(AlarmSettings(clear_after_s=5, update_every_s=2))
    events = [event for regions in shown for event in watch.see(*regions, seconds=1)]
    open_alarms, previous = set(), {}
    for event in events:
        assert event.sequence == previous.get(event.alarm_id, -1) + 1
        assert (event.kind is EventKind.RAISED) == (event.sequence == 0)
        previous[event.alarm_id] = event.sequence
        if event.kind is EventKind.CLEARED:
            open_alarms.remove(event.alarm_id)
        else:
            open_alarms.add(event.alarm_id)
    assert (watch.alarm.status.state is AlarmState.ALARM) == bool(open_alarms)
