"""The frame, the one value that flows through a pipeline, and the results that stages add to it."""

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .image import Image


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationResult:
    """Output of one inference: the smoke probability of each place."""

    probability: NDArray[np.float32]
    """(height, width), 0 to 1, read-only; covers the whole frame, usually at a smaller size."""

    pts_ns: int
    """Media time of the frame that was inferred; later frames carry the same result."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A connected region of smoke in one frame. Coordinates are relative; (0, 0) is top left."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom, each 0 to 1."""

    centroid: tuple[float, float]
    """x, y, each 0 to 1, weighted by probability."""

    ground_point: tuple[float, float]
    """x, y of the lowest part, where the plume rises from the ground."""

    area: float
    """Share of the frame, 0 to 1."""

    confidence: float
    """Mean of the highest quarter of the probabilities within the region, 0 to 1. The edge of a
    plume always has a low probability, so the mean of all would be too low."""

    peak: float
    """Highest probability within the region, 0 to 1."""

    motion: float | None = None
    """Mean change within the region since one second ago; 1 is the median of the whole frame.
    `None` without an earlier frame to compare with."""


@dataclass(frozen=True, slots=True, eq=False)
class DetectorResult:
    """What the detector found in a sampled frame."""

    segmentation: SegmentationResult

    detections: tuple[Detection, ...]
    """Regions within the zones, after the false-positive prior; the largest and most confident
    first."""

    used_background: bool = False
    """Whether the network compared the frame with a background model."""

    entered_new_scene: bool = False
    """Whether the camera moved away from a scene with a learned prior to one without."""

    late: bool = False
    """Whether it was found only after the latency budget of the camera."""

    threshold: float = 0.0
    """Probability that a region had to exceed somewhere, as it applied to this frame."""

    computed_by: str = ""
    """Library, device and precision that ran the network for this frame."""


class AlarmState(enum.Enum):
    """State of a camera's alarm."""

    IDLE = "idle"
    """No smoke."""

    PENDING = "pending"
    """Smoke was detected, but not yet long or confidently enough."""

    ALARM = "alarm"
    """An event was raised and not yet cleared."""


@dataclass(frozen=True, slots=True)
class AlarmStatus:
    """State of the alarm after a frame, as the overlay shows it."""

    state: AlarmState
    since_ns: int
    """Media time at which the state began."""

    regions: tuple[Detection, ...] = ()
    """Detections of the newest inference, the largest and most confident first."""


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
    """Monotonic time at which the demuxer delivered the packet of the frame, less the time that a
    live packet waited before that. Links measure the age of a frame from it. In a replay it is the
    media time itself."""

    number: int
    """Counts up by one for each frame that the source yields; a gap means dropped frames."""

    sampled: bool = True
    """Whether this frame is to be inferred: selected by the source, then admitted to the engine.

    Under overload the engine takes the newest frame instead of the one that the source selected.
    True by default: a source that selects nothing gets every frame inferred, which costs time, but
    a camera is never left without detection.
    """

    synthetic: bool = False
    """Whether it was made by interpolation. Shown and stored, never inferred, never evidence."""

    enhanced: bool = False
    """Whether the low-light stage made it brighter. Shown and stored, never used as evidence."""

    segmentation: SegmentationResult | None = None
    """The newest inference, of this frame or an earlier one; set by the detect stage."""

    detector_result: DetectorResult | None = None
    """Set by the detect stage on frames that were inferred; read by the alarm stage."""

    alarm_status: AlarmStatus | None = None
    """State of the alarm after this frame; set by the alarm stage."""

    @property
    def has_fresh_result(self) -> bool:
        """Whether `segmentation` is of this frame, rather than of an earlier one."""
        return self.segmentation is not None and self.segmentation.pts_ns == self.pts_ns

    def __repr__(self) -> str:
        size = f"{self.image.width}x{self.image.height}"
        return f"<Frame {self.number} {size} at {self.pts_ns / 1e9:.3f} s>"
