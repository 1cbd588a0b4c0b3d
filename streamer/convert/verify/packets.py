"""Every packet of a recording: its times and a mark of its payload, in one pass without decoding.

Packets that an edit list hides are among them: they carry what a decoder needs before the first
sound, and a copy without them clicks or comes late.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import av.error
import numpy as np
from numpy.typing import NDArray

from streamer.convert.media_info import open_recording

UNKNOWN: Final = np.iinfo(np.int64).min
"""In place of a time that is not stored."""

Family = Literal["mp4", "mov", "matroska", "webm", "other"]

_HEAD: Final = 64
"""Bytes in which Matroska says whether it is WebM."""


@dataclass(frozen=True, slots=True, eq=False)
class PacketList:
    """The packets of one stream in the order of the file. All arrays are of the same length."""

    pts: NDArray[np.int64]
    """Ticks; `UNKNOWN` where none is stored."""

    dts: NDArray[np.int64]
    """As `pts`."""

    marks: NDArray[np.uint64]
    """Of the payload: two packets with the same mark hold the same bytes. All zero for a stream
    that was not to be marked."""

    sizes: NDArray[np.int64]
    """Bytes of the payload."""

    hidden: NDArray[np.bool_]
    """Not to be presented, as an edit list says."""

    def __len__(self) -> int:
        """How many."""
        return len(self.pts)


class _Tally:
    def __init__(self, *, marked: bool) -> None:
        self._marked = marked
        self.rows: list[tuple[int, int, int, int, bool]] = []

    def add(self, packet: Any) -> None:
        mark = hashlib.blake2b(packet, digest_size=8).digest() if self._marked else b""
        self.rows.append(
            (
                UNKNOWN if packet.pts is None else packet.pts,
                UNKNOWN if packet.dts is None else packet.dts,
                int.from_bytes(mark, "big"),
                packet.size,
                packet.is_discard,
            )
        )

    def listed(self) -> PacketList:
        pts, dts, marks, sizes, hidden = zip(*self.rows, strict=True) if self.rows else ((),) * 5
        return PacketList(
            np.array(pts, np.int64),
            np.array(dts, np.int64),
            np.array(marks, np.uint64),
            np.array(sizes, np.int64),
            np.array(hidden, np.bool_),
        )


def take_packets(path: Path, *, unmarked: int | None = None) -> dict[int, PacketList]:
    """The packets of each stream of the recording at *path*; of a broken one, up to the break.

    Args:
        path: Of the recording.
        unmarked: A stream whose payloads nobody compares: most of the bytes are the main video's.

    Raises:
        SourceError: It is not there, or nothing FFmpeg can read.
    """
    with open_recording(path) as container:
        tallies = {
            stream.index: _Tally(marked=stream.index != unmarked) for stream in container.streams
        }
        packets = container.demux()
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError):
                break
            if packet.size and packet.stream_index in tallies:
                tallies[packet.stream_index].add(packet)
    return {index: tally.listed() for index, tally in tallies.items()}


def family(path: Path, format_name: str, brand: str | None) -> Family:
    """What kind of container it is, as far as that decides what can be held.

    Args:
        path: Of the recording.
        format_name: As FFmpeg names it, which is the same for MP4 and MOV.
        brand: The tag `major_brand`.
    """
    if "matroska" in format_name:
        with path.open("rb") as file:
            return "webm" if b"webm" in file.read(_HEAD) else "matroska"
    if "mp4" in format_name:
        return "mov" if (brand or "").startswith("qt") else "mp4"
    return "other"
