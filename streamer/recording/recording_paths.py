"""Paths of continuous recordings: `<folder>/2026-08-01/14-05-00_000042.mp4`, in UTC.

A name states when a recording begins and its sequence number, which gives the order of all
recordings of the program whatever the clock showed. A `c` behind the number says that the clock was
wrong and the name was corrected afterwards; times inside the file were not. Names distinguish
recordings from other files in the same tree, which are never touched. Earlier versions wrote no
number: such files are older than all that have one.
"""

import os
import re
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from streamer.core.atomic_file import PART

_DAY: Final = "%Y-%m-%d"
_TIME: Final = "%H-%M-%S"
_DAY_NAME: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_FILE_NAME: Final = re.compile(
    rf"(\d\d)-(\d\d)-(\d\d)(?:-\d+|_(?P<number>\d{{1,18}})(?P<fixed>c)?)?\.(mp4|mkv)(?P<part>{re.escape(PART)})?",
    re.ASCII,
)


class RecordingNumbers:
    """Counts the recordings of all cameras of a program. For any thread.

    Args:
        root: Holds the recordings of all cameras. The first number follows the highest one there;
            it is read when a number is needed.
        at_least: Smallest number: earlier ones belonged to files that are gone.
    """

    def __init__(self, root: Path, *, at_least: int = 1) -> None:
        self._root = root
        self._at_least = at_least
        self._lock = threading.Lock()
        self._next: int | None = None  # Guarded by _lock.

    def peek(self) -> int:
        """Return the number that `take` returns next."""
        with self._lock:
            return self._known()

    def take(self) -> int:
        """Return a number that no recording has."""
        with self._lock:
            number = self._known()
            self._next = number + 1
            return number

    def _known(self) -> int:
        if self._next is None:  # Once: a hundred thousand names take a third of a second.
            names = (name for _, _, names in os.walk(self._root) for name in names)
            highest = max(map(sequence_number, names), default=0)
            self._next = max(highest + 1, self._at_least)
        return self._next


def recording_path(folder: Path, start_utc: datetime, suffix: str, *, number: int) -> Path:
    """Return the path of the recording with this sequence number."""
    name = f"{start_utc.strftime(_TIME)}_{number:06d}{suffix}"
    return folder / start_utc.strftime(_DAY) / name


def corrected_path(path: Path, start_utc: datetime) -> Path:
    """Return the path of a recording that began at *start_utc* and not when its name says."""
    name = f"{start_utc.strftime(_TIME)}_{sequence_number(path.name):06d}c{path.suffix}"
    return path.parent.parent / start_utc.strftime(_DAY) / name


def is_day(name: str) -> bool:
    """Whether a folder of this name holds recordings of one day."""
    return _DAY_NAME.fullmatch(name) is not None


def is_part(name: str) -> bool:
    """Whether a file of this name is a recording that is being written or was interrupted."""
    match = _FILE_NAME.fullmatch(name)
    return match is not None and match["part"] is not None


def sequence_number(name: str) -> int:
    """Return the sequence number in the name of a recording; 0 if it has none."""
    match = _FILE_NAME.fullmatch(name)
    return 0 if match is None else int(match["number"] or 0)


class RecordingName(NamedTuple):
    """What the path of a recording says."""

    start: datetime
    """When it begins, aware UTC."""

    number: int
    """Its sequence number; 0 if it has none."""

    part: bool
    """Whether it is being written or was interrupted."""

    corrected: bool
    """Whether the time was corrected afterwards."""


def parse_recording(day: str, name: str) -> RecordingName | None:
    """Return what the recording *name* in the folder *day* says; `None` if it is none."""
    match = _FILE_NAME.fullmatch(name)
    if match is None or not is_day(day):
        return None
    hours, minutes, seconds, number, corrected, _, part = match.groups()
    numbers = (day[:4], day[5:7], day[8:], hours, minutes, seconds)
    try:
        # An archive has a hundred thousand names, and this takes a fifth of `strptime`'s time.
        start = datetime(*map(int, numbers), tzinfo=UTC)  # type: ignore[arg-type, misc]
    except ValueError:  # Looks like a time, but there is no such time.
        return None
    return RecordingName(start, int(number or 0), part is not None, corrected is not None)
