"""The rate of recent events."""

from collections.abc import Sequence
from typing import Final

_NS: Final = 1_000_000_000
_WINDOW_NS: Final = 30 * _NS
_FEWEST: Final = 3


def events_per_second(times_ns: Sequence[int], now_ns: int) -> float:
    """Return the rate of the newest of the events at *times_ns*; it falls once one is overdue.

    Events of before an outage do not count: newest are those of the last 30 s, or the last three.
    """
    newest = [each for each in times_ns if now_ns - each <= _WINDOW_NS]
    if len(newest) < _FEWEST:
        newest = list(times_ns)[-_FEWEST:]
    if len(newest) < 2:  # noqa: PLR2004  one event has no rate
        return 0.0
    measured = (len(newest) - 1) / max(1, newest[-1] - newest[0])
    return _NS * min(measured, len(newest) / max(1, now_ns - newest[0]))
