"""The file sink: pictures as a video file, each at the time at which it came."""

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
"""Only a hint for players; the time stamps say when."""

_GOP: Final = 50
"""Pictures from key frame to key frame, each of which begins a fragment: what a kill can cost."""


class VideoFileSink:
    """Writes H.264 in MP4. The file is `NAME.part` until it is whole.

    After a kill the part plays, up to the last two seconds of 25 pictures each.

    A picture of another size is scaled to the first one's: a player takes no change of size.

    Args:
        path: Replaced when whole.
        preset: x264's name for how hard it works.
    """

    def __init__(self, path: Path, *, preset: str = "veryfast") -> None:
        self._path = path
        self._preset = preset

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Write all frames. Without any, no file is made.

        Raises:
            SinkError: The disk does not take it. What was written stays as `NAME.part`.
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
        # Fragments: what is on disk plays without the end.
        options = {
            "movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1",
        }  # fmt: skip
        with av.open(file, "w", format="mp4", options=options) as container:
            encoder = H264Encoder(
                container,
                first.image,
                preset=self._preset,
                rate=_NOMINAL_RATE,
                # Without B-frames, which fragments would show late by their reordering; and
                # without looking ahead, which would keep pictures from the disk.
                options={"g": str(_GOP), "bf": "0", "rc-lookahead": "0"},
            )
            container.mux(encoder.encode(first.image, 0))
            try:
                for frame in frames:
                    container.mux(encoder.encode(frame.image, frame.pts_ns - first.pts_ns))
            except Cancelled:  # Any other error is the disk's: it takes nothing more.
                container.mux(encoder.flush())
                raise
            container.mux(encoder.flush())
