"""Alarms and places: a second fire is a second alarm, blind time clears nothing."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.alarm.event import EventKind
from streamer.alarm.tracks import same_place
from streamer.config.alarm import AlarmSettings
from streamer.core.frame import AlarmState

from .test_policy import BESIDE, FAR, NS, PLUME, Watch, kinds

PLACES = {"plume": PLUME, "far": FAR}


def blind(watch, seconds):
    """The camera is gone for so long."""
    watch.now_s += seconds


def test_haze_that_becomes_a_fire_is_an_alarm_of_its_own_beside_one_that_began_meanwhile():
    haze = replace(FAR, confidence=0.4, peak=0.5, motion=0.2)
    watch = Watch()
    assert watch.see(haze, seconds=30) == []
    (raised,) = watch.see(haze, PLUME, seconds=10)
    assert raised.regions == (PLUME,)
    later = watch.see(FAR, PLUME, seconds=20)
    assert kinds(later) == ["raised"]
    assert later[0].regions == (FAR,)


# Only observed time counts.


def test_a_camera_that_was_blind_for_two_minutes_does_not_clear_with_its_first_inference():
    watch = Watch()
    watch.see(PLUME, seconds=10)
    blind(watch, 120)
    assert watch.see(seconds=58) == []
    assert watch.states[-1] is AlarmState.ALARM
    (cleared,) = watch.see(seconds=2)
    assert cleared.kind is EventKind.CLEARED
    assert cleared.reason == "nothing seen for 60 s of observation; 120 s were not observed"


@pytest.mark.parametrize("fps", [0.1, 1, 4])
def test_without_gaps_the_time_to_clear_is_that_of_the_clock(fps):
    watch = Watch(AlarmSettings(min_hits=1), fps=fps)
    watch.see(PLUME, seconds=40)
    last_s = watch.now_s - 1 / fps
    (cleared,) = watch.see(seconds=100)
    assert cleared.pts_ns == round((last_s + 60) * NS)
    assert cleared.reason == "nothing seen for 60 s"


def test_a_camera_that_is_inferred_too_rarely_clears_late_but_it_does():
    watch = Watch(fps=1)
    watch.see(PLUME, seconds=10)
    events, inferences = [], 0
    while not events:
        blind(watch, 9)  # One inference in ten seconds instead of ten.
        events = watch.see(seconds=1)
        inferences += 1
    assert (kinds(events), inferences) == (["cleared"], 60)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from([1, 1, 1, 3, 5, 130]), st.booleans()), max_size=150))
def test_no_alarm_is_cleared_without_the_observed_time(steps):
    watch = Watch(AlarmSettings(clear_after_s=20))
    observed = 0.0
    for gap_s, smoke in steps:
        blind(watch, gap_s - 1)
        events = watch.see(*([PLUME] if smoke else []), seconds=1)
        observed = 0.0 if smoke else observed + (gap_s if gap_s <= 4 else 1)
        for event in events:
            if event.kind is EventKind.CLEARED:
                assert observed >= 20


def test_media_time_that_begins_again_neither_clears_nor_loses_the_alarm():
    watch = Watch()
    (raised,) = watch.see(PLUME, seconds=10)
    watch.now_s = 0
    assert watch.see(seconds=60) == []
    (cleared,) = watch.see(seconds=1)
    assert (cleared.alarm_id, kinds([cleared])) == (raised.alarm_id, ["cleared"])


# A second fire.


def test_a_second_fire_raises_a_second_alarm_and_each_is_cleared_by_its_own_place():
    watch = Watch()
    (first,) = watch.see(PLUME, seconds=10)
    (second,) = watch.see(PLUME, FAR, seconds=20)
    assert (second.kind, second.sequence) == (EventKind.RAISED, 0)
    assert second.alarm_id != first.alarm_id
    assert second.regions == (FAR,)
    (cleared,) = watch.see(FAR, seconds=70)
    assert (cleared.alarm_id, cleared.kind) == (first.alarm_id, EventKind.CLEARED)
    assert watch.states[-1] is AlarmState.ALARM
    (last,) = watch.see(seconds=70)
    assert last.alarm_id == second.alarm_id
    assert watch.states[-1] is AlarmState.IDLE


def test_a_second_fire_within_the_cool_down_raises_and_the_first_place_continues():
    watch = Watch()
    (first,) = watch.see(PLUME, seconds=10)
    watch.alarm.mark_delivered(first.alarm_id)
    watch.see(seconds=70)
    (second,) = watch.see(FAR, seconds=10)
    assert (second.kind, second.alarm_id == first.alarm_id) == (EventKind.RAISED, False)
    (again,) = watch.see(PLUME, FAR, seconds=10)
    assert (again.kind, again.alarm_id) == (EventKind.UPDATED, first.alarm_id)
    assert again.reason.startswith("seen again: ")
    assert again.regions == (PLUME,)


def test_smoke_at_several_places_at_once_is_one_alarm_that_names_them_all():
    (event,) = Watch().see(PLUME, FAR, seconds=20)
    assert (event.kind, len(event.regions)) == (EventKind.RAISED, 2)


def test_a_plume_that_grows_and_drifts_with_the_wind_stays_one_alarm():
    watch = Watch(AlarmSettings(update_every_s=30))
    events = []
    for step in range(120):
        width, shift = 0.1 + 0.003 * step, 0.002 * step
        plume = replace(
            PLUME,
            box=(0.4 + shift, 0.6 - width, 0.4 + shift + width, 0.6),
            centroid=(0.4 + shift + width / 2, 0.55),
            ground_point=(0.45 + shift, 0.6),
            area=width * width / 2,
        )
        events += watch.see(plume, seconds=1)
    assert kinds(events)[0] == "raised"
    assert set(kinds(events)[1:]) == {"updated"}
    assert len({event.alarm_id for event in events}) == 1


def test_a_part_that_is_torn_off_nearby_is_no_second_fire():
    watch = Watch()
    watch.see(PLUME, seconds=10)
    assert set(kinds(watch.see(PLUME, BESIDE, seconds=60))) <= {"updated"}


def test_alarms_of_two_places_go_on_after_a_restart_each_at_its_own():
    watch = Watch()
    (first,) = watch.see(PLUME, seconds=10)
    (second,) = watch.see(PLUME, FAR, seconds=20)
    later = Watch()
    later.alarm.resume(first)
    later.alarm.resume(second, delivered=True)
    assert later.alarm.active_or_pending
    (cleared,) = later.see(FAR, seconds=100)
    assert (cleared.alarm_id, cleared.sequence) == (first.alarm_id, 1)
    assert later.states[-1] is AlarmState.ALARM
    (cleared,) = later.see(seconds=100)
    assert cleared.alarm_id == second.alarm_id
    (again,) = later.see(FAR, seconds=10)
    assert (again.alarm_id, again.kind) == (second.alarm_id, EventKind.UPDATED)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from(["plume", "far"])),
            st.integers(1, 15),
            st.sampled_from([0, 0, 0, 30, 700]),
            st.booleans(),
        ),
        max_size=15,
    )
)
def test_whatever_came_before_smoke_that_lasts_is_in_an_alarm_that_was_reported(steps):
    watch = Watch(AlarmSettings(clear_after_s=10, cooldown_s=100))
    reported = {}  # Regions of the events of each alarm that is not cleared.
    lasted = dict.fromkeys(PLACES, 0)
    for names, seconds, gap_s, delivered in steps:
        blind(watch, gap_s)
        for _ in range(seconds):
            for event in watch.see(*(PLACES[name] for name in sorted(names)), seconds=1):
                if event.kind is EventKind.CLEARED:
                    del reported[event.alarm_id]
                    continue
                reported.setdefault(event.alarm_id, []).extend(event.regions)
                if delivered:
                    watch.alarm.mark_delivered(event.alarm_id)
            for name, region in PLACES.items():
                lasted[name] = lasted[name] + 1 if name in names else 0
                if lasted[name] >= 10:
                    alarms = [any(same_place(one, region) for one in r) for r in reported.values()]
                    assert any(alarms), f"{name} has lasted for {lasted[name]} inferences"
