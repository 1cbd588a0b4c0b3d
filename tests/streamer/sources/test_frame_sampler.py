import random
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sources.frame_sampler import DecodeMode, FrameSampler

MS = 1_000_000
S = 1000 * MS
FRAME = 40 * MS


def observe(sampler, *, gops, frame_ns=FRAME, first_ns=0):
    """Packets of GOPs of so many frames; yields (time, decode mode) of each."""
    time_ns = first_ns
    for length in gops:
        for number in range(length):
            yield time_ns, sampler.observe_packet(time_ns, keyframe=number == 0).decode
            time_ns += frame_ns


def run(sampler, packets):
    """(candidates, sampled) times of (time, keyframe) packets in a decoder without delay."""
    candidates, sampled, backlog, mode = [], [], [], sampler.plan.decode
    for time_ns, keyframe in packets:
        before, mode = mode, sampler.observe_packet(time_ns, keyframe=keyframe).decode
        if mode is DecodeMode.KEY_FRAMES:
            new = [time_ns] if keyframe else []
            backlog = [] if keyframe else [*backlog, time_ns]
        else:
            new = [time_ns] if before is mode else [*backlog, time_ns]
        candidates += new
        sampled += [candidate for candidate in new if sampler.selects(candidate)]
    return candidates, sampled


def sample(sampler, packets):
    return run(sampler, packets)[1]


def test_without_an_interval_every_frame_is_decoded_and_sampled():
    sampler = FrameSampler(None)
    packets = [(number * FRAME, number % 5 == 0) for number in range(10)]
    assert sample(sampler, packets) == [number * FRAME for number in range(10)]
    assert str(sampler.plan) == "every frame: every frame is requested"


def test_when_every_frame_is_requested_all_are_decoded_and_the_sampled_ones_are_marked():
    sampler = FrameSampler(S, every_frame=True)
    packets = [(number * FRAME, number % 25 == 0) for number in range(100)]
    assert sample(sampler, packets) == [0, S, 2 * S, 3 * S]
    assert sampler.plan.decode is DecodeMode.EVERY_FRAME


def test_key_frames_suffice_after_one_gop_was_measured():
    sampler = FrameSampler(S)
    modes = dict(observe(sampler, gops=[25, 25, 25]))
    assert modes[24 * FRAME] is DecodeMode.EVERY_FRAME
    assert modes[25 * FRAME] is DecodeMode.KEY_FRAMES
    assert sampler.plan.gop_ns == S
    assert str(sampler.plan) == "key frames only: one each 1 s suffices for one inference each 1 s"


def test_key_frames_suffice_for_a_camera_whose_second_is_a_little_long():
    sampler = FrameSampler(S)
    list(observe(sampler, gops=[25] * 3, frame_ns=42 * MS))
    assert sampler.plan.decode is DecodeMode.KEY_FRAMES


def test_rare_key_frames_do_not_suffice():
    sampler = FrameSampler(S)
    list(observe(sampler, gops=[50, 50, 50]))
    assert sampler.plan.decode is DecodeMode.EVERY_FRAME
    assert "each 2 s is too rare for one inference each 1 s" in sampler.plan.reason


def test_a_missing_key_frame_is_noticed_while_it_is_missing():
    sampler = FrameSampler(S)
    modes = dict(observe(sampler, gops=[25, 25, 100]))
    assert modes[50 * FRAME + S] is DecodeMode.KEY_FRAMES
    assert modes[50 * FRAME + S + 3 * FRAME] is DecodeMode.EVERY_FRAME
    assert "no key frame for 1.12 s" in sampler.plan.reason


def test_after_a_long_gop_four_short_ones_must_follow():
    sampler = FrameSampler(S)
    list(observe(sampler, gops=[25, 25, 100, 25, 25, 25]))
    assert sampler.plan.decode is DecodeMode.EVERY_FRAME
    list(observe(sampler, gops=[25, 25], first_ns=225 * FRAME))
    assert sampler.plan.decode is DecodeMode.KEY_FRAMES


def test_key_frames_that_cannot_be_decoded_alone_are_not_relied_on():
    sampler = FrameSampler(S)
    list(observe(sampler, gops=[25, 25]))
    for _ in range(3):
        sampler.note_isolated_keyframe(decoded=False)
    list(observe(sampler, gops=[25] * 8, first_ns=50 * FRAME))
    assert sampler.plan.decode is DecodeMode.EVERY_FRAME
    assert "cannot be decoded alone" in sampler.plan.reason


