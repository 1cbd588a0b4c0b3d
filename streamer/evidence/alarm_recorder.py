"""What happens when an alarm has something to say: evidence, then the store, then the clip.

The order is the promise. Stills and mask are on disk, then the event and its deliveries in one
transaction; only then does the frame go on to whatever shows it. The clip follows when its
post-roll has come. Evidence that cannot be written never holds an event back.
"""

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from streamer.alarm.event import Event, EventKind
from streamer.core.atomic_file import PART
from streamer.core.clock import CancelToken, Clock
from streamer.core.errors import StorageError
from streamer.core.frame import Frame
from streamer.recording.clip import write_clip
from streamer.recording.recovery import recover_part
from streamer.recording.ring import PacketReader, PacketRing
from streamer.store import EventStore

from .folder import EvidenceFolder

_log = structlog.get_logger(__name__)

_SILENCE_S: Final = 20.0
"""A clip ends here when the camera falls silent: longer than a source takes to notice."""


@dataclass(frozen=True, slots=True)
class ClipSpan:
    """How much video belongs to an alarm."""

    pre_roll_ns: int
    post_roll_ns: int


@dataclass(frozen=True, slots=True)
class _ClipRequest:
    folder: Path
    feed: PacketReader


class AlarmRecorder:
    """The recorder of one camera's alarm.

    `record` belongs to the alarm stage's thread, `write_clips` to a worker's.

    Args:
        evidence: Where the files go.
        store: Where the events go; `None` when a replay keeps none.
        channels: Names of the channels to be told.
        ring: The camera's packets; `None` for sources without any.
        span: Length of the clip.
        on_event: Told last, when all is on disk.
    """

    def __init__(
        self,
        *,
        evidence: EvidenceFolder | None,
        store: EventStore | None,
        channels: Sequence[str],
        ring: PacketRing | None,
        span: ClipSpan,
        clock: Clock,
        on_event: Callable[[Event], None],
    ) -> None:
        self._evidence = evidence
        self._store = store
        self._channels = channels
        self._ring = ring
        self._span = span
        self._clock = clock
        self._on_event = on_event
        self._requests: queue.SimpleQueue[_ClipRequest | None] = queue.SimpleQueue()
        self._writing: PacketReader | None = None

    def record(self, event: Event, frame: Frame) -> None:
        """Put an event and its evidence on disk.

        Raises:
            StorageError: The event itself could not be stored.
        """
        folder = self._write_evidence(event, frame)
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
            folder = self._evidence.write(event, frame)
        except Exception as error:  # noqa: BLE001  whatever it is, the event must be told
            expected = isinstance(error, StorageError)
            _log.error(
                "no evidence", camera=event.camera, alarm=event.alarm_id,
                error=str(error), exc_info=not expected,
            )  # fmt: skip
            return None
        if event.kind is EventKind.RAISED and self._ring is not None:
            # Taken at once: what the ring evicts while other clips are written does not matter.
            feed = self._ring.clip(
                max(0, event.pts_ns - self._span.pre_roll_ns),
                event.pts_ns + self._span.post_roll_ns,
                timeout_s=_SILENCE_S,
            )
            self._requests.put(_ClipRequest(folder, feed))
        return folder

    def recover(self, folder: Path) -> None:
        """Keep the clip that a program killed before this one was writing into *folder*."""
        if self._evidence is None or not folder.is_dir() or (folder / "clip.json").exists():
            return
        try:
            for part in sorted(folder.glob(f"clip*{PART}")):
                recover_part(part, part.with_suffix(""))
            clips = sorted(path.name for path in folder.glob("clip*") if path.suffix != PART)
            if clips:
                reason = "the program ended while it was written"
                self._evidence.add_clip(
                    folder, {"files": clips, "complete": False, "reason": reason}
                )
        except (OSError, StorageError) as error:
            _log.error("clip not recovered", folder=str(folder), error=str(error))

    def close(self) -> None:
        """No more events come; clips that are being written are finished."""
        self._requests.put(None)

    def write_clips(self, cancel: CancelToken) -> None:
        """Write clips as their packets come, until `close` or *cancel*: a pipeline's worker.

        After *cancel* every clip that was asked for is still written, with what came until then.
        """
        cancel.on_cancel(self._cut_short)
        while (request := self._requests.get()) is not None:
            self._writing = request.feed
            if cancel.is_set():  # It was set before it could see this feed.
                request.feed.finish()
            self._write_clip(request)

    def _cut_short(self) -> None:
        """End the clip that is being written: what has come of it is kept."""
        self.close()
        if self._writing is not None:
            self._writing.finish()

    def _write_clip(self, request: _ClipRequest) -> None:
        assert self._evidence is not None, "who asks for a clip has evidence"
        try:
            with request.feed as feed:
                clip = write_clip(feed, request.folder / "clip.mp4", clock=self._clock)
            facts = {
                "files": [path.name for path in clip.files],
                "start_pts_ns": clip.start_pts_ns,
                "end_pts_ns": clip.end_pts_ns,
                "start_utc": clip.start_utc.isoformat(timespec="milliseconds"),
                "frames": clip.frames,
                "complete": clip.complete,
                "reason": clip.reason,
            }
            self._evidence.add_clip(request.folder, facts)
        except StorageError as error:
            _log.error("no clip", folder=str(request.folder), error=str(error))
            return
        if clip.reason:
            _log.warning("clip is not as asked", folder=str(request.folder), reason=clip.reason)
