"""Exit codes, and the one place where errors become them."""

import enum
from typing import Final

import typer

from streamer.core.errors import ConfigError, SourceError

_UsageError: Final[type[Exception]] = typer.BadParameter.__mro__[1]
"""What the command line parser raises; it has no public name that all versions share."""


class Exit(enum.IntEnum):
    """What the exit status says to a script."""

    OK = 0
    """Done."""

    FAILED = 1
    """It was tried and did not succeed."""

    USAGE = 2
    """The command line is wrong."""

    CONFIG = 3
    """The configuration is wrong."""

    SOURCE = 4
    """A camera, stream or file cannot be read."""

    DEVICE = 5
    """A model or the device that should run it cannot be used."""

    INCOMPLETE = 6
    """Converted up to where the recording was cut short, or without what was damaged in it."""

    INTERRUPTED = 130
    """Ended by Ctrl-C before it was done; the shell's own number for it."""

    BROKEN_PIPE = 141
    """Whoever read the output went away; the shell's own number for it."""


_CODES: Final[tuple[tuple[type[BaseException], Exit], ...]] = (
    (_UsageError, Exit.USAGE),
    (ConfigError, Exit.CONFIG),
    (SourceError, Exit.SOURCE),
    (KeyboardInterrupt, Exit.INTERRUPTED),
    (BrokenPipeError, Exit.BROKEN_PIPE),
)
"""What is not here, and no engine's error, has simply failed."""


def exit_code(error: BaseException) -> Exit:
    """The exit code that belongs to *error*; of a group, the most telling one."""
    if isinstance(error, BaseExceptionGroup):
        return max((exit_code(inner) for inner in error.exceptions), key=_telling)
    if _is_engine_error(error):
        return Exit.DEVICE
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.FAILED)


def _telling(code: Exit) -> int:
    """A plain failure is often the echo of what else went wrong."""
    return 0 if code is Exit.FAILED else int(code)


def _is_engine_error(error: BaseException) -> bool:
    from engines.errors import EngineError

    return isinstance(error, EngineError)


def one_line(error: BaseException) -> str:
    """What went wrong, on one line for each problem, without a class name where it was expected."""
    if isinstance(error, BaseExceptionGroup):
        return "\n".join(dict.fromkeys(one_line(inner) for inner in error.exceptions))
    if isinstance(error, _UsageError):
        return str(getattr(error, "format_message", error.__str__)())
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