def test_a_new_connection_measures_again():
    sampler = FrameSampler(S)
    list(observe(sampler, gops=[25, 25]))
    sampler.begin()
    assert sampler.plan.decode is DecodeMode.EVERY_FRAME


def test_a_plan_stays_the_same_value_while_nothing_changes():
    sampler = FrameSampler(S)
    list(observe(sampler, gops=[50, 50]))
    plan = sampler.plan
    list(observe(sampler, gops=[50, 51, 50], first_ns=100 * FRAME))
    assert sampler.plan is plan


def test_key_frames_that_jitter_around_the_interval_are_all_sampled():
    sampler = FrameSampler(S)
    keys = [number * S + (5 * MS if number % 2 else -5 * MS) for number in range(2, 40)]
    assert sample(sampler, [(key_ns, True) for key_ns in keys]) == keys


def test_after_a_gap_the_next_frame_is_sampled_and_missed_ones_are_not_made_up_for():
    sampler = FrameSampler(S)
    packets = [(number * FRAME, False) for number in (*range(26), *range(250, 301))]
    assert sample(sampler, packets) == [0, S, 10 * S, 11 * S, 12 * S]


@given(
    fps=st.sampled_from([5, 12.5, 23.976, 25, 29.97, 30, 50, 60]),
    gop=st.integers(1, 250),
    interval_ms=st.sampled_from([200, 400, 500, 1000, 2000, 5000]),
    jitter=st.sampled_from([0, 0.05, 0.3]),
    seed=st.integers(0, 1 << 32),
    every_frame=st.booleans(),
)
def test_rate_and_longest_gap_hold_at_any_frame_rate_gop_and_jitter(
    *, fps, gop, interval_ms, jitter, seed, every_frame
):
    frame_ns, interval_ns, rng = S / fps, interval_ms * MS, random.Random(seed)
    steps = [0, *(frame_ns * rng.uniform(1 - jitter, 1 + jitter) for _ in range(1000))]
    times = [round(time_ns) for time_ns in accumulate(steps)]
    packets = [(time_ns, number % gop == 0) for number, time_ns in enumerate(times)]
    candidates, sampled = run(FrameSampler(interval_ns, every_frame=every_frame), packets)

    distance_ns = max(later - earlier for earlier, later in pairwise(candidates))
    assert distance_ns <= 1.1 * interval_ns or distance_ns <= frame_ns * (1 + jitter) + 1
    assert sampled == sorted(set(sampled))  # In order, each once.
    # Where distances vary, the nearest frame can only be estimated, from the distance before.
    margin_ns = distance_ns * (1.5 if jitter else 1) + len(times)
    longest_ns = max((b - a for a, b in pairwise(sampled)), default=0)
    assert longest_ns <= interval_ns + margin_ns
    assert times[-1] - sampled[-1] <= 1.1 * interval_ns + margin_ns  # A key frame may be awaited.
    expected = times[-1] / interval_ns
    assert len(sampled) <= expected + 2
    if distance_ns <= interval_ns:
        assert len(sampled) >= expected - 1


@pytest.mark.parametrize("gop_ms", [120, 400, 680, 800, 960, 1000])
def test_key_frames_alone_give_the_requested_rate(gop_ms):
    sampler = FrameSampler(S)
    gop = gop_ms * MS // FRAME
    sampled = sample(sampler, [(n * FRAME, n % gop == 0) for n in range(120 * 25)])
    assert sampler.plan.decode is DecodeMode.KEY_FRAMES
    assert len(sampled) == pytest.approx(120, abs=1)
    assert max(b - a for a, b in pairwise(sampled)) <= S + gop_ms * MS


def limited(*, skips_ns, every_frame=True):
    sampler = FrameSampler(S, every_frame=every_frame)
    for _ in observe(sampler, gops=[50, 50]):
        pass
    for time_ns in skips_ns:
        sampler.note_skip(time_ns)
    return sampler


@pytest.mark.parametrize("every_frame", [True, False])
def test_key_frames_only_are_decoded_for_a_minute_if_decoding_is_behind_again_and_again(
    every_frame,
):
    sampler = limited(skips_ns=[5 * S, 8 * S, 12 * S], every_frame=every_frame)
    assert sampler.limited
    modes = dict(observe(sampler, gops=[50] * 32, first_ns=12 * S))
    assert {mode for time_ns, mode in modes.items() if time_ns < 72 * S} == {DecodeMode.KEY_FRAMES}
    assert modes[72 * S] is DecodeMode.EVERY_FRAME
    assert not sampler.limited


def test_being_behind_now_and_then_limits_nothing():
    assert not limited(skips_ns=[5 * S, 25 * S, 45 * S, 65 * S]).limited
