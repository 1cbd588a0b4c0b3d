"""Limits how often one part writes a repeated line to the log. Pure: the caller gives the time."""

from typing import Final

_BURST: Final = 6
_REFILL_NS: Final = 600_000_000_000
"""An operator reads the first lines; after that, six an hour still show that it goes on."""


class LogLimit:
    """Admits *burst* lines at once, then one each *refill_ns*; counts the others. For one thread.

    Args:
        burst: Lines that are admitted without a pause; at least 1.
        refill_ns: Time after which one more line is admitted.
    """

    def __init__(self, *, burst: int = _BURST, refill_ns: int = _REFILL_NS) -> None:
        self._burst = burst
        self._refill_ns = refill_ns
        self._left = burst
        self._refilled_ns: int | None = None
        self._withheld = 0

    def admit(self, now_ns: int) -> int | None:
        """Return how many lines were withheld since the last one; `None` withholds this one too.

        Args:
            now_ns: Monotonic time.
        """
        if self._refilled_ns is None:
            self._refilled_ns = now_ns
        refills = (now_ns - self._refilled_ns) // self._refill_ns
        if refills > 0:
            self._left = min(self._burst, self._left + refills)
            self._refilled_ns += refills * self._refill_ns
        if not self._left:
            self._withheld += 1
            return None
        if self._left == self._burst:  # Time without lines before this one does not count.
            self._refilled_ns = now_ns
        self._left -= 1
        withheld, self._withheld = self._withheld, 0
        return withheld
