"""Estimates of the service time: high, robust, and never stuck."""

import random

from streamer.detect.service_time import ServiceTime

MS = 1_000_000


def measured(*milliseconds):
    service = ServiceTime()
    for each in milliseconds:
        service.add(each * MS)
    return service


def test_one_measurement_says_nothing():
    assert not measured(5000).known
    assert measured(5000).high_ns == measured(5000).typical_ns == 0


def test_a_slow_first_inference_does_not_count():
    """It compiles the network."""
    assert measured(5000, 30).high_ns == 30 * MS
    assert measured(5000, 30, 31, 29).high_ns == 31 * MS


def test_the_estimates_are_a_high_and_the_middle_one_of_the_recent_times():
    times = list(range(1, 33))
    random.Random(1).shuffle(times)
    service = measured(*[9999] * 50, *times)
    assert (service.high_ns, service.typical_ns) == (30 * MS, 16 * MS)


def test_refused_frames_lower_an_estimate_until_it_is_measured_again():
    service = measured(*[5000] * 10)
    refusals = 0
    while service.typical_ns > 1900 * MS:
        service.refuse()
        refusals += 1
    assert refusals == 10
    service.add(30 * MS)
    assert service.typical_ns == 5000 * MS
