"""Retention: deletes recordings by age, total size and free space of the disk.

Only files with the name of a recording in the folder of a day are ever deleted: evidence, parts and
all other files stay. Free space is measured, not computed, because recordings share the disk.
"""

import contextlib
import enum
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from .recording_paths import is_day, is_part, recording_start

_YOUNG_DAY: Final = timedelta(days=1)
"""Younger folders stay even if empty: a recorder may have made one for its next file."""

_MAX_FAILURES: Final = 20
"""A round ends after this many files that cannot be deleted. Arbitrary."""


class Reason(enum.Enum):
    """Why a recording was deleted."""

    AGE = "older than the age limit"
    SIZE = "the recordings exceeded the size limit"
    FREE_SPACE = "the disk was almost full"


@dataclass(frozen=True, slots=True)
class Deleted:
    """A recording that was deleted."""

    path: Path
    bytes: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """Result of one round of retention."""

    deleted: tuple[Deleted, ...]
    """In the order of deletion, oldest first."""

    failed: tuple[str, ...]
    """One line for each recording or folder that could not be read or deleted."""

    kept_files: int
    kept_bytes: int
    """With parts, which occupy space too."""

    free_bytes: int
    """On the disk, after deleting."""

    must_pause: bool
    """Whether recording must pause: the disk is almost full and nothing more can be deleted."""

    def describe(self) -> str:
        """Return what happened in one line of text; empty if nothing did."""
        parts = [
            f"deleted {len(gone)} recordings ({sum(one.bytes for one in gone) / 1e6:.0f} MB): "
            f"{reason.value}"
            for reason in Reason
            if (gone := [one for one in self.deleted if one.reason is reason])
        ]
        if self.failed:
            parts.append(f"{len(self.failed)} could not be deleted: {self.failed[0]}")
        if self.must_pause:
            parts.append(f"recording must pause: only {self.free_bytes / 1e6:.0f} MB are free")
        return "; ".join(parts)


def free_bytes(folder: Path) -> int:
    """Return the bytes that an ordinary user may write to the disk that holds *folder*.

    The folder need not exist yet.
    """
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True)
class _Recording:
    start: datetime
    path: str
    bytes: int


class _Round:
    """One call of `enforce`: recordings found, deleted, and not deletable."""

    def __init__(self, folder: Path) -> None:
        self.deleted: list[Deleted] = []
        self.failed: list[str] = []
        self.kept_files = self.kept_bytes = 0
        self._failures = 0
        self._days: list[str] = []
        found: list[_Recording] = []
        for day, _, names in os.walk(folder, onerror=self._fail):
            if is_day(os.path.basename(day)):  # noqa: PTH119  a year has half a million files
                self._days.append(day)
                found.extend(self._recordings(day, names))
        self.queue = deque(sorted(found, key=lambda one: (one.start, one.path)))
        """Recordings that may be deleted, oldest first."""

    def _recordings(self, day: str, names: list[str]) -> Iterator[_Recording]:
        for name in names:
            start = recording_start(os.path.basename(day), name)  # noqa: PTH119  as above
            if start is None:
                continue
            path = os.path.join(day, name)  # noqa: PTH118  as above
            try:
                status = os.lstat(path)
            except OSError as error:
                self._fail(error)
                continue
            self.kept_files += 1
            self.kept_bytes += status.st_size
            if not is_part(name):
                yield _Recording(start, path, status.st_size)

    @property
    def can_delete(self) -> bool:
        """Whether there is something to delete and deletion works."""
        return bool(self.queue) and self._failures < _MAX_FAILURES

    def delete_oldest(self, reason: Reason) -> int:
        """Delete the oldest recording and return the bytes that were freed."""
        one = self.queue.popleft()
        try:
            os.unlink(one.path)  # noqa: PTH108  as above
        except FileNotFoundError:  # Deleted elsewhere: the space is free.
            pass
        except OSError as error:
            self._fail(error)
            self._failures += 1
            return 0
        else:
            self.deleted.append(Deleted(Path(one.path), one.bytes, reason))
        self.kept_files -= 1
        self.kept_bytes -= one.bytes
        return one.bytes

    def remove_empty_days(self, before: date) -> None:
        """Remove empty folders of days before *before*."""
        for day in self._days:
            if os.path.basename(day) < before.isoformat():  # noqa: PTH119  as above
                with contextlib.suppress(OSError):  # Not empty: the normal case.
                    os.rmdir(day)  # noqa: PTH106  as above

    def _fail(self, error: OSError) -> None:
        # A file that vanished is no failure: a part was renamed, or the folder does not exist yet.
        if not isinstance(error, FileNotFoundError):
            self.failed.append(f"{error.filename}: {error.strerror}")


class Retention:
    """Deletes the oldest recordings under a folder, of all cameras together.

    Recordings are found by name, `YYYY-MM-DD/HH-MM-SS.mp4`, at any depth; links are not
    followed. The limits apply in this order: age; total size; free space of the disk. The last is
    for emergencies: it deletes recordings within the other limits, as many bytes as are missing; if
    that does not help, `must_pause` is set. It never deletes more than is missing in one round:
    where deletion frees nothing, as on disks with snapshots, a call must not empty the archive.

    Args:
        folder: Holds the recordings; it need not exist yet.
        max_age_s: Age limit, counted from the beginning of a recording; `None` for no limit.
        max_bytes: Limit of the size of all recordings together; `None` for no limit.
        min_free_bytes: Bytes that must stay free on the disk; 0 for no limit.
        measure_free: Returns the free space of the disk that holds a folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_age_s: float | None,
        max_bytes: int | None,
        min_free_bytes: int,
        measure_free: Callable[[Path], int] = free_bytes,
    ) -> None:
        if max_age_s is not None and max_age_s <= 0:
            raise ValueError(f"max_age_s must be positive, got {max_age_s}")
        if max_bytes is not None and max_bytes <= 0:
            raise ValueError(f"max_bytes must be positive, got {max_bytes}")
        if min_free_bytes < 0:
            raise ValueError(f"min_free_bytes must not be negative, got {min_free_bytes}")
        self._folder = folder
        self._max_age = None if max_age_s is None else timedelta(seconds=max_age_s)
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._measure_free = measure_free

    def enforce(self, now: datetime) -> RetentionReport:
        """Apply the limits once; *now* is the wall time, aware.

        Raises:
            OSError: The free space cannot be measured.
        """
        done = _Round(self._folder)
        while done.can_delete and self._too_old(done.queue[0], now):
            done.delete_oldest(Reason.AGE)
        while done.can_delete and self._max_bytes is not None and done.kept_bytes > self._max_bytes:
            done.delete_oldest(Reason.SIZE)
        missing = self._min_free_bytes - self._measure_free(self._folder)
        while done.can_delete and missing > 0:
            missing -= done.delete_oldest(Reason.FREE_SPACE)
        done.remove_empty_days(before=(now - _YOUNG_DAY).astimezone(UTC).date())
        free = self._measure_free(self._folder)
        return RetentionReport(
            deleted=tuple(done.deleted),
            failed=tuple(done.failed),
            kept_files=done.kept_files,
            kept_bytes=done.kept_bytes,
            free_bytes=free,
            must_pause=free < self._min_free_bytes,
        )

    def _too_old(self, one: _Recording, now: datetime) -> bool:
        return self._max_age is not None and now - one.start > self._max_age
