"""What is done of a conversion, on disk: a kill at any moment costs the chunks under way.

`<output>.convert/` holds what the job is (`job.json`), and of each chunk the coded pictures one
after another (`00007.packets`) and where each stands and when it is shown (`00007.json`). The
latter is written last and appears in one piece: it is what says that a chunk is done.
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
"""Ends the name of the folder that holds a conversion under way."""

_LOCK: Final = "lock"
_OURS: Final = re.compile(r"(\d{5,}|job|looks)\.(json(\.part)?|new|packets|maps)")
"""Names of all files that are made in that folder, but for the lock. `.new`: by version 0.1."""

_HEAD: Final = 1 << 20
"""Bytes at either end of a recording by which it is known again, with its size and date."""


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """One packet of the encoder."""

    pts: int
    """In ticks of the conversion."""

    size: int
    """Bytes."""

    keyframe: bool


@dataclass(frozen=True, slots=True)
class ChunkCounts:
    """What became of the pictures of a chunk."""

    pictures: int = 0
    """Of the recording, decoded."""

    shown: int = 0
    """Of the conversion."""

    synthetic: int = 0
    """Of those, made by interpolation."""

    cuts: int = 0
    """Intervals in which the picture before was repeated rather than mixed with the next."""

    repeats: int = 0
    """Pictures of the recording that repeat the one before."""

    enhanced: int = 0
    damaged: int = 0
    """Pictures of the recording that could not be decoded."""

    def __add__(self, other: "ChunkCounts") -> "ChunkCounts":
        """Both together."""
        mine, others = asdict(self), asdict(other)
        return ChunkCounts(**{name: mine[name] + others[name] for name in mine})


@dataclass(frozen=True, slots=True)
class FinishedChunk:
    """A chunk that is done."""

    number: int
    pictures: tuple[CodedPicture, ...]
    """In coding order."""

    extradata: bytes
    """The encoder's parameter sets."""

    counts: ChunkCounts
    packets: Path

    def payloads(self) -> Iterator[tuple[CodedPicture, bytes]]:
        """Each packet with what is in it.

        Raises:
            StorageError: The file is not as long as it was.
        """
        with self.packets.open("rb") as file:
            for picture in self.pictures:
                payload = file.read(picture.size)
                if len(payload) != picture.size:
                    raise StorageError(f"{self.packets} was cut short; delete its folder")
                yield picture, payload


class ChunkWriter:
    """Takes the packets of one chunk; nothing counts before `finish`."""

    def __init__(self, folder: Path, number: int) -> None:
        self._json = folder / f"{number:05}.json"
        self._path = folder / f"{number:05}.packets"
        self._number = number
        self._pictures: list[CodedPicture] = []
        self._file: BinaryIO = self._open()

    def _open(self) -> BinaryIO:
        try:
            return self._path.open("wb")
        except OSError as error:
            raise storage_error(self._path, error) from error

    def add(self, picture: CodedPicture, payload: bytes) -> None:
        """Write one packet.

        Raises:
            StorageError: The disk does not take it.
        """
        try:
            self._file.write(payload)
        except OSError as error:
            raise storage_error(self._path, error) from error
        self._pictures.append(picture)

    def finish(self, extradata: bytes, counts: ChunkCounts) -> FinishedChunk:
        """Say that the chunk is done.

        Raises:
            StorageError: The disk does not take it.
        """
        finished = FinishedChunk(self._number, tuple(self._pictures), extradata, counts, self._path)
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            write_json(self._json, _record(finished))
        except OSError as error:
            raise storage_error(self._path, error) from error
        return finished

    def close(self) -> None:
        """Give the file back, finished or not."""
        with contextlib.suppress(OSError):  # What a full disk did not take is not worth a word.
            self._file.close()


class Journal:
    """The folder of one conversion.

    Args:
        output: What the conversion will be called.
        job: Everything the result depends on, as JSON can hold it.
    """

    def __init__(self, output: Path, job: dict[str, Any]) -> None:
        self.folder = output.with_name(output.name + FOLDER)
        self._job = job
        self._lock = ProcessLock(self.folder / _LOCK)
        self.resumed = False
        """Whether a part was done before."""

    def open(self) -> dict[int, FinishedChunk]:
        """The chunks that are done, by number; begin anew if they belong to another job.

        Raises:
            StorageError: The folder cannot be written.
        """
        job = self.folder / "job.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._lock.acquire():
                raise StorageError(f"{self.folder}: another run is at work on this output")
            if read_json(job) != self._job:
                self._clear()
                write_json(job, self._job)
        except OSError as error:
            raise storage_error(self.folder, error) from error
        finished = {chunk.number: chunk for chunk in self._finished()}
        self.resumed = bool(finished)
        return finished

    def close(self) -> None:
        """Let other runs in."""
        self._lock.release()

    def _finished(self) -> Iterator[FinishedChunk]:
        for path in sorted(self.folder.glob("[0-9]*.json")):
            record = read_json(path)
            packets = path.with_suffix(".packets")
            if record is None or not packets.exists():
                continue
            try:
                chunk = _chunk(record, packets)
            except (KeyError, TypeError, ValueError):  # Another version of this program's.
                continue
            if packets.stat().st_size == sum(picture.size for picture in chunk.pictures):
                yield chunk

    def _clear(self) -> None:
        """Delete what conversions leave here, and nothing that anybody else did."""
        for path in self.folder.iterdir():
            if _OURS.fullmatch(path.name):
                path.unlink()

    @property
    def empty(self) -> bool:
        """Whether no chunk is done."""
        return next(self._finished(), None) is None

    def writer(self, number: int) -> ChunkWriter:
        """Where the packets of chunk *number* go."""
        return ChunkWriter(self.folder, number)

    def remove(self) -> None:
        """The conversion is whole: nothing of this is needed."""
        with contextlib.suppress(OSError):
            self._clear()
            (self.folder / _LOCK).unlink()
            self.folder.rmdir()
        self.close()


def identity(path: Path) -> dict[str, Any]:
    """By what a recording is known again: a changed one must not be gone on with."""
    stat = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_HEAD))
        if stat.st_size > _HEAD:
            file.seek(-_HEAD, os.SEEK_END)
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
        "pictures": [[one.pts, one.size, int(one.keyframe)] for one in chunk.pictures],
    }


def _chunk(record: dict[str, Any], packets: Path) -> FinishedChunk:
    return FinishedChunk(
        number=record["number"],
        pictures=tuple(
            CodedPicture(pts, size, bool(keyframe)) for pts, size, keyframe in record["pictures"]
        ),
        extradata=bytes.fromhex(record["extradata"]),
        counts=ChunkCounts(**record["counts"]),
        packets=packets,
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """What stands there; `None` for nothing, and for half of something."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write *value* to *path* as JSON, atomically."""
    write_atomically(path, json.dumps(value).encode())
