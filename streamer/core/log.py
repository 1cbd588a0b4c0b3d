"""The log of the program: a line of text or of JSON for each entry, on standard error.

Parts log with `structlog.get_logger(__name__)`. Entries of libraries that use the
standard `logging` module come out in the same form. Entries that repeat are collapsed, see
`log_repeats.py`, and tracebacks show bugs only, unless everything is logged (level "debug").
"""

import logging
import os
import select
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

import structlog
from structlog.contextvars import get_contextvars, merge_contextvars
from structlog.typing import EventDict, Processor

from .errors import is_expected
from .local_time import for_machines, for_people
from .log_repeats import REPEATED, RepeatedLines
from .redact import redact

Level = Literal["debug", "info", "warning", "error"]
Style = Literal["text", "json"]

_STALL_S: Final = 0.2
"""How long the first line waits for a reader that stalls."""

_CONTEXT: Final = "context"
"""Attribute of a record: what was bound in its thread. Another may write a line that repeats."""

_VERBOSE: Final = ("httpx", "httpcore", "apprise", "asyncio", "urllib3")
"""Libraries that log details as "info"; only their warnings are shown."""

_OWN_KEYS: Final = frozenset(
    {"alarm", "alarm_id", "camera", "channel", "event_id", "level", "logger", "part", "timestamp"}
)
"""Names, ids and words of our own: they hold no secret, and must stay readable if one equals
them."""


def set_up(*, level: Level, style: Style, redact: Callable[[str], str] = redact) -> None:
    """Send the log to standard error. A further call replaces the settings.

    Args:
        level: Lowest level that is shown.
        style: Text for people, or JSON for machines.
        redact: Removes secrets from a text.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    first: list[Processor] = [
        structlog.stdlib.add_log_level,
        _add_time(style),
        _hold_exception,
    ]
    structlog.configure(
        processors=[
            merge_contextvars,
            *first,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _ToStandardError((level, style))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_context, *first],
            processors=[
                _add_repeated,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([] if level == "debug" else [_drop_expected_traceback]),
                structlog.processors.format_exc_info,  # Before redaction: messages hold secrets.
                _Redactor(redact),
                _renderer(style),
            ],
        )
    )
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _ToStandardError)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(threshold)
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def settings() -> tuple[Level, Style]:
    """Return level and style of the present settings, for a process that is started."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _ToStandardError):
            return handler.settings
    return "info", "text"


def _add_time(style: Style) -> Processor:
    def add(logger: Any, method: str, event: EventDict) -> EventDict:
        del logger, method
        now = datetime.now(UTC)
        text = for_machines(now) if style == "json" else for_people(now, precision="milliseconds")
        event["timestamp"] = text
        return event

    return add


def _add_context(logger: Any, method: str, event: EventDict) -> EventDict:
    """Add what was bound in the thread that logged, to a record of a library."""
    del logger, method
    return {**getattr(event["_record"], _CONTEXT, {}), **event}


def _hold_exception(logger: Any, method: str, event: EventDict) -> EventDict:
    """Replace "the present exception" by it: a line that repeats may be written later."""
    del logger, method
    if event.get("exc_info") is True:
        event["exc_info"] = sys.exc_info()[1]
    return event


def _add_repeated(logger: Any, method: str, event: EventDict) -> EventDict:
    del logger, method
    count = getattr(event["_record"], REPEATED, 0)
    if count:
        event[REPEATED] = f"{count} times"
    return event


def _drop_expected_traceback(logger: Any, method: str, event: EventDict) -> EventDict:
    """Leave the traceback out where the error says what is wrong: a full disk is no bug."""
    del logger, method
    error = event.get("exc_info")
    error = error[1] if isinstance(error, tuple) else error
    if isinstance(error, BaseException) and is_expected(error):
        del event["exc_info"]
        event.setdefault("error", str(error))
    return event


def _renderer(style: Style) -> Processor:
    if style == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


class _ToStandardError(logging.Handler):
    """Writes to the present `sys.stderr`, which may be replaced at any time.

    A reader that stalls, as a pager does, holds up no part that logs: lines are lost and counted.
    """

    def __init__(self, settings: tuple[Level, Style]) -> None:
        super().__init__()
        self.settings = settings
        self._lost = 0  # Lines since the reader of standard error stalled. Guarded by the lock.
        self._repeats = None if settings[0] == "debug" else RepeatedLines()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry, unless it repeats; and the count of others that did."""
        setattr(record, _CONTEXT, get_contextvars())
        repeats = self._repeats
        for each in [record] if repeats is None else repeats.admit(record, time.monotonic()):
            self._write(each)

    def close(self) -> None:
        """Write the counts of entries that were collapsed. Python calls this at its exit."""
        if self._repeats is not None:
            for each in self._repeats.flush():
                self._write(each)
        super().close()

    def _write(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
            if self._lost:
                line = f"{self._lost} lines were lost: standard error was not read\n{line}"
            if _write_bounded(line, timeout_s=0 if self._lost else _STALL_S):
                self._lost = 0
            else:
                self._lost += 1
        except Exception:  # noqa: BLE001  a failing log must not end the part that logs
            self.handleError(record)


def _write_bounded(text: str, *, timeout_s: float) -> bool:
    """Write to standard error unless its reader stalls; return whether all of it was written."""
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # It is no file: a test reads it.
        sys.stderr.write(text)
        return True
    sys.stderr.flush()
    data = text.encode(errors="backslashreplace")
    for start in range(0, len(data), select.PIPE_BUF):
        # A pipe that is ready takes so many bytes without blocking.
        if not select.select([], [descriptor], [], timeout_s)[1]:
            return False
        os.write(descriptor, data[start : start + select.PIPE_BUF])
    return True


class _Redactor:
    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        del logger, method
        return {key: self._redact(value) if isinstance(value, str) and key not in _OWN_KEYS
                else value for key, value in event.items()}  # fmt: skip
