"""The reference file and the JSON schema, made from the models so that they cannot disagree."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .camera import CameraSettings
from .field_types import Kind, expected, field_kind, kind_of
from .settings import Config

_WIDTH: Final = 96
_HEAD: Final = """\
# yaml-language-server: $schema=schema.json
#
# Every key, at its default. Made by `streamer schema --reference`; copy what you need.
#
# Any text may hold ${env:NAME}, ${env:NAME:-default} or ${file:/path/of/a/secret}.
# Relative paths begin at the folder of the file in which they stand.

"""
_PLAIN: Final = (bool, str, Path)
"""Types whose default already says what may stand there."""

_EXAMPLE_CAMERA: Final = "north"
_EXAMPLE_CHANNEL: Final = {"webhook": "operations", "mqtt": "home", "apprise": "mail"}


def json_schema() -> dict[str, Any]:
    """What editors use to complete and check configuration files."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def json_schema_text() -> str:
    """`json_schema` as the file that is shipped."""
    return json.dumps(json_schema(), indent=1) + "\n"


def reference() -> str:
    """A YAML file with every key at its default, each explained."""
    return _HEAD + "\n".join(_section(Kind(Config), "")) + "\n"


def _section(kind: Kind, indent: str) -> Iterator[str]:
    for number, (name, info) in enumerate(kind.fields.items()):
        if number:
            yield ""
        yield from _key(name, info, indent)


def _key(name: str, info: FieldInfo, indent: str) -> Iterator[str]:
    kind = field_kind(info)
    yield from _comment(_described(info, kind), indent)
    default = _default(info)
    if name == "cameras":
        yield from _example_camera(indent)
    elif kind.choices or kind_of(_value_type(kind)).choices:
        yield f"{indent}{name}: {{}}"
        yield from _example_channels(kind_of(_value_type(kind)), indent)
    elif kind.is_model and default is None:
        yield f"{indent}{name}: null"
        yield from _commented([f"{name}:", *_section(kind, "  ")], indent)
    elif kind.is_model:
        yield f"{indent}{name}:"
        yield from _section(kind, indent + "  ")
    else:
        yield f"{indent}{name}: {_yaml(default)}"


def _value_type(kind: Kind) -> Any:
    return get_args(kind.is_a)[1] if get_origin(kind.is_a) is dict else None


def _described(info: FieldInfo, kind: Kind) -> str:
    text = " ".join((info.description or "").split())
    words = expected(kind)
    told = (
        kind.is_section or kind.is_secret or kind.is_a in _PLAIN or get_origin(kind.is_a) is tuple
    )
    if told or (get_origin(kind.is_a) is Literal and "," not in words):
        return text
    return f"{text} {words[0].upper()}{words[1:]}."


def _default(info: FieldInfo) -> Any:
    extra = info.json_schema_extra
    if isinstance(extra, dict) and "written" in extra:
        return extra["written"]
    if info.is_required():
        return info.examples[0] if info.examples else _only_choice(info)
    default = info.get_default(call_default_factory=True, validated_data={})
    return None if default is PydanticUndefined else default


def _only_choice(info: FieldInfo) -> Any:
    return get_args(field_kind(info).is_a)[0]


def _example_camera(indent: str) -> Iterator[str]:
    source = kind_of(CameraSettings.model_fields["source"].annotation)
    yield f"{indent}cameras:"
    yield f"{indent}  {_EXAMPLE_CAMERA}:"
    yield f"{indent}    source:"
    yield from _key("address", source.fields["address"], indent + "      ")


def _example_channels(kind: Kind, indent: str) -> Iterator[str]:
    lines = ["notify:"]
    for tag, model in kind.choices.items():
        lines += [f"  {_EXAMPLE_CHANNEL[tag]}:", *_section(Kind(model), "    ")]
    yield from _commented(lines, indent)


def _commented(lines: list[str], indent: str) -> Iterator[str]:
    """An example: what could stand here, taken out of force."""
    yield from (f"{indent}# {line}".rstrip() if line else f"{indent}#" for line in lines)


def _comment(text: str, indent: str) -> Iterator[str]:
    start = f"{indent}# "
    yield from textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start)


def _yaml(value: Any) -> str:
    """A default as YAML, which JSON nearly is."""
    if isinstance(value, str) and value and not set(value) & set("'\"#{}[],&*!|>%@` "):
        return value
    if isinstance(value, str) and value.startswith("${"):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)
