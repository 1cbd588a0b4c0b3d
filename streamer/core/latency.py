"""Latency quantiles in constant memory, for statistics that run for months."""

import math
from dataclasses import dataclass

_RATIO = 1.05
"""Ratio of two bucket limits: a quantile is at most 5 % too high. Arbitrary; finer costs memory."""

_FIRST_NS = 10_000  # 10 microseconds; lower values count as this.
_BUCKETS = 400  # Reaches 10 us * 1.05**400, about 50 minutes.
_SCALE = 1 / math.log(_RATIO)


@dataclass(frozen=True, slots=True)
class LatencyQuantiles:
    """Ages in milliseconds, each rounded up by at most 5 %."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class LatencyHistogram:
    """Counts ages in buckets of constant ratio. Not thread-safe: the owner guards it."""

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self._count = 0
        self._max_ns = 0

    def add(self, age_ns: int) -> None:
        """Count one age; ages below 10 microseconds count as 10."""
        index = 0 if age_ns <= _FIRST_NS else math.ceil(math.log(age_ns / _FIRST_NS) * _SCALE)
        self._buckets[min(index, _BUCKETS - 1)] += 1
        self._count += 1
        self._max_ns = max(self._max_ns, age_ns)

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
