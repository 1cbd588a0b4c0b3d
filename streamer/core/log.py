"""The program's log: one line for people or one JSON object, on standard error.

Parts log with `structlog.get_logger(__name__)`. What libraries log by the standard way comes out
the same way.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any, Final, Literal

import structlog
from structlog.typing import EventDict, Processor

Level = Literal["debug", "info", "warning", "error"]
Style = Literal["text", "json"]

_TALKATIVE: Final = ("httpx", "httpcore", "apprise", "asyncio", "urllib3")
"""Libraries whose "info" is our "debug"."""


def set_up(*, level: Level, style: Style, redact: Callable[[str], str] = str) -> None:
    """Send what is logged to standard error. May be called again, to change it.

    Args:
        level: The least weight that is shown.
        style: For people or for machines.
        redact: Removes the secrets from a text.
    """
    weight = logging.getLevelNamesMapping()[level.upper()]
    first: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*first, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(weight),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _ToStandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=first,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,  # Before redaction: it holds messages.
                _RedactSecrets(redact),
                _renderer(style),
            ],
        )
    )
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _ToStandardError)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(weight)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(weight, logging.WARNING))


def _renderer(style: Style) -> Processor:
    if style == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


class _ToStandardError(logging.Handler):
    """Writes to what standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or a traceback."""
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001  a log that fails must not end what it tells of
            self.handleError(record)


class _RedactSecrets:
    """A processor that removes secrets from every text."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        del logger, method
        return {key: self._redact(value) if isinstance(value, str) else value
                for key, value in event.items()}  # fmt: skip
