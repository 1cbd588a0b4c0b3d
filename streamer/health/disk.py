"""The free space of the disk that holds alarms, evidence and recordings."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

FULL_BYTES: Final = 1_000_000_000
LOW_BYTES: Final = 5_000_000_000
"""Arbitrary: the evidence of one alarm takes 10 to 50 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStatus:
    """How much space is left."""

    path: str
    """The data folder."""

    state: Literal["ok", "low", "full", "unknown"]
    reason: str
    """Why the state is not `ok`; empty when it is."""

    free_bytes: int | None
    total_bytes: int | None


def disk_status(folder: Path) -> DiskStatus:
    """Measure the disk that holds *folder*, or will once the folder is made."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        usage = shutil.disk_usage(there)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return DiskStatus(
            path=str(folder), state="unknown", reason=f"{there} cannot be measured: {reason}",
            free_bytes=None, total_bytes=None,
        )  # fmt: skip
    state: Literal["ok", "low", "full"] = "ok"
    if usage.free < LOW_BYTES:
        state = "full" if usage.free < FULL_BYTES else "low"
    return DiskStatus(
        path=str(folder),
        state=state,
        reason="" if state == "ok" else f"only {usage.free / 1e9:.1f} GB are free for {folder}",
        free_bytes=usage.free,
        total_bytes=usage.total,
    )
