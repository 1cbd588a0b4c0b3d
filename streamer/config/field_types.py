"""Introspection of the models: which values a key accepts, and how to say so."""

import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, Secret, SecretStr
from pydantic.fields import FieldInfo

from .settings import Config
from .values import DEVICE, Name

Loc: TypeAlias = tuple[str | int, ...]
"""Keys and list indices from the top of the file to a value."""

_WORDS: Final[dict[Any, str]] = {
    float: "a number",
    Fraction: "a number above 0",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    Path: "a path",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """The values that a type annotation allows."""

    is_a: Any
    """The type without `None` and metadata; `None` for an unknown key."""

    limits: tuple[Any, ...] = ()
    """Metadata such as `Ge(1)`."""

    optional: bool = False
    """Whether null is allowed."""

    @property
    def is_model(self) -> bool:
        """Whether the type is a model with known keys."""
        return isinstance(self.is_a, type) and issubclass(self.is_a, BaseModel)

    @property
    def is_section(self) -> bool:
        """Whether the type is a mapping."""
        return self.is_model or bool(self.choices) or get_origin(self.is_a) is dict

    @property
    def is_secret(self) -> bool:
        """Whether the value must be redacted."""
        return isinstance(self.is_a, type) and issubclass(self.is_a, Secret | SecretStr)

    @property
    def choices(self) -> dict[str, type[BaseModel]]:
        """Models of a discriminated union by their `kind`."""
        if get_origin(self.is_a) not in (Union, types.UnionType):
            return {}
        return {
            get_args(model.model_fields["kind"].annotation)[0]: model
            for model in get_args(self.is_a)
        }

    @property
    def fields(self) -> dict[str, FieldInfo]:
        """Known keys, if the type is a model."""
        return self.is_a.model_fields if self.is_model else {}


@dataclass(frozen=True, slots=True)
class Place:
    """A key of the configuration and its type."""

    loc: Loc
    """Path in the file."""

    kind: Kind
    siblings: tuple[str, ...]
    """Keys of the same section."""


def kind_of(annotation: Any, metadata: Iterable[Any] = ()) -> Kind:
    """Return the kind of a type annotation."""
    limits = [limit for item in metadata for limit in _limits(item)]
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return kind_of(inner, [*more, *limits])
    if get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation):
        rest = [argument for argument in get_args(annotation) if argument is not type(None)]
        inner = kind_of(Union[tuple(rest)], limits)  # noqa: UP007  built from a list
        return Kind(inner.is_a, inner.limits, optional=True)
    return Kind(annotation, tuple(limits))


def field_kind(info: FieldInfo) -> Kind:
    """Return the kind of a model field."""
    return kind_of(info.annotation, info.metadata)


def _limits(item: Any) -> list[Any]:
    return list(item.metadata) if isinstance(item, FieldInfo) else [item]


def place_of(pydantic_loc: Sequence[str | int]) -> Place:
    """Translate a pydantic location, which contains union tags and `[key]` markers."""
    kind = Kind(Config)
    siblings: tuple[str, ...] = ()
    loc: list[str | int] = []
    for part in pydantic_loc:
        if kind.choices:  # The tag of a union: no key in the file.
            kind = Kind(kind.choices.get(str(part)))
            continue
        if part == "[key]":
            break
        loc.append(part)
        siblings = tuple(kind.fields)
        kind = _below(kind, part)
    if pydantic_loc and pydantic_loc[-1] == "[key]":
        kind = kind_of(Name)
    return Place(tuple(loc), kind, siblings)


def _below(kind: Kind, part: str | int) -> Kind:
    if kind.is_model:
        info = kind.fields.get(str(part))
        return field_kind(info) if info else Kind(None)
    arguments = get_args(kind.is_a)
    if get_origin(kind.is_a) is dict:
        return kind_of(arguments[1])
    if get_origin(kind.is_a) is tuple and isinstance(part, int):
        if arguments[-1] is Ellipsis:
            return kind_of(arguments[0])
        if part < len(arguments):
            return kind_of(arguments[part])
    return Kind(None)


def expected(kind: Kind) -> str:
    """Return the accepted values in words: "a number from 0.1 to 60, or null"."""
    return _plainly(kind) + (", or null" if kind.optional else "")


def _plainly(kind: Kind) -> str:
    if get_origin(kind.is_a) is Literal:
        choices = [str(choice) for choice in get_args(kind.is_a)]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if kind.is_model:
        return f"a section with keys such as {', '.join(list(kind.fields)[:3])}"
    if kind.is_section:
        return "a section"
    if get_origin(kind.is_a) is tuple:
        return _list(kind)
    words = "text" if kind.is_secret else _WORDS.get(kind.is_a, "something else")
    patterns = [limit.pattern for limit in kind.limits if getattr(limit, "pattern", None)]
    if patterns:
        letters = f"{words} of letters, digits, '-' and '_'"
        return "auto, cpu, cuda or cuda:N" if patterns == [DEVICE] else letters
    return words + _range(kind.limits)


def _list(kind: Kind) -> str:
    arguments = get_args(kind.is_a)
    if arguments[-1] is not Ellipsis:
        return "a pair [x, y]"
    least = next((f" of at least {limit.min_length}" for limit in kind.limits
                  if isinstance(limit, MinLen)), "")  # fmt: skip
    return f"a list{least}"


def _range(limits: Iterable[Any]) -> str:
    low = high = ""
    for limit in limits:
        if isinstance(limit, Ge):
            low = f"from {limit.ge}"
        elif isinstance(limit, Gt):
            low = f"above {limit.gt}"
        elif isinstance(limit, Le):
            high = f"to {limit.le}"
        elif isinstance(limit, Lt):
            high = f"below {limit.lt}"
        elif isinstance(limit, MinLen) and limit.min_length == 1:
            low = "that is not empty"
        elif isinstance(limit, MaxLen):
            high = f"of at most {limit.max_length} characters"
    if low.startswith("from") and not high:
        low = low.replace("from", "of at least", 1)
    if low.startswith("above") and high.startswith("to"):
        high = high.replace("to", "and at most", 1)
    return "".join(f" {part}" for part in (low, high) if part)
