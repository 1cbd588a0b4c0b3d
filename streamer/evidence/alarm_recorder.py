"""Records each event of an alarm: evidence, then the store, then the clip.

Stills and mask are on disk first, then the event and its deliveries in one transaction; only then
does the frame go on to the outputs. The clip follows when its post-roll has come. An error of the
evidence never prevents the event from being stored.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from streamer.alarm.event import Event, EventKind
from streamer.core.errors import StorageError
from streamer.core.frame import Frame
from streamer.store import EventStore

from .clip_writer import ClipWriter
from .writer import EvidenceWriter

_log = structlog.get_logger(__name__)


class AlarmRecorder:
    """Records the events of one camera. For the thread of the alarm.

    Args:
        evidence: Writes stills and masks; `None` writes no evidence.
        clips: Writes the clips; `None` writes none.
        store: Stores the events; `None` stores none, as in a replay.
        channels: Names of the channels to notify.
        on_event: Called last, when the event is on disk.
    """

    def __init__(
        self,
        *,
        evidence: EvidenceWriter | None,
        clips: ClipWriter | None,
        store: EventStore | None,
        channels: Sequence[str],
        on_event: Callable[[Event], None],
    ) -> None:
        self._evidence = evidence
        self._clips = clips
        self._store = store
        self._channels = channels
        self._on_event = on_event

    def record(self, event: Event, frame: Frame) -> None:
        """Write the evidence of *event*, which *frame* decided, store it, and request its clip.

        Raises:
            StorageError: The event itself could not be stored.
        """
        folder = self._write_evidence(event, frame)
        if folder is not None and self._clips is not None and event.kind is EventKind.RAISED:
            self._clips.request(folder, event.pts_ns)
        if self._store is not None:
            image = None if folder is None else folder / f"overlay-{event.sequence}.jpg"
            self._store.add(event, evidence=folder, image=image, channels=self._channels)
        _log.warning(
            event.kind.value, camera=event.camera, alarm=event.alarm_id, reason=event.reason
        )
        self._on_event(event)

    def _write_evidence(self, event: Event, frame: Frame) -> Path | None:
        if self._evidence is None:
            return None
        try:
            return self._evidence.write(event, frame)
        except Exception as error:  # noqa: BLE001  whatever it is, the event must be stored
            expected = isinstance(error, StorageError)
            _log.error(
                "no evidence", camera=event.camera, alarm=event.alarm_id,
                error=str(error), exc_info=not expected,
            )  # fmt: skip
            return None
