"""Exponential backoff: the delays between the attempts of anything that fails and is tried again.

One implementation for sources, notifications, publishing, recording and the supervisor. It
computes delays and never sleeps: the caller waits, so that its own cancellation cuts the wait
short.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

_LARGEST_EXPONENT: Final = 60
"""A part may fail for years: the power must not overflow. Every cap is reached long before."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that grow by a factor with each failure in a row, up to a cap."""

    initial_s: float
    """Delay after the first failure."""

    max_delay_s: float
    """Longest delay."""

    factor: float = 2.0
    """Ratio of each delay to the one before."""

    jitter: float = 0.0
    """Share of a delay, 0 to 1, that is random. It only shortens: parts that failed together do
    not come back together, and none waits longer than `max_delay_s`."""

    reset_after_s: float = 0.0
    """Time without a failure after which the next failure counts as the first one."""

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 < self.initial_s <= self.max_delay_s:
            raise ValueError(
                "initial_s must be above 0 and at most max_delay_s,"
                f" got {self.initial_s}, {self.max_delay_s}"
            )
        if self.factor < 1 or not 0 <= self.jitter <= 1 or self.reset_after_s < 0:
            raise ValueError(
                "factor must be at least 1, jitter within 0 to 1 and reset_after_s not negative,"
                f" got {self.factor}, {self.jitter}, {self.reset_after_s}"
            )

    @classmethod
    def constant(cls, delay_s: float, *, jitter: float = 0.0) -> Self:
        """Return a backoff whose delays do not grow."""
        return cls(initial_s=delay_s, max_delay_s=delay_s, jitter=jitter)

    def delay_s(self, failures: int, *, rng: Callable[[], float] = random.random) -> float:
        """Return the delay before the next attempt.

        Args:
            failures: Failures in a row, at least 1.
            rng: Returns a random number from 0 to 1.
        """
        grown_s = self.initial_s * self.factor ** min(failures - 1, _LARGEST_EXPONENT)
        return min(grown_s, self.max_delay_s) * (1 - self.jitter * rng())


class FailureCounter:
    """Failures in a row of one part, and the delay after each. For one thread.

    Args:
        backoff: How the delays grow.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self.count = 0

    def note_success(self, running_s: float) -> None:
        """Forget the failures if the part has been running well for `Backoff.reset_after_s`."""
        if running_s >= self._backoff.reset_after_s:
            self.count = 0

    def delay_s(self) -> float:
        """Count one failure and return the delay before the next attempt."""
        self.count += 1
        return self._backoff.delay_s(self.count)
