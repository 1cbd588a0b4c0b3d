"""The first pass of a conversion with an overlay: what `replay` would see in the recording.

Chunks are converted in any order, and an alarm remembers minutes. So all is looked at and judged
beforehand, in order of time, by the very stages of a camera.
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
from streamer.convert.detection_log import DetectionLog, DetectionLogWriter, kept_looks
from streamer.convert.plan import Plan
from streamer.core.clock import CancelToken, MediaClock
from streamer.core.frame import Frame
from streamer.core.pipeline import Stage
from streamer.sources.frame_sampler import FrameSampler
from streamer.stages.apply_detections import ApplyDetections
from streamer.stages.detect import result_hold_ns
from streamer.stages.overlay import Overlay

from .detector_builder import alarm_policy, build_detector, detection_stage, inference_interval_ns
from .models import Models, open_models

_CAMERA: Final = "recording"


@dataclass(frozen=True, slots=True)
class DetectorSetup:
    """What looks, and how: as at a camera whose settings are at their defaults."""

    models: Models
    config: Config

    @property
    def settings(self) -> CameraSettings:
        """Of the camera."""
        return self.config.cameras[_CAMERA]

    def digests(self) -> Mapping[str, str]:
        """What decides over what is seen, by name."""
        smoke, lowlight = self.models.smoke, self.models.lowlight
        digests = {smoke.name: smoke.digest, "watch": self.config.digest()}
        return digests if lowlight is None else digests | {lowlight.name: lowlight.digest}


@contextmanager
def open_detector_setup(device: Device) -> Iterator[DetectorSetup]:
    """The networks with which recordings are looked at; closed at the end of the block.

    Raises:
        EngineError: One cannot be used here.
    """
    config = from_source("pattern:", name=_CAMERA).config  # Its source is not used.
    engine = config.engine.model_copy(update={"device": device})
    config = config.model_copy(update={"engine": engine})
    with open_models(config) as models:
        yield DetectorSetup(models, config)


@dataclass(frozen=True, slots=True)
class DetectionProgress:
    """How far a first pass is. Media times in nanoseconds."""

    at_ns: int
    end_ns: int
    looks: int


class DetectionPass:
    """Looks at a whole recording once, then draws on what is shown of it.

    Args:
        planned: The conversion.
        watch: What looks.
        report: Told of each look.
    """

    def __init__(
        self, planned: Plan, watch: DetectorSetup, *, report: Callable[[DetectionProgress], None]
    ) -> None:
        self._planned = planned
        self._watch = watch
        self._report = report
        self._clock = MediaClock(datetime.fromtimestamp(0, UTC))
        self.looks: DetectionLog | None = None
        """What was seen; `None` before the pass."""

    def __call__(self, folder: Path) -> None:
        """Look, unless an earlier run has done so.

        Args:
            folder: The conversion's own: it goes when anything changes that decides over looks.

        Raises:
            SourceRejected: Nothing in the recording can be decoded.
            StorageError: The disk does not take it.
        """
        self.looks = kept_looks(folder) or self._look(folder)

    def estimate_duration(self, looks: int) -> float:
        """Seconds that the pass will take, from its first *looks*, of which nothing is kept."""
        started = time.monotonic()
        with closing(self._judged()) as judged:
            made = sum(1 for _ in itertools.islice(judged, looks))
        chunks = self._planned.chunks
        length_ns = chunks[-1].end_ns - chunks[0].begin_ns
        wanted = max(made, length_ns / inference_interval_ns(self._watch.settings))
        return (time.monotonic() - started) * wanted / max(1, made)

    def stages(self) -> Mapping[str, Stage]:
        """What draws on a chunk; nothing as long as nothing was looked at."""
        if self.looks is None:
            return {}
        recall = ApplyDetections(
            self.looks,
            result_hold_ns=result_hold_ns(inference_interval_ns(self._watch.settings)),
        )
        overlay = Overlay(
            self._planned.inventory.path.stem,
            clock=self._clock,
            interpolated=self._planned.retiming.interpolates,
        )
        return {"overlay": lambda frames: overlay(recall(frames))}

    def _look(self, folder: Path) -> DetectionLog:
        writer = DetectionLogWriter(folder)
        try:
            for number, frame in enumerate(self._judged(), 1):
                assert frame.segmentation is not None, "who was looked at has a map"
                assert frame.alarm_status is not None, "who was looked at was judged"
                writer.add(frame.segmentation, frame.alarm_status)
                self._report(
                    DetectionProgress(frame.pts_ns, self._planned.chunks[-1].end_ns, number)
                )
            return writer.finish()
        finally:
            writer.close()

    def _judged(self) -> Generator[Frame, None, None]:
        """The frames that are looked at. All in this thread: there is nothing to be stopped."""
        settings = self._watch.settings
        alarm = Alarm(_CAMERA, alarm_policy(settings))

        def told(event: Event, _: Frame) -> None:
            alarm.mark_delivered(event.alarm_id)  # Nobody is to be told.

        interval_ns = inference_interval_ns(settings)
        detect = detection_stage(
            build_detector(settings, self._watch.models, clock=self._clock),
            alarm,
            inference_interval_ns=interval_ns,
            clock=self._clock,
            record=told,
        )
        with closing(self._pictures(interval_ns)) as pictures:
            yield from (frame for frame in detect(pictures) if frame.has_fresh_result)

    def _pictures(self, interval_ns: int) -> Generator[Frame, None, None]:
        """The pictures that a replay would look at: as the recording has them, by its times."""
        planned = self._planned
        whole = replace(planned.chunks[0], end_ns=planned.chunks[-1].end_ns, last=True)
        sampler = FrameSampler(interval_ns)
        decoding = DecodeOptions(planned.video.pixel_format)
        for frame in ChunkSource(planned.inventory, whole, decoding)(CancelToken()):
            if not frame.synthetic and sampler.selects(frame.pts_ns):
                yield replace(frame, sampled=True)
