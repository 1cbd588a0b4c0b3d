"""Read YAML files as plain data with the line of each key.

Reads the composed nodes rather than the constructed mapping, because nodes have line numbers and
keep repeated keys. Rejected: a round-trip load, which stops at the first duplicate.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from streamer.core.errors import ConfigError

from .diagnostics import Problem
from .field_types import Loc
from .secrets import Surroundings, substitute
from .small_file import read_small_file

_LARGEST: Final = 1_048_576
"""Maximum file size in bytes. Arbitrary: enough for a thousand cameras."""

_DEEPEST: Final = 32
"""Levels of nesting. A configuration has eight at most."""

_MOST_VALUES: Final = 200_000
"""Values of a file with its aliases replaced: twice those of a thousand cameras with every key.
A few lines of aliases to aliases could stand for billions."""

_IGNORED: Final = "x-"
"""Prefix of keys at the top of a file that are not read: a place for anchors."""

_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"


@dataclass(slots=True)
class Document:
    """The content of one file."""

    file: str
    """File name for messages, as the caller gave it."""

    data: dict[str, Any] = field(default_factory=dict)
    """Plain data; each string is a `Text`."""

    lines: dict[Loc, int] = field(default_factory=dict)
    """Line number, from 1, of each key and list item."""

    problems: list[Problem] = field(default_factory=list)

    def add_problem(self, message: str, line: int | None = None, key: str = "") -> None:
        """Add a problem, by default one of the whole file."""
        self.problems.append(Problem(self.file, line, key, message))


def read_document(path: Path, environment: Mapping[str, str]) -> Document:
    """Read *path*; errors are collected in `problems`."""
    document = Document(str(path))
    node = _compose(path, document)
    if document.problems:
        return document
    if not isinstance(node, MappingNode):
        document.add_problem("expected keys such as 'cameras:'", _line(node))
        return document
    around = Surroundings(environment, path.absolute().parent)
    try:
        document.data = _Reader(document, around).mapping(node, ())
    except _TooManyValuesError as error:
        document.data = {}
        document.problems = []
        document.add_problem(
            f"stands for more than {_MOST_VALUES} values by its aliases: no configuration",
            error.line,
        )
    return document


def _compose(path: Path, document: Document) -> Node | None:
    try:
        content = read_small_file(path, most=_LARGEST)
        text = content.decode("utf-8-sig")
    except OSError as error:
        document.add_problem(f"cannot be read: {(error.strerror or str(error)).lower()}")
        return None
    except UnicodeDecodeError:
        document.add_problem("is not UTF-8 text")
        return None
    if len(content) > _LARGEST:
        document.add_problem(f"is larger than {_LARGEST} bytes: no configuration")
        return None
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.Composer = _BoundedComposer
        return yaml.compose(text)  # type: ignore[no-any-return]
    except _TooDeepError as error:
        document.add_problem(f"nested more than {_DEEPEST} levels deep", error.line)
        return None
    except YAMLError as error:
        document.add_problem(*_syntax_problem(error, text))
        return None


def _syntax_problem(error: YAMLError, text: str) -> tuple[str, int | None]:
    """Return problem and line only: the parser's message quotes the file, passwords included."""
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    line = mark.line + 1 if mark else None
    lines = text.splitlines()
    if line and line <= len(lines) and re.match(r" *\t", lines[line - 1]):
        return "a tab; indent with spaces", line
    what = error.problem if isinstance(error, MarkedYAMLError) else None
    # Names of aliases and tags are left out: an unquoted password may be taken for one.
    what = re.sub(r"'[^']{2,}'", "", what or "a character that YAML forbids")
    if re.search("alias|anchor|tag", what):  # They may hold quotes themselves.
        what = re.split("['\"]", what)[0]
    return f"not valid YAML: {what.strip()}; text with special characters needs quotes", line


def _line(node: Node | None) -> int | None:
    return node.start_mark.line + 1 if node is not None else None


class _TooDeepError(Exception):
    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line


class _TooManyValuesError(Exception):
    def __init__(self, line: int | None) -> None:
        super().__init__()
        self.line = line


class _BoundedComposer(Composer):
    """Stops at a depth that no configuration has, before Python's stack ends."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose one node and those in it."""
        self._depth += 1
        try:
            if self._depth > _DEEPEST:
                raise _TooDeepError(self.parser.peek_event().start_mark.line + 1)
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Reader:
    """Converts nodes to plain data and collects line numbers and problems."""

    def __init__(self, document: Document, around: Surroundings) -> None:
        self._document = document
        self._around = around
        self._constructor = YAML(typ="safe", pure=True).constructor
        self._values = 0
        self._open: set[int] = set()  # Nodes being read; an alias to one of them would recurse.

    def mapping(self, node: MappingNode, loc: Loc) -> dict[str, Any]:
        """Return the mapping at *loc*; of a repeated key the first value is used."""
        data: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._problem(line, loc, "a key must be plain text")
                continue
            # As in `Name`: of two spellings of one name, the later camera would replace the first.
            key = unicodedata.normalize("NFC", str(key_node.value))
            if key in first:
                self._problem(line, (*loc, key), f"repeated; first in line {first[key]}")
                continue
            first[key] = line
            if not loc and key.startswith(_IGNORED):
                continue
            self._document.lines.setdefault((*loc, key), line)
            data[key] = self._value(value_node, (*loc, key))
        for key, value in self._merged(node, loc).items():
            data.setdefault(key, value)
        return data

    def _merged(self, node: MappingNode, loc: Loc) -> dict[str, Any]:
        """Return the keys merged by `<<: *anchor`; nearer ones win."""
        data: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            brought = self._value(value, loc)
            for mapping in brought if isinstance(brought, list) else [brought]:
                if isinstance(mapping, dict):
                    data = {**mapping, **data}
                else:
                    self._problem(_line(key), loc, "'<<' needs an alias to a mapping")
        return data

    def _value(self, node: Node, loc: Loc) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise _TooManyValuesError(_line(node))
        if id(node) in self._open:
            self._problem(_line(node), loc, "this anchor contains itself")
            return Unreadable()
        self._document.lines.setdefault(loc, node.start_mark.line + 1)
        if isinstance(node, ScalarNode):
            return self._scalar(node, loc)
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self.mapping(node, loc)
            return [self._value(item, (*loc, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: ScalarNode, loc: Loc) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        if kind in ("str", "timestamp", "merge", "value"):
            try:
                return substitute(node.value, self._around)
            except ConfigError as error:
                self._problem(_line(node), loc, str(error))
                return Unreadable()
        if kind in ("null", "bool", "int", "float"):
            return self._constructor.yaml_constructors[f"{_TAG}{kind}"](self._constructor, node)
        self._problem(_line(node), loc, "a tag ('!') means nothing here; put the text in quotes")
        return Unreadable()

    def _problem(self, line: int | None, loc: Loc, message: str) -> None:
        self._document.add_problem(message, line, ".".join(map(str, loc)))


class Unreadable:
    """Placeholder of a value that could not be read, so that it is reported once."""
