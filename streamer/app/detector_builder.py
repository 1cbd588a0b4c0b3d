"""Builds the detector of a camera or a recording, and the stage that runs it with its alarm."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from streamer.alarm.event import Event
from streamer.alarm.policy import Alarm
from streamer.config import CameraSettings
from streamer.core.clock import Clock
from streamer.core.frame import Frame
from streamer.core.pipeline import Stage
from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls
from streamer.detect.detector import Detector, Thresholds
from streamer.detect.false_positive_prior import FalsePositivePrior
from streamer.detect.inference_scheduler import Seat
from streamer.detect.scene import Background
from streamer.detect.segmenter import CpuSegmenter, GpuSegmenter, Segmenter
from streamer.detect.zones import Zones
from streamer.stages.alarm import AlarmStage
from streamer.stages.detect import DetectStage
from streamer.stages.low_light import LowLightFilter
from streamer.store.prior_file import PriorFile, State, adopt_old_folder

from .models import Models

_NS: Final = 1_000_000_000

_READ_S: Final = 5.0
"""Longest wait for the disk before a camera is watched without its prior. Arbitrary."""

_READS: Final = UninterruptibleCalls("false-positive prior")

_log = structlog.get_logger(__name__)


def build_detector(
    settings: CameraSettings,
    models: Models,
    *,
    clock: Clock,
    prior_file: Path | None = None,
    write: Callable[[Callable[[], None]], None] = lambda work: work(),
) -> Detector:
    """Return the detector that *settings* describe.

    Args:
        settings: Of the camera.
        models: The networks.
        clock: Gives the wall time of a frame.
        prior_file: File of the false-positive prior; without, it starts empty and is not saved.
        write: Writes that file, in another thread if it likes.
    """
    thresholds = thresholds_of(settings, models)
    background = _background(settings)
    prior, save_prior = None, None
    if background is not None and settings.detect.false_positive_prior.enabled:
        prior = FalsePositivePrior(learn_s=60 * settings.detect.false_positive_prior.learn_minutes)
        if prior_file is not None:
            file = _restored(prior, prior_file)
            save_prior = None if file is None else partial(file.save, prior, write=write)
    return Detector(
        _segmenter(settings, models, thresholds),
        thresholds,
        clock=clock,
        zones=Zones(include=settings.zones.include, exclude=settings.zones.exclude),
        min_area=settings.alarm.min_area,
        background=background,
        prior=prior,
        save_prior=save_prior,
        preprocess=_preprocess(settings, models),
        backend=lambda: models.backend,
    )


def _restored(prior: FalsePositivePrior, path: Path) -> PriorFile | None:
    """Restore *prior* from its file; `None` if the disk hangs: then it must not be saved either."""
    file = PriorFile(path)

    def load() -> State | None:
        adopt_old_folder(path.parent)
        return file.load()

    try:
        state = _READS.call(load, timeout_s=_READ_S)
    except (TimeoutError, TooManyCalls):
        _log.error("false-positive prior not used: its disk does not answer", file=str(path))
        return None
    if state is not None:
        prior.restore(state)
    return file


def detection_stage(
    detector: Detector,
    alarm: Alarm,
    *,
    inference_interval_ns: int,
    clock: Clock,
    record: Callable[[Event, Frame], None],
    count: Stage = iter,
    seat: Seat | None = None,
) -> Stage:
    """Return detector and alarm as one stage, so that both run in one thread.

    Args:
        detector: Of the camera.
        alarm: Of the camera; its state is the detector's feedback.
        inference_interval_ns: See `inference_interval_ns`.
        clock: Gives the wall time of a frame.
        record: Stores each event with its frame before the frame goes on.
        count: Sees each frame with the state of the alarm after it, and passes it on.
        seat: The camera's place at the engine; `None` infers every sampled frame.
    """
    detect = DetectStage(detector, alarm, inference_interval_ns=inference_interval_ns, seat=seat)
    update_alarm = AlarmStage(alarm, clock=clock, record=record)

    def run(frames: Iterator[Frame]) -> Iterator[Frame]:
        with closing(detect(frames)) as detected:
            yield from count(update_alarm(detected))

    return run


def inference_interval_ns(settings: CameraSettings) -> int:
    """Return the media time between two sampled frames."""
    return round(_NS / settings.detect.fps)


def thresholds_of(settings: CameraSettings, models: Models) -> Thresholds:
    """Return the configured thresholds, or those that the network was shipped with."""
    high, low = settings.alarm.threshold, settings.alarm.low_threshold
    idle = models.smoke.threshold if high is None else high
    return Thresholds(
        idle=idle,
        active=settings.alarm.active_threshold(idle),
        low=models.smoke.low_threshold if low is None else low,
    )


def _segmenter(settings: CameraSettings, models: Models, thresholds: Thresholds) -> Segmenter:
    # All that may count at the lowest threshold of the alarm is verified.
    verify = (thresholds.active, thresholds.low) if settings.detect.zoom_verification else None
    cpu = CpuSegmenter(models.smoke, verify_thresholds=verify)
    if models.on_gpu is None:
        return cpu
    return GpuSegmenter(models.on_gpu, cpu, verify_thresholds=verify)


def _preprocess(settings: CameraSettings, models: Models) -> LowLightFilter | None:
    if models.lowlight is None or not settings.detect.low_light:
        return None
    return LowLightFilter(models.lowlight.enhancer())


def _background(settings: CameraSettings) -> Background | None:
    background = settings.detect.background
    if not background.enabled:
        return None
    return Background(min_age_s=background.min_age_s, step_s=background.step_s)
