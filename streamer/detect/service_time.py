"""How long the next inference will take, by the recent ones. Pure."""

from collections import deque
from typing import Final

_RECENT: Final = 32
"""Inferences that count: half a minute at one a second, to follow changes of the load."""

_HIGH: Final = 0.95
"""Rounded down to a measured value, so that of up to twenty inferences the slowest never counts:
the first one of a program may compile the network."""

_TRUSTED: Final = 2
"""Fewer measurements than this say nothing."""

_DOUBT: Final = 0.9
"""Factor of the estimates for each fresh frame that was refused because of them."""


class ServiceTime:
    """Estimates the service time of one camera. Not thread-safe.

    Estimates that are too high would last for ever if they prevented every further measurement. So
    each refusal lowers them, until a frame is admitted and measured.
    """

    def __init__(self) -> None:
        self._recent_ns: deque[int] = deque(maxlen=_RECENT)
        self._high_ns = self._typical_ns = 0
        self._doubt = 1.0

    @property
    def known(self) -> bool:
        """Whether there are enough measurements. The estimates are 0 until then."""
        return len(self._recent_ns) >= _TRUSTED

    @property
    def high_ns(self) -> int:
        """What 95 % of the recent inferences took at most."""
        return round(self._doubt * self._high_ns)

    @property
    def typical_ns(self) -> int:
        """What half of the recent inferences took at most."""
        return round(self._doubt * self._typical_ns)

    def add(self, took_ns: int) -> None:
        """Note how long an inference took, from its start to its result."""
        self._recent_ns.append(took_ns)
        self._doubt = 1.0
        if self.known:
            ordered = sorted(self._recent_ns)
            last = len(ordered) - 1
            self._high_ns, self._typical_ns = ordered[int(_HIGH * last)], ordered[last // 2]

    def refuse(self) -> None:
        """Note that a fresh frame was not inferred because of the estimates."""
        self._doubt *= _DOUBT
