"""The overlay stage: draws detections, alarm state, name and time on frames."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from typing import Final

from streamer.core.clock import Clock
from streamer.core.drawing import AMBER, GREEN, RED, WHITE, Color, Painter
from streamer.core.frame import AlarmState, Frame
from streamer.core.image import Image

_COLORS: Final[dict[AlarmState, Color]] = {
    AlarmState.IDLE: GREEN,
    AlarmState.PENDING: AMBER,
    AlarmState.ALARM: RED,
}
_FLOOR: Final = 0.35
"""Probability from which smoke is tinted: below the alarm's thresholds, so that viewers see the
thin part of a plume too."""


class Overlay:
    """Draws mask, detections, state, name and time. The images of the input are not changed.

    Args:
        camera: Name to show.
        clock: Gives wall time and age.
        live: Whether to show the age of a frame, which has no meaning for a file.
        interpolated: Whether the output has interpolated frames. Then every frame is marked as
            INTERPOLATED: a word on every second frame would flicker.
    """

    def __init__(
        self,
        camera: str,
        *,
        clock: Clock,
        live: bool = False,
        interpolated: bool = False,
    ) -> None:
        self._camera = camera
        self._clock = clock
        self._live = live
        self._interpolated = interpolated

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield every frame with an image that was drawn on."""
        for frame in frames:
            yield replace(frame, image=self.draw(frame))

    def draw(self, frame: Frame) -> Image:
        """Return a copy of the image of *frame* with the marks drawn on it."""
        canvas = frame.image.canvas()
        painter = Painter(canvas)
        state = frame.alarm_status.state if frame.alarm_status else AlarmState.IDLE
        if frame.alarm_status is not None and frame.segmentation is not None:
            color = _COLORS[state]
            for region in frame.alarm_status.regions:
                painter.tint(frame.segmentation.probability, region.box, color, floor=_FLOOR)
                painter.outline(frame.segmentation.probability, region.box, color, floor=_FLOOR)
                painter.box(region.box, color)
                left, top = (
                    round(region.box[0] * painter.width),
                    round(region.box[1] * painter.height),
                )
                above = top - 2 * painter.text_height
                painter.text(f"smoke {region.confidence:.2f}", (left, above), color, scale=0.8)
        self._status(painter, frame, state)
        return canvas.image()

    def _status(self, painter: Painter, frame: Frame, state: AlarmState) -> None:
        margin = painter.text_height // 2
        right = painter.text(self._camera, (margin, margin), WHITE)
        painter.text(state.value.upper(), (right, margin), _COLORS[state])
        utc = self._clock.utc_at(frame.arrived_ns).astimezone(UTC)
        text = utc.strftime("%Y-%m-%d %H:%M:%S UTC")
        if self._live:
            age_ms = (self._clock.monotonic_ns() - frame.arrived_ns) / 1e6
            text += f"  {age_ms:.0f} ms old"
        if self._interpolated:
            text += "  INTERPOLATED"
        elif frame.synthetic:
            text += "  SYNTHETIC"
        if frame.enhanced:
            text += "  ENHANCED"
        if frame.detector_result is not None and frame.detector_result.late:
            text += "  LATE"
        painter.text(text, (margin, painter.height), WHITE, scale=0.8)
