"""Values from outside the file: environment variables and secret files.

`${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` may stand in any text value. A text that
was filled in keeps what was written, so that people see that instead of the value.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from streamer.core.errors import ConfigError

from .small_file import read_small_file

_PLACEHOLDER: Final = re.compile(r"\$\$\{|\$\{([^{}]*)\}?")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LINE_BREAK: Final = re.compile(r"[\r\n\0]")
_LARGEST_FILE: Final = 65_536
"""Bytes. Arbitrary: a key or a certificate is smaller, a wrong path is usually larger."""


class Text(str):
    """A text value that remembers where it was written."""

    __slots__ = ("filled", "folder", "written")

    folder: Path
    """Folder of the configuration file: relative paths begin here."""

    written: str | None
    """The text with its placeholders, when there were any; `None` for plain text."""

    filled: tuple[str, ...]
    """What came from outside."""

    def __new__(
        cls, value: str, *, folder: Path, written: str | None = None, filled: tuple[str, ...] = ()
    ) -> Self:
        """A text from the file in *folder*."""
        text = super().__new__(cls, value)
        text.folder = folder
        text.written = written
        text.filled = filled
        return text


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What placeholders may ask."""

    environment: Mapping[str, str]
    folder: Path
    """Relative `${file:...}` paths begin here."""


def substitute(text: str, around: Surroundings) -> Text:
    """*text* with its placeholders filled in. `$${` stands for a plain `${`.

    Raises:
        ConfigError: A placeholder cannot be filled in; the message holds no value.
    """
    filled: list[str] = []

    def fill(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        if not found[0].endswith("}"):
            raise ConfigError("'${' is not closed by '}'; write '$${' for a plain '${'")
        filled.append(_value(found[1], around))
        return filled[-1]

    value = _PLACEHOLDER.sub(fill, text)
    written = text if filled else None
    return Text(value, folder=around.folder, written=written, filled=tuple(filled))


def _value(placeholder: str, around: Surroundings) -> str:
    kind, _, argument = placeholder.partition(":")
    if kind == "env" and argument:
        return _from_environment(argument, around.environment)
    if kind == "file" and argument:
        try:
            path = Path(argument).expanduser()
        except RuntimeError:
            raise ConfigError(
                f"this user has no home folder for '~' in {argument}; write the whole path"
            ) from None
        return _from_file(around.folder / path)
    raise ConfigError(
        f"'${{{placeholder}}}' is neither ${{env:NAME}}, ${{env:NAME:-default}} nor ${{file:PATH}};"
        " write '$${' for a plain '${'"
    )


def _from_environment(argument: str, environment: Mapping[str, str]) -> str:
    name, separator, default = argument.partition(":-")
    if not _NAME.match(name):
        raise ConfigError(f"{name!r} cannot be the name of an environment variable")
    # As in a shell: ":-" also replaces an empty value.
    if separator:
        return environment.get(name) or default
    if name not in environment:
        raise ConfigError(
            f"the environment variable {name} is not set; set it, or write ${{env:{name}:-default}}"
        )
    return environment[name]


def _from_file(path: Path) -> str:
    try:
        content = read_small_file(path, most=_LARGEST_FILE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigError(f"cannot read the file {path}: {reason}") from error
    if len(content) > _LARGEST_FILE:
        raise ConfigError(f"the file {path} is larger than {_LARGEST_FILE} bytes: no secret")
    try:
        text = content.decode("utf-8-sig")  # Some editors write a byte order mark.
    except UnicodeDecodeError as error:
        raise ConfigError(f"the file {path} is not UTF-8 text") from error
    # Editors and `echo` end a file with newlines that belong to no password.
    text = text.rstrip("\r\n")
    if _LINE_BREAK.search(text):
        raise ConfigError(f"the file {path} has more than one line: no secret")
    return text
