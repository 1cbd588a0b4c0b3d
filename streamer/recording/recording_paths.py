"""Paths of continuous recordings: `<folder>/2026-08-01/14-05-00.mp4`, in UTC.

Names state when a recording begins, sort by time, and distinguish recordings from other files in
the same tree, which are never touched.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from streamer.core.atomic_file import PART

_DAY: Final = "%Y-%m-%d"
_TIME: Final = "%H-%M-%S"
_DAY_NAME: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_FILE_NAME: Final = re.compile(
    rf"(\d\d)-(\d\d)-(\d\d)(-\d+)?\.(mp4|mkv)(?P<part>{re.escape(PART)})?", re.ASCII
)


def recording_path(folder: Path, start_utc: datetime, suffix: str) -> Path:
    """Return an unused path; `-2`, `-3`, ... for further starts in the same second."""
    plain = folder / start_utc.strftime(_DAY) / f"{start_utc.strftime(_TIME)}{suffix}"
    path, number = plain, 1
    while path.exists() or path.with_name(path.name + PART).exists():
        number += 1
        path = plain.with_stem(f"{plain.stem}-{number}")
    return path


def is_day(name: str) -> bool:
    """Whether a folder of this name holds recordings of one day."""
    return _DAY_NAME.fullmatch(name) is not None


def is_part(name: str) -> bool:
    """Whether a file of this name is a recording that is being written or was interrupted."""
    match = _FILE_NAME.fullmatch(name)
    return match is not None and match["part"] is not None


def recording_start(day: str, name: str) -> datetime | None:
    """Return when the recording *name* in the folder *day* begins; `None` if it is none."""
    match = _FILE_NAME.fullmatch(name)
    if match is None or not is_day(day):
        return None
    numbers = (day[:4], day[5:7], day[8:], match[1], match[2], match[3])
    try:
        # An archive has a hundred thousand names, and this takes a fifth of `strptime`'s time.
        return datetime(*map(int, numbers), tzinfo=UTC)  # type: ignore[arg-type, misc]
    except ValueError:  # Looks like a time, but there is no such time.
        return None
