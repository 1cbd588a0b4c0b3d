"""The detections of a whole recording, on disk beside its chunks: a resumed run reuses them.

`detections.maps` holds the compressed probability maps of all inferences one after another;
`detections.json` holds the time of each and the alarm status after it. The latter is written last
and atomically: an incomplete pass cannot be continued, because the alarm state spans minutes.
"""

import bisect
import contextlib
import itertools
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from streamer.core.atomic_file import storage_error
from streamer.core.errors import StorageError
from streamer.core.frame import AlarmState, AlarmStatus, Detection, SegmentationResult

from .journal import read_json, write_json

_MAPS: Final = "detections.maps"
_INDEX: Final = "detections.json"
_LEVELS: Final = 255
"""A probability of 1 as it is stored, in eight bits."""


@dataclass(frozen=True, slots=True)
class _Entry:
    pts_ns: int
    alarm_status: AlarmStatus
    shape: tuple[int, int]
    """Height and width of the map."""

    size: int
    """Bytes of the compressed map."""


class DetectionLogWriter:
    """Writes the inferences of one pass in order of time; without `finish` they are discarded.

    Raises:
        StorageError: From any method except `close`: the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: list[_Entry] = []
        try:
            self._file: BinaryIO = (folder / _MAPS).open("wb")
        except OSError as error:
            raise storage_error(folder / _MAPS, error) from error

    def add(self, smoke: SegmentationResult, alarm_status: AlarmStatus) -> None:
        """Write one inference and the alarm status after it."""
        levels = np.rint(smoke.probability * _LEVELS).astype(np.uint8)
        data = zlib.compress(levels.tobytes(), 1)
        try:
            self._file.write(data)
        except OSError as error:
            raise storage_error(self._folder / _MAPS, error) from error
        height, width = levels.shape
        self._entries.append(_Entry(smoke.pts_ns, alarm_status, (height, width), len(data)))

    def finish(self) -> "DetectionLog":
        """Write the index, which makes the pass complete."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            write_json(
                self._folder / _INDEX, {"detections": [_record(one) for one in self._entries]}
            )
        except OSError as error:
            raise storage_error(self._folder / _INDEX, error) from error
        return DetectionLog(self._folder / _MAPS, self._entries)

    def close(self) -> None:
        """Close the file, whether finished or not."""
        with contextlib.suppress(OSError):  # `add` or `finish` has reported a full disk.
            self._file.close()


class DetectionLog:
    """All inferences of a pass in order of time. Maps are read from disk on access. Thread-safe."""

    def __init__(self, maps: Path, entries: Sequence[_Entry]) -> None:
        self._maps = maps
        self._entries = tuple(entries)
        self._times = [one.pts_ns for one in entries]
        self._offsets = [0, *itertools.accumulate(one.size for one in entries)]

    def __len__(self) -> int:
        """Return the number of inferences."""
        return len(self._entries)

    @property
    def alarms(self) -> tuple[int, ...]:
        """Media times in nanoseconds at which an alarm began."""
        began = {
            one.alarm_status.since_ns
            for one in self._entries
            if one.alarm_status.state is AlarmState.ALARM
        }
        return tuple(sorted(began))

    def before(self, pts_ns: int) -> int | None:
        """Return the index of the last inference at or before *pts_ns*; `None` before the first."""
        number = bisect.bisect_right(self._times, pts_ns) - 1
        return None if number < 0 else number

    def __getitem__(self, number: int) -> tuple[SegmentationResult, AlarmStatus]:
        """Return an inference and the alarm status after it.

        Raises:
            StorageError: The file is damaged.
        """
        entry = self._entries[number]
        try:
            with self._maps.open("rb") as file:
                file.seek(self._offsets[number])
                levels = np.frombuffer(zlib.decompress(file.read(entry.size)), np.uint8)
            probability = levels.reshape(entry.shape).astype(np.float32)
            probability /= _LEVELS
        except (OSError, ValueError, zlib.error) as error:
            raise StorageError(f"{self._maps} is damaged: delete its folder") from error
        probability.flags.writeable = False
        return SegmentationResult(probability, entry.pts_ns), entry.alarm_status


def load_detections(folder: Path) -> DetectionLog | None:
    """Return the inferences of a completed pass; `None` if there is none."""
    index, maps = read_json(folder / _INDEX), folder / _MAPS
    if index is None or not maps.exists():
        return None
    entries = [_entry(record) for record in index["detections"]]
    complete = maps.stat().st_size == sum(entry.size for entry in entries)
    return DetectionLog(maps, entries) if complete else None


def _record(entry: _Entry) -> dict[str, Any]:
    return {
        "pts_ns": entry.pts_ns,
        "state": entry.alarm_status.state.value,
        "since_ns": entry.alarm_status.since_ns,
        "regions": [asdict(region) for region in entry.alarm_status.regions],
        "shape": entry.shape,
        "bytes": entry.size,
    }


def _entry(record: dict[str, Any]) -> _Entry:
    height, width = record["shape"]
    regions = tuple(_region(one) for one in record["regions"])
    alarm_status = AlarmStatus(AlarmState(record["state"]), record["since_ns"], regions)
    return _Entry(record["pts_ns"], alarm_status, (height, width), record["bytes"])


def _region(record: dict[str, Any]) -> Detection:
    places = {name: tuple(record[name]) for name in ("box", "centroid", "ground_point")}
    return Detection(**{**record, **places})
