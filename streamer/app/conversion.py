"""Assembles a conversion: from options to a verified file."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.engine import Device
from engines.interpolation.model import Interpolator, open_interpolator
from engines.interpolation.scene_change import Relation, relation
from engines.lowlight.model import LowLightModel, open_lowlight_model
from streamer.config.convert import ConvertOptions
from streamer.convert.chunks import Chunk
from streamer.convert.contact_sheet import contact_sheet, save
from streamer.convert.inspection import inspect
from streamer.convert.job import ChunkStages, Job, Progress, StagesOf
from streamer.convert.journal import ChunkCounts
from streamer.convert.plan import Plan, plan
from streamer.convert.verify import Expectation, Report, compare
from streamer.core.atomic_file import part_path
from streamer.core.pipeline import Stage  # noqa: TC001  one place for imports
from streamer.stages.frame_rate import FrameRateConverter
from streamer.stages.low_light import Enhance, LowLightFilter

from .detection_pass import DetectionPass, DetectionProgress, DetectorSetup, open_detector_setup

_ESTIMATE_INFERENCES: Final = 5
"""Inferences from which the duration of a detection pass is estimated."""


@dataclass(frozen=True, slots=True)
class Networks:
    """Open networks, shared by all conversions of a run."""

    interpolation: Interpolator | None = None
    lowlight: LowLightModel | None = None
    """Enhances the output. Detection has its own low-light network, in `detector`."""

    detector: DetectorSetup | None = None

    def digests(self) -> Mapping[str, str]:
        """Digest of each network and configuration that affects the output, by name."""
        networks = (self.interpolation, self.lowlight)
        digests = {network.name: network.digest for network in networks if network is not None}
        return {**digests, **(self.detector.digests() if self.detector else {})}


@contextmanager
def open_networks(options: ConvertOptions, *, device: Device) -> Iterator[Networks]:
    """Open the networks that a conversion needs; close them at the end of the block.

    Interpolation runs on the CPU whatever the device is.

    Raises:
        EngineError: A network cannot be used on this machine.
    """
    with ExitStack() as opened:
        interpolation = lowlight = None
        if options.interpolates:
            interpolation = open_interpolator()
            opened.callback(interpolation.close)
        if options.enhance:
            lowlight = open_lowlight_model(device=device)
            opened.callback(lowlight.close)
        detector = opened.enter_context(open_detector_setup(device)) if options.overlay else None
        yield Networks(interpolation, lowlight, detector)


def stages_of(
    planned: Plan, networks: Networks, detection_pass: DetectionPass | None = None
) -> StagesOf:
    """Return the factory of the stages of each chunk.

    Args:
        planned: The conversion.
        networks: The open networks.
        detection_pass: Provides the overlay; it has run before the first chunk starts.
    """

    def stages(chunk: Chunk) -> ChunkStages:
        before: dict[str, Stage] = {}
        if networks.lowlight is not None:
            before["enhance"] = Enhance(LowLightFilter(networks.lowlight.enhancer()))
        frame_rate = FrameRateConverter(
            planned.schedule,
            planned.layout,
            interpolator=networks.interpolation if planned.schedule.interpolates else None,
            compare=relation if planned.options.scene_change else _without_scene_changes,
            interpolate_duplicates=planned.options.duplicates == "interpolate",
            window_ns=(chunk.begin_ns, chunk.end_ns),
        )
        return ChunkStages(before, frame_rate, detection_pass.stages() if detection_pass else {})

    return stages


def _without_scene_changes(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Relation:
    """As `relation`, with scene changes treated as motion; duplicates are still recognized."""
    found = relation(before, after)
    return Relation.MOVING if found is Relation.CUT else found


@dataclass(frozen=True, slots=True, eq=False)
class ConversionResult:
    """The result of a conversion."""

    plan: Plan
    counts: ChunkCounts
    resumed: bool
    """Whether an earlier run was resumed."""

    report: Report
    seconds: float

    @property
    def is_complete(self) -> bool:
        """Whether the recording was neither truncated nor damaged."""
        return self.plan.media.truncation is None and not self.counts.damaged


def make_plan(source: Path, output: Path, options: ConvertOptions) -> Plan:
    """Inspect a recording and plan its conversion.

    Raises:
        StreamerError: The recording cannot be converted with these options.
    """
    return plan(inspect(source), output, options)


def convert(
    planned: Plan,
    networks: Networks,
    *,
    jobs: int,
    report: Callable[[Progress], None],
    on_detection: Callable[[DetectionProgress], None] = lambda _: None,
    on_verification: Callable[[], None] = lambda: None,
) -> ConversionResult:
    """Convert a recording, verify that nothing was lost, and only then publish the output.

    *on_detection* gets the progress of the detection pass that precedes an overlay.

    Raises:
        StreamerError: The conversion failed; the next run resumes it.
    """
    started = time.monotonic()
    with closing(_job(planned, networks, jobs, report, on_detection)) as job:
        counts = job.run()
        on_verification()
        output = inspect(part_path(planned.output))
        verification = compare(planned.media, output, expected=expectation(planned))
        if verification.ok:
            job.publish()
    return ConversionResult(planned, counts, job.resumed, verification, time.monotonic() - started)


def run_job(planned: Plan, networks: Networks, *, jobs: int) -> ChunkCounts:
    """Convert without verifying or publishing, for benchmarks."""
    with closing(_job(planned, networks, jobs)) as job:
        return job.run()


def estimate_duration(planned: Plan, networks: Networks, jobs: int, frames: int) -> float:
    """Estimate the seconds that a conversion takes, by converting some *frames* and discarding."""
    seconds = _job(planned, networks, jobs).estimate_duration(frames)
    if networks.detector is not None:
        detection_pass = DetectionPass(planned, networks.detector, report=lambda _: None)
        seconds += detection_pass.estimate_duration(_ESTIMATE_INFERENCES)
    return seconds


def preview(planned: Plan, networks: Networks, path: Path) -> None:
    """Write a contact sheet of frames before and after the conversion.

    Raises:
        OSError: The file cannot be written.
    """
    save(contact_sheet(planned, stages_of(planned, networks)), path)


def _job(
    planned: Plan,
    networks: Networks,
    jobs: int,
    report: Callable[[Progress], None] = lambda _: None,
    on_detection: Callable[[DetectionProgress], None] = lambda _: None,
) -> Job:
    detection_pass = (
        None
        if networks.detector is None
        else DetectionPass(planned, networks.detector, report=on_detection)
    )
    return Job(
        planned,
        stages_of(planned, networks, detection_pass),
        engines=networks.digests(),
        jobs=jobs,
        report=report,
        prepare=detection_pass,
    )


def expectation(planned: Plan) -> Expectation:
    """Return what must be true of the output."""
    return Expectation(
        options=planned.options,
        dropped_streams=tuple(index for index, _ in planned.left_out),
        stretched_streams=planned.stretched,
        video_codec=planned.encoding.spec.format,
        deinterlaced=planned.decoding.deinterlace,
    )
