"""The file sink of a camera: numbered files that begin anew by duration, size and restart.

It never replaces a file, and a disk that is full or fails does not end the camera: frames are
counted as missed until the disk accepts a file again.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from streamer.core.backoff import Backoff
from streamer.core.clock import Clock
from streamer.core.errors import SinkError, StorageError
from streamer.core.frame import Frame
from streamer.recording.recovery import recover_part

from .file import VideoFile
from .output_files import first_output, next_output, output_parts

_log = structlog.get_logger(__name__)

_RETRY: Final = Backoff.constant(10.0)
"""Delay after the disk refused: long enough for a full disk, short enough for a passing fault."""


@dataclass(frozen=True, slots=True)
class OutputState:
    """What the sink does, and counts since it was made."""

    writing: Path | None = None
    """The file that is being written; `None` if there is none."""

    error: str = ""
    """Why nothing is written, as text; empty if nothing is wrong."""

    since_ns: int = 0
    """Monotonic time since which nothing is written; only with `error`."""

    files: int = 0
    """Complete files."""

    missed: int = 0
    """Frames not written: the disk failed, or the sink was paused."""


@dataclass(frozen=True, slots=True)
class SegmentRules:
    """When a file ends and the next one begins."""

    max_ns: int | None
    """Duration in media time; `None` for no limit."""

    max_bytes: int | None

    numbered: bool = True
    """Whether the first file has a number too. If not, it has the name of the configuration."""


class SegmentedFileSink:
    """Writes the frames of all runs of a camera to `NAME-0001_TIME.mp4`, `NAME-0002_TIME.mp4`, ...

    Args:
        path: As in the configuration: `NAME.mp4`.
        preset: x264's preset.
        rules: When a file ends.
        clock: Returns the wall time for the names.
        clock_is_believed: Whether that time can be believed; if not, a name has no time.
    """

    def __init__(
        self,
        path: Path,
        *,
        preset: str,
        rules: SegmentRules,
        clock: Clock,
        clock_is_believed: Callable[[], bool] = lambda: True,
    ) -> None:
        self.path = path
        self._preset = preset
        self._rules = rules
        self._clock = clock
        self._clock_is_believed = clock_is_believed
        self._file: VideoFile | None = None  # Of the sink's thread, as the next one.
        self._retry_at_ns = 0
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._pause = ""
        self._state = OutputState()

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Write all frames; the last file is completed however they end."""
        self._recover()
        self._retry_at_ns = 0
        try:
            for frame in frames:
                self._take(frame)
        finally:  # `Cancelled` too: what was written is complete up to here.
            self._finish()

    def pause(self, reason: str) -> None:
        """Write nothing while *reason* is not empty. From any thread."""
        with self._lock:
            self._pause = reason

    def state(self) -> OutputState:
        """Return a consistent snapshot. From any thread."""
        with self._lock:
            return self._state

    def _take(self, frame: Frame) -> None:
        with self._lock:
            pause = self._pause
        if self._file is not None and (pause or self._is_over(self._file, frame)):
            self._finish()
        if pause:
            self._stop(pause)
            return
        try:
            if self._file is not None:
                self._file.add(frame)
            elif self._clock.monotonic_ns() >= self._retry_at_ns:
                self._begin(frame)
            else:
                self._miss()
        except SinkError as error:
            self._fail(error)

    def _is_over(self, file: VideoFile, frame: Frame) -> bool:
        rules = self._rules
        long_enough = rules.max_ns is not None and frame.pts_ns - file.start_pts_ns >= rules.max_ns
        # Media time that jumps back would make a file without new frames.
        large_enough = rules.max_bytes is not None and file.size >= rules.max_bytes
        return long_enough or large_enough or frame.pts_ns < file.start_pts_ns

    def _begin(self, frame: Frame) -> None:
        path = None if self._rules.numbered else first_output(self.path)
        if path is None:
            believed = self._clock_is_believed()
            path = next_output(
                self.path, self._clock.utc_at(frame.arrived_ns) if believed else None
            )
        self._file = VideoFile(path, frame, preset=self._preset)
        with self._lock:
            self._state = replace(self._state, writing=path, error="")

    def _finish(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.finish()
        except SinkError as error:
            self._file = file
            self._fail(error)
            return
        with self._lock:
            self._state = replace(self._state, writing=None, files=self._state.files + 1)

    def _fail(self, error: SinkError) -> None:
        """Report that the disk failed, and schedule the next attempt. The part stays."""
        file, self._file = self._file, None
        if file is not None:
            file.abandon()
        self._retry_at_ns = self._clock.monotonic_ns() + round(_RETRY.delay_s(1) * 1e9)
        if not self.state().error:  # Once per outage.
            _log.error("output stopped", path=str(self.path), reason=str(error))
        self._stop(str(error))

    def _stop(self, reason: str) -> None:
        with self._lock:
            since_ns = self._state.since_ns if self._state.error else self._clock.monotonic_ns()
            self._state = replace(
                self._state, writing=None, error=reason, since_ns=since_ns,
                missed=self._state.missed + 1,
            )  # fmt: skip

    def _recover(self) -> None:
        """Make ordinary files of the parts that a killed program or a full disk left."""
        for part in output_parts(self.path):
            path = part.with_suffix("")
            try:
                found = recover_part(part, path)
            except StorageError as error:
                _log.warning("cannot recover an output", path=str(path), reason=str(error))
            else:
                _log.info("recovered" if found else "nothing to recover", path=str(path))

    def _miss(self) -> None:
        with self._lock:
            self._state = replace(self._state, missed=self._state.missed + 1)
