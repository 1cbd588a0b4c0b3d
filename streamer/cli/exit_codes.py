"""Exit codes, and the only place that maps errors to them."""

import enum
from typing import Final

import typer

from streamer.core.errors import Cancelled, ConfigError, DecoderUnavailable, SourceError

_UsageError: Final[type[Exception]] = typer.BadParameter.__mro__[1]
"""Base of the command line parser's errors; its public name differs between versions."""


class Exit(enum.IntEnum):
    """Exit status of the program."""

    OK = 0
    """Success."""

    FAILED = 1
    """The command failed."""

    USAGE = 2
    """The command line is invalid."""

    CONFIG = 3
    """The configuration is invalid."""

    SOURCE = 4
    """A camera, stream or file cannot be read."""

    DEVICE = 5
    """A model, or the device that should run it, cannot be used."""

    INCOMPLETE = 6
    """Converted, but the recording is truncated or damaged: parts of it are missing."""

    FORCED = 7
    """Ended by force after a signal: a thread did not end within seconds; a line names it."""

    INTERRUPTED = 130
    """Ended by Ctrl-C before it was done: 128 + SIGINT; after SIGTERM 143, after SIGHUP 129."""

    BROKEN_PIPE = 141
    """The reader of standard output closed it: 128 + SIGPIPE."""


_CODES: Final[tuple[tuple[type[BaseException], Exit], ...]] = (
    (_UsageError, Exit.USAGE),
    (ConfigError, Exit.CONFIG),
    (SourceError, Exit.SOURCE),
    (DecoderUnavailable, Exit.DEVICE),
    (KeyboardInterrupt, Exit.INTERRUPTED),
    (Cancelled, Exit.INTERRUPTED),
    (BrokenPipeError, Exit.BROKEN_PIPE),
)
"""Every other error but an `EngineError` is `FAILED`."""


def exit_code(error: BaseException) -> Exit:
    """Return the exit code of *error*; of a group, the most specific one."""
    if isinstance(error, BaseExceptionGroup):
        codes = [exit_code(inner) for inner in error.exceptions]
        # `FAILED` ranks lowest: it is often only a consequence of the other error.
        return max(codes, key=lambda code: 0 if code is Exit.FAILED else int(code))
    from engines.errors import EngineError

    if isinstance(error, EngineError):
        return Exit.DEVICE
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.FAILED)


def one_line(error: BaseException) -> str:
    """Return the message of *error*, one line per problem; the class only of unexpected errors."""
    if isinstance(error, BaseExceptionGroup):
        return "\n".join(dict.fromkeys(one_line(inner) for inner in error.exceptions))
    if isinstance(error, _UsageError):
        text = str(getattr(error, "format_message", error.__str__)())
        if text.startswith("No such command"):
            text = text.rstrip(".?").replace(". Did", "; did").replace("No", "no", 1)
            return f"{text}; 'streamer --help' lists the commands"
        return text
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror.lower()}{where}"
    text = str(error).strip()
    if exit_code(error) is Exit.FAILED and not _is_ours(error):
        return f"unexpected {type(error).__name__}: {' '.join(text.split())}; --debug shows more"
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return "\n".join(lines) or type(error).__name__


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("streamer", "engines")
