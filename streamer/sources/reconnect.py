"""`ReconnectingSource`: a source around a source that repeats failed attempts with backoff.

One call of the inner source is one attempt. Nothing else happens here, so this works for every kind
of source, and its delays are tested without waiting.
"""

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog

from streamer.core.backoff import Backoff, FailureCounter
from streamer.core.clock import CancelToken, Clock
from streamer.core.errors import SourceError, SourceFault, SourceLost, SourceRejected
from streamer.core.frame import Frame
from streamer.core.pipeline import Source

_log = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000

RECONNECT: Final = Backoff(initial_s=0.25, max_delay_s=2.0, jitter=0.25, reset_after_s=10.0)
"""With opening and waiting for a key frame, the frames of a camera that was gone for days are back
within 5 s of its return. Jitter: cameras behind one switch that come back together are not opened
together. Frames for 10 s end a series of failures; a stream that breaks at once continues it."""

REJECTED: Final = Backoff.constant(30.0, jitter=RECONNECT.jitter)
"""After a rejection. Many cameras lock an account after a few wrong passwords."""


class ConnectionState(enum.Enum):
    """State of a connection that is repeated after failures."""

    CONNECTING = "connecting"
    LIVE = "live"
    """Frames arrive."""

    WAITING = "waiting"
    """The last attempt failed; the next one is scheduled."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """State of a source, as the status shows it."""

    connection: ConnectionState
    since_ns: int
    """Since when frames arrive, or since when none arrive, by `Clock.monotonic_ns`."""

    fault: SourceFault | None = None
    """Fault of the last failure; `None` while frames arrive."""

    message: str = ""
    """Message of the last failure, without secrets."""

    attempts: int = 0
    """Failed attempts in a row."""

    retry_in_s: float | None = None
    """Delay before the next attempt; `None` unless waiting."""


class ReconnectingSource:
    """A live source that does not end.

    Any thread may read `state`; everything else is used by the calling thread only.

    Args:
        source: Each call is one attempt. The end of its frames counts as a failure too.
        clock: For the times of the states.
        backoff: Delays after a failure.
        rejected: Delays after a rejection.
        on_state: Called with each new state on the source's thread; must not block.
    """

    def __init__(
        self,
        source: Source,
        *,
        clock: Clock,
        backoff: Backoff = RECONNECT,
        rejected: Backoff = REJECTED,
        on_state: Callable[[SourceState], None] | None = None,
    ) -> None:
        self._source = source
        self._clock = clock
        self._rejected = rejected
        self._on_state = on_state
        self._failures = FailureCounter(backoff)
        self._logged_failures = 0  # Failures in a row at the last line in the log.
        self._log = _log.bind(source=repr(source))
        self.state = SourceState(ConnectionState.CONNECTING, clock.monotonic_ns())

    def __repr__(self) -> str:
        return f"<ReconnectingSource {self._source!r}>"

    def __call__(self, cancel: CancelToken) -> Iterator[Frame]:
        """Yield frames until *cancel* is set.

        Raises:
            Cancelled: *cancel* was set during a delay.
        """
        while not cancel.is_set():
            self._connecting()
            try:
                yield from self._attempt(cancel)
                if cancel.is_set():
                    return
                raise SourceLost(f"{self._source!r}: the stream ended", fault=SourceFault.ENDED)
            except SourceError as error:
                delay_s = self._failed(error)
            cancel.sleep(delay_s)

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
                        self._logged_failures = 0
                yield frame
        finally:
            close = getattr(frames, "close", None)  # Iterators other than generators have none.
            if close is not None:
                close()

    def _connecting(self) -> None:
        previous = self.state
        self._set(
            SourceState(
                ConnectionState.CONNECTING,
                self._without_frames_since_ns(),
                previous.fault,
                previous.message,
                attempts=self._failures.count,
            )
        )

    def _live(self, now_ns: int) -> None:
        outage_s = (now_ns - self.state.since_ns) / _NS
        attempts = self._failures.count
        if attempts:
            self._log.info("frames are back", outage_s=round(outage_s, 1), attempts=attempts)
        self._set(SourceState(ConnectionState.LIVE, now_ns))

    def _failed(self, error: SourceError) -> float:
        """Note a failed attempt and return the delay before the next one."""
        delay_s = self._failures.delay_s()
        if isinstance(error, SourceRejected):
            delay_s = self._rejected.delay_s(1)
        attempts = self._failures.count
        # A camera may be gone for days without filling the disk: one line for each new fault, then
        # one whenever the number of attempts has doubled.
        if error.fault is not self.state.fault or attempts >= 2 * self._logged_failures:
            self._logged_failures = attempts
            self._log.warning(
                "no frames", fault=error.fault.value, message=str(error),
                attempts=attempts, retry_in_s=round(delay_s, 2),
            )  # fmt: skip
        self._set(
            SourceState(
                ConnectionState.WAITING,
                self._without_frames_since_ns(),
                error.fault,
                str(error),
                attempts,
                delay_s,
            )
        )
        return delay_s

    def _without_frames_since_ns(self) -> int:
        if self.state.connection is ConnectionState.LIVE:
            return self._clock.monotonic_ns()
        return self.state.since_ns

    def _set(self, state: SourceState) -> None:
        self.state = state
        if self._on_state is not None:
            self._on_state(state)
