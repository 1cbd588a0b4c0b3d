"""Problems of a configuration, each with file, line, key and message.

`fire-watch.yaml:12: cameras.north.sorce: unknown key; did you mean 'source'?`
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from streamer.core.errors import ConfigError
from streamer.core.redact import REDACTED, redact, redact_url

from .field_types import Loc, Place, expected, place_of
from .secrets import Text

_LONGEST_SHOWN: Final = 60
"""Characters of a value in a message. Arbitrary: the line should fit a terminal."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem."""

    file: str
    line: int | None
    """Line number from 1; `None` if the problem concerns the whole file."""

    key: str
    """Dotted key; empty if the problem concerns the whole file."""

    message: str
    """What is wrong, the expected value and the actual value, without secrets."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        key = "".join(each if each.isprintable() else repr(each)[1:-1] for each in self.key)
        return ": ".join(part for part in (place, key, self.message) if part)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON data."""
        return {"file": self.file, "line": self.line, "key": self.key, "message": self.message}


class InvalidConfig(ConfigError):  # noqa: N818  states a fact; "Error" is in the base
    """All problems of a configuration, one per line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def translate(error: ValidationError) -> Iterator[tuple[Loc, str, Any]]:
    """Yield place, message and value of each pydantic error."""
    found = error.errors(include_url=False)
    for details in found:
        # A list is also "too short" for pydantic when one of its items is wrong.
        if details["type"] == "too_short" and any(
            len(other["loc"]) > len(details["loc"])
            and other["loc"][: len(details["loc"])] == details["loc"]
            for other in found
        ):
            continue
        place = place_of(details["loc"])
        yield place.loc, _message(details, place), details["input"]


def _message(details: ErrorDetails, place: Place) -> str:
    kind, value = details["type"], details["input"]
    if kind == "extra_forbidden":
        return unknown("key", str(place.loc[-1]), place.siblings)
    if kind == "value_error":  # Raised by our own validators with a complete message.
        return str(details["ctx"]["error"])
    if kind.startswith("union_tag"):
        return f"expected 'kind' to be one of {', '.join(place.kind.choices)}"
    if kind == "missing":
        return f"is missing; expected {expected(place.kind)}"
    if kind == "too_short" and isinstance(value, Mapping):
        return "is empty; expected at least one entry"
    message = f"expected {expected(place.kind)}, got {_shown(value, place)}"
    quotes = kind == "string_type" and isinstance(value, int | float)
    return f"{message}; put it in quotes" if quotes else message


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Return the message for a *name* that is not in *known*."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"unknown {what}; did you mean {near[0]!r}?"
    return f"unknown {what}; known here: {', '.join(known) or 'none'}"


def _shown(value: Any, place: Place) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if place.kind.is_section:
        return "text" if isinstance(value, str) else "a single value"
    return REDACTED if place.kind.is_secret else _shown_scalar(value)


def _shown_scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return str(value)
    if isinstance(value, Text) and value.written is not None:
        return f"what {value.written!r} stands for"
    text = redact(redact_url(value))
    if len(text) > _LONGEST_SHOWN:
        text = text[: _LONGEST_SHOWN - 3] + "..."
    return repr(text)
