"""Prints events without holding up the alarm: standard output may be read slowly, or not at all."""

import queue
from typing import TYPE_CHECKING, Final

from streamer.core.clock import CancelToken

from .replay import show_event

if TYPE_CHECKING:
    from streamer.alarm.event import Event

_CAPACITY: Final = 1000
"""Events that wait for a slow reader; later ones are stored and delivered, but not printed."""


class EventPrinter:
    """Takes events from any thread; `run` prints them."""

    def __init__(self) -> None:
        # Its `put` never waits. `None` ends `run`.
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._is_read = True

    def __call__(self, event: "Event") -> None:
        """Take an event; never wait."""
        if not self._is_read:
            return
        if self._events.qsize() < _CAPACITY:
            self._events.put(event)
        else:
            _warn("an event is not printed", "standard output is not read")

    def run(self, cancel: CancelToken) -> None:
        """Print until *cancel* is set, then what came before. Ends when the reader has gone."""
        cancel.on_cancel(lambda: self._events.put(None))
        while (event := self._events.get()) is not None:
            try:
                show_event(event)
            except OSError as error:  # The reader has gone, or the disk is full.
                self._is_read = False
                _warn("events are not printed any more", (error.strerror or str(error)).lower())
                return


def _warn(text: str, reason: str) -> None:
    import structlog

    structlog.get_logger(__name__).warning(text, reason=reason)
