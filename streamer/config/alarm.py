"""Conditions for an alarm: the keys of the `alarm` section of a camera.

The one model that the configuration and the alarm itself share.
"""

from typing import Annotated

from pydantic import Field

from .values import Section, Share


class AlarmSettings(Section):
    """Conditions under which detections become an alarm."""

    threshold: Share | None = None
    """Peak probability that a region must reach; `null` uses the value stored in the model."""

    low_threshold: Share | None = None
    """Probability down to which a region is grown from its peak; `null` uses the value stored in
    the model."""

    hysteresis_ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Hysteresis: while an alarm is pending or active, `threshold` is multiplied by this ratio."""

    min_area: Share = 0.0002
    """Minimum area of a region as a share of the frame; 0.0002 is 20x20 pixels at 1080p."""

    confirm_window_s: Annotated[float, Field(ge=0, le=3600)] = 6
    """Length of the confirmation window."""

    confirm_ratio: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of the inferences within `confirm_window_s` that must contain the region."""

    min_hits: Annotated[int, Field(ge=1, le=1000)] = 3
    """Minimum number of inferences that must contain the region."""

    min_score: Annotated[float, Field(gt=0, le=1)] = 0.55
    """Minimum score of an alarm; the score combines probability, persistence, growth and a fixed
    ground point."""

    min_score_without_background: Annotated[float, Field(gt=0, le=1)] = 0.75
    """`min_score` while no background is available: in the first minutes of a view, and for cameras
    that move."""

    max_drift: Annotated[float, Field(gt=0, le=1)] = 0.15
    """A region that moves further than this share of the frame within `confirm_window_s` is a
    cloud."""

    track_timeout_s: Annotated[float, Field(ge=0, le=3600)] = 10
    """A track ends after this many seconds without a detection."""

    clear_after_s: Annotated[float, Field(ge=0, le=86_400)] = 60
    """The alarm is cleared after this many seconds without a detection."""

    cooldown_s: Annotated[float, Field(ge=0, le=86_400)] = 600
    """For this long after a delivered alarm, new smoke continues that alarm instead of raising
    another one."""

    update_every_s: Annotated[float, Field(ge=0, le=86_400)] = 30
    """Minimum seconds between two updates of an alarm."""

    update_growth: Annotated[float, Field(gt=0, le=100)] = 1
    """Relative growth since the last report that triggers an update; 1 is doubled."""

    def active_threshold(self, threshold: float) -> float:
        """Return the detection threshold outside of idle: hysteresis."""
        return threshold * self.hysteresis_ratio
