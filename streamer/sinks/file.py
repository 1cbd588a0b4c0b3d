"""The file sink: frames as H.264 in one MP4 file, each at its own timestamp."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

import av
import av.error

from streamer.core.atomic_file import AtomicFile
from streamer.core.errors import Cancelled, SinkError
from streamer.core.frame import Frame
from streamer.recording.containers import MP4

from .h264 import H264Encoder

_NOMINAL_RATE: Final = Fraction(25)
"""A hint for players; the timestamps decide when a frame is shown."""

_GOP: Final = 50
"""Frames from one key frame to the next. Arbitrary."""


class VideoFile:
    """One file that is being written, named `NAME.part` until it is complete. For one thread.

    On disk it is a sequence of fragments of a second, so that it plays when the program is killed:
    the last second is lost.

    Args:
        path: The file; an older one is replaced when the new one is complete.
        first: The first frame; frames of another size are scaled to its size, because players
            accept no change of size.
        preset: x264's preset, from `ultrafast` to `veryslow`.

    Raises:
        SinkError: From any method. What was written stays as `NAME.part`.
    """

    def __init__(self, path: Path, first: Frame, *, preset: str) -> None:
        self.path = path
        self.start_pts_ns = first.pts_ns
        with contextlib.ExitStack() as undo, self._translated():
            self._file = AtomicFile(path)
            undo.callback(self._file.abandon)
            self._container = av.open(self._file, "w", format=MP4.muxer, options=MP4.options)
            self._encoder = H264Encoder(
                self._container,
                first.image,
                preset=preset,
                rate=_NOMINAL_RATE,
                # Nothing may hold frames back from the disk: neither B frames, nor lookahead, nor
                # threads that each encode a frame of their own.
                options={
                    "g": str(_GOP), "bf": "0", "rc-lookahead": "0",
                    "x264-params": "sliced-threads=1:sync-lookahead=0",
                },
            )  # fmt: skip
            self.add(first)
            undo.pop_all()

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self._file.size

    def add(self, frame: Frame) -> None:
        """Write a frame; one that is not later than the last one is skipped."""
        with self._translated():
            self._container.mux(self._encoder.encode(frame.image, frame.pts_ns - self.start_pts_ns))

    def finish(self) -> None:
        """Complete the file and give it its name."""
        with self._translated():
            self._close()
            self._file.publish()

    def leave_part(self) -> None:
        """Complete what is written, but leave it under the name of a part."""
        with self._translated():
            self._close()

    def abandon(self) -> None:
        """Stop writing and leave the part, as if the program had been killed here."""
        self._file.abandon()  # First: closing writes an end that may not fit the disk.
        with contextlib.suppress(OSError, ValueError, av.error.FFmpegError):
            self._container.close()

    def _close(self) -> None:
        self._container.mux(self._encoder.flush())
        self._container.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[Self]:
        try:
            yield self
        except (OSError, av.error.FFmpegError) as error:
            reason = (error.strerror or str(error)).lower()
            raise SinkError(f"{self.path} cannot be written: {reason}") from error


class VideoFileSink:
    """Writes all frames to one file, named `NAME.part` until it is complete.

    Args:
        path: The file; it is replaced when the new one is complete.
        preset: x264's preset, from `ultrafast` to `veryslow`.
    """

    def __init__(self, path: Path, *, preset: str = "veryfast") -> None:
        self._path = path
        self._preset = preset

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Write all frames. Without any frame no file is made.

        Raises:
            SinkError: The file cannot be written. What was written stays as `NAME.part`.
        """
        first = next(frames, None)
        if first is None:
            return
        file = VideoFile(self._path, first, preset=self._preset)
        try:
            for frame in frames:
                file.add(frame)
            file.finish()
        except Cancelled:
            file.leave_part()  # It is not the whole, but it plays.
            raise
        finally:
            file.abandon()  # Where it was not published, the part stays and plays.
