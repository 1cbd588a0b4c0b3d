"""What the commands write: for people through Rich, for scripts one JSON object a line.

Standard output holds results and nothing else; notes and errors go to standard error.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamer.core.redact import Redactor

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


@dataclass(slots=True)
class Output:
    """How this run of the program talks. There is one: `current`."""

    json: bool = False
    """One JSON object a line on standard output, nothing for people."""

    verbosity: int = 0
    """Below 0 only warnings are logged, above 0 everything."""

    debug: bool = False
    """Whether an error comes with its traceback."""

    secrets: frozenset[str] = frozenset()
    """Texts that are redacted wherever they would be printed."""

    def result(
        self, record: Mapping[str, Any], people: "RenderableType | Callable[[], RenderableType]"
    ) -> None:
        """Write a result: *record* for scripts, or *people* (made only when wanted)."""
        if self.json:
            self.record(record)
        else:
            self._console().print(people() if callable(people) else people)

    def record(self, record: Mapping[str, Any]) -> None:
        """Write one JSON object for scripts; nothing for people."""
        if self.json:
            # Secrets are redacted before encoding, which might spell them differently.
            clean = Redactor(self.secrets).clean(record)
            line = json.dumps(clean, ensure_ascii=False, allow_nan=False)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def say(self, people: "RenderableType") -> None:
        """Write for people only."""
        if not self.json:
            self._console().print(people)

    def note(self, text: str) -> None:
        """Tell people, on standard error, what is going on; not with --quiet."""
        if self.verbosity >= 0:
            sys.stderr.write(f"{self.redact(text)}\n")

    def error(self, text: str) -> None:
        """One line on standard error for each line of *text*."""
        for line in self.redact(text).splitlines():
            sys.stderr.write(f"streamer: {line}\n")

    def redact(self, text: str) -> str:
        """Return *text* without the secrets of this run."""
        return Redactor(self.secrets)(text)

    def _console(self) -> "Console":
        from rich.console import Console

        class Quiet(Console):
            def on_broken_pipe(self) -> None:
                """Rich would end the program itself; `main` knows the right exit code."""
                raise BrokenPipeError

        # Paths and reasons come from outside: they are no markup, and no links to guess at.
        return Quiet(markup=False, highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())


_current = Output()


def current() -> Output:
    """The output of this run."""
    return _current


def reset() -> None:
    """Start afresh, as a new run of the program does."""
    global _current  # noqa: PLW0603  one process, one pair of streams
    _current = Output()
