"""One camera: from its settings to a pipeline."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from streamer.alarm.event import Event
from streamer.alarm.policy import Alarm
from streamer.config import CameraSettings, Config
from streamer.core.backoff import Backoff
from streamer.core.clock import CancelToken, Clock, MediaClock
from streamer.core.frame import Frame
from streamer.core.packet import PacketTap
from streamer.core.pipeline import (
    LinkFactory,
    Pipeline,
    Sink,
    Source,
    Stage,
    Worker,
    file_links,
    live_links,
)
from streamer.core.redact import redact
from streamer.evidence.alarm_recorder import AlarmRecorder, ClipSpan
from streamer.evidence.folder import EvidenceFolder, Provenance, safe_name
from streamer.recording.ring import PacketRing
from streamer.recording.segments import SegmentRecorder
from streamer.sinks.file import VideoFileSink
from streamer.sinks.preview import PreviewServer
from streamer.sinks.publish import PublishSettings, PublishSink
from streamer.sinks.status import StatusSink
from streamer.sources.address import SourceKind, kind_of
from streamer.sources.images import ImageFolderSource
from streamer.sources.options import VideoOptions
from streamer.sources.pattern import PatternSource
from streamer.sources.reconnect import RECONNECT, REJECTED, ReconnectingSource, SourceState
from streamer.sources.snapshot import SnapshotSource
from streamer.sources.video import VideoSource
from streamer.stages.low_light import Enhance, LowLightFilter
from streamer.stages.overlay import Overlay
from streamer.store import Store

from .detector_builder import alarm_rule, detection, look_interval_ns
from .models import Models

_NS: Final = 1_000_000_000
_READ_AHEAD_S: Final = 20
"""What the links of a replay hold, at a look a second."""

_LOOKS_MISSED: Final = 2
"""So many looks may be missing before an output says NO SIGNAL."""


@dataclass(frozen=True, slots=True)
class AppContext:
    """What all cameras of one program share."""

    config: Config
    clock: Clock
    models: Models
    provenance: Callable[[], Provenance]
    """What every piece of evidence says of the program: model, configuration, version."""

    store: Store | None = None
    evidence: Path | None = None
    """Root of the evidence folders; `None` keeps none."""

    usual: Path | None = None
    """Folder of what is usual at each camera; `None` keeps nothing of it."""

    preview: PreviewServer | None = None
    on_event: Callable[[Event], None] | None = None
    """Told of each event when it is on disk."""

    on_state: Callable[[str, SourceState], None] | None = None
    """Told of a camera's name and how its source stands, whenever that changes; never waits."""

    def channels_of(self, camera: CameraSettings) -> tuple[str, ...]:
        """Names of the channels that are told of this camera's alarms."""
        return tuple(self.config.notify) if camera.notify is None else camera.notify


