"""Container families: containers that differ in what they can store."""

from pathlib import Path
from typing import Final, Literal

Family = Literal["mp4", "mov", "matroska", "webm", "other"]

MUXERS: Final[dict[Family, str]] = {
    "mp4": "mp4", "mov": "mov", "matroska": "matroska", "webm": "webm",
}  # fmt: skip
"""FFmpeg's muxer of each family."""

NAMES: Final[dict[Family, str]] = {
    "mp4": "MP4", "mov": "MOV", "matroska": "Matroska", "webm": "WebM", "other": "this container",
}  # fmt: skip
"""Names for people."""

_HEADER_BYTES: Final = 64
"""Bytes at the beginning of a Matroska file that contain its document type."""


def container_family(path: Path, format_name: str, brand: str | None) -> Family:
    """Return the family of a container.

    Args:
        path: The recording.
        format_name: FFmpeg's name of the format, which is the same for MP4 and MOV.
        brand: The tag `major_brand`.
    """
    if "matroska" in format_name:
        with path.open("rb") as file:
            return "webm" if b"webm" in file.read(_HEADER_BYTES) else "matroska"
    if "mp4" in format_name:
        return "mov" if (brand or "").startswith("qt") else "mp4"
    return "other"
