"""Continuous recording: all packets of a camera, in files that begin at key frames.

A full disk stops the recording, never the detection. The recorder reports it, and continues when
there is space again.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from streamer.core.backoff import Backoff
from streamer.core.clock import CancelToken, Clock, SystemClock
from streamer.core.errors import StorageError
from streamer.core.packet import EncodedPacket

from .clip import ClipFile
from .containers import container_for
from .recording_paths import RecordingNumbers, recording_path
from .recovery import recover_recordings
from .ring import PacketReader, PacketRing

_log = structlog.get_logger(__name__)

_RETRY: Final = Backoff.constant(10.0)
"""Delay after the disk refused: long enough for a full disk, short enough for a passing fault."""


@dataclass(frozen=True, slots=True)
class RecorderState:
    """What a recorder does, and counts since it was made."""

    recording: Path | None
    """The file that is being written; `None` if there is none."""

    error: str
    """Why nothing is recorded, as text; empty if nothing is wrong."""

    files: int
    bytes: int
    """Of the complete files."""

    missed: int
    """Packets not recorded: the disk failed or was too slow, or recording was paused."""


class SegmentRecorder:
    """A worker that follows a ring and writes `<folder>/2026-08-01/14-05-00_000042.mp4`, in UTC.

    A file ends at the first key frame after *segment_s*, where the stream changes, when no packet
    comes for *segment_s*, and at the end. Parts of an earlier, killed recorder are made ordinary
    files first.

    Args:
        ring: Packets of one camera.
        folder: Folder of this camera alone: two recorders never share one.
        segment_s: Length of a file in media time; files are longer by up to one GOP.
        numbers: Counts the recordings of all cameras; by default those of *folder*.
        clock: Returns the wall time for the names.
        on_begin: Called with the number of each file just before it is named.
    """

    def __init__(
        self,
        ring: PacketRing,
        folder: Path,
        *,
        segment_s: float = 60,
        numbers: RecordingNumbers | None = None,
        clock: Clock | None = None,
        on_begin: Callable[[int], object] = lambda _: None,
    ) -> None:
        if segment_s <= 0:
            raise ValueError(f"segment_s must be positive, got {segment_s}")
        self._ring = ring
        self._folder = folder
        self._segment_ns = round(segment_s * 1e9)
        self._numbers = numbers or RecordingNumbers(folder)
        self._clock = clock or SystemClock()
        self._on_begin = on_begin
        # All below belong to the recording thread.
        self._file: ClipFile | None = None
        self._retry_at_ns = 0
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._pause = ""
        self._state = RecorderState(recording=None, error="", files=0, bytes=0, missed=0)

    def __call__(self, cancel: CancelToken, /) -> None:
        """Record until *cancel* is set or the ring is closed."""
        self._recover()
        with self._ring.follow(cancel) as reader:
            try:
                self._record(reader)
            finally:
                self._finish()

    def pause(self, reason: str) -> None:
        """Stop recording until `resume`, e.g. because the disk is almost full. From any thread."""
        with self._lock:
            self._pause = reason

    def resume(self) -> None:
        """Record again, from the next key frame on. From any thread, any number of times."""
        self.pause("")

    def state(self) -> RecorderState:
        """Return a consistent snapshot. From any thread."""
        with self._lock:
            return replace(self._state, error=self._pause or self._state.error)

    def _record(self, reader: PacketReader) -> None:
        lost = 0
        while not reader.exhausted:
            packet = reader.get(self._segment_ns / 1e9)
            if reader.lost > lost:
                self._miss(reader.lost - lost)
                lost = reader.lost
            if packet is not None:
                self._take(packet)
            else:  # The camera is silent: complete the file now.
                self._finish()

    def _take(self, packet: EncodedPacket) -> None:
        if self._file is not None and self._is_over(self._file, packet):
            self._finish()
        try:
            if self._file is not None:
                self._file.add(packet)
            elif packet.keyframe and self._may_begin():
                self._begin(packet)
            else:
                self._miss(1)
        except StorageError as error:
            self._miss(1)
            self._fail(error)

    def _is_over(self, file: ClipFile, packet: EncodedPacket) -> bool:
        long_enough = packet.pts_ns - file.start_pts_ns >= self._segment_ns
        return bool(
            (packet.keyframe and long_enough) or packet.stream != file.stream or self._pause
        )

    def _may_begin(self) -> bool:
        return not self._pause and self._clock.monotonic_ns() >= self._retry_at_ns

    def _begin(self, key: EncodedPacket) -> None:
        suffix = container_for(key.stream).suffix
        number = self._numbers.take()
        self._on_begin(number)
        start = self._clock.utc_at(key.arrived_ns)
        path = recording_path(self._folder, start, suffix, number=number)
        self._file = ClipFile(path, key, clock=self._clock)
        with self._lock:
            self._state = replace(self._state, recording=path, error="")

    def _finish(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            done = file.finish()
        except StorageError as error:
            self._fail(error)
            return
        with self._lock:
            self._state = replace(
                self._state,
                recording=None,
                files=self._state.files + 1,
                bytes=self._state.bytes + done.bytes,
            )
        _log.debug("recorded", path=str(done.path), frames=done.frames, bytes=done.bytes)

    def _fail(self, error: StorageError) -> None:
        """Report that the disk failed, and schedule the next attempt. The part stays."""
        self._file = None
        self._retry_at_ns = self._clock.monotonic_ns() + round(_RETRY.delay_s(1) * 1e9)
        with self._lock:
            failing = self._state.error
            self._state = replace(self._state, recording=None, error=str(error))
        if not failing:  # Once per outage.
            _log.error("recording stopped", folder=str(self._folder), reason=str(error))
        self._recover()

    def _miss(self, packets: int) -> None:
        with self._lock:
            self._state = replace(self._state, missed=self._state.missed + packets)

    def _recover(self) -> None:
        """Make ordinary files of the parts that a killed recorder left."""
        try:
            recover_recordings(self._folder)
        except OSError as error:
            _log.warning("cannot recover recordings", folder=str(self._folder), reason=str(error))
