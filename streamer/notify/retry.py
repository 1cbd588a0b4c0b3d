"""When to try again: exponential pauses with jitter and a cap, for days."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

_LONGEST_ASKED_S: Final = 3600.0
"""A receiver may ask for a pause (Retry-After), but not silence alarms for longer than this."""

_LARGEST_EXPONENT: Final = 30
"""Keeps the power small; every cap is reached long before."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How undelivered events are tried again."""

    initial_s: float = 2.0
    """Pause after the first failure."""

    max_delay_s: float = 300.0
    """Longest pause; each is about twice as long as the one before."""

    give_up_after: timedelta = timedelta(days=7)
    """Sum of the pauses after which a delivery is set aside for a person.

    The sum, not the age: a machine that was switched off, or whose clock was wrong, has tried
    nothing in that time.
    """

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 < self.initial_s <= self.max_delay_s:
            raise ValueError(
                "initial_s must be above 0 and at most max_delay_s,"
                f" got {self.initial_s}, {self.max_delay_s}"
            )

    def pause(
        self,
        attempts: int,
        *,
        asked_s: float | None = None,
        chance: Callable[[], float] = random.random,
    ) -> timedelta:
        """The pause after a failed attempt.

        Args:
            attempts: How many there were, at least 1.
            asked_s: The least that the receiver asked for.
            chance: Gives 0 to 1. Half of the pause is left to it, so that many deliveries that
                failed together do not come back together.
        """
        doubled_s = self.initial_s * 2 ** min(attempts - 1, _LARGEST_EXPONENT)
        pause_s = min(self.max_delay_s, doubled_s) * (0.5 + chance() / 2)
        if asked_s is not None:
            pause_s = max(pause_s, min(asked_s, _LONGEST_ASKED_S))
        return timedelta(seconds=pause_s)
