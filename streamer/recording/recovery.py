"""Makes ordinary files of the parts that a killed writer left.

A part is a sequence of MP4 boxes (`size, kind, content`), of which only the last can be torn.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from streamer.core.atomic_file import PART, publish, storage_error
from streamer.core.errors import StorageError

from .recording_paths import is_day, is_part

_log = structlog.get_logger(__name__)

_HEAD: Final = 8
"""Bytes of size and kind in front of each box; 8 more where the size does not fit 32 bits."""


def recover_part(part: Path, path: Path) -> bool:
    """Truncate the torn end of *part* and rename it to *path*; nothing may be writing it.

    Returns:
        Whether it holds any frame; if not, the part is deleted and *path* is not made.

    Raises:
        StorageError: The disk does not allow it.
    """
    if part.suffix != PART:
        raise ValueError(f"{part} has no suffix {PART}")
    try:
        with part.open("r+b") as file:
            whole = _whole_bytes(file) if path.suffix == ".mp4" else os.fstat(file.fileno()).st_size
            file.truncate(whole)
            os.fsync(file.fileno())
        if not whole:
            part.unlink()
            return False
        publish(part, path)
    except OSError as error:
        raise storage_error(path, error) from error
    return True


def recover_recordings(root: Path, *, stop: Callable[[], bool] = lambda: False) -> int:
    """Make ordinary files of the parts of recordings below *root*; nothing may be writing there.

    Args:
        root: Searched at any depth.
        stop: Called before each file: whether to leave the rest.

    Returns:
        How many were made.
    """
    done = 0
    for folder, _, names in os.walk(root):
        if not is_day(Path(folder).name):
            continue
        for name in filter(is_part, names):
            if stop():
                return done
            part = Path(folder, name)
            try:
                found = recover_part(part, part.with_suffix(""))
            except StorageError as error:  # The others may be better off.
                _log.warning("cannot recover a recording", path=str(part), reason=str(error))
                continue
            done += found
            _log.info("recovered" if found else "nothing to recover", path=str(part))
    return done


def _whole_bytes(file: BinaryIO) -> int:
    """Return the bytes of an MP4 file that can be played: to the end of the last whole fragment.

    A file killed after its index was written, but before the index was switched on, is still a
    sequence of fragments; one with the index in use is whole.
    """
    whole = 0
    seen: set[bytes] = set()
    for kind, end in _whole_boxes(file):
        first_index_last = kind == b"moov" and b"mdat" in seen and b"moov" not in seen
        if first_index_last or (kind == b"mdat" and b"moov" in seen):
            whole = end
        seen.add(kind)
    return whole


def _whole_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    total = os.fstat(file.fileno()).st_size
    start = 0
    while start + _HEAD <= total:
        file.seek(start)
        head = file.read(2 * _HEAD)
        size = int.from_bytes(head[:4])
        if size == 1:
            size = int.from_bytes(head[_HEAD:])
        if size < _HEAD or start + size > total:
            return
        start += size
        yield head[4:_HEAD], start
