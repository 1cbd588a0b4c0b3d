from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sources.frame_sampler import DecodeMode, FrameSampler

MS = 1_000_000
S = 1000 * MS
FRAME = 40 * MS


def watch(planner, *, gops, frame_ns=FRAME, first_ns=0):
    """Packets of groups of so many frames; yields (time, plan) of each."""
    time_ns = first_ns
    for length in gops:
        for number in range(length):
            yield time_ns, planner.see(time_ns, keyframe=number == 0).decode
            time_ns += frame_ns


def looks(planner, *, gops, frame_ns=FRAME):
    """Times of the pictures that are shown."""
    found = []
    for time_ns, plan in watch(planner, gops=gops, frame_ns=frame_ns):
        keyframe = time_ns == planner._key_ns
        if (plan is DecodeMode.EVERY_FRAME or keyframe) and planner.wants(time_ns):
            found.append(time_ns)
    return found


def test_without_an_interval_every_picture_is_decoded_and_shown():
    planner = FrameSampler(None)
    assert looks(planner, gops=[5, 5]) == [number * FRAME for number in range(10)]
    assert str(planner.plan) == "every frame: every picture is wanted"


def test_key_frames_suffice_after_one_distance_was_measured():
    planner = FrameSampler(S)
    plans = dict(watch(planner, gops=[25, 25, 25]))
    assert plans[24 * FRAME] is DecodeMode.EVERY_FRAME
    assert plans[25 * FRAME] is DecodeMode.KEY_FRAMES
    assert planner.plan.gop_ns == S
    assert str(planner.plan) == "key frames only: one each 1 s covers a look each 1 s"


def test_a_camera_whose_second_is_a_little_long_is_still_covered():
    planner = FrameSampler(S)
    list(watch(planner, gops=[25] * 3, frame_ns=42 * MS))
    assert planner.plan.decode is DecodeMode.KEY_FRAMES


def test_rare_key_frames_do_not_suffice():
    planner = FrameSampler(S)
    list(watch(planner, gops=[50, 50, 50]))
    assert planner.plan.decode is DecodeMode.EVERY_FRAME
    assert "each 2 s is too rare for a look each 1 s" in planner.plan.reason


def test_a_missing_key_frame_is_noticed_while_it_is_missing():
    planner = FrameSampler(S)
    plans = dict(watch(planner, gops=[25, 25, 100]))
    assert plans[50 * FRAME + S] is DecodeMode.KEY_FRAMES
    assert plans[50 * FRAME + S + 3 * FRAME] is DecodeMode.EVERY_FRAME
    assert "missing" in planner.plan.reason


def test_after_a_long_distance_four_short_ones_must_follow():
    planner = FrameSampler(S)
    list(watch(planner, gops=[25, 25, 100, 25, 25, 25]))
    assert planner.plan.decode is DecodeMode.EVERY_FRAME
    list(watch(planner, gops=[25, 25], first_ns=225 * FRAME))
    assert planner.plan.decode is DecodeMode.KEY_FRAMES


def test_key_frames_that_give_no_picture_by_themselves_are_not_relied_on():
    planner = FrameSampler(S)
    list(watch(planner, gops=[25, 25]))
    for _ in range(3):
        planner.lone_key_frame(decoded=False)
    list(watch(planner, gops=[25] * 8, first_ns=50 * FRAME))
    assert planner.plan.decode is DecodeMode.EVERY_FRAME
    assert "no picture by themselves" in planner.plan.reason


def test_a_new_connection_measures_anew():
    planner = FrameSampler(S)
    list(watch(planner, gops=[25, 25]))
    planner.begin()
    assert planner.plan.decode is DecodeMode.EVERY_FRAME


def test_a_plan_stays_the_same_value_while_nothing_is_news():
    planner = FrameSampler(S)
    list(watch(planner, gops=[50, 50]))
    plan = planner.plan
    list(watch(planner, gops=[50, 51, 50], first_ns=100 * FRAME))
    assert planner.plan is plan


@pytest.mark.parametrize("per_s", [1, 2, 5, 10])
def test_the_rate_of_looks_is_kept_when_every_frame_is_decoded(per_s):
    found = looks(FrameSampler(S // per_s), gops=[10_000])
    assert len(found) == pytest.approx(400 * per_s, abs=1)


def test_key_frames_that_jitter_around_the_interval_are_all_looks():
    planner = FrameSampler(S)
    keys = [number * S + (5 * MS if number % 2 else -5 * MS) for number in range(2, 40)]
    for key_ns in keys:
        planner.see(key_ns, keyframe=True)
    assert [key_ns for key_ns in keys if planner.wants(key_ns)] == keys


@given(gop=st.integers(1, 27), per_s=st.sampled_from([1, 0.5, 0.25]))
def test_looks_on_key_frames_are_never_far_from_the_interval(gop, per_s):
    interval_ns = round(S / per_s)
    planner = FrameSampler(interval_ns)
    found = looks(planner, gops=[gop] * 120)
    assert planner.plan.decode is DecodeMode.KEY_FRAMES
    for earlier, later in pairwise(found[3:]):
        assert 0.65 * interval_ns <= later - earlier <= 1.35 * interval_ns
