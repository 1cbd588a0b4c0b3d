"""Deletes recordings of all cameras, oldest first, by age, size and free space.

Only files with the name of a recording in the folder of a day are ever deleted: evidence, parts and
all other files stay. What is decided is in `expiry.py`; here are the files.
"""

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, Self

import structlog

from streamer.core.clock_guard import Correction

from .expiry import Item, Limits, Reason, expired, true_times
from .recording_paths import RecordingName, corrected_path, is_day, parse_recording

_log = structlog.get_logger(__name__)

_YOUNG_DAY: Final = timedelta(days=1)
"""Younger folders stay even if empty: a recorder may have made one for its next file."""

_MAX_FAILURES: Final = 20
"""A round ends after this many files that cannot be deleted. Arbitrary."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """Something that was deleted."""

    path: Path
    bytes: int
    reason: Reason


class DeletionRound:
    """Files of one kind, oldest first, and what one round of retention does with them.

    Args:
        items: Oldest first; their keys are paths.
        what: Name of the kind for the report, e.g. `recordings`.
        failed: One line for each file or folder that could not be read.
        stop: Returns whether the program ends: then the round ends between two files.
    """

    def __init__(
        self,
        items: Iterable[Item],
        *,
        what: str,
        failed: Iterable[str] = (),
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.items = list(items)
        self.what = what
        self.deleted: list[Deleted] = []
        self.failed = list(failed)
        self.kept_files = len(self.items)
        self.kept_bytes = sum(item.bytes for item in self.items)
        self._gone: set[str] = set()
        self._failures = 0
        self._stop = stop

    def apply(
        self,
        *,
        total: Limits,
        limits_of: Callable[[str], Limits] = lambda _: Limits(),
        now: datetime | None,
    ) -> None:
        """Delete what exceeds the limits; arguments as those of `expired`."""
        for item, reason in expired(self.items, total=total, limits_of=limits_of, now=now):
            if not self._may_go_on():
                return
            self._delete(item, reason)

    def free(self, missing: int) -> int:
        """Delete the oldest until *missing* bytes were freed; return how many are still missing.

        Never more than that: where deletion frees nothing, as on disks with snapshots, a round must
        not empty the archive.
        """
        queue = deque(one for one in self.items if not one.protected and one.key not in self._gone)
        while missing > 0 and queue and self._may_go_on():
            missing -= self._delete(queue.popleft(), Reason.FREE_SPACE)
        return missing

    def oldest(self, count: int) -> Self:
        """Return a round of the *count* oldest that are left, for `free` between two rounds."""
        left = (one for one in self.items if not one.protected and one.key not in self._gone)
        return type(self)(itertools.islice(left, count), what=self.what, stop=self._stop)

    def describe(self) -> str:
        """Return what happened in one line of text; empty if nothing did."""
        parts = [
            f"deleted {len(gone)} {self.what} ({sum(one.bytes for one in gone) / 1e6:.0f} MB):"
            f" {reason.value}"
            for reason in Reason
            if (gone := [one for one in self.deleted if one.reason is reason])
        ]
        if self.failed:
            parts.append(f"{len(self.failed)} could not be deleted: {self.failed[0]}")
        return "; ".join(parts)

    def _may_go_on(self) -> bool:
        return self._failures < _MAX_FAILURES and not self._stop()

    def _delete(self, item: Item, reason: Reason) -> int:
        """Delete one file and return the bytes that were freed."""
        try:
            os.unlink(item.key)  # noqa: PTH108  an archive has a hundred thousand files
        except FileNotFoundError:  # Deleted elsewhere: the space is free.
            pass
        except OSError as error:
            self.failed.append(_line(error))
            self._failures += 1
            return 0
        else:
            self.deleted.append(Deleted(Path(item.key), item.bytes, reason))
        self._gone.add(item.key)
        self.kept_files -= 1
        self.kept_bytes -= item.bytes
        return item.bytes


class _Recording(NamedTuple):
    name: RecordingName
    path: str
    bytes: int
    camera: str


class Recordings:
    """All recordings below a folder, also of cameras that are gone.

    Recordings are found by name at any depth; links are not followed.

    Args:
        root: Holds the folders of the cameras; it need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def round(
        self,
        *,
        now: datetime,
        is_known: Callable[[int], bool] = lambda _: True,
        stop: Callable[[], bool] = lambda: False,
    ) -> DeletionRound:
        """Return all recordings, oldest first, grouped by the name of their camera's folder.

        Args:
            now: Wall time, aware.
            is_known: Whether the time in the name of the file with this number can be believed.
            stop: Whether the program ends.
        """
        failed: list[str] = []
        found = sorted(
            self._find(failed), key=lambda one: (one.name.number, one.name.start, one.path)
        )
        claims = [
            one.name.start if not one.name.number or is_known(one.name.number) else None
            for one in found
        ]
        times = true_times(claims, now=now)
        items = (
            Item(one.path, one.camera, one.bytes, time, protected=one.name.part)
            for one, time in zip(found, times, strict=True)
        )
        return DeletionRound(items, what="recordings", failed=failed, stop=stop)

    def correct(self, correction: Correction) -> bool:
        """Rename the recordings of *correction* to their true times.

        Returns:
            Whether all are renamed. A file that is still being written gets its turn later, and so
            does one that cannot be renamed, as where a full disk has no room for a folder.
        """
        done, failed = True, list[str]()
        for one in self._find([]):
            number = one.name.number
            in_range = number >= correction.first and (
                correction.end is None or number < correction.end
            )
            if not number or not in_range or one.name.corrected:
                continue
            if one.name.part:
                done = False
                continue
            path = Path(one.path)
            new = corrected_path(path, one.name.start + correction.shift)
            try:
                new.parent.mkdir(parents=True, exist_ok=True)
                path.rename(new)
            except OSError as error:
                failed.append(_line(error))
        if failed:
            _log.warning("recordings keep a wrong time", count=len(failed), reason=failed[0])
        return done and not failed

    def remove_empty_days(self, now: datetime) -> None:
        """Remove the folders of days without files, but those around today."""
        for folder, _, names in os.walk(self._root):
            day = os.path.basename(folder)  # noqa: PTH119  as above
            if names or not is_day(day):
                continue
            first, last = (
                (now + span).astimezone(UTC).date().isoformat()
                for span in (-_YOUNG_DAY, _YOUNG_DAY)
            )
            if not first <= day <= last:
                with contextlib.suppress(OSError):  # Not empty after all.
                    os.rmdir(folder)  # noqa: PTH106  as above

    def _find(self, failed: list[str]) -> Iterator[_Recording]:
        def fail(error: OSError) -> None:
            # A file that vanished is no failure: a part was renamed, or there is no folder yet.
            if not isinstance(error, FileNotFoundError):
                failed.append(_line(error))

        for folder, _, names in os.walk(self._root, onerror=fail):
            day = os.path.basename(folder)  # noqa: PTH119  as above
            if not is_day(day):
                continue
            camera = os.path.relpath(os.path.dirname(folder), self._root)  # noqa: PTH120  as above
            for name in names:
                parsed = parse_recording(day, name)
                if parsed is None:
                    continue
                path = os.path.join(folder, name)  # noqa: PTH118  as above
                try:
                    size = os.lstat(path).st_size
                except OSError as error:
                    fail(error)
                    continue
                yield _Recording(parsed, path, size, camera)


def _line(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"
