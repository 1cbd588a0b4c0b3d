"""Names of numbered output files: `north-0001_2026-08-01T14-05-00Z.mp4` for `north.mp4`.

The number gives the order; the time is that of the first frame, in UTC, and is missing where the
clock was not believed. The file `north.mp4` itself, where there is one, is the first.
"""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from streamer.core.atomic_file import PART, part_path
from streamer.recording.expiry import Item, true_times
from streamer.recording.retention import DeletionRound

_TIME: Final = "%Y-%m-%dT%H-%M-%SZ"


def first_output(path: Path) -> Path | None:
    """Return *path* if nothing has its name yet and no numbered file exists."""
    taken = path.exists() or part_path(path).exists() or _numbers(path)
    return None if taken else path


def next_output(path: Path, start_utc: datetime | None) -> Path:
    """Return the path of the next numbered file of *path*.

    Args:
        path: As in the configuration.
        start_utc: Wall time of the first frame; `None` if it cannot be believed.
    """
    number = max(_numbers(path), default=1 if path.exists() else 0) + 1
    time = "" if start_utc is None else f"_{start_utc.astimezone(UTC).strftime(_TIME)}"
    return path.with_name(f"{path.stem}-{number:04d}{time}{path.suffix}")


def output_parts(path: Path) -> list[Path]:
    """Return the parts that a killed program left of *path* and its numbered files."""
    names = sorted(name for match, name in _found(path) if match["part"])
    parts = [part_path(path), *(path.with_name(name) for name in names)]
    return [part for part in parts if part.is_file()]


def output_round(
    path: Path, *, now: datetime, stop: Callable[[], bool] = lambda: False
) -> DeletionRound:
    """Return the numbered files of *path* for a round of retention, oldest first.

    Args:
        path: As in the configuration.
        now: Wall time.
        stop: Returns whether the program ends.
    """
    failed: list[str] = []
    found = sorted(
        ((int(match["number"]), match, name) for match, name in _found(path)),
        key=lambda one: one[0],
    )
    times = true_times([_time(match["time"]) for _, match, _ in found], now=now)
    items = []
    for (_, match, name), time in zip(found, times, strict=True):
        file = path.with_name(name)
        try:
            size = file.lstat().st_size
        except FileNotFoundError:  # It has just got its name.
            continue
        except OSError as error:
            failed.append(f"{error.filename}: {error.strerror}")
            continue
        items.append(Item(str(file), path.name, size, time, protected=match["part"] is not None))
    return DeletionRound(items, what="output files", failed=failed, stop=stop)


def _numbers(path: Path) -> list[int]:
    return [int(match["number"]) for match, _ in _found(path)]


def _found(path: Path) -> list[tuple[re.Match[str], str]]:
    pattern = re.compile(
        rf"{re.escape(path.stem)}-(?P<number>\d{{4,9}})"
        rf"(?:_(?P<time>\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\dZ))?"
        rf"{re.escape(path.suffix)}(?P<part>{re.escape(PART)})?",
        re.ASCII,
    )
    try:
        names = os.listdir(path.parent)  # noqa: PTH208  names, no paths: there may be many
    except OSError:  # It is made with the first file.
        return []
    return [(match, name) for name in names if (match := pattern.fullmatch(name))]


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
