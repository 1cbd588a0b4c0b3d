"""One conversion: from what is asked for to a proven file."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.engine import Device
from engines.interpolation.model import Interpolator, open_interpolator
from engines.interpolation.scene_change import Relation, relation
from engines.lowlight.model import LowLightModel, open_lowlight_model
from streamer.config import ConvertSettings
from streamer.convert.chunks import Chunk
from streamer.convert.contact_sheet import save, strip
from streamer.convert.job import ChunkStages, Job, Progress, StagesOf
from streamer.convert.journal import ChunkCounts
from streamer.convert.media_info import take
from streamer.convert.plan import ConvertOptions, Plan, plan
from streamer.convert.verify import Expectation, Report, verify
from streamer.core.atomic_file import part_path
from streamer.core.pipeline import Stage  # noqa: TC001  one place for imports
from streamer.stages.frame_rate import FrameRateConverter
from streamer.stages.low_light import Enhance, LowLightFilter

from .detection_pass import DetectionPass, DetectionProgress, DetectorSetup, open_detector_setup


def to_options(settings: ConvertSettings, *, leave_out: tuple[int, ...] = ()) -> ConvertOptions:
    """What a configuration asks for."""
    return ConvertOptions(
        factor=settings.factor,
        rate=Fraction(settings.fps) if settings.fps else None,
        speed=Fraction(settings.speed),
        enhance=settings.enhance,
        overlay=settings.overlay,
        encoder=settings.encoder,
        quality=settings.quality,
        effort=settings.preset,
        level=settings.crf,
        pixel_format=settings.pixel_format,
        deinterlace=settings.deinterlace,
        audio=settings.audio,
        leave_out=leave_out,
        cuts=settings.cuts,
        repeats=settings.repeats,
        hwaccel=settings.hwaccel,
    )


_REHEARSED: Final = 5
"""Looks from which is told how long a first pass takes."""


@dataclass(frozen=True, slots=True)
class Networks:
    """Open networks, for all conversions of a run."""

    interpolation: Interpolator | None = None
    lowlight: LowLightModel | None = None
    """For people; what lifts dark pictures for the smoke network is that one's own affair."""

    watch: DetectorSetup | None = None

    def digests(self) -> Mapping[str, str]:
        """What decides over the result, by name."""
        there = (self.interpolation, self.lowlight)
        digests = {network.name: network.digest for network in there if network is not None}
        return {**digests, **(self.watch.digests() if self.watch else {})}


@contextmanager
def open_networks(asked: ConvertOptions, *, device: Device) -> Iterator[Networks]:
    """The networks that a conversion needs; closed at the end of the block.

    Interpolation waits until it is decided which network it runs on, a GPU's or the CPU's: both
    make other pictures, so that a run keeps to one, and the journal knows it by its digest.

    Raises:
        EngineError: One cannot be used here.
    """
    between = (asked.factor or 1) > 1 or asked.rate is not None or asked.speed < 1
    with ExitStack() as opened:
        interpolation = lowlight = None
        if between and asked.factor != 1:
            interpolation = open_interpolator(device=device)
            opened.callback(interpolation.close)
        if asked.enhance:
            lowlight = open_lowlight_model(device=device)
            opened.callback(lowlight.close)
        watch = opened.enter_context(open_detector_setup(device)) if asked.overlay else None
        yield Networks(interpolation, lowlight, watch)


def stages_of(
    planned: Plan, networks: Networks, first_pass: DetectionPass | None = None
) -> StagesOf:
    """What makes the stages of each chunk of a conversion.

    Args:
        planned: The conversion.
        networks: Open.
        first_pass: What is drawn; it has run when the first chunk is begun.
    """

    def stages(chunk: Chunk) -> ChunkStages:
        before: dict[str, Stage] = {}
        if networks.lowlight is not None:
            before["enhance"] = Enhance(LowLightFilter(networks.lowlight.enhancer()))
        retime = FrameRateConverter(
            planned.retiming,
            planned.form,
            interpolator=networks.interpolation if planned.retiming.interpolates else None,
            compare=relation if planned.asked.cuts else _uncut,
            interpolate_duplicates=planned.asked.repeats == "across",
            window_ns=(chunk.begin_ns, chunk.end_ns),
        )
        return ChunkStages(before, retime, first_pass.stages() if first_pass else {})

    return stages