class CameraRuntime:
    """One camera as the service sees it: makes its pipeline anew for each start.

    Args:
        name: As in the configuration.
        settings: Its own.
        site: What it shares with the others.
    """

    def __init__(self, name: str, settings: CameraSettings, site: AppContext) -> None:
        self.name = name
        self.folder = safe_name(name)
        """What its recordings' folder is called."""

        self.live = is_live(settings)
        self.monitor = StatusSink(name, clock=site.clock)
        self.recorder: SegmentRecorder | None = None
        self.trouble = ""
        """Why no pictures come, in words; empty while they do."""

        self.alarm: Alarm | None = None
        self._settings = settings
        self._site = site

    def pipeline(self) -> Pipeline:
        """Source, stages, sinks and workers as the settings say."""
        settings, site = self._settings, self._site
        ring = self._ring() if _has_packets(settings) else None
        overlay = Overlay(self.name, clock=site.clock, live=self._in_real_time)
        incidents = self._incidents(ring, overlay)
        self.alarm = self._alarm(incidents)
        found = detection(
            self.alarm,
            settings,
            site.models,
            clock=site.clock,
            record=incidents.record,
            usual=None if site.usual is None else site.usual / f"{self.folder}.npz",
        )
        stages: dict[str, Stage] = {
            "segment": found.look,
            "alarm": _then(found.judge, incidents.close, found.keep),
        }
        sinks = self._sinks()
        shown = len(sinks) > 1  # To somebody besides the monitor.
        if shown and site.models.lowlight is not None and settings.enhance.enabled:
            # Behind the alarm: evidence is what the camera sent.
            told = settings.enhance
            enhancer = site.models.lowlight.enhancer(strength=told.strength, denoise=told.denoise)
            stages["enhance"] = Enhance(LowLightFilter(enhancer))
        if shown:
            stages["overlay"] = overlay
        workers: dict[str, Worker] = {"clips": incidents.write_clips}
        if ring is not None and settings.record.enabled:
            self.recorder = SegmentRecorder(
                ring,
                site.config.recordings_folder / self.folder,
                segment_s=settings.record.segment_s,
                clock=site.clock,
            )
            workers["recorder"] = self.recorder
        return Pipeline(
            self.name,
            self._source(ring, every_frame=shown and settings.outputs.every_frame),
            stages,
            sinks,
            make_link=self._links(),
            workers=workers,
        )

    @property
    def _replaying(self) -> bool:
        return isinstance(self._site.clock, MediaClock)

    @property
    def _in_real_time(self) -> bool:
        return not self._replaying and (self.live or self._settings.source.realtime)

    def _links(self) -> LinkFactory:
        clock = self._site.clock
        if not self._in_real_time:
            return file_links(clock=clock)
        budget_ns = self._settings.latency_budget_ms * 1_000_000
        return live_links(latency_budget_ns=budget_ns, clock=clock)

    def _ring(self) -> PacketRing:
        """Reaches back over the pre-roll, seen from a frame that is as old as it may be.

        A replay reads ahead of its alarm by what its links hold, at a look a second.
        """
        clip = self._settings.clip
        behind_s = _READ_AHEAD_S if self._replaying else self._settings.latency_budget_ms / 1000
        return PacketRing(
            max_ns=round((clip.pre_roll_s + behind_s) * _NS),
            max_bytes=round(clip.pre_roll_buffer_mb * 1e6),
        )

    def _alarm(self, incidents: AlarmRecorder) -> Alarm:
        alarm = Alarm(self.name, alarm_rule(self._settings))
        if self._site.store is not None:
            for recorded in self._site.store.open_alarms():
                if recorded.event.camera == self.name:
                    alarm.resume(recorded.event)
                    if recorded.evidence is not None:
                        incidents.recover(recorded.evidence)
        return alarm

    def _incidents(self, ring: PacketRing | None, overlay: Overlay) -> AlarmRecorder:
        settings, site = self._settings, self._site
        evidence = None
        if site.evidence is not None:
            evidence = EvidenceFolder(site.evidence, provenance=site.provenance, draw=overlay.draw)
        return AlarmRecorder(
            evidence=evidence,
            store=site.store,
            channels=site.channels_of(settings),
            ring=ring,
            span=ClipSpan(
                pre_roll_ns=round(settings.clip.pre_roll_s * _NS),
                post_roll_ns=round(settings.clip.post_roll_s * _NS),
            ),
            clock=site.clock,
            on_event=self._tell,
        )

    def _tell(self, event: Event) -> None:
        if self.alarm is not None and not self._site.channels_of(self._settings):
            self.alarm.mark_delivered(event.alarm_id)  # Nobody is to be told: the disk knows.
        if self._site.on_event is not None:
            self._site.on_event(event)

    def _sinks(self) -> dict[str, Sink]:
        outputs, site = self._settings.outputs, self._site
        sinks: dict[str, Sink] = {"monitor": self.monitor}
        look_s = 1 / self._settings.detect.fps
        stale_after_s = self._settings.latency_budget_ms / 1000 + _LOOKS_MISSED * look_s
        if site.preview is not None and outputs.preview:
            sinks["preview"] = site.preview.sink(
                self.name, clock=site.clock, stale_after_s=stale_after_s, why=lambda: self.trouble
            )
        if outputs.file is not None:
            sinks["file"] = VideoFileSink(outputs.file.path, preset=outputs.file.preset)
        if outputs.publish is not None:
            url = outputs.publish.url.get_secret_value()
            sinks["publish"] = PublishSink(
                PublishSettings(
                    camera=self.name,
                    url=url,
                    shown_as=redact(url),
                    rate=outputs.publish.rate,
                    preset=outputs.publish.preset,
                    stale_after_s=stale_after_s,
                )
            )
        return sinks

    def _source(self, ring: PacketRing | None, *, every_frame: bool) -> Source:
        source = _attempt(
            self._settings,
            self._site.clock,
            tap=ring,
            live=self.live,
            every_frame=every_frame,
        )
        if self.live:
            wait = self._settings.reconnect
            source = ReconnectingSource(
                source,
                clock=self._site.clock,
                backoff=replace(
                    RECONNECT,
                    initial_s=wait.initial_s,
                    factor=wait.factor,
                    max_delay_s=wait.max_delay_s,
                ),
                rejected=Backoff.constant(wait.rejected_s, jitter=REJECTED.jitter),
                on_state=self._note,
            )
        return source if ring is None else _closing(source, ring)

    def _note(self, state: SourceState) -> None:
        self.trouble = "" if state.fault is None else state.fault.value
        if self._site.on_state is not None:
            self._site.on_state(self.name, state)


