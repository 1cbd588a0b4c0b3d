"""The free space of the disks that hold alarms, evidence, recordings and output files."""

import enum
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MIN_FREE_BYTES: Final = 2_000_000_000
"""Default of `retention.min_free_gb`."""

_SMALL_DISK: Final = 10
"""On a small disk, a tenth is as much as must be free: 2 GB may be all of it."""

_CRITICAL: Final = 2
"""Below half of what must be free, deleting has not helped: nothing but events is written."""

_FULL: Final = 20
"""Below a twentieth, a few alarms are left to go. Arbitrary."""

_FULL_BYTES: Final = 16_000_000
_FULL_SHARE: Final = 100
"""Where nothing must be free, a disk is full at this size or this part of it."""


class DiskLevel(enum.StrEnum):
    """How full a disk is."""

    OK = "ok"
    LOW = "low"
    """Less is free than must be: recordings are deleted."""

    CRITICAL = "critical"
    """Deleting has not helped: recordings, clips and output files pause; events go on."""

    FULL = "full"
    """Not even events can be relied on."""

    UNKNOWN = "unknown"

    @property
    def paused(self) -> bool:
        """Whether nothing but events may be written."""
        return self in (DiskLevel.CRITICAL, DiskLevel.FULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStatus:
    """How much space is left."""

    path: str
    """The data folder."""

    state: DiskLevel
    reason: str
    """Why the state is not `ok`; empty when it is."""

    free_bytes: int | None
    total_bytes: int | None
    missing_bytes: int = 0
    """How many bytes must be freed for the state to be `ok`."""


def disk_status(folder: Path, *, min_free_bytes: int = _MIN_FREE_BYTES) -> DiskStatus:
    """Measure the disk that holds *folder*, or will once the folder is made.

    Args:
        folder: On the disk.
        min_free_bytes: What must be free; on small disks a tenth of the disk is enough.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        usage = shutil.disk_usage(there)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return DiskStatus(
            path=str(folder),
            state=DiskLevel.UNKNOWN,
            reason=f"{there} cannot be measured: {reason}",
            free_bytes=None,
            total_bytes=None,
        )
    low = min(min_free_bytes, usage.total // _SMALL_DISK)
    full = max(low // _FULL, min(_FULL_BYTES, usage.total // _FULL_SHARE))
    state = DiskLevel.OK
    if usage.free < full:
        state = DiskLevel.FULL
    elif usage.free < low:
        state = DiskLevel.CRITICAL if usage.free < low // _CRITICAL else DiskLevel.LOW
    return DiskStatus(
        path=str(folder),
        state=state,
        reason="" if state is DiskLevel.OK else f"only {_size(usage.free)} are free for {folder}",
        free_bytes=usage.free,
        total_bytes=usage.total,
        missing_bytes=max(0, low - usage.free),
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 10**8 else f"{count / 1e6:.1f} MB"
