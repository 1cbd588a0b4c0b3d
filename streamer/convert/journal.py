"""The journal of a conversion: finished chunks on disk, so that a kill costs unfinished ones only.

The folder `<output>.convert/` contains a description of the job (`job.json`) and, per chunk, the
encoded packets one after another (`00007.packets`) and their sizes and timestamps (`00007.json`).
The latter is written last and atomically: its presence marks the chunk as finished.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from streamer.core.atomic_file import storage_error, write_atomically
from streamer.core.errors import StorageError
from streamer.core.process_lock import ProcessLock

FOLDER: Final = ".convert"
"""Suffix of the journal folder."""

_LOCK: Final = "lock"
_JOURNAL_FILE: Final = re.compile(r"(\d{5,}|job|detections)\.(json(\.part)?|new|packets|maps)")
"""Names of all files in the journal folder, except the lock."""

_FINGERPRINT_BYTES: Final = 1 << 20
"""Bytes at each end of a recording that `fingerprint` hashes."""


@dataclass(frozen=True, slots=True)
class PacketEntry:
    """One packet of the encoder, without its payload."""

    pts: int
    """Presentation timestamp in ticks of the output."""

    size: int
    """Payload size in bytes."""

    keyframe: bool


@dataclass(frozen=True, slots=True)
class ChunkCounts:
    """Frame counts of a chunk or of a conversion."""

    input_frames: int = 0
    """Decoded frames of the recording."""

    output_frames: int = 0
    """Encoded frames."""

    synthetic: int = 0
    """Output frames made by interpolation."""

    scene_changes: int = 0
    """Intervals that were not interpolated because a scene changes in them."""

    duplicates: int = 0
    """Input frames that duplicate the one before."""

    enhanced: int = 0
    """Output frames changed by the low-light filter."""

    damaged: int = 0
    """Input frames that could not be decoded."""

    def __add__(self, other: "ChunkCounts") -> "ChunkCounts":
        """Return the sum of both."""
        left, right = asdict(self), asdict(other)
        return ChunkCounts(**{name: left[name] + right[name] for name in left})


@dataclass(frozen=True, slots=True)
class FinishedChunk:
    """A chunk that has been converted."""

    number: int
    packets: tuple[PacketEntry, ...]
    """Packets in decoding order."""

    extradata: bytes
    """The encoder's parameter sets."""

    counts: ChunkCounts
    payload_file: Path

    def payloads(self) -> Iterator[tuple[PacketEntry, bytes]]:
        """Yield each packet with its payload.

        Raises:
            StorageError: The file is shorter than the sum of the packets.
        """
        with self.payload_file.open("rb") as file:
            for packet in self.packets:
                payload = file.read(packet.size)
                if len(payload) != packet.size:
                    raise StorageError(f"{self.payload_file} is truncated; delete its folder")
                yield packet, payload


class ChunkWriter:
    """Writes the packets of one chunk; without `finish` they are discarded."""

    def __init__(self, folder: Path, number: int) -> None:
        self._json = folder / f"{number:05}.json"
        self._path = folder / f"{number:05}.packets"
        self._number = number
        self._packets: list[PacketEntry] = []
        try:
            self._file: BinaryIO = self._path.open("wb")
        except OSError as error:
            raise storage_error(self._path, error) from error

    def add(self, packet: PacketEntry, payload: bytes) -> None:
        """Write one packet.

        Raises:
            StorageError: The file cannot be written.
        """
        try:
            self._file.write(payload)
        except OSError as error:
            raise storage_error(self._path, error) from error
        self._packets.append(packet)

    def finish(self, extradata: bytes, counts: ChunkCounts) -> FinishedChunk:
        """Mark the chunk as finished.

        Raises:
            StorageError: The file cannot be written.
        """
        finished = FinishedChunk(self._number, tuple(self._packets), extradata, counts, self._path)
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            write_json(self._json, _record(finished))
        except OSError as error:
            raise storage_error(self._path, error) from error
        return finished

    def close(self) -> None:
        """Close the file, whether finished or not."""
        with contextlib.suppress(OSError):  # `add` or `finish` has reported a full disk.
            self._file.close()