def is_live(settings: CameraSettings) -> bool:
    """Whether the end of the stream means a broken connection."""
    told = settings.source.live
    return kind(settings).live if told == "auto" else told == "always"


def kind(settings: CameraSettings) -> SourceKind:
    """What the camera's address leads to."""
    told = {
        "snapshot": SourceKind.SNAPSHOT,
        "images": SourceKind.FOLDER,
        "pattern": SourceKind.PATTERN,
    }
    return told.get(settings.source.kind) or kind_of(_address(settings))


def _has_packets(settings: CameraSettings) -> bool:
    return kind(settings) not in (SourceKind.SNAPSHOT, SourceKind.FOLDER, SourceKind.PATTERN)


def _address(settings: CameraSettings) -> str:
    return settings.source.address.get_secret_value()


def _attempt(
    settings: CameraSettings,
    clock: Clock,
    *,
    tap: PacketTap | None,
    live: bool,
    every_frame: bool,
) -> Source:
    """The source of one address: a call is an attempt."""
    fetch = settings.source
    address = _address(settings)
    interval_ns = look_interval_ns(settings)
    password = fetch.password.get_secret_value() if fetch.password else None
    realtime = fetch.realtime and not live and not isinstance(clock, MediaClock)
    match kind(settings):
        case SourceKind.PATTERN:
            return PatternSource(clock=clock, realtime=realtime, inference_interval_ns=interval_ns)
        case SourceKind.FOLDER:
            rate = fetch.frame_rate or settings.detect.fps
            return ImageFolderSource(
                Path(address),
                clock=clock,
                rate=rate,
                realtime=realtime,
                loop=fetch.loop,
                inference_interval_ns=interval_ns,
            )
        case SourceKind.SNAPSHOT:
            return SnapshotSource(
                address,
                clock=clock,
                interval_ns=round(fetch.poll_s * _NS),
                user=fetch.user,
                password=password,
                timeout_s=fetch.timeout_s,
                tls_verify=fetch.tls_verify,
                inference_interval_ns=interval_ns,
            )
    options = VideoOptions(
        transport=fetch.transport,
        user=fetch.user,
        password=password,
        timeout_s=fetch.timeout_s,
        tls_verify=fetch.tls_verify,
        ca_file=None if fetch.ca_file is None else str(fetch.ca_file),
        realtime=realtime,
        loop=fetch.loop,
        frame_rate=fetch.frame_rate,
        inference_interval_ns=interval_ns,
        every_frame=every_frame,
        hwaccel=fetch.hwaccel,
    )
    return VideoSource(address, clock=clock, live=live, options=options, tap=tap)


def _closing(source: Source, ring: PacketRing) -> Source:
    """The source, which closes its ring when it ends for good."""

    def run(cancel: CancelToken) -> Iterator[Frame]:
        try:
            yield from source(cancel)
        finally:
            ring.close()

    return run


def _then(stage: Stage, *done: Callable[[], None]) -> Stage:
    """The stage, and *done* when it has ended, one after the other."""

    def run(frames: Iterator[Frame]) -> Iterator[Frame]:
        with contextlib.ExitStack() as at_the_end:
            for each in reversed(done):
                at_the_end.callback(each)
            yield from stage(frames)

    return run
