"""Delays grow, are capped and only shortened by jitter; a good stretch resets them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.backoff import Backoff, FailureCounter


@pytest.mark.parametrize(
    ("failures", "delay_s"), [(1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (10**9, 300)]
)
def test_each_delay_is_twice_the_one_before_up_to_the_cap(failures, delay_s):
    assert Backoff(initial_s=2, max_delay_s=300).delay_s(failures) == delay_s


@given(failures=st.integers(1, 10**9), random=st.floats(0, 1), jitter=st.floats(0, 1))
def test_jitter_only_shortens_a_delay_by_its_share(failures, random, jitter):
    whole_s = Backoff(initial_s=0.25, max_delay_s=2).delay_s(failures)
    backoff = Backoff(initial_s=0.25, max_delay_s=2, jitter=jitter)
    delay_s = backoff.delay_s(failures, rng=lambda: random)
    assert whole_s * (1 - jitter) - 1e-9 <= delay_s <= whole_s <= 2


def test_a_constant_delay_does_not_grow():
    assert [Backoff.constant(30).delay_s(failures) for failures in (1, 2, 99)] == [30, 30, 30]


def test_failures_in_a_row_are_counted_until_the_part_ran_well_for_long_enough():
    failures = FailureCounter(Backoff(initial_s=1, max_delay_s=30, reset_after_s=60))
    assert [failures.delay_s() for _ in range(3)] == [1, 2, 4]
    failures.note_success(running_s=59)
    assert failures.delay_s() == 8
    failures.note_success(running_s=60)
    assert (failures.count, failures.delay_s()) == (0, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial_s": 0}, {"initial_s": 10}, {"factor": 0.5}, {"jitter": 2}, {"reset_after_s": -1},
    ],
)  # fmt: skip
def test_impossible_delays_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        Backoff(**{"initial_s": 1, "max_delay_s": 5, **wrong})