def _uncut(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Relation:
    """As `relation`, for who wants pictures around cuts mixed: repeats are told all the same."""
    found = relation(before, after)
    return Relation.MOVING if found is Relation.CUT else found


@dataclass(frozen=True, slots=True, eq=False)
class ConversionResult:
    """What came of a conversion."""

    plan: Plan
    counts: ChunkCounts
    resumed: bool
    report: Report
    seconds: float


def make_plan(source: Path, output: Path, asked: ConvertOptions) -> Plan:
    """Look at a recording and decide what will be done.

    Raises:
        StreamerError: It cannot be converted as asked.
    """
    return plan(take(source), output, asked)


def convert(
    planned: Plan,
    networks: Networks,
    *,
    jobs: int,
    report: Callable[[Progress], None],
    looking: Callable[[DetectionProgress], None] = lambda _: None,
    proving: Callable[[], None] = lambda: None,
) -> ConversionResult:
    """Convert a recording, prove that nothing was lost, and only then give the result its name.

    Args:
        planned: What is to be done.
        networks: Open.
        jobs: Chunks side by side.
        report: Told how far it is.
        looking: Told how far the first pass of an overlay is, before.
        proving: Told when all is converted.

    Raises:
        StreamerError: It failed; the next run goes on with what is done.
    """
    started = time.monotonic()
    with closing(_job(planned, networks, jobs, report, looking)) as job:
        counts = job.run()
        proving()
        proof = verify(
            planned.inventory.path,
            part_path(planned.output),
            expected=expectation(planned),
        )
        if proof.ok:
            job.publish()
    return ConversionResult(planned, counts, job.resumed, proof, time.monotonic() - started)


def run_job(planned: Plan, networks: Networks, *, jobs: int) -> ChunkCounts:
    """Convert without proving or publishing: what is measured."""
    with closing(_job(planned, networks, jobs)) as job:
        return job.run()


def estimate_duration(planned: Plan, networks: Networks, jobs: int, pictures: int) -> float:
    """Seconds that a conversion will take, from converting some *pictures* for nothing."""
    seconds = _job(planned, networks, jobs).estimate_duration(pictures)
    if networks.watch is not None:
        seconds += DetectionPass(planned, networks.watch, report=lambda _: None).estimate_duration(
            _REHEARSED
        )
    return seconds


def preview(planned: Plan, networks: Networks, path: Path) -> None:
    """Write some pictures before and after as a PNG.

    Raises:
        OSError: It cannot be written.
    """
    save(strip(planned, stages_of(planned, networks)), path)


def _job(
    planned: Plan,
    networks: Networks,
    jobs: int,
    report: Callable[[Progress], None] = lambda _: None,
    looking: Callable[[DetectionProgress], None] = lambda _: None,
) -> Job:
    first = (
        None if networks.watch is None else DetectionPass(planned, networks.watch, report=looking)
    )
    return Job(
        planned,
        stages_of(planned, networks, first),
        engines=networks.digests(),
        jobs=jobs,
        report=report,
        prepare=first,
    )


def expectation(planned: Plan) -> Expectation:
    """What must be true of the conversion."""
    asked = planned.asked
    return Expectation(
        factor=None if planned.retiming.rate else Fraction(planned.retiming.factor),
        speed=asked.speed,
        rate=asked.rate,
        altered=asked.enhance or asked.overlay,
        dropped_streams=tuple(index for index, _ in planned.left_out),
        video_codec=planned.coding.spec.format,
        pixel_format=asked.pixel_format,
        deinterlaced=planned.decoding.deinterlace,
        stretched=planned.stretched,
    )