class Journal:
    """The journal folder of one conversion.

    Args:
        output: Path of the output.
        job: Everything the output depends on, as JSON data.
    """

    def __init__(self, output: Path, job: dict[str, Any]) -> None:
        self.folder = output.with_name(output.name + FOLDER)
        self._job = job
        self._lock = ProcessLock(self.folder / _LOCK)
        self.resumed = False
        """Whether finished chunks of an earlier run were found."""

    def open(self) -> dict[int, FinishedChunk]:
        """Lock the folder and return finished chunks by number; discard those of another job.

        Raises:
            StorageError: The folder cannot be written, or another run uses it.
        """
        job = self.folder / "job.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._lock.acquire():
                raise StorageError(f"{self.folder}: another run is writing this output")
            if read_json(job) != self._job:
                self._clear()
                write_json(job, self._job)
        except OSError as error:
            raise storage_error(self.folder, error) from error
        finished = {chunk.number: chunk for chunk in self._finished()}
        self.resumed = bool(finished)
        return finished

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()

    def _finished(self) -> Iterator[FinishedChunk]:
        for path in sorted(self.folder.glob("[0-9]*.json")):
            record = read_json(path)
            packets = path.with_suffix(".packets")
            if record is None or not packets.exists():
                continue
            try:
                chunk = _chunk(record, packets)
            except (KeyError, TypeError, ValueError):  # Written by another version of this program.
                continue
            if packets.stat().st_size == sum(packet.size for packet in chunk.packets):
                yield chunk

    def _clear(self) -> None:
        """Delete journal files, and no other files in the folder."""
        for path in self.folder.iterdir():
            if _JOURNAL_FILE.fullmatch(path.name):
                path.unlink()

    @property
    def is_empty(self) -> bool:
        """Whether no chunk is finished."""
        return next(self._finished(), None) is None

    def writer(self, number: int) -> ChunkWriter:
        """Return a writer for the packets of chunk *number*."""
        return ChunkWriter(self.folder, number)

    def remove(self) -> None:
        """Delete the journal of a completed conversion."""
        with contextlib.suppress(OSError):
            self._clear()
            (self.folder / _LOCK).unlink()
            self.folder.rmdir()
        self.close()


def fingerprint(path: Path) -> dict[str, Any]:
    """Return data that identify a recording: path, size, date and a digest of both its ends.

    A conversion is resumed only if its recording has the same fingerprint.
    """
    stat = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_FINGERPRINT_BYTES))
        if stat.st_size > _FINGERPRINT_BYTES:
            file.seek(-_FINGERPRINT_BYTES, os.SEEK_END)
            digest.update(file.read())
    return {
        "path": str(path.absolute()),
        "bytes": stat.st_size,
        "modified_ns": stat.st_mtime_ns,
        "digest": digest.hexdigest(),
    }


def _record(chunk: FinishedChunk) -> dict[str, Any]:
    return {
        "number": chunk.number,
        "extradata": chunk.extradata.hex(),
        "counts": asdict(chunk.counts),
        "packets": [[one.pts, one.size, int(one.keyframe)] for one in chunk.packets],
    }


def _chunk(record: dict[str, Any], payload_file: Path) -> FinishedChunk:
    return FinishedChunk(
        number=record["number"],
        packets=tuple(
            PacketEntry(pts, size, bool(keyframe)) for pts, size, keyframe in record["packets"]
        ),
        extradata=bytes.fromhex(record["extradata"]),
        counts=ChunkCounts(**record["counts"]),
        payload_file=payload_file,
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; `None` if the file is missing or incomplete."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write *value* to *path* as JSON, atomically and durably."""
    write_atomically(path, json.dumps(value).encode())
