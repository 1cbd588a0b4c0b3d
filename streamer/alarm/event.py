"""Events: immutable facts about an alarm, the same for the store, receivers and scripts."""

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
    """Camera and wall time at which the alarm was raised; the same in all of its events."""

    sequence: int
    """0 for the first event of the alarm, then counting up."""

    kind: EventKind

    camera: str

    pts_ns: int
    """Media time of the frame that caused the event."""

    utc: datetime
    """Wall time of that frame, aware UTC."""

    onset_ns: int
    """Media time at which the smoke was first detected; in `CLEARED`, at which it was last."""

    reason: str
    """What was measured: "grew 38 % in 20 s, anchored at 0.41, 0.52"."""

    score: float
    """Score of the alarm, 0 to 1; 0 in `CLEARED`."""

    regions: tuple[Detection, ...]
    """The confirmed regions, largest first; empty in `CLEARED`."""

    @property
    def id(self) -> str:
        """Unique and permanent; receivers can use it to recognise a repeated delivery."""
        return f"{self.alarm_id}-{self.sequence}"

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom around all regions, each 0 to 1; `None` without regions."""
        if not self.regions:
            return None
        left, top, right, bottom = zip(*(region.box for region in self.regions), strict=True)
        return min(left), min(top), max(right), max(bottom)

    def as_json(self) -> dict[str, Any]:
        """Return the event for scripts and receivers, ready for `json.dumps`."""
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
