"""Deletes events, deliveries and evidence that have expired."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from streamer.recording.expiry import Item, Limits, expired, true_times
from streamer.store import EventRetention, StoredAlarm

_log = structlog.get_logger(__name__)

_EXPIRED: Final = ".expired"
"""Suffix of an evidence folder that is being deleted: a killed program leaves it to the next."""


@dataclass(frozen=True, slots=True)
class EventLimits:
    """How long events and their evidence are kept."""

    events: Limits
    evidence: Limits


def expire_events(
    store: EventRetention,
    evidence_root: Path,
    *,
    limits: EventLimits,
    now: datetime,
    believed: bool,
    stop: Callable[[], bool] = lambda: False,
) -> str:
    """Delete evidence and alarms beyond *limits*, the oldest first; return what was done, as text.

    Evidence goes before the alarm that it belongs to. Alarms that are open, held or not delivered
    stay, with their evidence.

    Args:
        store: The alarms.
        evidence_root: Only folders below it are deleted.
        limits: What is kept.
        now: Wall time.
        believed: Whether *now* can be believed; if not, nothing is too old.
        stop: Returns whether the program ends.

    Raises:
        StorageError: The store could not be read or written.
    """
    alarms = store.alarms()
    _finish_deletions(evidence_root, alarms)
    times = true_times([alarm.added for alarm in alarms], now=now)
    by_id = {alarm.alarm_id: alarm for alarm in alarms}
    clock = now if believed else None
    evidence = [
        Item(alarm.alarm_id, alarm.camera, _size(alarm.evidence), time, protected=alarm.protected)
        for alarm, time in zip(alarms, times, strict=True)
        if alarm.evidence is not None
    ]
    pieces = alarms_gone = 0
    for item, reason in expired(evidence, total=limits.evidence, now=clock):
        if stop():
            break
        if _delete(by_id[item.key], evidence_root, store.forget_evidence):
            pieces += 1
            _log.info("evidence deleted", alarm=item.key, reason=reason.value)
    share = store.size_bytes() // max(1, len(alarms))  # An alarm's part of the store, on average.
    events = [
        Item(alarm.alarm_id, alarm.camera, share, time, protected=alarm.protected)
        for alarm, time in zip(alarms, times, strict=True)
    ]
    for item, reason in expired(events, total=limits.events, now=clock):
        if stop():
            break
        if _delete(by_id[item.key], evidence_root, store.delete):
            alarms_gone += 1
            _log.info("alarm deleted", alarm=item.key, reason=reason.value)
    if alarms_gone:
        store.compact()
    parts = []
    if pieces:
        parts.append(f"deleted the evidence of {pieces} alarms")
    if alarms_gone:
        parts.append(f"deleted {alarms_gone} alarms")
    return "; ".join(parts)


def _delete(alarm: StoredAlarm, root: Path, from_store: Callable[[str], bool]) -> bool:
    """Delete the evidence of *alarm* if the store agrees; a kill leaves nothing half done.

    The folder is set aside by a rename, then the store is changed, then the folder is deleted.
    """
    folder = alarm.evidence
    aside = None
    if folder is not None and folder.is_relative_to(root) and folder.is_dir():
        aside = folder.with_name(folder.name + _EXPIRED)
        folder.rename(aside)
    done = False
    try:
        done = from_store(alarm.alarm_id)
    finally:
        if aside is not None and folder is not None and not done:
            aside.rename(folder)
    if aside is not None:
        _remove(aside)
    return done


def _finish_deletions(root: Path, alarms: list[StoredAlarm]) -> None:
    """Complete or undo what a killed program was deleting, by what the store says."""
    kept = {alarm.evidence for alarm in alarms if alarm.evidence is not None}
    for aside in root.glob(f"*/*{_EXPIRED}"):
        folder = aside.with_name(aside.name.removesuffix(_EXPIRED))
        if folder in kept and not folder.exists():
            aside.rename(folder)
        else:
            _remove(aside)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, onerror=_report)


def _report(function: object, path: str, info: tuple[type, BaseException, object]) -> None:
    del function
    _log.error("evidence cannot be deleted", path=path, error=str(info[1]))


def _size(folder: Path | None) -> int:
    """Return the bytes of the files in *folder*; 0 if it is not there."""
    if folder is None:
        return 0
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except OSError:
        return 0
