"""Writes the video clips of alarms, each when its post-roll has come.

Packets are taken from the camera's ring when an alarm is raised, and written to `clip.mp4` by a
worker, so that neither the alarm nor the camera waits for the disk.
"""

import queue
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from streamer.core.atomic_file import PART
from streamer.core.clock import CancelToken, Clock
from streamer.core.errors import StorageError
from streamer.recording.clip import write_clip
from streamer.recording.recovery import recover_part
from streamer.recording.ring import PacketReader, PacketRing

from .writer import EvidenceWriter

_log = structlog.get_logger(__name__)

_SILENCE_S: Final = 20.0
"""A clip ends when no packet comes for this long: longer than a source needs to detect a stall."""


@dataclass(frozen=True, slots=True)
class ClipSpan:
    """Length of a clip around the moment at which its alarm is raised."""

    pre_roll_ns: int
    post_roll_ns: int


@dataclass(frozen=True, slots=True)
class _ClipRequest:
    folder: Path
    packets: PacketReader


class ClipWriter:
    """Writes the clips of one camera.

    `request` belongs to the thread of the alarm, `run` to a worker.

    Args:
        evidence: Adds clips to the manifests.
        ring: Packets of the camera; `None` for sources without packets: then no clip is written.
        span: Length of a clip.
        clock: Returns the wall time of a packet.
    """

    def __init__(
        self,
        evidence: EvidenceWriter,
        *,
        ring: PacketRing | None,
        span: ClipSpan,
        clock: Clock,
    ) -> None:
        self._evidence = evidence
        self._ring = ring
        self._span = span
        self._clock = clock
        self._requests: queue.SimpleQueue[_ClipRequest | None] = queue.SimpleQueue()
        self._current: PacketReader | None = None

    def request(self, folder: Path, pts_ns: int) -> None:
        """Take the packets around *pts_ns* from the ring, for a clip in *folder*."""
        if self._ring is None:
            return
        # Taken at once: what the ring evicts while other clips are written is not lost.
        packets = self._ring.clip(
            max(0, pts_ns - self._span.pre_roll_ns),
            pts_ns + self._span.post_roll_ns,
            timeout_s=_SILENCE_S,
        )
        self._requests.put(_ClipRequest(folder, packets))

    def run(self, cancel: CancelToken) -> None:
        """Write clips as their packets come, until `close` or *cancel*: a worker of the pipeline.

        After *cancel*, every requested clip is still written with the packets that have come.
        """
        cancel.on_cancel(self._finish_early)
        while (request := self._requests.get()) is not None:
            self._current = request.packets
            if cancel.is_set():  # It was set before `_finish_early` could see this reader.
                request.packets.finish()
            self._write(request)

    def close(self) -> None:
        """End `run` after the requested clips."""
        self._requests.put(None)

    def recover(self, folder: Path) -> None:
        """Complete the clip that an earlier, killed program was writing into *folder*."""
        if not folder.is_dir() or (folder / "clip.json").exists():
            return
        try:
            for part in sorted(folder.glob(f"clip*{PART}")):
                recover_part(part, part.with_suffix(""))
            clips = sorted(path.name for path in folder.glob("clip*") if path.suffix != PART)
            if clips:
                reason = "the program ended while it was written"
                facts = {"files": clips, "complete": False, "reason": reason}
                self._evidence.add_clip(folder, facts)
        except (OSError, StorageError) as error:
            _log.error("clip not recovered", folder=str(folder), error=str(error))

    def _finish_early(self) -> None:
        self.close()
        if self._current is not None:
            self._current.finish()

    def _write(self, request: _ClipRequest) -> None:
        try:
            with request.packets as packets:
                clip = write_clip(packets, request.folder / "clip.mp4", clock=self._clock)
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
            _log.warning("clip is incomplete", folder=str(request.folder), reason=clip.reason)
