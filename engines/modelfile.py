"""Reads a model file's digest and metadata, and tells an ONNX network from anything else.

Runtimes answer a damaged file with pages from their internals, some of it on standard error. An
ONNX file is one protobuf message; walking its top level takes microseconds, needs no library and
finds text files, other formats and files that were cut short.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from engines.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Field numbers of ModelProto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_IR_VERSION, _GRAPH, _METADATA = 1, 7, 14
_MORE = 0x80  # this byte of a number is not its last
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file, read."""

    path: Path
    """Where it is."""
    content: bytes
    """All of it: runtimes get what was checked and digested, not what the path holds later."""
    digest: str
    """SHA-256, hexadecimal."""
    metadata: Mapping[str, str]
    """The model's own properties."""

    @property
    def name(self) -> str:
        """The model's name, else its file's."""
        return self.metadata.get("name", self.path.stem)


def read_model_file(path: Path) -> ModelFile:
    """Read and check a model file.

    Raises:
        ModelFileError: it is missing, unreadable, empty, cut short, or no ONNX network.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"no model file {path}") from None
    except OSError as error:
        raise ModelFileError(f"cannot read the model file {path}: {error.strerror}") from error
    if not content:
        raise ModelFileError(f"the model file {path} is empty")
    seen: set[int] = set()
    metadata: dict[str, str] = {}
    try:
        for number, value in _fields(content):
            seen.add(number)
            if number == _METADATA and isinstance(value, bytes):
                entry = dict(_fields(value))
                metadata[_text(entry.get(1, b""))] = _text(entry.get(2, b""))
    except ValueError as error:
        raise ModelFileError(f"{path} is no ONNX network, or damaged: {error}") from error
    if not {_IR_VERSION, _GRAPH} <= seen:
        raise ModelFileError(f"{path} is no ONNX network")
    return ModelFile(path, content, hashlib.sha256(content).hexdigest(), MappingProxyType(metadata))


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield number and value of each field of a protobuf message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        value: bytes | int
        if kind == _VARINT:
            value, at = _varint(message, at)
        elif kind in {_BYTES, _EIGHT_BYTES, _FOUR_BYTES}:
            size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind)
            if size is None:
                size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("it ends early")
            value, at = message[at : at + size], at + size
        else:
            raise ValueError(f"no field of kind {kind} can stand at byte {at}")
        yield number, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(message):
            raise ValueError("it ends early")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & _MORE:
            return value, at
    raise ValueError(f"no number at byte {at}")


def _text(value: bytes | int) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
