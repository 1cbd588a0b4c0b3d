"""Collapses lines that repeat: a camera that flaps for days must not fill the disk with its log.

Lines are the same if they name the same camera, channel, file and so on, and if their texts differ
in numbers only. Of the same line, the first few of a window are
written; the others are counted, and the window ends with one line that says how many they were.
While it goes on, that line is the only one of each further window. Lines about an alarm are never
collapsed: they carry `alarm_id` or `event_id`, or have the level "critical".
"""

import logging
import re
import threading
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from structlog.contextvars import get_contextvars

Key = tuple[str, ...]

_WINDOW_S: Final = 600.0
_FIRST: Final = 5
"""Lines of a first window that are written. With the window an arbitrary choice: about six lines an
hour of each kind remain."""

_MAX_KINDS: Final = 1000
"""Kinds of lines that are remembered; the oldest is forgotten first."""

_NUMBER: Final = re.compile(r"0x[0-9a-f]+|\d+(\.\d+)?")
_TEXTS: Final = frozenset({"event", "error", "message", "reason", "report", "plan"})
"""Fields that may tell the same with other numbers. The others are names: "cam1" is not "cam2"."""

_ALARM: Final = frozenset({"alarm_id", "event_id"})
REPEATED: Final = "repeated"
"""Attribute of the record that ends a window: how many lines it stands for."""


@dataclass(slots=True)
class _Window:
    ends_s: float
    allowed: int
    """Lines that are still written."""

    held: int = 0
    last: logging.LogRecord | None = None
    """The newest line that was not written."""


class RepeatedLines:
    """Decides which records are written. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: OrderedDict[Key, _Window] = OrderedDict()  # By end. Guarded by _lock.

    def admit(self, record: logging.LogRecord, now_s: float) -> list[logging.LogRecord]:
        """Return the records to write now: summaries of windows that have ended, then *record*.

        Args:
            record: The new record.
            now_s: Monotonic time.
        """
        with self._lock:
            written = list(self._ended(now_s))
            key = _key(record)
            if key is None:
                return [*written, record]
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _Window(now_s + _WINDOW_S, _FIRST)
                if len(self._windows) > _MAX_KINDS:
                    _, oldest = self._windows.popitem(last=False)
                    written.extend(_summary(oldest))
            if window.allowed > 0:
                window.allowed -= 1
                return [*written, record]
            window.held += 1
            window.last = record
            _forget_locals(record)
            return written

    def flush(self) -> list[logging.LogRecord]:
        """Return the summaries of all windows, at the end of the program."""
        with self._lock:
            windows, self._windows = self._windows, OrderedDict()
        return [record for window in windows.values() for record in _summary(window)]

    def _ended(self, now_s: float) -> Iterator[logging.LogRecord]:
        while self._windows and (key := next(iter(self._windows))):
            if self._windows[key].ends_s > now_s:
                return
            window = self._windows.pop(key)
            if window.held:  # It goes on: its further windows have a summary only.
                self._windows[key] = _Window(now_s + _WINDOW_S, 0)
                yield from _summary(window)


def _forget_locals(record: logging.LogRecord) -> None:
    """Keep of the tracebacks only what is written: a line may wait for days with their images."""
    event = record.msg if isinstance(record.msg, Mapping) else {}
    todo = [*event.values(), *(record.exc_info or ())]
    seen: set[int] = set()
    while todo:
        error = todo.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            traceback.clear_frames(error.__traceback__)
            todo += [error.__cause__, error.__context__]
            todo += error.exceptions if isinstance(error, BaseExceptionGroup) else ()


def _summary(window: _Window) -> Iterator[logging.LogRecord]:
    if window.last is not None:
        window.last.repeated = window.held
        yield window.last


def _key(record: logging.LogRecord) -> Key | None:
    """Return what identifies the same lines; `None` for lines that are always written."""
    if record.levelno >= logging.CRITICAL:
        return None
    if isinstance(record.msg, Mapping):
        event: Mapping[str, Any] = record.msg
    else:  # A library's own record, in the context of the thread: its camera.
        event = {**get_contextvars(), "event": record.getMessage()}
    if event.keys() & _ALARM:
        return None
    names = (_part(name, value) for name, value in sorted(event.items()))
    return (record.name, record.levelname, *filter(None, names))


def _part(name: str, value: object) -> str:
    """Return what a field adds to the key; empty for figures, times and tracebacks."""
    if isinstance(value, BaseException):
        name, value = "error", repr(value)
    if not isinstance(value, str) or name == "timestamp":
        return ""
    return f"{name}={_NUMBER.sub('#', value) if name in _TEXTS else value}"
