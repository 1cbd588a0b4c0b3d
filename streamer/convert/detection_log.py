"""What was seen in a recording, on disk beside its chunks: who resumes does not look again.

`looks.maps` holds the maps of all looks, one after another, each compressed; `looks.json` when
each was taken and what the alarm made of it. The latter is written last and appears in one piece:
the alarm remembers minutes, so half of a pass could not be gone on with.
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

_MAPS: Final = "looks.maps"
_INDEX: Final = "looks.json"
_STEPS: Final = 255
"""Of a probability as it is kept."""


@dataclass(frozen=True, slots=True)
class _Look:
    pts_ns: int
    alarm_status: AlarmStatus
    shape: tuple[int, int]
    """Of the map."""

    size: int
    """Bytes of the map, compressed."""


class DetectionLogWriter:
    """Takes the looks of one pass, in order of time; nothing counts before `finish`.

    Args:
        folder: Of the conversion.

    Raises:
        StorageError: From any method but `close`: the disk does not take it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looks: list[_Look] = []
        try:
            self._file: BinaryIO = (folder / _MAPS).open("wb")
        except OSError as error:
            raise storage_error(folder / _MAPS, error) from error

    def add(self, smoke: SegmentationResult, alarm_status: AlarmStatus) -> None:
        """Keep a look, and the verdict after it."""
        levels = np.rint(smoke.probability * _STEPS).astype(np.uint8)
        data = zlib.compress(levels.tobytes(), 1)
        try:
            self._file.write(data)
        except OSError as error:
            raise storage_error(self._folder / _MAPS, error) from error
        height, width = levels.shape
        self._looks.append(_Look(smoke.pts_ns, alarm_status, (height, width), len(data)))

    def finish(self) -> "DetectionLog":
        """Say that all was looked at."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            write_json(self._folder / _INDEX, {"looks": [_record(one) for one in self._looks]})
        except OSError as error:
            raise storage_error(self._folder / _INDEX, error) from error
        return DetectionLog(self._folder / _MAPS, self._looks)

    def close(self) -> None:
        """Give the file back, finished or not."""
        with contextlib.suppress(OSError):  # What a full disk did not take is not worth a word.
            self._file.close()


class DetectionLog:
    """All looks of a pass, in order of time. Maps stay on disk until asked for. Thread-safe."""

    def __init__(self, maps: Path, looks: Sequence[_Look]) -> None:
        self._maps = maps
        self._looks = tuple(looks)
        self._times = [one.pts_ns for one in looks]
        self._offsets = [0, *itertools.accumulate(one.size for one in looks)]

    def __len__(self) -> int:
        """How many."""
        return len(self._looks)

    @property
    def alarms(self) -> tuple[int, ...]:
        """Media times at which an alarm began."""
        began = {
            one.alarm_status.since_ns
            for one in self._looks
            if one.alarm_status.state is AlarmState.ALARM
        }
        return tuple(sorted(began))

    def before(self, pts_ns: int) -> int | None:
        """The number of the last look at or before a media time; `None` before the first."""
        number = bisect.bisect_right(self._times, pts_ns) - 1
        return None if number < 0 else number

    def __getitem__(self, number: int) -> tuple[SegmentationResult, AlarmStatus]:
        """A look, and the verdict after it.

        Raises:
            StorageError: The file is not what it was.
        """
        look = self._looks[number]
        try:
            with self._maps.open("rb") as file:
                file.seek(self._offsets[number])
                levels = np.frombuffer(zlib.decompress(file.read(look.size)), np.uint8)
            probability = levels.reshape(look.shape).astype(np.float32)
            probability /= _STEPS
        except (OSError, ValueError, zlib.error) as error:
            raise StorageError(f"{self._maps} is damaged: delete its folder") from error
        probability.flags.writeable = False
        return SegmentationResult(probability, look.pts_ns), look.alarm_status


def kept_looks(folder: Path) -> DetectionLog | None:
    """The looks of a pass that was finished; `None` if there was none."""
    index, maps = read_json(folder / _INDEX), folder / _MAPS
    if index is None or not maps.exists():
        return None
    looks = DetectionLog(maps, [_look(record) for record in index["looks"]])
    return looks if maps.stat().st_size == looks._offsets[-1] else None  # noqa: SLF001  its own


def _record(look: _Look) -> dict[str, Any]:
    return {
        "pts_ns": look.pts_ns,
        "state": look.alarm_status.state.value,
        "since_ns": look.alarm_status.since_ns,
        "regions": [asdict(region) for region in look.alarm_status.regions],
        "shape": look.shape,
        "bytes": look.size,
    }


def _look(record: dict[str, Any]) -> _Look:
    height, width = record["shape"]
    regions = tuple(_region(one) for one in record["regions"])
    alarm_status = AlarmStatus(AlarmState(record["state"]), record["since_ns"], regions)
    return _Look(record["pts_ns"], alarm_status, (height, width), record["bytes"])


def _region(record: dict[str, Any]) -> Detection:
    places = {name: tuple(record[name]) for name in ("box", "centroid", "ground_point")}
    return Detection(**{**record, **places})
