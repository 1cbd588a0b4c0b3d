"""Whether a receiver can be reached: pure, from the outcomes of checks and deliveries.

One lost probe means nothing: a channel is down after several failures in a row that span some
time, and up again after a delivery or after two checks in a row. So a channel that flaps neither
fills the log nor sends a message for each flap.
"""

from dataclasses import dataclass
from typing import Final

_NS: Final = 1_000_000_000

_DOWN_FAILURES: Final = 3
_DOWN_AFTER_S: Final = 20.0
"""A channel is down after so many failures in a row that span so much time: a broker that restarts
is back within it. Arbitrary."""

_UP_CHECKS: Final = 2
"""Checks in a row after which a channel is up again without a delivery."""

_DOUBTFUL_S: Final = 10.0
"""Interval of the checks while failures are counted, and while a channel comes back."""

_DOWN_S: Final = 30.0
"""Longest interval of the checks while the channel is down."""


@dataclass(frozen=True, slots=True)
class Change:
    """A channel went down or came up."""

    down: bool

    since_ns: int
    """First failure of the outage."""

    reason: str
    """Why it is, or was, down."""


class Reachability:
    """State of one receiver. For one thread; times are `Clock.monotonic_ns`.

    Args:
        interval_s: Time between two checks of a channel that is up; `None` never checks.
    """

    def __init__(self, interval_s: float | None) -> None:
        self._interval_s = interval_s
        self.down = False
        self.reason = ""
        """Why it is down, or why the last check or delivery failed."""

        self.since_ns: int | None = None
        """First failure of the present series; `None` without one."""

        self._failures = 0
        self._successes = 0  # Checks in a row since the last failure.
        self._delivery_failing = False
        self._next_check_ns: int | None = None  # The first check is due at once.

    def check_due(self, now_ns: int) -> bool:
        """Return whether a check is to be made now."""
        return self.until_check_s(now_ns) <= 0

    def until_check_s(self, now_ns: int) -> float:
        """Return the seconds until the next check; infinity where none is made."""
        if self._interval_s is None:
            return float("inf")
        return 0.0 if self._next_check_ns is None else (self._next_check_ns - now_ns) / _NS

    def delivered(self, now_ns: int) -> Change | None:
        """Note a confirmed delivery: the channel is up."""
        self._delivery_failing = False
        return self._up(now_ns)

    def nothing_waits(self) -> None:
        """Note that no delivery waits: from here on a check can show that the channel is up."""
        self._delivery_failing = False

    def checked(self, now_ns: int) -> Change | None:
        """Note a check that reached the receiver, or the attempt of one that cannot be checked."""
        if self._delivery_failing:  # It is reached, and does not take what it is sent.
            self._schedule(now_ns)
            return None
        self._successes += 1
        if self.down and self._successes < _UP_CHECKS:
            self._schedule(now_ns, at_most_s=_DOUBTFUL_S)
            return None
        return self._up(now_ns)

    def failed(self, now_ns: int, reason: str, *, delivery: bool) -> Change | None:
        """Note a failed check or delivery."""
        self._delivery_failing = self._delivery_failing or delivery
        self._successes = 0
        self._failures += 1
        self.reason = reason
        if self.since_ns is None:
            self.since_ns = now_ns
        span_s = (now_ns - self.since_ns) / _NS
        change = None
        if not self.down and self._failures >= _DOWN_FAILURES and span_s >= _DOWN_AFTER_S:
            self.down = True
            change = Change(down=True, since_ns=self.since_ns, reason=reason)
        self._schedule(now_ns, at_most_s=_DOWN_S if self.down else _DOUBTFUL_S)
        return change

    def _up(self, now_ns: int) -> Change | None:
        change = None
        if self.down and self.since_ns is not None:
            change = Change(down=False, since_ns=self.since_ns, reason=self.reason)
        self.down, self.since_ns, self.reason = False, None, ""
        self._failures = 0
        self._schedule(now_ns)
        return change

    def _schedule(self, now_ns: int, *, at_most_s: float = float("inf")) -> None:
        if self._interval_s is not None:
            self._next_check_ns = now_ns + round(min(self._interval_s, at_most_s) * _NS)
