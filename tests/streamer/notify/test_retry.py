"""Pauses grow, are capped, jittered, and at least what a receiver asks for."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.notify import RetryPolicy

POLICY = RetryPolicy(initial_s=2, max_delay_s=300)


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (10**9, 300)]
)
def test_each_pause_is_twice_the_one_before_up_to_the_cap(attempts, seconds):
    assert POLICY.pause(attempts, chance=lambda: 1) == timedelta(seconds=seconds)


@given(attempts=st.integers(1, 10**6), chance=st.floats(0, 1))
def test_chance_takes_at_most_half_of_a_pause(attempts, chance):
    whole = POLICY.pause(attempts, chance=lambda: 1)
    assert whole / 2 <= POLICY.pause(attempts, chance=lambda: chance) <= whole


@pytest.mark.parametrize(("asked_s", "seconds"), [(1, 2), (60, 60), (10**9, 3600)])
def test_a_receiver_gets_the_pause_it_asks_for_within_an_hour(asked_s, seconds):
    pause = POLICY.pause(1, asked_s=asked_s, chance=lambda: 1)
    assert pause == timedelta(seconds=seconds)


@pytest.mark.parametrize("values", [{"initial_s": 0}, {"initial_s": 10, "max_delay_s": 5}])
def test_impossible_pauses_are_refused(values):
    with pytest.raises(ValueError, match="initial_s must be"):
        RetryPolicy(**values)
