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

from streamer.core.backoff import Backoff, FailureCounter
from streamer.core.clock import CancelToken, Clock
from streamer.core.errors import SourceError, SourceFault, SourceLost, SourceRejected
from streamer.core.frame import Frame

_log = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000

RECONNECT: Final = Backoff(initial_s=0.25, max_delay_s=2.0, jitter=0.25, reset_after_s=10.0)
"""With opening and waiting for a key frame, the frames of a camera that was gone for days are back
within 5 s of its return. Jitter: cameras behind one switch that come back together are not opened
together. Frames for 10 s end a series of failures; a stream that breaks at once continues it."""

REJECTED: Final = Backoff.constant(30.0, jitter=RECONNECT.jitter)
"""After a rejection. Many cameras lock an account after some wrong passwords."""


class SourceAttempt(Protocol):
    """One attempt at a stream."""

    def __call__(self, stop: CancelToken, /) -> Iterator[Frame]: ...  # noqa: D102  described by the class


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

    connection: ConnectionState
    since_ns: int
    """By `Clock.monotonic_ns`: since when there are frames, or since when there are none."""

    fault: SourceFault | None = None
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
        backoff: Delays after a failure.
        rejected: Delays after a rejection.
        on_state: Told of every change, on the source's thread; must not block.
        rng: Returns a random number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        source: SourceAttempt,
        *,
        clock: Clock,
        backoff: Backoff = RECONNECT,
        rejected: Backoff = REJECTED,
        on_state: Callable[[SourceState], None] | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._clock = clock
        self._rejected = rejected
        self._on_state = on_state
        self._rng = rng
        self._failures = FailureCounter(backoff, rng=rng)
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
                raise SourceLost(f"{self._source!r}: the stream ended", fault=SourceFault.ENDED)
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
                elif self._failures.count:
                    self._failures.note_success((now_ns - began_ns) / _NS)
                    if not self._failures.count:
                        self._reported = 0
                yield frame
        finally:
            close = getattr(frames, "close", None)  # Only generators have something to close.
            if close is not None:
                close()

    def _connecting(self) -> None:
        gone = self.state
        since_ns = (
            self._clock.monotonic_ns() if gone.connection is ConnectionState.LIVE else gone.since_ns
        )
        self._tell(
            SourceState(
                ConnectionState.CONNECTING,
                since_ns,
                gone.fault,
                gone.message,
                attempts=self._failures.count,
            )
        )

    def _live(self, now_ns: int) -> None:
        outage_s = (now_ns - self.state.since_ns) / _NS
        attempts = self._failures.count
        if attempts:
            self._log.info("picture is back", outage_s=round(outage_s, 1), attempts=attempts)
        self._tell(SourceState(ConnectionState.LIVE, now_ns))

    def _failed(self, error: SourceError) -> float:
        wait_s = self._failures.delay_s()
        if isinstance(error, SourceRejected):
            wait_s = self._rejected.delay_s(1, rng=self._rng)
        attempts = self._failures.count
        was = self.state
        since_ns = (
            self._clock.monotonic_ns() if was.connection is ConnectionState.LIVE else was.since_ns
        )
        # Days of failing must not fill a disk: a line when the fault is new, then ever fewer.
        if error.fault is not was.fault or attempts >= 2 * self._reported:
            self._reported = attempts
            self._log.warning(
                "no picture", fault=error.fault.value, message=str(error),
                attempts=attempts, retry_in_s=round(wait_s, 2),
            )  # fmt: skip
        self._tell(
            SourceState(
                ConnectionState.WAITING, since_ns, error.fault, str(error), attempts, wait_s
            )
        )
        return wait_s

    def _tell(self, state: SourceState) -> None:
        self.state = state
        if self._on_state is not None:
            self._on_state(state)
