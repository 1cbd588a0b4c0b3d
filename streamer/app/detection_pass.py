"""The detection pass of a conversion with an overlay: detects smoke in the whole recording first.

Chunks are converted in any order, but an alarm depends on minutes of earlier frames. So one pass in
order of time runs the stages of a camera beforehand, and finds what `streamer replay` would find.
"""

import itertools
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from engines.engine import Device
from streamer.alarm.event import Event
from streamer.alarm.policy import Alarm
from streamer.config import CameraSettings, Config, from_source
from streamer.convert.chunk_source import ChunkSource, DecodeOptions
from streamer.convert.detection_log import DetectionLog, DetectionLogWriter, load_detections
from streamer.convert.plan import Plan
from streamer.core.clock import CancelToken, MediaClock
from streamer.core.frame import Frame
from streamer.core.pipeline import Stage
from streamer.sources.frame_sampler import FrameSampler
from streamer.stages.apply_detections import ApplyDetections
from streamer.stages.detect import result_hold_ns
from streamer.stages.overlay import Overlay

from .detector_builder import build_detector, detection_stage, inference_interval_ns
from .models import Models, open_models

_CAMERA: Final = "recording"


@dataclass(frozen=True, slots=True)
class DetectorSetup:
    """The networks and settings of the detection pass: those of a camera with default settings."""

    models: Models
    config: Config

    @property
    def settings(self) -> CameraSettings:
        """The settings of the camera."""
        return self.config.cameras[_CAMERA]

    def digests(self) -> Mapping[str, str]:
        """Digest of everything that affects the detections, by name."""
        smoke, lowlight = self.models.smoke, self.models.lowlight
        digests = {smoke.name: smoke.digest, "detect": self.config.digest()}
        return digests if lowlight is None else digests | {lowlight.name: lowlight.digest}


@contextmanager
def open_detector_setup(device: Device) -> Iterator[DetectorSetup]:
    """Open the networks of the detection pass; close them at the end of the block.

    Raises:
        EngineError: A network cannot be used on this machine.
    """
    config = from_source("pattern:", name=_CAMERA).config  # The source is not used.
    engine = config.engine.model_copy(update={"device": device})
    config = config.model_copy(update={"engine": engine})
    with open_models(config) as models:
        yield DetectorSetup(models, config)


@dataclass(frozen=True, slots=True)
class DetectionProgress:
    """Progress of a detection pass. Media times in nanoseconds."""

    at_ns: int
    end_ns: int
    inferences: int


class DetectionPass:
    """Detects smoke in a whole recording once, then draws the detections on its output frames."""

    def __init__(
        self, planned: Plan, setup: DetectorSetup, *, report: Callable[[DetectionProgress], None]
    ) -> None:
        self._planned = planned
        self._setup = setup
        self._report = report
        self._clock = MediaClock(datetime.fromtimestamp(0, UTC))
        self.detections: DetectionLog | None = None
        """The detections; `None` before the pass."""

    def __call__(self, folder: Path) -> None:
        """Run the pass, unless an earlier run has completed it.

        Args:
            folder: Journal folder of the conversion, which is cleared when anything changes that
                affects detections.

        Raises:
            SourceRejected: No frame of the recording can be decoded.
            StorageError: The detections cannot be written.
        """
        self.detections = load_detections(folder) or self._detect(folder)

    def estimate_duration(self, inferences: int) -> float:
        """Estimate the seconds of the pass from its first *inferences*, which are discarded."""
        started = time.monotonic()
        with closing(self._inferred_frames()) as frames:
            made = sum(1 for _ in itertools.islice(frames, inferences))
        chunks = self._planned.chunks
        length_ns = chunks[-1].end_ns - chunks[0].begin_ns
        total = max(made, length_ns / inference_interval_ns(self._setup.settings))
        return (time.monotonic() - started) * total / max(1, made)

    def stages(self) -> Mapping[str, Stage]:
        """Return the stages that draw on a chunk; none before the pass."""
        if self.detections is None:
            return {}
        apply_detections = ApplyDetections(
            self.detections,
            result_hold_ns=result_hold_ns(inference_interval_ns(self._setup.settings)),
        )
        overlay = Overlay(
            self._planned.media.path.stem,
            clock=self._clock,
            interpolated=self._planned.schedule.interpolates,
        )
        return {"overlay": lambda frames: overlay(apply_detections(frames))}

    def _detect(self, folder: Path) -> DetectionLog:
        writer = DetectionLogWriter(folder)
        try:
            for number, frame in enumerate(self._inferred_frames(), 1):
                assert frame.segmentation is not None, "an inferred frame has a segmentation result"
                assert frame.alarm_status is not None, "an inferred frame has an alarm status"
                writer.add(frame.segmentation, frame.alarm_status)
                self._report(
                    DetectionProgress(frame.pts_ns, self._planned.chunks[-1].end_ns, number)
                )
            return writer.finish()
        finally:
            writer.close()

    def _inferred_frames(self) -> Generator[Frame, None, None]:
        """Yield the frames with a fresh inference. All work is done in the calling thread."""
        settings = self._setup.settings
        interval_ns = inference_interval_ns(settings)
        alarm = Alarm(_CAMERA, settings.alarm, inference_interval_ns=interval_ns)

        def record(event: Event, _: Frame) -> None:
            alarm.mark_delivered(event.alarm_id)  # There is nobody to notify.

        detect = detection_stage(
            build_detector(settings, self._setup.models, clock=self._clock),
            alarm,
            inference_interval_ns=interval_ns,
            clock=self._clock,
            record=record,
        )
        with closing(self._sampled_frames(interval_ns)) as frames:
            yield from (frame for frame in detect(frames) if frame.has_fresh_result)

    def _sampled_frames(self, interval_ns: int) -> Generator[Frame, None, None]:
        """Yield the frames that a replay would sample, as the recording stores them."""
        planned = self._planned
        whole = replace(planned.chunks[0], end_ns=planned.chunks[-1].end_ns, is_last=True)
        sampler = FrameSampler(interval_ns)
        decoding = DecodeOptions(planned.video.pixel_format)
        for frame in ChunkSource(planned.media, whole, decoding)(CancelToken()):
            if not frame.synthetic and sampler.selects(frame.pts_ns):
                yield replace(frame, sampled=True)
