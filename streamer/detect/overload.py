"""Whether a camera gets the inferences that it is configured for: a state with figures. Pure."""

from collections import deque
from dataclasses import dataclass
from typing import Final

_NS: Final = 1_000_000_000

_WINDOW_NS: Final = 30 * _NS
_WINDOW_FRAMES: Final = 10
"""The share is measured over 30 s, and over at least ten sampled frames. An overload begins after
half of that time at the earliest: the first inferences wait for the network to be compiled."""

_STEPS: Final = 10
"""Parts of the window; it moves by one of them."""

_BEGINS: Final = 0.9
_ENDS: Final = 0.97
"""Shares of the wanted inferences below which an overload begins and from which it ends: apart, so
that a camera near either does not change its state with each frame."""


@dataclass(frozen=True, slots=True)
class OverloadState:
    """Figures of the window, and the overload if there is one."""

    wanted_fps: float = 0.0
    inferred_fps: float = 0.0
    """In time or late."""

    share: float = 1.0
    """Of the wanted inferences, those that were made in time."""

    since_ns: int | None = None
    """When the overload began; `None` without one."""

    worst_share: float = 1.0
    """The smallest `share` since the overload began."""


@dataclass(frozen=True, slots=True)
class _Counts:
    at_ns: int
    wanted: int
    in_time: int
    late: int


class OverloadMonitor:
    """Compares the inferences that were wanted with those that were made. Not thread-safe.

    Args:
        interval_ns: Time between two sampled frames of the camera.
    """

    def __init__(self, interval_ns: int) -> None:
        self._window_ns = max(_WINDOW_NS, _WINDOW_FRAMES * interval_ns)
        self._marks: deque[_Counts] = deque()
        self._state = OverloadState()

    def update(self, now_ns: int, *, wanted: int, in_time: int, late: int) -> OverloadState:
        """Return the state at *now_ns*.

        Args:
            now_ns: Monotonic time; never decreases.
            wanted: Sampled frames whose fate is known, since the program started.
            in_time: Of these, the ones that were inferred within the latency budget.
            late: Those that were inferred, but too late.
        """
        now = _Counts(now_ns, wanted, in_time, late)
        if not self._marks or now_ns - self._marks[-1].at_ns >= self._window_ns // _STEPS:
            self._marks.append(now)
        while len(self._marks) > 1 and now_ns - self._marks[1].at_ns >= self._window_ns:
            self._marks.popleft()
        first = self._marks[0]
        wanted -= first.wanted
        in_time -= first.in_time
        late -= first.late
        span_s = max(1, now_ns - first.at_ns) / _NS
        share = min(1.0, in_time / wanted) if wanted > 0 else 1.0
        long = now_ns - first.at_ns >= self._window_ns // 2
        since_ns = self._since(now_ns, share, enough=long and wanted >= _WINDOW_FRAMES // 2)
        worst = 1.0
        if since_ns is not None:
            worst = min(share, 1.0 if self._state.since_ns is None else self._state.worst_share)
        self._state = OverloadState(
            wanted_fps=wanted / span_s,
            inferred_fps=(in_time + late) / span_s,
            share=share,
            since_ns=since_ns,
            worst_share=worst,
        )
        return self._state

    def _since(self, now_ns: int, share: float, *, enough: bool) -> int | None:
        before = self._state.since_ns
        if before is not None:
            # Without frames nothing is wanted and nothing missing: the camera has another problem.
            return before if share < _ENDS else None
        return now_ns if enough and share < _BEGINS else None
