"""Time that only tests move: a clock, and a stop whose pauses pass in no time."""

from datetime import UTC, datetime, timedelta

from streamer.core.clock import CancelToken
from streamer.core.errors import Cancelled

START = datetime(2026, 1, 1, tzinfo=UTC)


class StepClock:
    """A clock that stands still until a test advances it."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_at(self, monotonic_ns: int) -> datetime:
        return START + timedelta(microseconds=monotonic_ns // 1000)

    def arrival_of(self, pts_ns: int) -> int:
        return self.now_ns

    def advance_to(self, pts_ns: int) -> None:
        pass

    def step(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


class StepStop(CancelToken):
    """Pauses move *clock*, are written down, and end in `Cancelled` after *limit* of them."""

    def __init__(self, clock: StepClock, *, limit: int = 1_000_000) -> None:
        super().__init__()
        self._clock = clock
        self._limit = limit
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        if self.is_set() or len(self.pauses) >= self._limit:
            raise Cancelled
        self.pauses.append(seconds)
        self._clock.step(seconds)
