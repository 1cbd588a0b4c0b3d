"""The frame, the one value that flows through a pipeline, and the results that stages add to it."""

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .image import Image


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationResult:
    """Result of one inference of the smoke network."""

    probability: NDArray[np.float32]
    """Smoke probability, (height, width), 0 to 1, read-only. Covers the whole frame, usually at a
    lower resolution."""

    pts_ns: int
    """Media time of the frame that was inferred. Later frames carry the same result."""

    motion: NDArray[np.float32] | None = None
    """Change since a second ago, as large as `probability`; 1 is the mean of the whole
    frame. `None` if unknown."""

    scene_signature: NDArray[np.float32] | None = None
    """Edge signature of the scene at that time; `None` for cameras that move."""

    used_background: bool = False
    """Whether the network compared the frame with a background."""


class AlarmState(enum.Enum):
    """State of a camera's alarm."""

    IDLE = "idle"
    """No detection lasts long enough to become an alarm."""

    PENDING = "pending"
    """A detection is being confirmed."""

    ALARM = "alarm"
    """An event was raised and not yet cleared."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A connected region of smoke in one inference. Coordinates are relative; 0, 0 is top left."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom, each 0 to 1."""

    centroid: tuple[float, float]
    """x, y, each 0 to 1, weighted by probability."""

    ground_point: tuple[float, float]
    """x, y of the lowest part, where the plume rises from the ground."""

    area: float
    """Fraction of the frame, 0 to 1."""

    confidence: float
    """Mean probability of its top quartile, 0 to 1: the edge of a plume always has low values."""

    peak: float
    """Highest probability within the region, 0 to 1."""

    motion: float | None = None
    """Mean change within the region since a second ago; 1 is the mean of the whole frame."""


@dataclass(frozen=True, slots=True)
class AlarmStatus:
    """State of the alarm after a frame, as an overlay shows it."""

    state: AlarmState
    since_ns: int
    """Media time at which the state began."""

    regions: tuple[Detection, ...] = ()
    """Detections of the newest inference that count, highest rank first."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """An immutable image with its times, and what the stages found in it.

    A frame does not know where it came from or where it goes. Several threads may hold the same
    frame, so nobody writes into it: a stage that changes something makes a new frame with
    `dataclasses.replace`.
    """

    image: Image
    """As decoded, until a stage enhances it or draws on it."""

    pts_ns: int
    """Media time in nanoseconds since the stream began, by the camera's clock. Strictly increases
    from frame to frame of a source, across reconnects too."""

    arrived_ns: int
    """Monotonic time at which the frame came out of the decoder, by `Clock.arrival_of`. Links
    measure the age of a frame from it. In a replay it is the media time itself."""

    number: int
    """Counts up by one for each frame that the source yields; a gap means dropped frames."""

    sampled: bool = True
    """Whether the source selected this frame for inference.

    True by default: a source that selects nothing gets every frame inferred, which costs time, but
    a camera is never left without detection.
    """

    synthetic: bool = False
    """Whether it was made by interpolation. Shown and stored, never inferred, never evidence."""

    enhanced: bool = False
    """Whether the low-light stage made it brighter. Shown and stored, never used as evidence."""

    segmentation: SegmentationResult | None = None
    """Result of the newest inference; set by the detect stage."""

    alarm_status: AlarmStatus | None = None
    """State of the alarm after this frame; set by the alarm stage."""

    @property
    def has_fresh_result(self) -> bool:
        """Whether `segmentation` belongs to this frame, not to an earlier one."""
        return self.segmentation is not None and self.segmentation.pts_ns == self.pts_ns

    def __repr__(self) -> str:
        size = f"{self.image.width}x{self.image.height}"
        return f"<Frame {self.number} {size} at {self.pts_ns / 1e9:.3f} s>"
