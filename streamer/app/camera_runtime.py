"""The runtime of one camera: its parts, its pipeline, and what they report.

Source, packet ring, recorder, live view and statistics are made once and outlive a failure. The
pipeline with its stages, links and threads is made anew for each run.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from structlog.contextvars import bound_contextvars

from streamer.alarm.event import Event
from streamer.alarm.policy import Alarm
from streamer.core.clock import Clock
from streamer.core.clock_guard import ClockGuard, ClockState
from streamer.core.frame import AlarmState
from streamer.core.link import LinkStatistics
from streamer.core.pipeline import (
    LinkFactory,
    Pipeline,
    Sink,
    Stage,
    Worker,
    file_links,
    live_links,
)
from streamer.detect.inference_scheduler import InferenceScheduler, Seat, SeatStatistics
from streamer.evidence.writer import Provenance
from streamer.health.reports import CameraReport, Condition
from streamer.recording.recording_paths import RecordingNumbers
from streamer.recording.ring import PacketRing
from streamer.recording.segments import SegmentRecorder
from streamer.sinks.mjpeg import MjpegSink
from streamer.sinks.publish import PublishSink
from streamer.sinks.status import StatusSink
from streamer.sources.reconnect import ConnectionState
from streamer.stages.low_light import Enhance, LowLightFilter
from streamer.stages.overlay import Overlay
from streamer.stages.result_statistics import ResultStatistics
from streamer.store import EventStore

from .camera_evidence import CameraEvidence
from .camera_spec import CameraSpec
from .detector_builder import build_detector, detection_stage
from .inference_report import hanging_inference, inference_report
from .models import Models
from .output_builder import build_file_output, build_outputs
from .restored_alarm import restored_alarm
from .source_builder import build_source, ending
from .video_report import video_conditions, video_report

_NS: Final = 1_000_000_000
_READ_AHEAD_S: Final = 20
"""Media time that the links of a replay hold, at one sampled frame per second."""


@dataclass(frozen=True, slots=True)
class AppContext:
    """What all cameras of one program share: open resources, and no configuration."""

    clock: Clock
    models: Models
    provenance: Callable[[], Provenance]
    """Returns what evidence states about the program: model, configuration, version."""

    scheduler: InferenceScheduler | None = None
    """Shares the smoke network between live cameras. `None` infers every sampled frame, as in a
    replay."""

    store: EventStore | None = None
    """`None` stores no events, as in a replay."""

    live_view: bool = False
    """Whether cameras hold their newest frame for the web page."""

    on_event: Callable[[Event], None] | None = None
    """Called with each event after it is on disk."""

    recording_numbers: RecordingNumbers | None = None
    """Counts the recordings of all cameras; `None` counts those of each camera by itself."""

    clock_guard: ClockGuard | None = None
    """Whether the wall clock can be believed; `None` believes it, as in a replay."""

    def observe_clock(self, number: int | None = None) -> bool:
        """Read the wall clock before a file is named; return whether it can be believed.

        *number* is that of the recording that is to be named, if it is one.
        """
        if self.clock_guard is None or self.recording_numbers is None:
            return True
        number = self.recording_numbers.peek() if number is None else number
        return self.clock_guard.observe(number).state is ClockState.OK


class CameraRuntime:
    """One camera: `run` until it ends or fails, `finish` or `stop` it, read its `report`.

    `run` may be called again after a failure. All methods may be called from any thread.
    """

    def __init__(self, spec: CameraSpec, context: AppContext) -> None:
        self.spec = spec
        self.name = spec.name
        self.live = spec.live
        """Whether a failed run is repeated; a file is not read again."""

        self.live_view = self._live_view(context)
        """The camera's sink behind the web page; `None` if it is not shown there."""

        self._context = context
        self._seat = self._take_seat()
        self._statistics = StatusSink(clock=context.clock)
        self._results = ResultStatistics(clock=context.clock)
        outputs = spec.settings.outputs
        self._shown = self.live_view is not None or bool(outputs.file or outputs.publish)
        self._ring = self._packet_ring() if spec.has_packets else None
        self._recorder = self._segment_recorder()
        self._file = build_file_output(
            spec, clock=context.clock, clock_is_believed=context.observe_clock
        )
        self._source = build_source(
            spec,
            clock=context.clock,
            tap=self._ring,
            every_frame=self._shown and outputs.every_frame,
        )
        self._storage_paused = ""  # Written as a whole.
        self._evidence = CameraEvidence(
            spec,
            models=context.models,
            provenance=context.provenance,
            clock=context.clock,
            store=context.store,
            ring=self._ring,
            draw=Overlay(spec.name, clock=context.clock).draw,
            on_event=self._on_event,
            clips_paused=lambda: self._storage_paused,
        )
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._pipeline: Pipeline | None = None
        self._alarm = restored_alarm(spec, context.store)
        self._began = False
        self._links: dict[str, LinkStatistics] = {}  # Of the runs that have ended.
        self._finished = self._stopped = False

    def run(self) -> None:
        """Run a new pipeline until the source ends, a part fails, or the camera is stopped.

        Raises:
            ExceptionGroup: With the error of each part that failed.
        """
        with bound_contextvars(camera=self.name):  # Every line that its threads log has the name.
            self._evidence.recorder.recover(self.name)
            pipeline = self._build()
        with self._lock:
            if self._finished:
                return
            self._pipeline = pipeline
        try:
            pipeline.run()
        finally:
            with self._lock:
                self._links = _added(self._links, pipeline.statistics())
                self._pipeline = None

    def finish(self) -> None:
        """End the source for good; frames on their way are still processed."""
        with self._lock:
            self._finished = True
            pipeline = self._pipeline
        if pipeline is not None:
            pipeline.finish()

    def stop(self) -> None:
        """End all parts for good, soon."""
        with self._lock:
            self._finished = True
            pipeline = self._pipeline
        if pipeline is not None:
            pipeline.stop()

    def close(self) -> None:
        """Release what outlives the pipeline: viewers leave, the packet ring is emptied.

        The evidence is written first: of a recording all of it, otherwise what a second suffices
        for.
        """
        if self._seat is not None and self._context.scheduler is not None:
            self._context.scheduler.remove(self._seat)
        if self.live_view is not None:
            self.live_view.close()
        if self._ring is not None:
            self._ring.close()
        with self._lock:
            cut_short = self._finished and not self.spec.replay
        self._evidence.close(cut_short=cut_short)

    def mark_delivered(self, alarm_id: str) -> None:
        """Note that a delivery of this alarm was confirmed: its cool-down may begin."""
        with self._lock:
            alarm = self._alarm
        alarm.mark_delivered(alarm_id)

    def pause_storage(self, reason: str) -> None:
        """Write neither recordings nor clips while *reason* is not empty."""
        self._storage_paused = reason
        if self._recorder is not None:
            self._recorder.pause(reason)

    def pause_output(self, reason: str) -> None:
        """Write no output file while *reason* is not empty."""
        if self._file is not None:
            self._file.pause(reason)

    @property
    def output_path(self) -> Path | None:
        """Path of the output files in the configuration; `None` without any."""
        return None if self._file is None else self._file.path

    def report(self) -> CameraReport:
        """Return what the parts of this camera counted and know, over all runs."""
        with self._lock:
            pipeline, links = self._pipeline, self._links
        if pipeline is not None:
            links = _added(links, pipeline.statistics())
        frames, results = self._statistics.statistics(), self._results.counts()
        video = self._source.video
        connection = self._source.connection()
        seat = self._seat.statistics() if self._seat is not None else None
        return CameraReport(
            camera=self.name,
            stale_after_s=self.spec.stale_after_s,
            frames=frames.frames,
            fps=frames.fps,
            last_frame_ns=frames.last_frame_ns,
            alarm=self._alarm_state(),
            size=frames.size,
            connection_since_ns=connection.since_ns if connection else None,
            fault=self._fault(detailed=True),
            failed_attempts=connection.attempts if connection else 0,
            **({} if video is None else video_report(video.statistics(), live=self.live)),
            links=tuple(links.values()),
            ring=self._ring.statistics() if self._ring else None,
            recorder=self._recorder.state() if self._recorder else None,
            conditions=tuple(self._conditions(seat)),
            evidence_pending=self._evidence.pending(),
            inferences=results.inferences,
            inferred_fps=results.fps,
            **({} if seat is None else inference_report(seat, fps=self.spec.settings.detect.fps)),
            end_to_end=results.latency,
            latency=results.quantiles,
        )

    def _alarm_state(self) -> AlarmState:
        """State of the alarm itself: it may be active although no frame has come."""
        with self._lock:
            return self._alarm.status.state

    def _conditions(self, seat: SeatStatistics | None) -> Iterator[Condition]:
        if seat is not None:
            yield from hanging_inference(
                seat, latency_budget_ns=self.spec.latency_budget_ns, clock=self._context.clock
            )
        output = None if self._file is None else self._file.state()
        if output is not None and output.error:
            yield Condition("output", output.error, output.since_ns)
        if (evidence := self._evidence.condition()) is not None:
            yield evidence
        if self._source.video is not None:
            yield from video_conditions(self._source.video.statistics())

    def _fault(self, *, detailed: bool = False) -> str:
        """Why the source delivers no frames: its class, or the whole message; empty if it does."""
        state = self._source.connection()
        if state is None or state.fault is None or state.connection is ConnectionState.LIVE:
            return ""
        return state.message if detailed and state.message else state.fault.value

    def _build(self) -> Pipeline:
        spec = self.spec
        alarm = self._current_alarm()
        source = self._source.source
        if self._ring is not None:
            source = ending(source, self._ring.end_readers)
        sinks: dict[str, Sink] = {"status": self._statistics}
        sinks |= build_outputs(spec, live_view=self.live_view, file=self._file)
        workers: dict[str, Worker] = {}
        if self._recorder is not None:
            workers["recorder"] = self._recorder
        publish = sinks.get("publish")
        if isinstance(publish, PublishSink):
            workers["publish-abort"] = publish.abort_on
        return Pipeline(
            spec.name,
            source,
            self._stages(alarm),
            sinks,
            make_link=self._link_factory(),
            workers=workers,
            gates={} if self._seat is None else {"detect": self._seat},
        )

    def _stages(self, alarm: Alarm) -> dict[str, Stage]:
        spec, context = self.spec, self._context
        detector = build_detector(
            spec.settings,
            context.models,
            clock=context.clock,
            prior_file=spec.prior_file,
            write=self._evidence.write_prior,
        )
        detect = detection_stage(
            detector,
            alarm,
            inference_interval_ns=spec.inference_interval_ns,
            clock=context.clock,
            record=self._evidence.recorder.record,
            count=self._results,
            seat=self._seat,
        )
        stages: dict[str, Stage] = {"detect": detect}
        enhance = spec.settings.enhance
        if self._shown and context.models.lowlight is not None and enhance.enabled:
            # Behind the alarm: evidence shows what the camera sent.
            enhancer = context.models.lowlight.enhancer(
                strength=enhance.strength, denoise=enhance.denoise
            )
            stages["enhance"] = Enhance(LowLightFilter(enhancer))
        if self._shown:
            stages["overlay"] = Overlay(spec.name, clock=context.clock, live=spec.realtime)
        return stages

    def _link_factory(self) -> LinkFactory:
        clock = self._context.clock
        if not self.spec.realtime:
            return file_links(clock=clock)
        return live_links(latency_budget_ns=self.spec.latency_budget_ns, clock=clock)

    def _take_seat(self) -> Seat | None:
        spec, scheduler = self.spec, self._context.scheduler
        if scheduler is None or not spec.realtime:
            return None
        return scheduler.seat(
            spec.name,
            budget_ns=spec.latency_budget_ns,
            interval_ns=spec.inference_interval_ns,
            min_interval_ns=spec.min_inference_interval_ns,
        )

    def _live_view(self, context: AppContext) -> MjpegSink | None:
        if not (context.live_view and self.spec.settings.outputs.preview):
            return None
        return MjpegSink(
            self.name,
            clock=context.clock,
            stale_after_s=self.spec.stale_after_s,
            reason=self._fault,
        )

    def _packet_ring(self) -> PacketRing:
        """A ring that holds the pre-roll, counted from the oldest frame that may raise an alarm.

        The source of a replay is ahead of the alarm by what the links hold.
        """
        clip = self.spec.settings.clip
        behind_s = _READ_AHEAD_S if self.spec.replay else self.spec.latency_budget_ns / _NS
        return PacketRing(
            max_ns=round((clip.pre_roll_s + behind_s) * _NS),
            max_bytes=round(clip.pre_roll_buffer_mb * 1e6),
        )

    def _segment_recorder(self) -> SegmentRecorder | None:
        if self._ring is None or self.spec.recordings_folder is None:
            return None
        return SegmentRecorder(
            self._ring,
            self.spec.recordings_folder,
            segment_s=self.spec.settings.record.segment_s,
            numbers=self._context.recording_numbers,
            clock=self._context.clock,
            on_begin=self._context.observe_clock,
        )

    def _current_alarm(self) -> Alarm:
        """Return the alarm, which goes on over restarts of the pipeline.

        It is restored again for the first run: a camera that this one replaces may have raised
        alarms since.
        """
        alarm = None if self._began else restored_alarm(self.spec, self._context.store)
        with self._lock:
            self._began = True
            self._alarm = alarm or self._alarm
            return self._alarm

    def _on_event(self, event: Event) -> None:
        if not self.spec.channels:  # No delivery will confirm it: being on disk is enough.
            self.mark_delivered(event.alarm_id)
        if self._context.on_event is not None:
            self._context.on_event(event)


def _added(
    before: dict[str, LinkStatistics], now: list[LinkStatistics]
) -> dict[str, LinkStatistics]:
    """Counts of earlier runs plus those of a later one; depth and age are the later run's."""
    total = dict(before)
    for link in now:
        earlier = before.get(link.name)
        if earlier is not None:
            link = replace(  # noqa: PLW2901  the same link, counted from the first run on
                link,
                received=earlier.received + link.received,
                delivered=earlier.delivered + link.delivered,
                dropped_full=earlier.dropped_full + link.dropped_full,
                dropped_late=earlier.dropped_late + link.dropped_late,
                discarded=earlier.discarded + link.discarded,
                ages=earlier.ages + link.ages,
            )
        total[link.name] = link
    return total
