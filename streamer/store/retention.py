"""What retention needs of a store: which alarms it holds, what protects them, and their deletion.

An alarm is deleted as a whole, with its events and deliveries. Whether it is old enough is decided
elsewhere; that it may be deleted at all is checked here, in the transaction that deletes it.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredAlarm:
    """An alarm with all its events, as retention sees it."""

    alarm_id: str
    camera: str

    number: int
    """Order of recording of its newest event, from 1."""

    added: datetime
    """When its newest event was recorded by the wall clock of that moment, aware UTC."""

    evidence: Path | None
    """Folder with its evidence, absolute; `None` if there is none or retention deleted it."""

    open: bool
    """Whether it was never cleared."""

    held: bool
    """Whether it is under a legal hold."""

    undelivered: bool
    """Whether a delivery is neither confirmed, dead nor given up."""

    evidence_pending: bool
    """Whether its evidence is still being written: then its folder must stay where it is."""

    @property
    def protected(self) -> bool:
        """Whether nothing of it may be deleted now."""
        return self.open or self.held or self.undelivered or self.evidence_pending


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold."""

    alarm_id: str
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Expired:
    """What retention has deleted from this store so far."""

    alarms: int
    events: int

    until: datetime
    """Wall time of the newest event that was deleted, aware UTC."""


class EventRetention(Protocol):
    """Legal holds and deletion. All methods may be called from any thread.

    Raises:
        StorageError: From any method. Nothing was changed.
    """

    def alarms(self) -> list[StoredAlarm]:
        """Return all alarms in the order in which their newest events were recorded.

        Reading delays nobody who writes.
        """
        ...

    def delete(self, alarm_id: str) -> bool:
        """Delete an alarm with its events and deliveries, unless it is protected.

        Returns:
            Whether it was deleted.
        """
        ...

    def forget_evidence(self, alarm_id: str) -> bool:
        """Note that the evidence is deleted now, unless the alarm is protected; events stay.

        Returns:
            Whether it was noted, so that the caller may delete the folder.
        """
        ...

    def hold(self, alarm_id: str, reason: str = "") -> bool:
        """Protect an alarm from deletion until `release`; return whether it is stored."""
        ...

    def release(self, alarm_id: str) -> bool:
        """End a legal hold; return whether there was one."""
        ...

    def holds(self) -> list[Hold]:
        """Return all legal holds, oldest first."""
        ...

    def expired(self) -> Expired | None:
        """Return what retention has deleted so far; `None` if nothing."""
        ...

    def size_bytes(self) -> int:
        """Return the size of the store on the disk that is in use, without free pages."""
        ...

    def compact(self) -> None:
        """Give free pages back to the disk, in steps that delay an alarm by milliseconds."""
        ...
