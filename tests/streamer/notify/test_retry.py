"""Delays grow, are at least what a receiver requests, and end with a dead letter."""

from dataclasses import replace
from datetime import timedelta

import pytest

from streamer.core.backoff import Backoff
from streamer.notify import DeliveryFailed, RetryPolicy
from tests.support.deliveries import delivery

POLICY = RetryPolicy(Backoff(initial_s=2, max_delay_s=300), give_up_after=timedelta(hours=1))
FAILURE = DeliveryFailed("no answer")


@pytest.mark.parametrize(("attempts", "delay_s"), [(1, 2), (2, 4), (3, 8), (10**9, 300)])
def test_each_delay_is_longer_up_to_the_cap(attempts, delay_s):
    failed = replace(delivery(), attempts=attempts)
    assert POLICY.next_delay(failed, FAILURE) == timedelta(seconds=delay_s)


@pytest.mark.parametrize(("random", "delay_s"), [(0, 2), (0.5, 1.5), (1, 1)])
def test_up_to_half_of_an_ordinary_delay_is_random(random, delay_s):
    delay = RetryPolicy().next_delay(delivery(), FAILURE, rng=lambda: random)
    assert delay == timedelta(seconds=delay_s)


@pytest.mark.parametrize(("requested_s", "delay_s"), [(1, 2), (60, 60), (10**9, 3600)])
def test_a_receiver_gets_the_delay_it_requests_up_to_an_hour(requested_s, delay_s):
    failure = DeliveryFailed("503", retry_after_s=requested_s)
    assert POLICY.next_delay(delivery(), failure) == timedelta(seconds=delay_s)


def test_a_permanent_failure_is_not_tried_again():
    assert POLICY.next_delay(delivery(), DeliveryFailed("410", permanent=True)) is None


def test_a_delivery_is_given_up_when_the_sum_of_its_delays_exceeds_the_limit():
    nearly = replace(
        delivery(), attempts=1, backoff_total=timedelta(hours=1) - timedelta(seconds=2)
    )
    assert POLICY.next_delay(nearly, FAILURE) == timedelta(seconds=2)
    assert POLICY.next_delay(replace(nearly, attempts=2), FAILURE) is None
