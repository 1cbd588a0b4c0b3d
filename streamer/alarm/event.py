"""Events: immutable facts about an alarm, the same for the store, the network and scripts."""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from streamer.core.frame import Detection


class EventKind(enum.Enum):
    """What happened to an alarm."""

    RAISED = "raised"
    UPDATED = "updated"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Event:
    """One fact about one alarm."""

    alarm_id: str
    """Shared by all events of one alarm: camera and wall time at which it was raised."""

    sequence: int
    """0 for raised, then counting up."""

    kind: EventKind

    camera: str

    pts_ns: int
    """Media time of the picture that decided it."""

    utc: datetime
    """Wall time of that picture, aware UTC."""

    onset_ns: int
    """Media time at which what was raised was first seen."""

    reason: str
    """The reason in words, with figures: "grew 38 % in 20 s, anchored at 0.41, 0.52"."""

    score: float
    """How sure the alarm is, 0 to 1."""

    regions: tuple[Detection, ...]
    """What was seen, the most alarming first; empty when cleared."""

    @property
    def id(self) -> str:
        """Unique for ever; receivers may use it to recognise a repeated delivery."""
        return f"{self.alarm_id}-{self.sequence}"

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom around all regions, each 0 to 1."""
        if not self.regions:
            return None
        left, top, right, bottom = zip(*(region.box for region in self.regions), strict=True)
        return min(left), min(top), max(right), max(bottom)

    def as_json(self) -> dict[str, Any]:
        """The event as scripts and receivers read it; keys are only ever added."""
        return {
            "kind": self.kind.value,
            "id": self.id,
            "alarm_id": self.alarm_id,
            "camera": self.camera,
            "media_s": round(self.pts_ns / 1e9, 3),
            "onset_s": round(self.onset_ns / 1e9, 3),
            "utc": self.utc.isoformat(timespec="milliseconds"),
            "reason": self.reason,
            "score": round(self.score, 4),
            "box": None if self.box is None else [round(edge, 4) for edge in self.box],
        }
