"""Records each event of an alarm: the store first, then everything else.

The event and its deliveries are stored in one transaction before anything is written, so that no
disk can hold an alarm up or lose it. Stills, mask and clip follow in workers; the stored event says
what became of them.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from streamer.alarm.event import Event, EventKind
from streamer.core.errors import StorageError
from streamer.core.frame import Frame
from streamer.store import EventStore, EvidenceState, RecordedEvent

from .clip_writer import ClipWriter
from .disk_worker import DiskWorker, Job
from .recovery import recover_folder
from .writer import EvidenceWriter

_log = structlog.get_logger(__name__)

_IMAGE_WAIT: Final = timedelta(seconds=1)
"""Longest time that a notification waits for its image. Writing one takes 50 ms on a good disk."""

_LOST: Final = "the program ended before all of it was written"


class AlarmRecorder:
    """Records the events of one camera. `record` is for the thread of the alarm.

    Args:
        evidence: Writes stills and masks; `None` writes no evidence.
        clips: Writes the clips; `None` writes none.
        worker: Its thread writes the evidence.
        store: Stores the events; `None` stores none, as in a replay.
        channels: Names of the channels to notify.
        on_event: Called last, when the event is stored and before its evidence is written.
    """

    def __init__(
        self,
        *,
        evidence: EvidenceWriter | None,
        clips: ClipWriter | None,
        worker: DiskWorker,
        store: EventStore | None,
        channels: Sequence[str],
        on_event: Callable[[Event], None],
    ) -> None:
        self._evidence = evidence
        self._clips = clips
        self._worker = worker
        self._store = store
        self._channels = channels
        self._on_event = on_event
        self._own: set[str] = set()  # Alarms whose evidence is written here, not left behind.
        self.failure: tuple[str, int] = "", 0
        """Why the newest stills are not complete, empty if they are, and since when (monotonic)."""

    def record(self, event: Event, frame: Frame) -> None:
        """Store *event*, which *frame* decided, and have its evidence and clip written.

        Raises:
            StorageError: The event could not be stored. A `BufferedEventStore` never raises it.
        """
        folder = None if self._evidence is None else self._evidence.folder(event)
        self._own.add(event.alarm_id)
        if self._store is not None:
            self._store.add(
                event,
                evidence=folder,
                evidence_state=EvidenceState.NONE if folder is None else EvidenceState.PENDING,
                channels=self._channels,
                image_wait=timedelta(0) if folder is None else _IMAGE_WAIT,
            )
        _log.warning(
            event.kind.value, camera=event.camera, alarm=event.alarm_id, reason=event.reason
        )
        self._on_event(event)
        if self._evidence is not None and folder is not None:
            self._have_written(self._evidence, event, frame, folder)

    def recover(self, camera: str) -> None:
        """Have the evidence completed that an earlier program did not finish."""
        if self._store is None or self._evidence is None:
            return
        self._worker.put(Job(lambda: self._recover(camera)))

    def _have_written(
        self, evidence: EvidenceWriter, event: Event, frame: Frame, folder: Path
    ) -> None:
        with_clip = self._clips is not None and event.kind is EventKind.RAISED
        outcome = _Outcome(["stills", "clip"] if with_clip else ["stills"], self._report(event))

        def write() -> None:
            written = evidence.write(event, frame)
            missing = "; ".join(written.missing)
            self._note_failure(missing)
            outcome.note("stills", missing, any_file=bool(written.files), image=written.image)

        self._worker.put(
            Job(write, dropped=lambda reason: outcome.note("stills", reason), group=event.alarm_id)
        )
        if with_clip and self._clips is not None:
            self._clips.request(
                folder, event.pts_ns,
                lambda reason, any_file: outcome.note("clip", reason, any_file=any_file),
            )  # fmt: skip

    def _report(self, event: Event) -> "Callable[[EvidenceState, str, Path | None], None]":
        def report(state: EvidenceState, reason: str, image: Path | None) -> None:
            if reason and state is not EvidenceState.PENDING:
                _log.error(
                    "evidence is not complete", camera=event.camera, alarm=event.alarm_id,
                    event_id=event.id, state=state.value, error=reason,
                )  # fmt: skip
            if self._store is None:
                return
            try:
                self._store.set_evidence(event.id, state, reason=reason, image=image)
            except StorageError as error:
                _log.error("state of evidence not stored", event_id=event.id, error=str(error))

        return report

    def _note_failure(self, reason: str) -> None:
        since_ns = self.failure[1] if self.failure[0] else time.monotonic_ns()
        self.failure = reason, since_ns

    def _recover(self, camera: str) -> None:
        assert self._store is not None, "checked by `recover`"
        for recorded in self._store.pending_evidence(camera=camera):
            if recorded.event.alarm_id in self._own:  # This is a later run of the pipeline.
                continue
            if recorded.evidence is not None:
                try:
                    recover_folder(recorded.evidence)
                except (OSError, StorageError) as error:
                    _log.error(
                        "evidence not recovered", event_id=recorded.event.id, error=str(error)
                    )
            written = _has_files(recorded)
            state = EvidenceState.DEGRADED if written else EvidenceState.FAILED
            self._store.set_evidence(recorded.event.id, state, reason=_LOST)


class _Outcome:
    """Puts together what came of the parts of one event's evidence. For any thread.

    Args:
        parts: Names of the parts.
        report: Called with the state, what is missing, and the image, each time it changes.
    """

    def __init__(
        self, parts: Sequence[str], report: Callable[[EvidenceState, str, Path | None], None]
    ) -> None:
        self._report = report
        self._guard = threading.Lock()
        # Guarded by _guard.
        self._missing: dict[str, str | None] = dict.fromkeys(parts)  # `None` is not known yet.
        self._any_file = False
        self._image: Path | None = None

    def note(
        self, part: str, missing: str, *, any_file: bool = False, image: Path | None = None
    ) -> None:
        """Note what is missing of a part; empty if nothing is."""
        with self._guard:
            self._missing[part] = missing
            self._any_file = self._any_file or any_file
            self._image = image or self._image
            known = [each for each in self._missing.values() if each is not None]
            if len(known) < len(self._missing):
                state = EvidenceState.PENDING
            elif not any(known):
                state = EvidenceState.WRITTEN
            else:
                state = EvidenceState.DEGRADED if self._any_file else EvidenceState.FAILED
            self._report(state, "; ".join(filter(None, known)), self._image)


def _has_files(recorded: RecordedEvent) -> bool:
    folder, number = recorded.evidence, recorded.event.sequence
    if folder is None:
        return False
    names = (f"event-{number}.json", f"overlay-{number}.jpg", f"still-{number}.jpg")
    return any((folder / name).is_file() for name in names)
