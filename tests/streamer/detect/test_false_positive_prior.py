"""What is usual at a camera: learnt slowly, hour by hour, and never a fire."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.alarm.policy import Alarm, AlarmPolicy, Observation
from streamer.core.frame import AlarmState
from streamer.detect.false_positive_prior import BINS, FalsePositivePrior
from streamer.detect.regions import find_regions

NS = 1_000_000_000
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SHAPE = (192, 320)
THRESHOLD = 0.4


def spot(chance, *, y=100, x=40, size=12):
    probability = np.full(SHAPE, 0.02, np.float32)
    probability[y : y + size, x : x + size] = chance
    return probability


def taught(probability, *, minutes=60.0, every_s=1.0, utc=NOON, usual=None, start_ns=0, hold=False):
    usual = usual or FalsePositivePrior()
    for look in range(round(minutes * 60 / every_s) + 1):
        pts_ns = start_ns + round(look * every_s * NS)
        usual.learn(probability, utc, pts_ns, hold=hold)
    return usual


def test_nothing_is_changed_before_anything_is_learnt():
    probability = spot(0.6)
    assert FalsePositivePrior().excess(probability, NOON) is probability
    assert taught(spot(0.03)).excess(probability, NOON) is probability, "nor by what is nothing"


def test_what_is_always_there_becomes_usual_in_the_time_that_was_asked_for():
    early = taught(spot(0.6), minutes=15)
    assert early.excess(spot(0.6), NOON).max() > 0.2
    late = taught(spot(0.6), minutes=26)
    assert late.excess(spot(0.6), NOON).max() < 0.05
    quick = FalsePositivePrior(learn_s=60)
    assert taught(spot(0.6), minutes=1.1, usual=quick).excess(spot(0.6), NOON).max() < 0.05


def test_smoke_of_which_the_network_is_sure_still_counts_at_a_usual_place():
    usual = taught(spot(0.6))
    assert usual.excess(spot(0.95), NOON).max() > 0.8
    always = taught(spot(1.0), minutes=500, every_s=10)
    assert always.excess(spot(0.97), NOON).max() > 0.75


def test_elsewhere_the_networks_word_stands_as_it_is():
    usual = taught(spot(0.6))
    plume = spot(0.7, y=40, x=200)
    excess = usual.excess(plume, NOON)
    assert excess is not plume
    np.testing.assert_array_equal(excess[:80, 100:], plume[:80, 100:])


def test_what_is_seen_every_third_look_is_usual_too_and_what_is_rare_is_not():
    often, rarely = FalsePositivePrior(), FalsePositivePrior()
    for look in range(4 * 3600):
        often.learn(spot(0.6 if look % 3 == 0 else 0.02), NOON, look * NS)
        rarely.learn(spot(0.6 if look % 30 == 0 else 0.02), NOON, look * NS)
    assert often.at(NOON).max() > 0.55
    assert rarely.at(NOON).max() < 0.1


@settings(max_examples=8, deadline=None)
@given(every_s=st.sampled_from([0.25, 0.5, 1, 2, 5, 10]))
def test_the_rate_of_the_looks_does_not_matter(every_s):
    one, other = taught(spot(0.5), minutes=10), taught(spot(0.5), minutes=10, every_s=every_s)
    np.testing.assert_allclose(one.at(NOON), other.at(NOON), atol=0.01)


def test_a_gap_teaches_nothing():
    usual = FalsePositivePrior()
    usual.learn(spot(0.6), NOON, 0)
    usual.learn(spot(0.6), NOON, 3600 * NS)
    assert usual.at(NOON).max() < 0.01


def test_times_of_the_day_are_learnt_apart_and_midnight_is_no_border():
    usual = taught(spot(0.6), utc=NOON)
    assert usual.at(NOON + timedelta(hours=6)).max() == 0
    night = taught(spot(0.6), utc=datetime(2026, 6, 1, 23, 59, 50, tzinfo=UTC))
    after = night.at(datetime(2026, 6, 2, 0, 0, 10, tzinfo=UTC)).max()
    assert after == pytest.approx(
        night.at(datetime(2026, 6, 1, 23, 59, 50, tzinfo=UTC)).max(), abs=0.01
    )
    assert after > 0.5


def test_while_an_alarm_is_on_nothing_is_learnt():
    assert taught(spot(0.9), hold=True).blank


def views(count):
    """Signatures of views that have nothing in common."""
    random = np.random.default_rng(1)
    edges = [random.normal(0, 1, (24, 40)).astype(np.float32) for _ in range(count)]
    return [each / np.linalg.norm(each) for each in edges]


def test_of_another_view_nothing_is_known_and_of_the_same_everything():
    here, there = views(2)
    usual = FalsePositivePrior()
    assert not usual.see(here)
    taught(spot(0.6), usual=usual)
    assert not usual.see(0.98 * here)
    assert not usual.blank
    assert not usual.see(None)
    assert usual.see(there), "which is worth a line in the log"
    assert usual.blank
    assert usual.excess(spot(0.6), NOON).max() == np.float32(0.6)
    assert not usual.see(there)


def test_a_view_that_is_back_is_known_again():
    day, night = views(2)
    usual = FalsePositivePrior()
    usual.see(day)
    taught(spot(0.6), usual=usual)
    usual.see(night)
    taught(spot(0.6, y=20), usual=usual, start_ns=10**13)
    usual.see(day)
    assert usual.excess(spot(0.6), NOON).max() < 0.05
    assert usual.excess(spot(0.6, y=20), NOON).max() > 0.5
    usual.see(night)
    assert usual.excess(spot(0.6, y=20), NOON).max() < 0.05


def test_glitches_push_out_nothing_that_was_learnt_and_views_are_few():
    day, night, *glitches = views(12)
    usual = FalsePositivePrior()
    for view in (day, night):
        usual.see(view)
        taught(spot(0.6), usual=usual, minutes=30)
    for glitch in glitches:
        usual.see(glitch)
        taught(spot(0.9), usual=usual, minutes=0.1, start_ns=10**13)
        usual.see(night)
        assert not usual.blank
    usual.see(day)
    assert usual.at(NOON).max() > 0.5
    for view in glitches:
        usual.see(view)
        taught(spot(0.6), usual=usual, minutes=30)
        assert len(usual.state()["taught_s"]) <= 3
    usual.see(day)
    assert usual.blank, "not shown for long, it made room"


def test_a_memory_survives_as_bytes():
    here, there, elsewhere = views(3)
    usual = taught(spot(0.6))
    assert usual.state() is None, "of an unknown view nothing is worth keeping"
    usual.see(here)
    usual.see(there)
    taught(spot(0.5, y=20), usual=usual, start_ns=10**13)
    assert usual.state()["maps"].nbytes == 2 * BINS * 48 * 80
    again = FalsePositivePrior()
    again.restore(usual.state())
    again.see(there)
    np.testing.assert_allclose(again.at(NOON), usual.at(NOON), atol=0.003)
    again.see(here)
    assert again.excess(spot(0.6), NOON).max() < 0.05
    again.see(elsewhere)
    assert again.blank, "the camera was turned while the program was off"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"maps": np.zeros((1, 3, 4, 5))},
        {"maps": np.zeros((1, BINS, 48, 80), np.float32)},
        {"view": np.zeros((24, 40), np.float32)},
        {"view": np.full((1, 24, 40), np.nan, np.float32)},
        {"taught_s": np.float32(3)},
        {"taught_s": np.zeros(0, np.float32)},
        {"taught_s": np.zeros(9, np.float32)},
    ],
)
def test_what_is_no_memory_is_refused(wrong):
    right = {
        "maps": np.zeros((1, BINS, 48, 80), np.uint8),
        "view": np.zeros((1, 24, 40), np.float32),
        "taught_s": np.ones(1, np.float32),
    }
    FalsePositivePrior().restore(right)
    usual = FalsePositivePrior()
    with pytest.raises(ValueError, match="not a memory"):
        usual.restore({**right, **wrong} if wrong else {})
    assert usual.blank


@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 330)),
    at=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)
def test_no_speck_is_missed_at_any_size_and_place(shape, at):
    probability = np.zeros(shape, np.float32)
    probability[int(at[0] * shape[0]), int(at[1] * shape[1])] = 0.6
    usual = FalsePositivePrior(learn_s=1)
    for second in range(3):
        usual.learn(probability, NOON, second * NS)
    assert usual.at(NOON).max() == pytest.approx(0.6)


@given(
    hours=st.lists(st.floats(0, 24, exclude_max=True), min_size=1, max_size=30),
    chances=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30),
    gaps_s=st.lists(st.floats(0, 100), min_size=1, max_size=30),
)
def test_what_exceeds_is_a_probability_and_never_more_than_was_seen(hours, chances, gaps_s):
    usual, now_ns = FalsePositivePrior(learn_s=20), 0
    for hour, chance, gap_s in zip(hours, chances, gaps_s, strict=False):
        utc = NOON.replace(hour=0) + timedelta(hours=hour)
        probability = np.full((48, 80), chance, np.float32)
        excess = usual.excess(probability, utc)
        assert ((excess >= 0) & (excess <= probability + 1e-6)).all()
        now_ns += round(gap_s * NS)
        usual.learn(probability, utc, now_ns)
        assert ((usual.at(utc) >= 0) & (usual.at(utc) <= 1)).all()


@pytest.mark.parametrize("shape", [(48, 80), (192, 320), (240, 320), (180, 320), (30, 50)])
def test_maps_of_any_size_will_do(shape):
    probability = np.zeros(shape, np.float32)
    probability[shape[0] // 2, shape[1] // 2] = 0.6
    usual = taught(probability, minutes=30)
    assert usual.at(NOON).max() > 0.55, "the smallest speck is seen"
    excess = usual.excess(probability, NOON)
    assert excess.shape == shape
    assert excess.dtype == np.float32
    assert excess.max() < 0.1


def first_alarm_s(usual, show, *, seconds, start_s=0):
    """When the real rule raises, and in which state it ends; learns as the stage does."""
    alarm = Alarm("here", AlarmPolicy())
    for second in range(start_s, start_s + seconds):
        probability = show(second - start_s)
        excess = usual.excess(probability, NOON)
        regions = find_regions(excess, threshold=THRESHOLD, min_area=0.0002, said=probability)
        event = alarm.update(Observation(second * NS, NOON, regions, used_background=True))
        if event is not None:
            return second - start_s, alarm
        burns = alarm.alarm_status.state is AlarmState.ALARM
        usual.learn(probability, NOON, second * NS, hold=burns)
    return None, alarm


@pytest.mark.parametrize("chance", [0.45, 0.6])
def test_a_spot_that_smoulders_below_the_alarm_is_no_longer_suspected_after_an_hour(chance):
    usual = FalsePositivePrior()
    raised, alarm = first_alarm_s(usual, lambda _: spot(chance), seconds=200)
    assert raised is None
    assert alarm.alarm_status.state is AlarmState.PENDING
    raised, alarm = first_alarm_s(usual, lambda _: spot(chance), seconds=3600, start_s=200)
    assert raised is None
    assert alarm.alarm_status.state is AlarmState.IDLE


def plume(second, *, y=100, x=40):
    """Grows, and the network gets surer."""
    size = min(60, 8 + second)
    return spot(min(0.95, 0.6 + 0.03 * second), y=y, x=x, size=size)


def test_a_plume_raises_at_a_usual_place_and_as_soon_as_ever_anywhere_else():
    fresh, _ = first_alarm_s(FalsePositivePrior(), plume, seconds=60)
    known = taught(spot(0.6))
    there, _ = first_alarm_s(known, plume, seconds=60, start_s=5000)
    elsewhere, _ = first_alarm_s(
        taught(spot(0.6)), lambda second: plume(second, y=30, x=200), seconds=60, start_s=5000
    )
    assert fresh is not None
    assert elsewhere == fresh
    assert there is not None
    assert there <= fresh + 20


def test_a_plume_that_grows_for_half_an_hour_still_raises():
    def slow(second):
        return spot(min(0.9, 0.3 + 0.0004 * second), size=8 + second // 60)

    raised, _ = first_alarm_s(FalsePositivePrior(), slow, seconds=3600)
    assert raised is not None


def test_a_senseless_time_is_refused():
    with pytest.raises(ValueError, match="learn_s"):
        FalsePositivePrior(learn_s=0)


@pytest.mark.parametrize("then", [0.7, 0.8, 0.9])
@pytest.mark.parametrize("weak", [0.3, 0.45])
def test_smoke_that_was_weak_for_long_raises_when_it_becomes_surer(weak, then):
    usual = FalsePositivePrior()
    minutes = 20
    raised, _ = first_alarm_s(usual, lambda _: spot(weak), seconds=minutes * 60)
    assert raised is None
    raised, _ = first_alarm_s(usual, lambda _: spot(then), seconds=60, start_s=minutes * 60)
    assert raised is not None
    assert raised <= 10
