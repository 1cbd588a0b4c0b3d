"""Latency quantiles in constant memory, for statistics that run for months."""

import bisect
import math
from dataclasses import dataclass
from typing import Final

_RATIO = 1.05
"""Ratio of two bucket limits: a quantile is at most 5 % too high. Arbitrary; finer costs memory."""

_FIRST_NS = 10_000  # 10 microseconds; lower values count as this.
_BUCKETS = 400  # Reaches 10 us * 1.05**400, about 50 minutes.
_SCALE = 1 / math.log(_RATIO)

BOUNDS_S: Final = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0,
)  # fmt: skip
"""Upper bounds of the buckets of `LatencyCounts`, inclusive, as Prometheus reads them."""


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """Latencies counted by bucket; counts of several runs or cameras can be added."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    """How many fell between the previous bound of `BOUNDS_S` and this one; the last one counts
    what is above all bounds."""

    sum_s: float = 0.0

    @property
    def count(self) -> int:
        """How many were counted."""
        return sum(self.counts)

    def __add__(self, other: "LatencyCounts") -> "LatencyCounts":
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return LatencyCounts(counts, self.sum_s + other.sum_s)


NO_LATENCIES: Final = LatencyCounts()


@dataclass(frozen=True, slots=True)
class LatencyQuantiles:
    """Ages in milliseconds, each rounded up by at most 5 %."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


NO_QUANTILES: Final = LatencyQuantiles(0, 0.0, 0.0, 0.0, 0.0)


class LatencyHistogram:
    """Counts ages in buckets of constant ratio. Not thread-safe: the owner guards it."""

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self._count = 0
        self._max_ns = 0
        self._bounded = [0] * (len(BOUNDS_S) + 1)
        self._sum_ns = 0

    def add(self, age_ns: int) -> None:
        """Count one age; ages below 10 microseconds count as 10."""
        index = 0 if age_ns <= _FIRST_NS else math.ceil(math.log(age_ns / _FIRST_NS) * _SCALE)
        self._buckets[min(index, _BUCKETS - 1)] += 1
        self._count += 1
        self._max_ns = max(self._max_ns, age_ns)
        self._bounded[bisect.bisect_left(BOUNDS_S, age_ns / 1e9)] += 1
        self._sum_ns += age_ns

    def counts(self) -> LatencyCounts:
        """Return how many were counted so far, by the buckets of `BOUNDS_S`."""
        return LatencyCounts(tuple(self._bounded), self._sum_ns / 1e9)

    def quantiles(self) -> LatencyQuantiles:
        """Return the quantiles of all ages so far; all zero before the first."""
        return LatencyQuantiles(
            count=self._count,
            p50_ms=self._quantile_ms(0.50),
            p95_ms=self._quantile_ms(0.95),
            p99_ms=self._quantile_ms(0.99),
            max_ms=self._max_ns / 1e6,
        )

    def _quantile_ms(self, quantile: float) -> float:
        if not self._count:
            return 0.0
        rank = math.ceil(quantile * self._count)
        cumulative = 0
        for index, count in enumerate(self._buckets):
            cumulative += count
            if cumulative >= rank:
                return min(_FIRST_NS * _RATIO**index, float(max(self._max_ns, _FIRST_NS))) / 1e6
        raise AssertionError("the buckets add up to the count")
