"""Finds a complete JPEG in bytes: in a response, or in a stream without separators."""

from typing import Final

_SOI: Final = b"\xff\xd8\xff"
_EOI: Final = 0xD9
_SOS: Final = 0xDA
_STAND_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length: TEM and the restart markers."""


def first_jpeg(data: bytes) -> bytes | None:
    """Return the first JPEG in *data* from its start to its end; `None` if none is complete."""
    start = data.find(_SOI)
    end = _end(data, start) if start >= 0 else None
    return None if end is None else data[start:end]


def begins_jpeg(data: bytes) -> bool:
    """Whether a JPEG begins in *data*."""
    return _SOI in data


def _end(data: bytes, start: int) -> int | None:
    """Return the index after the end of the JPEG at *start*; thumbnails in it have ends, too."""
    at = start + 2
    while at + 4 <= len(data) or data[at : at + 2] == b"\xff\xd9":
        if data[at] != 0xFF:  # noqa: PLR2004  every marker begins with this byte
            return None
        marker = data[at + 1]
        if marker == _EOI:
            return at + 2
        if marker == 0xFF:  # noqa: PLR2004  a fill byte
            at += 1
        elif marker in _STAND_ALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == _SOS:
                at = _end_of_scan(data, at)
    return None


def _end_of_scan(data: bytes, at: int) -> int:
    """Return the index of the next marker that is no part of the entropy-encoded data."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            return len(data)
        if data[at + 1] != 0 and data[at + 1] not in _STAND_ALONE:
            return at
        at += 2
