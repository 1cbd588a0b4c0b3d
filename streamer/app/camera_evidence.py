"""The evidence of one camera: what writes it, in which threads, and what is still to be written.

It outlives restarts of the pipeline: a clip of an alarm that ended one run is still written.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final

from streamer.alarm.event import Event
from streamer.core.clock import Clock
from streamer.core.frame import Frame
from streamer.core.image import Image
from streamer.evidence.alarm_recorder import AlarmRecorder
from streamer.evidence.clip_writer import ClipSpan, ClipWriter
from streamer.evidence.disk_worker import DiskWorker, Job
from streamer.evidence.writer import EvidenceWriter, Provenance
from streamer.health.reports import Condition
from streamer.recording.ring import PacketRing
from streamer.store import EventStore

from .camera_spec import CameraSpec
from .detector_builder import thresholds_of
from .models import Models

_NS: Final = 1_000_000_000
_BEHIND_S: Final = 10.0
"""Age of the oldest still that is not written above which the status says so. Arbitrary."""

_CLOSE_S: Final = 1.2
"""Longest wait for the disk when the program ends: it has 4.5 s for everything."""


class CameraEvidence:
    """Stores the events of one camera and has their evidence written.

    Args:
        spec: The camera.
        models: The networks.
        provenance: Returns what evidence states about the program.
        clock: Returns the wall time of a packet.
        store: Stores the events; `None` stores none.
        ring: Packets of the camera; `None` if it has none: then no clip is written.
        draw: Draws the detections over the image of a frame.
        on_event: Called with each event when it is stored.
        clips_paused: Returns why no clip may be written now, or an empty string.
    """

    def __init__(
        self,
        spec: CameraSpec,
        *,
        models: Models,
        provenance: Callable[[], Provenance],
        clock: Clock,
        store: EventStore | None,
        ring: PacketRing | None,
        draw: Callable[[Frame], Image],
        on_event: Callable[[Event], None],
        clips_paused: Callable[[], str] = str,
    ) -> None:
        self._spec = spec
        self._models = models
        self._provenance = provenance
        self._clock = clock
        self.worker = DiskWorker(f"{spec.name}/evidence")
        """Writes stills; other small files of the camera may be written by it too."""

        self._clip_worker = DiskWorker(f"{spec.name}/clips")
        evidence = clips = None
        if spec.evidence_folder is not None:
            evidence = EvidenceWriter(spec.evidence_folder, provenance=self._decision, draw=draw)
            if ring is not None:
                clip = spec.settings.clip
                span = ClipSpan(round(clip.pre_roll_s * _NS), round(clip.post_roll_s * _NS))
                clips = ClipWriter(
                    evidence, ring=ring, span=span, clock=clock, worker=self._clip_worker,
                    paused=clips_paused,
                )  # fmt: skip
        self.recorder = AlarmRecorder(
            evidence=evidence, clips=clips, worker=self.worker, store=store,
            channels=spec.channels, on_event=on_event,
        )  # fmt: skip

    def write_prior(self, work: Callable[[], None]) -> None:
        """Write the false-positive prior, in the thread that writes the stills."""
        self.worker.put(Job(work, group="prior", supersedes=True))

    def pending(self) -> int:
        """Return how many stills and clips are still to be written. From any thread."""
        return self.worker.pending()[0] + self._clip_worker.pending()[0]

    def condition(self) -> Condition | None:
        """Return what is wrong with the evidence; `None` if nothing is. From any thread."""
        _, oldest_s = self.worker.pending()
        failure, since_ns = self.recorder.failure
        if oldest_s >= _BEHIND_S:
            # Without a number that runs: every change of the text is reported.
            reason = "evidence waits for the disk, which is too slow or does not answer"
            return Condition("evidence", reason, self._clock.monotonic_ns() - round(oldest_s * _NS))
        return Condition("evidence", failure, since_ns) if failure else None

    def close(self, *, cut_short: bool) -> None:
        """Write what is left, without limit in a replay, and end the threads.

        Args:
            cut_short: Whether the program is ending, so that little time is left.
        """
        timeout_s = _CLOSE_S if cut_short else None
        self.worker.finish(timeout_s=timeout_s)
        self._clip_worker.finish(timeout_s=timeout_s)

    def _decision(self, frame: Frame) -> Provenance:
        """What decided on a frame: the engine as it was then, the thresholds of this camera."""
        made, result = self._provenance(), frame.detector_result
        settings = self._spec.settings
        thresholds = asdict(thresholds_of(settings, self._models))
        if result is None:
            return replace(made, thresholds=thresholds)
        return replace(
            made,
            backend=result.computed_by or made.backend,
            thresholds={**thresholds, "applied": result.threshold},
            zones={"include": settings.zones.include, "exclude": settings.zones.exclude},
        )
