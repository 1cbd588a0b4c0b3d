"""Writes the video clips of alarms, each when its post-roll has come.

Packets are taken from the camera's ring when an alarm is raised, and written to `clip.mp4` by a
worker, so that neither the alarm nor the camera waits for the disk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from streamer.core.clock import Clock
from streamer.core.errors import StorageError
from streamer.recording.clip import write_clip
from streamer.recording.ring import PacketReader, PacketRing

from .disk_worker import DiskWorker, Job
from .writer import EvidenceWriter

_log = structlog.get_logger(__name__)

_SILENCE_S: Final = 20.0
"""A clip ends when no packet comes for this long: longer than a source needs to detect a stall."""

OnClip = Callable[[str, bool], None]
"""Called with what is missing of a clip, empty if nothing is, and whether there is a file."""


@dataclass(frozen=True, slots=True)
class ClipSpan:
    """Length of a clip around the moment at which its alarm is raised."""

    pre_roll_ns: int
    post_roll_ns: int


class ClipWriter:
    """Writes the clips of one camera. `request` is for the thread of the alarm.

    A clip ends early when the ring ends its readers or is closed: the source has ended.

    Args:
        evidence: Adds clips to the manifests.
        ring: Packets of the camera.
        span: Length of a clip.
        clock: Returns the wall time of a packet.
        worker: Its thread writes the clips, one after another.
        paused: Returns why no clip may be written now, or an empty string.
    """

    def __init__(
        self,
        evidence: EvidenceWriter,
        *,
        ring: PacketRing,
        span: ClipSpan,
        clock: Clock,
        worker: DiskWorker,
        paused: Callable[[], str] = str,
    ) -> None:
        self._evidence = evidence
        self._ring = ring
        self._span = span
        self._clock = clock
        self._worker = worker
        self._paused = paused

    def request(self, folder: Path, pts_ns: int, done: OnClip) -> None:
        """Take the packets around *pts_ns* from the ring, for a clip in *folder*."""
        if reason := self._paused():
            done(f"no clip: {reason}", False)
            return
        # Taken at once: what the ring evicts while other clips are written is not lost.
        packets = self._ring.clip(
            max(0, pts_ns - self._span.pre_roll_ns),
            pts_ns + self._span.post_roll_ns,
            timeout_s=_SILENCE_S,
        )

        def drop(reason: str) -> None:
            packets.close()
            done(f"no clip: {reason}", False)

        self._worker.put(
            Job(lambda: self._write(folder, packets, done), dropped=drop, group=folder.name)
        )

    def _write(self, folder: Path, packets: PacketReader, done: OnClip) -> None:
        try:
            with packets:
                clip = write_clip(packets, folder / "clip.mp4", clock=self._clock)
            facts = {
                "files": [path.name for path in clip.files],
                "start_pts_ns": clip.start_pts_ns,
                "end_pts_ns": clip.end_pts_ns,
                "start_utc": clip.start_utc.isoformat(timespec="milliseconds"),
                "frames": clip.frames,
                "complete": clip.complete,
                "reason": clip.reason,
            }
            self._evidence.add_clip(folder, facts)
        except StorageError as error:
            _log.error("no clip", folder=str(folder), error=str(error))
            done(f"no clip: {error}", False)
            return
        if clip.reason:
            _log.warning("clip is incomplete", folder=str(folder), reason=clip.reason)
        done(f"clip {clip.reason}" if clip.reason else "", True)
