"""Tiny ONNX files written by hand, so that tests of the seam need no exporter.

Protobuf is a row of fields, each a tag and a value; a model of one node is four messages.
"""

_FLOAT, _UINT8 = 1, 2
TYPES = {"float32": _FLOAT, "uint8": _UINT8}


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _value(name: str, shape: tuple[int | str, ...], kind: str) -> bytes:
    sides = b"".join(
        _field(1, _field(2, side) if isinstance(side, str) else _field(1, side)) for side in shape
    )
    tensor = _field(1, TYPES[kind]) + _field(2, sides)
    return _field(1, name) + _field(2, _field(1, tensor))


def metadata(name: str, value: str) -> bytes:
    """A property; appended to a model's bytes it becomes part of the model."""
    return _field(14, _field(1, name) + _field(2, value))


def one_node(
    operator: str = "Identity",
    *,
    source: str = "x",
    target: str = "y",
    shape: tuple[int | str, ...] = (1, "width"),
    kind: str = "float32",
) -> bytes:
    """A model of one node from one input to one output of the same shape and type."""
    node = _field(1, source) + _field(2, target) + _field(4, operator)
    graph = (
        _field(1, node)
        + _field(2, "graph")
        + _field(11, _value(source, shape, kind))
        + _field(12, _value(target, shape, kind))
    )
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 17))
