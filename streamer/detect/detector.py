"""Detector: frame in, detections out. One per camera; all of it runs in one thread.

    frame -> preprocess -> segmenter -> false-positive prior -> regions -> detections
                              |                                   |
                        background model                   frame difference

The caller passes the state of the alarm with each frame. It decides which threshold applies
(hysteresis, see `streamer.alarm.policy`) and what the detector may learn from the frame before:
the background model learns only while the alarm is idle, the prior unless there is an alarm.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.clock import Clock
from streamer.core.frame import AlarmState, DetectorResult, Frame, SegmentationResult
from streamer.core.image import Image

from .false_positive_prior import FalsePositivePrior
from .regions import find_regions
from .scene import Background, FrameDifference
from .segmenter import Segmenter
from .zones import Zones

_SAVE_EVERY_NS: Final = 600 * 1_000_000_000
"""Media time between two saves of the prior."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Probabilities, 0 to 1."""

    idle: float
    """A region exceeds this somewhere while the alarm is idle."""

    active: float
    """The same while the alarm is pending or raised; at most `idle`."""

    low: float
    """All pixels of a region exceed this."""


@dataclass(frozen=True, slots=True, eq=False)
class _Unlearned:
    probability: NDArray[np.float32]
    utc: datetime
    pts_ns: int


class Detector:
    """Finds smoke in the sampled frames of one camera. Not thread-safe.

    Args:
        segmenter: Runs the network.
        thresholds: When a region counts.
        clock: Gives the wall time of a frame.
        zones: Where smoke counts; everywhere by default.
        min_area: Smallest area of a region, as a share of the frame.
        background: Background model; `None` for cameras that move.
        prior: Learned false-positive prior; needs a background model, which recognises the scene.
        save_prior: Called every ten minutes and by `flush`, to save the prior.
        preprocess: Returns the image to infer: the frame's own, or a brighter one if it is dark.
            By default the frame is inferred as it is.
        backend: Returns what runs the network at this moment, for the result.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        thresholds: Thresholds,
        *,
        clock: Clock,
        zones: Zones | None = None,
        min_area: float = 0.0,
        background: Background | None = None,
        prior: FalsePositivePrior | None = None,
        save_prior: Callable[[], None] | None = None,
        preprocess: Callable[[Frame], Image] | None = None,
        backend: Callable[[], str] = str,
    ) -> None:
        if prior is not None and background is None:
            raise ValueError("a prior needs a background model, which recognises the scene")
        self._segmenter = segmenter
        self._thresholds = thresholds
        self._clock = clock
        self._zones = zones
        self._min_area = min_area
        self._background = background
        self._prior = prior
        self._save_prior = save_prior
        self._preprocess = preprocess
        self._backend = backend
        self._difference = FrameDifference()
        self._unlearned: _Unlearned | None = None
        self._saved_ns: int | None = None

    def detect(self, frame: Frame, *, alarm_state: AlarmState) -> DetectorResult:
        """Return what is found in a frame.

        Args:
            frame: Frames come in order of `pts_ns`.
            alarm_state: State of the alarm after the frame before.
        """
        self._learn(alarm_state)
        image = frame.image if self._preprocess is None else self._preprocess(frame)
        enhanced = image is not frame.image
        inferred = self._segmenter(image, frame.pts_ns, self._background, enhanced=enhanced)
        computed_by = self._backend()  # Now: a plan may take over before the next frame.
        probability = inferred.probability
        probability.flags.writeable = False
        motion = self._difference.update(frame.pts_ns, inferred.image, probability.shape)
        reduced, entered_new_scene = self._suppress(probability, frame)
        idle = alarm_state is AlarmState.IDLE
        threshold = self._thresholds.idle if idle else self._thresholds.active
        detections = find_regions(
            reduced,
            threshold=threshold,
            low_threshold=self._thresholds.low,
            zones=self._zones,
            min_area=self._min_area,
            motion=motion,
            raw_probability=probability,
        )
        return DetectorResult(
            segmentation=SegmentationResult(probability, frame.pts_ns),
            detections=detections,
            used_background=inferred.used_background,
            entered_new_scene=entered_new_scene,
            threshold=threshold,
            computed_by=computed_by,
        )

    def flush(self, *, alarm_state: AlarmState) -> None:
        """Learn from the last frame and save the prior; call it at the end of the stream."""
        self._learn(alarm_state)
        if self._save_prior is not None:
            self._save_prior()

    def _suppress(
        self, probability: NDArray[np.float32], frame: Frame
    ) -> tuple[NDArray[np.float32], bool]:
        """Apply the prior; also return whether the camera shows a scene without one."""
        if self._prior is None or self._background is None:
            return probability, False
        utc = self._clock.utc_at(frame.arrived_ns)
        entered_new_scene = self._prior.select_scene(self._background.scene.signature)
        self._unlearned = _Unlearned(probability, utc, frame.pts_ns)
        return self._prior.suppress(probability, utc), entered_new_scene

    def _learn(self, alarm_state: AlarmState) -> None:
        """Learn from the frame before, now that the state of the alarm after it is known."""
        if self._background is not None:
            self._background.frozen = alarm_state is not AlarmState.IDLE
        result, self._unlearned = self._unlearned, None
        if self._prior is None or result is None:
            return
        frozen = alarm_state is AlarmState.ALARM
        self._prior.update(result.probability, result.utc, result.pts_ns, frozen=frozen)
        if self._saved_ns is None:
            self._saved_ns = result.pts_ns
        elif result.pts_ns - self._saved_ns >= _SAVE_EVERY_NS:
            self._saved_ns = result.pts_ns
            if self._save_prior is not None:
                self._save_prior()
