"""The file sink: frames as H.264 in an MP4 file, each at its own timestamp."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.error

from streamer.core.atomic_file import AtomicFile
from streamer.core.errors import Cancelled, SinkError
from streamer.core.frame import Frame

from .h264 import H264Encoder

_NOMINAL_RATE: Final = Fraction(25)
"""A hint for players; the timestamps decide when a frame is shown."""

_GOP: Final = 50
"""Frames per group. Each group is one fragment, so a kill loses at most one group."""


class VideoFileSink:
    """Writes H.264 in MP4. The file is named `NAME.part` until it is complete.

    After a kill the part plays up to its last fragment: at most 50 frames are lost. Frames of
    another size are scaled to the size of the first one, because players accept no change of size.

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
        try:
            file = AtomicFile(self._path)
            try:
                self._write(file, first, frames)
                file.publish()
            finally:
                file.abandon()  # Where it was not published, the part stays and plays.
        except (OSError, av.error.FFmpegError) as error:
            reason = (error.strerror or str(error)).lower()
            raise SinkError(f"{self._path} cannot be written: {reason}") from error

    def _write(self, file: AtomicFile, first: Frame, frames: Iterator[Frame]) -> None:
        # Fragments: what is on disk plays although the file has no end yet.
        options = {
            "movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1",
        }  # fmt: skip
        with av.open(file, "w", format="mp4", options=options) as container:
            encoder = H264Encoder(
                container,
                first.image,
                preset=self._preset,
                rate=_NOMINAL_RATE,
                # No B frames, because fragments would show reordered frames late; no lookahead,
                # because it would hold frames back from the disk.
                options={"g": str(_GOP), "bf": "0", "rc-lookahead": "0"},
            )
            container.mux(encoder.encode(first.image, 0))
            try:
                for frame in frames:
                    container.mux(encoder.encode(frame.image, frame.pts_ns - first.pts_ns))
            except Cancelled:  # Any other error is the disk's: nothing more can be written.
                container.mux(encoder.flush())
                raise
            container.mux(encoder.flush())
