"""False-positive prior: learned slowly, by the time of the day, and never from a fire."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.alarm.policy import Alarm, Observation
from streamer.core.frame import AlarmState
from streamer.detect.false_positive_prior import BINS, FalsePositivePrior
from streamer.detect.regions import find_regions

NS = 1_000_000_000
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SHAPE = (192, 320)
THRESHOLD = 0.4


def spot(level, *, y=100, x=40, size=12):
    probability = np.full(SHAPE, 0.02, np.float32)
    probability[y : y + size, x : x + size] = level
    return probability


def learned(
    probability, *, minutes=60.0, every_s=1.0, utc=NOON, prior=None, start_ns=0, frozen=False
):
    prior = prior or FalsePositivePrior()
    for index in range(round(minutes * 60 / every_s) + 1):
        pts_ns = start_ns + round(index * every_s * NS)
        prior.update(probability, utc, pts_ns, frozen=frozen)
    return prior


def test_an_empty_prior_changes_nothing():
    probability = spot(0.6)
    assert FalsePositivePrior().suppress(probability, NOON) is probability
    assert learned(spot(0.03)).suppress(probability, NOON) is probability, (
        "a prior below the minimum is ignored"
    )


def test_a_constant_false_positive_is_suppressed_after_the_configured_time():
    early = learned(spot(0.6), minutes=15)
    assert early.suppress(spot(0.6), NOON).max() > 0.2
    late = learned(spot(0.6), minutes=26)
    assert late.suppress(spot(0.6), NOON).max() < 0.05
    quick = FalsePositivePrior(learn_s=60)
    assert learned(spot(0.6), minutes=1.1, prior=quick).suppress(spot(0.6), NOON).max() < 0.05


def test_smoke_with_a_high_probability_is_never_fully_suppressed():
    prior = learned(spot(0.6))
    assert prior.suppress(spot(0.95), NOON).max() > 0.8
    always = learned(spot(1.0), minutes=500, every_s=10)
    assert always.suppress(spot(0.97), NOON).max() > 0.75


def test_elsewhere_the_probability_is_unchanged():
    prior = learned(spot(0.6))
    plume = spot(0.7, y=40, x=200)
    reduced = prior.suppress(plume, NOON)
    assert reduced is not plume
    np.testing.assert_array_equal(reduced[:80, 100:], plume[:80, 100:])


def test_a_false_positive_in_every_third_inference_is_learned_and_a_rare_one_is_not():
    often, rarely = FalsePositivePrior(), FalsePositivePrior()
    for index in range(4 * 3600):
        often.update(spot(0.6 if index % 3 == 0 else 0.02), NOON, index * NS)
        rarely.update(spot(0.6 if index % 30 == 0 else 0.02), NOON, index * NS)
    assert often.value_at(NOON).max() > 0.55
    assert rarely.value_at(NOON).max() < 0.1


@settings(max_examples=8, deadline=None)
@given(every_s=st.sampled_from([0.25, 0.5, 1, 2, 5, 10]))
def test_the_prior_does_not_depend_on_the_rate_of_inferences(every_s):
    one, other = learned(spot(0.5), minutes=10), learned(spot(0.5), minutes=10, every_s=every_s)
    np.testing.assert_allclose(one.value_at(NOON), other.value_at(NOON), atol=0.01)


def test_nothing_is_learned_from_a_gap():
    prior = FalsePositivePrior()
    prior.update(spot(0.6), NOON, 0)
    prior.update(spot(0.6), NOON, 3600 * NS)
    assert prior.value_at(NOON).max() < 0.01


def test_times_of_the_day_are_learned_apart_and_midnight_wraps():
    prior = learned(spot(0.6), utc=NOON)
    assert prior.value_at(NOON + timedelta(hours=6)).max() == 0
    night = learned(spot(0.6), utc=datetime(2026, 6, 1, 23, 59, 50, tzinfo=UTC))
    after = night.value_at(datetime(2026, 6, 2, 0, 0, 10, tzinfo=UTC)).max()
    assert after == pytest.approx(
        night.value_at(datetime(2026, 6, 1, 23, 59, 50, tzinfo=UTC)).max(), abs=0.01
    )
    assert after > 0.5


def test_a_frozen_prior_learns_nothing():
    assert learned(spot(0.9), frozen=True).is_empty


def scenes(count):
    """Return signatures of different scenes."""
    rng = np.random.default_rng(1)
    edges = [rng.normal(0, 1, (24, 40)).astype(np.float32) for _ in range(count)]
    return [each / np.linalg.norm(each) for each in edges]


def test_another_scene_has_an_empty_prior():
    here, there = scenes(2)
    prior = FalsePositivePrior()
    assert not prior.select_scene(here)
    learned(spot(0.6), prior=prior)
    assert not prior.select_scene(0.98 * here)
    assert not prior.is_empty
    assert not prior.select_scene(None)
    assert prior.select_scene(there), "the caller logs it"
    assert prior.is_empty
    assert prior.suppress(spot(0.6), NOON).max() == np.float32(0.6)
    assert not prior.select_scene(there)


def test_a_scene_that_is_back_has_its_prior_again():
    day, night = scenes(2)
    prior = FalsePositivePrior()
    prior.select_scene(day)
    learned(spot(0.6), prior=prior)
    prior.select_scene(night)
    learned(spot(0.6, y=20), prior=prior, start_ns=10**13)
    prior.select_scene(day)
    assert prior.suppress(spot(0.6), NOON).max() < 0.05
    assert prior.suppress(spot(0.6, y=20), NOON).max() > 0.5
    prior.select_scene(night)
    assert prior.suppress(spot(0.6, y=20), NOON).max() < 0.05


def test_glitches_replace_no_learned_scene_and_at_most_three_are_stored():
    day, night, *glitches = scenes(12)
    prior = FalsePositivePrior()
    for scene in (day, night):
        prior.select_scene(scene)
        learned(spot(0.6), prior=prior, minutes=30)
    for glitch in glitches:
        prior.select_scene(glitch)
        learned(spot(0.9), prior=prior, minutes=0.1, start_ns=10**13)
        prior.select_scene(night)
        assert not prior.is_empty
    prior.select_scene(day)
    assert prior.value_at(NOON).max() > 0.5
    for scene in glitches:
        prior.select_scene(scene)
        learned(spot(0.6), prior=prior, minutes=30)
        assert len(prior.state()["learned_s"]) <= 3
    prior.select_scene(day)
    assert prior.is_empty, "not shown for long, so it was discarded"


def test_a_prior_is_restored_from_its_state():
    here, there, elsewhere = scenes(3)
    prior = learned(spot(0.6))
    assert prior.state() is None, "without a signature there is nothing to store"
    prior.select_scene(here)
    prior.select_scene(there)
    learned(spot(0.5, y=20), prior=prior, start_ns=10**13)
    assert prior.state()["maps"].nbytes == 2 * BINS * 48 * 80
    again = FalsePositivePrior()
    again.restore(prior.state())
    again.select_scene(there)
    np.testing.assert_allclose(again.value_at(NOON), prior.value_at(NOON), atol=0.003)
    again.select_scene(here)
    assert again.suppress(spot(0.6), NOON).max() < 0.05
    again.select_scene(elsewhere)
    assert again.is_empty, "the camera was turned while the program was off"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"maps": np.zeros((1, 3, 4, 5))},
        {"maps": np.zeros((1, BINS, 48, 80), np.float32)},
        {"signatures": np.zeros((24, 40), np.float32)},
        {"signatures": np.full((1, 24, 40), np.nan, np.float32)},
        {"learned_s": np.float32(3)},
        {"learned_s": np.zeros(0, np.float32)},
        {"learned_s": np.zeros(9, np.float32)},
    ],
)
def test_an_invalid_state_is_refused(wrong):
    right = {
        "maps": np.zeros((1, BINS, 48, 80), np.uint8),
        "signatures": np.zeros((1, 24, 40), np.float32),
        "learned_s": np.ones(1, np.float32),
    }
    FalsePositivePrior().restore(right)
    prior = FalsePositivePrior()
    with pytest.raises(ValueError, match="not a false-positive prior"):
        prior.restore({**right, **wrong} if wrong else {})
    assert prior.is_empty


@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 330)),
    at=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)
def test_no_speck_is_missed_at_any_size_and_place(shape, at):
    probability = np.zeros(shape, np.float32)
    probability[int(at[0] * shape[0]), int(at[1] * shape[1])] = 0.6
    prior = FalsePositivePrior(learn_s=1)
    for second in range(3):
        prior.update(probability, NOON, second * NS)
    assert prior.value_at(NOON).max() == pytest.approx(0.6)


@given(
    hours=st.lists(st.floats(0, 24, exclude_max=True), min_size=1, max_size=30),
    levels=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30),
    gaps_s=st.lists(st.floats(0, 100), min_size=1, max_size=30),
)
def test_the_result_is_a_probability_and_never_above_the_raw_one(hours, levels, gaps_s):
    prior, now_ns = FalsePositivePrior(learn_s=20), 0
    for hour, level, gap_s in zip(hours, levels, gaps_s, strict=False):
        utc = NOON.replace(hour=0) + timedelta(hours=hour)
        probability = np.full((48, 80), level, np.float32)
        reduced = prior.suppress(probability, utc)
        assert ((reduced >= 0) & (reduced <= probability + 1e-6)).all()
        now_ns += round(gap_s * NS)
        prior.update(probability, utc, now_ns)
        assert ((prior.value_at(utc) >= 0) & (prior.value_at(utc) <= 1)).all()


@pytest.mark.parametrize("shape", [(48, 80), (192, 320), (240, 320), (180, 320), (30, 50)])
def test_maps_of_any_size_are_accepted(shape):
    probability = np.zeros(shape, np.float32)
    probability[shape[0] // 2, shape[1] // 2] = 0.6
    prior = learned(probability, minutes=30)
    assert prior.value_at(NOON).max() > 0.55, "the smallest speck is seen"
    reduced = prior.suppress(probability, NOON)
    assert reduced.shape == shape
    assert reduced.dtype == np.float32
    assert reduced.max() < 0.1


def first_alarm_s(prior, show, *, seconds, start_s=0):
    """Return when the alarm raises, and the alarm; learns as the detector does."""
    alarm = Alarm("here")
    for second in range(start_s, start_s + seconds):
        probability = show(second - start_s)
        reduced = prior.suppress(probability, NOON)
        regions = find_regions(
            reduced, threshold=THRESHOLD, min_area=0.0002, raw_probability=probability
        )
        if alarm.update(Observation(second * NS, NOON, regions, used_background=True)):
            return second - start_s, alarm
        frozen = alarm.status.state is AlarmState.ALARM
        prior.update(probability, NOON, second * NS, frozen=frozen)
    return None, alarm


@pytest.mark.parametrize("level", [0.45, 0.6])
def test_a_spot_that_never_raises_is_no_longer_pending_after_an_hour(level):
    prior = FalsePositivePrior()
    raised, alarm = first_alarm_s(prior, lambda _: spot(level), seconds=200)
    assert raised is None
    assert alarm.status.state is AlarmState.PENDING
    raised, alarm = first_alarm_s(prior, lambda _: spot(level), seconds=3600, start_s=200)
    assert raised is None
    assert alarm.status.state is AlarmState.IDLE


def plume(second, *, y=100, x=40):
    """A plume that grows, with a rising probability."""
    size = min(60, 8 + second)
    return spot(min(0.95, 0.6 + 0.03 * second), y=y, x=x, size=size)


def test_a_plume_raises_where_there_is_a_prior_and_elsewhere_without_delay():
    fresh, _ = first_alarm_s(FalsePositivePrior(), plume, seconds=60)
    prior = learned(spot(0.6))
    there, _ = first_alarm_s(prior, plume, seconds=60, start_s=5000)
    elsewhere, _ = first_alarm_s(
        learned(spot(0.6)), lambda second: plume(second, y=30, x=200), seconds=60, start_s=5000
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


def test_a_learning_time_of_zero_is_refused():
    with pytest.raises(ValueError, match="learn_s"):
        FalsePositivePrior(learn_s=0)


@pytest.mark.parametrize("then", [0.7, 0.8, 0.9])
@pytest.mark.parametrize("weak", [0.3, 0.45])
def test_smoke_that_was_weak_for_long_raises_when_its_probability_rises(weak, then):
    prior = FalsePositivePrior()
    minutes = 20
    raised, _ = first_alarm_s(prior, lambda _: spot(weak), seconds=minutes * 60)
    assert raised is None
    raised, _ = first_alarm_s(prior, lambda _: spot(then), seconds=60, start_s=minutes * 60)
    assert raised is not None
    assert raised <= 10
