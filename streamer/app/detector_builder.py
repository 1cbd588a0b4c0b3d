"""What finds smoke, at a camera or in a recording: the stages that look and judge."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamer.alarm.event import Event
from streamer.alarm.policy import Alarm, AlarmPolicy
from streamer.config import CameraSettings
from streamer.core.clock import Clock
from streamer.core.frame import Frame
from streamer.detect.background import Background
from streamer.detect.false_positive_prior import FalsePositivePrior
from streamer.detect.zones import Zones
from streamer.stages.alarm import AlarmStage
from streamer.stages.detect import Segment
from streamer.stages.low_light import LowLightFilter
from streamer.store.prior_file import PriorFile

from .models import Models

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Detection:
    """Two stages that belong together: they share a background."""

    look: Segment
    judge: AlarmStage
    keep: Callable[[], None]
    """Keeps what was learnt; to be called once when the stages have ended."""


def detection(
    alarm: Alarm,
    settings: CameraSettings,
    models: Models,
    *,
    clock: Clock,
    record: Callable[[Event, Frame], None],
    usual: Path | None = None,
) -> Detection:
    """The stages that settings mean.

    Args:
        alarm: Judges what is seen.
        settings: Of the camera.
        models: The networks.
        clock: Gives a picture its wall time.
        record: Gets each event and the frame that it is about, before the frame goes on.
        usual: Where what is usual is kept; `None` begins with nothing and keeps nothing.
    """
    background = _background(settings)
    known, keep = _usual(settings, background, usual)
    threshold, outline = _threshold(settings, models), _outline(settings, models)
    watch = settings.detect
    # Where the alarm's lowest threshold lies: all that can count is looked at again.
    suspect = (
        (threshold * settings.alarm.hysteresis_ratio, outline) if watch.zoom_verification else None
    )
    look = Segment(
        models.smoke,
        interval_ns=look_interval_ns(settings),
        on_gpu=models.on_gpu,
        background=background,
        suspect=suspect,
        brighten=_brighten(settings, models),
    )
    judge = AlarmStage(
        alarm,
        threshold=threshold,
        outline=outline,
        zones=Zones(include=settings.zones.include, exclude=settings.zones.exclude),
        clock=clock,
        record=record,
        background=background,
        usual=known,
        keep=keep,
    )
    return Detection(look, judge, keep)


def alarm_rule(settings: CameraSettings) -> AlarmPolicy:
    """The rule that the settings mean; their keys are its fields."""
    return AlarmPolicy(**settings.alarm.model_dump(exclude={"threshold", "low_threshold"}))


def look_interval_ns(settings: CameraSettings) -> int:
    """Media time from look to look."""
    return round(_NS / settings.detect.fps)


def _threshold(settings: CameraSettings, models: Models) -> float:
    told = settings.alarm.threshold
    return models.smoke.threshold if told is None else told


def _outline(settings: CameraSettings, models: Models) -> float:
    told = settings.alarm.low_threshold
    return models.smoke.low_threshold if told is None else told


def _brighten(settings: CameraSettings, models: Models) -> LowLightFilter | None:
    """What lifts dark pictures for the network."""
    if models.lowlight is None or not settings.detect.low_light:
        return None
    return LowLightFilter(models.lowlight.enhancer())


def _background(settings: CameraSettings) -> Background | None:
    told = settings.detect.background
    if not told.enabled:
        return None
    return Background(min_age_s=told.min_age_s, step_s=told.step_s)


def _usual(
    settings: CameraSettings, background: Background | None, kept: Path | None
) -> tuple[FalsePositivePrior | None, Callable[[], None]]:
    """What is usual here, and what keeps it."""
    told = settings.detect.false_positive_prior
    if background is None or not told.enabled:
        return None, _nothing
    usual = FalsePositivePrior(learn_s=60 * told.learn_minutes)
    if kept is None:
        return usual, _nothing
    file = PriorFile(kept)
    file.load_into(usual)
    return usual, lambda: file.save(usual)


def _nothing() -> None:
    """Nothing is to be done."""
