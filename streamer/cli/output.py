"""Output of the commands: text for people through Rich, or one JSON object per line for scripts.

Standard output holds only results; notes, the log and errors go to standard error.
"""

import contextlib
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streamer.core.redact import Redactor

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

FOREIGN_KEYS: Final = frozenset(
    {"address", "advice", "detail", "error", "last_error", "message", "problems", "reason", "text",
     "traceback"}
)  # fmt: skip
"""Keys of records whose texts may come from a library or another machine."""


@dataclass(slots=True)
class Output:
    """Output settings of this run; `current` returns the only instance."""

    json: bool = False
    """Write one JSON object per line to standard output, and no text."""

    verbosity: int = 0
    """Below 0 log warnings only, above 0 log everything."""

    debug: bool = False
    """Print the traceback of an error."""

    secrets: frozenset[str] = frozenset()
    """Texts that are redacted from text that comes from outside."""

    def result(
        self, record: Mapping[str, Any], text: "RenderableType | Callable[[], RenderableType]"
    ) -> None:
        """Write a result: *record* as JSON, or *text* (a callable is called only if needed)."""
        if self.json:
            self.record(record)
        else:
            self._console().print(text() if callable(text) else text)

    def record(self, record: Mapping[str, Any]) -> None:
        """Write one JSON object with --json; nothing without."""
        if self.json:
            clean = _clean(record, Redactor(self.secrets))
            # Another encoding, as of the locale "C", cannot hold every character.
            is_utf8 = (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
            line = json.dumps(clean, ensure_ascii=not is_utf8, allow_nan=False)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def say(self, text: "RenderableType") -> None:
        """Write text without --json; nothing with it."""
        if not self.json:
            self._console().print(text)

    def rows(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write aligned rows without --json. No cell is cut or folded: people copy from them."""
        if self.json:
            return
        table = [head, *rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for row in table:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self._console().print("  ".join(cells).rstrip(), soft_wrap=True)

    def note(self, text: str) -> None:
        """Write progress to standard error, unless --quiet is given."""
        if self.verbosity >= 0:
            _write_error(f"{self.redact(text)}\n")

    def warn(self, text: str) -> None:
        """Write a warning to standard error, also with --quiet."""
        _write_error(f"streamer: warning: {self.redact(text)}\n")

    def error(self, text: str) -> None:
        """Write each line of *text* to standard error, prefixed with `streamer: `."""
        for line in self.redact(text).splitlines():
            _write_error(f"streamer: {line}\n")

    def redact(self, text: str) -> str:
        """Return *text* without the secrets of this run."""
        return Redactor(self.secrets)(text)

    def _console(self) -> "Console":
        from rich.console import Console

        class Quiet(Console):
            def on_broken_pipe(self) -> None:
                """Rich would exit by itself; `main` returns the documented exit code."""
                raise BrokenPipeError

        # Paths and messages come from outside and must not be read as markup or links.
        return Quiet(markup=False, highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def _write_error(line: str) -> None:
    """Write to standard error, which may be a file on a full disk: that must not end `watch`."""
    with contextlib.suppress(OSError):
        sys.stderr.write(line)


def _clean(value: Any, redact: Redactor, *, foreign: bool = False) -> Any:
    """Return *value* without secrets in the texts that come from outside; names and ids stay.

    Before JSON encoding, which may escape the characters of a secret.
    """
    match value:
        case str():
            return redact(value) if foreign else value
        case Mapping():
            return {
                key: _clean(item, redact, foreign=foreign or key in FOREIGN_KEYS)
                for key, item in value.items()
            }
        case list() | tuple():
            return [_clean(item, redact, foreign=foreign) for item in value]
    return value


_current = Output()


def current() -> Output:
    """Return the output of this run."""
    return _current


def reset() -> None:
    """Return to the defaults, as at the start of the program."""
    global _current  # noqa: PLW0603  one process, one pair of streams
    _current = Output()


def accept_every_character() -> None:
    """Let standard output show what its encoding lacks as an escape, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
