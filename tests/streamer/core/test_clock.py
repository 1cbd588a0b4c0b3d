"""Clocks are never mixed, and a cancellation reaches every callback once."""

import weakref
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.clock import CancelToken, MediaClock, SystemClock
from streamer.core.errors import Cancelled
from streamer.core.latency import BOUNDS_S, LatencyHistogram

TIME_BASES = [Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 12800), Fraction(1, 1000),
              Fraction(1, 1_000_000), Fraction(1, 48000), Fraction(1001, 60000)]  # fmt: skip


@given(ticks=st.integers(0, 10**12), time_base=st.sampled_from(TIME_BASES))
def test_nanoseconds_and_time_base_convert_to_and_fro_without_loss(ticks, time_base):
    ns = round(ticks * time_base * 10**9)
    assert round(Fraction(ns, 10**9) / time_base) == ticks


def test_media_clock_only_moves_forward_and_derives_wall_time_from_the_start():
    start = datetime(2026, 6, 1, 12, tzinfo=UTC)
    clock = MediaClock(start)
    clock.advance_to(5_000_000_000)
    clock.advance_to(4_000_000_000)
    assert clock.monotonic_ns() == 5_000_000_000
    assert clock.utc_at(2_500_000_000) == start + timedelta(seconds=2.5)


def test_on_the_media_clock_everything_arrives_at_its_media_time():
    clock = MediaClock(datetime(2026, 6, 1, tzinfo=UTC))
    assert clock.arrival_of(7) == 7
    assert clock.monotonic_ns() == 0  # Packets arrive ahead of the frames that advance the clock.


def test_on_the_system_clock_everything_arrives_when_it_is_read():
    clock = SystemClock()
    before_ns = clock.monotonic_ns()
    clock.advance_to(1 << 62)
    assert before_ns <= clock.arrival_of(0) <= clock.arrival_of(1 << 62) <= clock.monotonic_ns()


def test_system_clock_gives_an_instant_its_wall_time():
    clock = SystemClock()
    before = datetime.now(UTC)
    wall = clock.utc_at(clock.monotonic_ns())
    assert before - timedelta(seconds=1) <= wall <= datetime.now(UTC) + timedelta(seconds=1)


def test_cancellation_calls_back_once_even_when_it_was_set_before():
    cancel, called = CancelToken(), []
    cancel.on_cancel(lambda: called.append("early"))
    cancel.set()
    cancel.set()
    cancel.on_cancel(lambda: called.append("late"))
    assert called == ["early", "late"]
    with pytest.raises(Cancelled):
        cancel.sleep(3600)


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=200))
def test_quantiles_are_never_too_low_and_at_most_a_twentieth_too_high(ages):
    histogram = LatencyHistogram()
    for age in ages:
        histogram.add(age)
    seen = histogram.quantiles()
    ordered = sorted(ages)
    for share, value in ((0.5, seen.p50_ms), (0.95, seen.p95_ms), (0.99, seen.p99_ms)):
        exact = max(ordered[-(-int(share * 100) * len(ordered) // 100) - 1], 10_000) / 1e6
        assert exact * 0.999999 <= value <= exact * 1.050001
    assert seen.max_ms == ordered[-1] / 1e6
    assert seen.count == len(ages)


@given(st.lists(st.integers(0, 10**11), max_size=50), st.lists(st.integers(0, 10**11), max_size=50))
def test_counts_have_exact_bounds_and_can_be_added(some, others):
    def counted(ages):
        histogram = LatencyHistogram()
        for age in ages:
            histogram.add(age)
        return histogram.counts()

    total = counted(some) + counted(others)
    assert total.count == len(some) + len(others)
    assert total.sum_s == pytest.approx(sum(some + others) / 1e9)
    for number, bound in enumerate(BOUNDS_S):
        below = sum(age / 1e9 <= bound for age in some + others)
        assert sum(total.counts[: number + 1]) == below


def test_a_callback_that_was_forgotten_is_neither_called_nor_kept():
    cancel, called = CancelToken(), []

    class Attempt:
        def end(self):
            called.append("attempt")

    attempt = Attempt()
    gone = weakref.ref(attempt)
    forget = cancel.on_cancel(attempt.end)
    forget_other = cancel.on_cancel(lambda: called.append("other"))
    forget()
    forget()
    del attempt, forget
    assert gone() is None
    cancel.set()
    forget_other()
    assert called == ["other"]
