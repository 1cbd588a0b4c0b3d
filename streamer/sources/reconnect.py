"""A source around a source: tries again, ever more rarely, and says how it stands.

One attempt is the inner source's call. Repeating it is all that happens here, so it works for
every kind of source, and the times of the repetition are tested without any.
"""

import enum
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from streamer.core.clock import CancelToken, Clock
from streamer.core.errors import SourceError, SourceFault, SourceLost, SourceRejected
from streamer.core.frame import Frame

_log = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000


class SourceAttempt(Protocol):
    """One attempt at a stream."""

    def __call__(self, stop: CancelToken, /) -> Iterator[Frame]: ...  # noqa: D102  described by the class


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before each further attempt."""

    initial_s: float = 0.25
    """Before the first repetition."""

    factor: float = 2.0
    """How much longer each further wait is."""

    max_delay_s: float = 2.0
    """Longest wait. With opening and waiting for a key frame, the picture of a camera that was
    gone for days is back within 5 s of its return."""

    rejected_s: float = 30.0
    """Wait after a rejection. Many cameras lock an account after some wrong passwords."""

    jitter: float = 0.25
    """Share of a wait, 0 to 1, that chance takes off: cameras behind one switch that come back
    together are not asked together."""

    reset_after_s: float = 10.0
    """Frames for so long end a series of failures; a stream that breaks at once continues it."""

    def __post_init__(self) -> None:
        if min(self.initial_s, self.max_delay_s, self.rejected_s) <= 0:
            raise ValueError(f"waits must be above 0 s, got {self}")
        if self.factor < 1 or not 0 <= self.jitter <= 1:
            raise ValueError(f"factor must be at least 1 and jitter within 0 to 1, got {self}")

    def wait_s(self, failures: int, *, rejected: bool, chance: float) -> float:
        """The wait after so many failures in a row.

        Args:
            failures: At least 1.
            rejected: Whether the last one was a rejection.
            chance: 0 to 1.
        """
        if rejected:
            longest_s = self.rejected_s
        else:
            # A camera may be gone for years: the power must not overflow.
            longest_s = min(self.initial_s * self.factor ** min(failures - 1, 60), self.max_delay_s)
        return longest_s * (1 - self.jitter * chance)


class ConnectionState(enum.Enum):
    """How a source that is tried again stands."""

    CONNECTING = "connecting"
    LIVE = "live"
    """Frames come."""

    WAITING = "waiting"
    """It failed; the next attempt has a time."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """What people may know of a source."""

    phase: ConnectionState
    since_ns: int
    """By `Clock.monotonic_ns`: since when there are frames, or since when there are none."""

    trouble: SourceFault | None = None
    """Of the last failure; None while all is well."""

    message: str = ""
    """The same in words, without secrets."""

    attempts: int = 0
    """Failed ones in a row."""

    retry_in_s: float | None = None
    """Only while waiting."""


class ReconnectingSource:
    """A live source that does not end.

    The state may be read from any thread; all else belongs to the caller's.

    Args:
        source: One attempt a call. Its end counts as a failure too.
        clock: For the times of the states.
        backoff: How long to wait.
        on_state: Told of every change, on the source's thread; must not block.
        chance: 0 to 1, anew with each call.
    """

    def __init__(
        self,
        source: SourceAttempt,
        *,
        clock: Clock,
        backoff: Backoff | None = None,
        on_state: Callable[[SourceState], None] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._on_state = on_state
        self._chance = chance
        self._failures = 0
        self._reported = 0  # Failures at the last line in the log.
        self._log = _log.bind(source=repr(source))
        self.state = SourceState(ConnectionState.CONNECTING, clock.monotonic_ns())

    def __repr__(self) -> str:
        return f"<Reconnecting {self._source!r}>"

    def __call__(self, cancel: CancelToken) -> Iterator[Frame]:
        """Yield frames until somebody wants to stop.

        Raises:
            Cancelled: Somebody wants to stop while it waits.
        """
        while not cancel.is_set():
            self._connecting()
            try:
                yield from self._attempt(cancel)
                if cancel.is_set():
                    return
                raise SourceLost(f"{self._source!r}: the stream ended", trouble=SourceFault.ENDED)
            except SourceError as error:
                wait_s = self._failed(error)
            cancel.sleep(wait_s)

    def _attempt(self, cancel: CancelToken) -> Iterator[Frame]:
        began_ns: int | None = None
        frames = self._source(cancel)
        try:
            for frame in frames:
                now_ns = self._clock.monotonic_ns()
                if began_ns is None:
                    began_ns = now_ns
                    self._live(now_ns)
                elif self._failures and now_ns - began_ns >= self._backoff.reset_after_s * _NS:
                    self._failures = self._reported = 0
                yield frame
        finally:
            close = getattr(frames, "close", None)  # Only generators have something to close.
            if close is not None:
                close()

    def _connecting(self) -> None:
        gone = self.state
        since_ns = (
            self._clock.monotonic_ns() if gone.phase is ConnectionState.LIVE else gone.since_ns
        )
        self._tell(
            SourceState(
                ConnectionState.CONNECTING,
                since_ns,
                gone.trouble,
                gone.message,
                attempts=self._failures,
            )
        )

    def _live(self, now_ns: int) -> None:
        outage_s = (now_ns - self.state.since_ns) / _NS
        if self._failures:
            self._log.info("picture is back", outage_s=round(outage_s, 1), attempts=self._failures)
        self._tell(SourceState(ConnectionState.LIVE, now_ns))

    def _failed(self, error: SourceError) -> float:
        self._failures += 1
        wait_s = self._backoff.wait_s(
            self._failures, rejected=isinstance(error, SourceRejected), chance=self._chance()
        )
        was = self.state
        since_ns = self._clock.monotonic_ns() if was.phase is ConnectionState.LIVE else was.since_ns
        # Days of failing must not fill a disk: a line when the trouble is new, then ever fewer.
        if error.trouble is not was.trouble or self._failures >= 2 * self._reported:
            self._reported = self._failures
            self._log.warning(
                "no picture", trouble=error.trouble.value, message=str(error),
                attempts=self._failures, retry_in_s=round(wait_s, 2),
            )  # fmt: skip
        self._tell(
            SourceState(
                ConnectionState.WAITING, since_ns, error.trouble, str(error), self._failures, wait_s
            )
        )
        return wait_s

    def _tell(self, state: SourceState) -> None:
        self.state = state
        if self._on_state is not None:
            self._on_state(state)
