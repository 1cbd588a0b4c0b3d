"""The values that an event store and an outbox return."""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from streamer.alarm.event import Event


class EvidenceState(enum.Enum):
    """What became of the evidence of one event."""

    NONE = "none"
    """None is written for this event."""

    PENDING = "pending"
    """It is being written, or its clip waits for the seconds after the alarm."""

    WRITTEN = "written"
    """All of it is on disk and sealed."""

    DEGRADED = "degraded"
    """A part is on disk; the reason says what is missing."""

    FAILED = "failed"
    """Nothing is on disk; the reason says why."""


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event that is stored."""

    number: int
    """Order of recording, from 1."""

    event: Event

    evidence: Path | None
    """Folder with the evidence of the alarm, absolute."""

    image: Path | None
    """Image that is sent with a notification, absolute."""

    added: datetime
    """When it was recorded, aware UTC."""

    evidence_deleted: datetime | None = None
    """When retention deleted the evidence, aware UTC; `None` if it did not. The paths are `None`
    then."""

    evidence_state: EvidenceState = EvidenceState.NONE

    evidence_reason: str = ""
    """What is missing of the evidence and why; empty if nothing is."""

    stored: bool = True
    """Whether it is on disk; otherwise it exists only in the memory of the program so far."""

    def as_json(self) -> dict[str, Any]:
        """Return the event as scripts read it, with the folder and state of its evidence."""
        record = {
            **self.event.as_json(),
            "evidence": None if self.evidence is None else str(self.evidence),
            "evidence_state": self.evidence_state.value,
            "evidence_reason": self.evidence_reason,
        }
        if self.evidence_deleted is not None:
            record["evidence_deleted_utc"] = self.evidence_deleted.isoformat(timespec="seconds")
        return record


class DeliveryState(enum.Enum):
    """State of a delivery."""

    WAITING = "waiting"
    """For its first attempt or the next."""

    SENDING = "sending"
    """An attempt has begun; whether it arrived is not known."""

    CONFIRMED = "confirmed"
    """The receiver has acknowledged it."""

    DEAD = "dead"
    """A dead letter: refused for good, or tried for too long. A person decides."""

    GIVEN_UP = "given up"
    """A person has given up on it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one channel."""

    number: int
    """Identifies the delivery, from 1."""

    channel: str

    recorded: RecordedEvent

    state: DeliveryState

    attempts: int
    """Attempts so far, the present one included."""

    backoff_total: timedelta
    """Sum of the delays between its attempts."""

    due: datetime
    """When the next attempt may begin, aware UTC."""

    changed: datetime
    """When its state last changed, aware UTC."""

    error: str | None
    """Why the last attempt failed."""

    superseded: bool
    """Whether a later event of the same camera has already been confirmed on this channel."""

    camera_in_alarm: bool = True
    """Whether any alarm of this camera is open now; several may be."""

    @property
    def key(self) -> str:
        """Idempotency key: the same for each attempt, and for no other delivery."""
        return f"{self.recorded.event.id}:{self.channel}"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Deliveries of one channel that are neither confirmed nor given up."""

    waiting: int
    dead: int

    oldest: datetime | None
    """When the oldest waiting event was recorded, aware UTC; `None` if none waits."""
