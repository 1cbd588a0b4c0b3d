"""The rate of recent events."""

from collections.abc import Sequence
from typing import Final

_NS: Final = 1_000_000_000


def events_per_second(times_ns: Sequence[int], now_ns: int) -> float:
    """Return the rate of the events at *times_ns*; it falls once the next one is overdue."""
    if len(times_ns) < 2:  # noqa: PLR2004  one event has no rate
        return 0.0
    measured = (len(times_ns) - 1) / max(1, times_ns[-1] - times_ns[0])
    return _NS * min(measured, len(times_ns) / max(1, now_ns - times_ns[0]))
