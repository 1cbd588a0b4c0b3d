"""The one value that flows through a pipeline, and what the stages found in it."""

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .image import Image


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationResult:
    """Where a network saw smoke when it last looked."""

    probability: NDArray[np.float32]
    """(height, width), 0 to 1, read-only; covers the whole picture, usually at a smaller size."""

    pts_ns: int
    """Media time of the picture that was looked at. A later frame carries the map on."""

    motion: NDArray[np.float32] | None = None
    """Change since a second ago, of the map's size, 1 as the whole picture; `None` if unknown."""

    scene_signature: NDArray[np.float32] | None = None
    """What the camera's view was known by at that moment; `None` for cameras that move."""

    used_background: bool = False
    """Whether the network had a background to compare the picture with."""


class AlarmState(enum.Enum):
    """What a camera's alarm thinks of the view."""

    IDLE = "idle"
    """Nothing that looks like smoke, or not for long enough."""

    PENDING = "pending"
    """Something looks like smoke; time will tell."""

    ALARM = "alarm"
    """An event was raised and not yet cleared."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A connected patch of smoke in one look. Coordinates are relative: 0, 0 is top left."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom, each 0 to 1."""

    centroid: tuple[float, float]
    """x, y, each 0 to 1, weighted by probability."""

    ground_point: tuple[float, float]
    """x, y of the lowest part: where a plume is anchored."""

    area: float
    """Share of the picture, 0 to 1."""

    confidence: float
    """Mean probability of the surest quarter of it, 0 to 1: the rim of a plume is never sure."""

    peak: float
    """Highest probability within the region, 0 to 1."""

    motion: float | None = None
    """Mean change within the region since a second ago, 1 as the whole picture."""


@dataclass(frozen=True, slots=True)
class AlarmStatus:
    """What the alarm makes of a frame: what an overlay shows."""

    state: AlarmState
    since_ns: int
    """Media time at which the state began."""

    regions: tuple[Detection, ...] = ()
    """Regions of the newest look that count, the most alarming first."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture and the times that belong to it.

    Frames are handed from thread to thread, so nobody writes into one:
    a stage that changes a picture makes a new frame with `dataclasses.replace`.
    """

    image: Image
    """What to show: as decoded, until a stage draws on it or enhances it."""

    pts_ns: int
    """Media time since the stream began, by the camera's clock, in nanoseconds; never falls."""

    arrived_ns: int
    """When the picture was decoded here, by `Clock.monotonic_ns`."""

    number: int
    """Counts up by one for each decoded picture; a gap means dropped frames."""

    sampled: bool = True
    """Whether the source selected this frame for inference.

    True by default: a source that selects nothing gets every frame inferred, which costs time, but
    a camera is never left without detection.
    """

    synthetic: bool = False
    """Made by interpolation. Shown and stored, never used as evidence."""

    enhanced: bool = False
    """Made brighter by the enhance stage. Shown and stored, never used as evidence."""

    segmentation: SegmentationResult | None = None
    """Set by the segment stage."""

    alarm_status: AlarmStatus | None = None
    """Set by the alarm stage."""

    @property
    def has_fresh_result(self) -> bool:
        """Whether a network looked at this very frame, rather than at an earlier one."""
        return self.segmentation is not None and self.segmentation.pts_ns == self.pts_ns

    def __repr__(self) -> str:
        size = f"{self.image.width}x{self.image.height}"
        return f"<Frame {self.number} {size} at {self.pts_ns / 1e9:.3f} s>"
