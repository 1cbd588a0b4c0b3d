"""Single pictures: from bytes in any usual image format, and folders full of them."""

import io
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.error
import structlog

from streamer.core.clock import CancelToken, Clock
from streamer.core.errors import SourceError, SourceFault
from streamer.core.frame import Frame
from streamer.core.image import Image

from .ffmpeg_errors import FaultContext, source_error, translate
from .frame_sampler import FrameSampler

_log = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000
_SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}


def decode_image(data: bytes, *, attempt: FaultContext) -> Image:
    """The picture in a JPEG, PNG, WebP, ...

    Raises:
        SourceError: It is none, or it is damaged.
    """
    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            for frame in container.decode(video=0):
                if not frame.is_corrupt:
                    return Image(frame)
    except av.error.FFmpegError as error:
        raise translate(error, attempt) from error
    except IndexError:  # No video stream in it.
        pass
    raise source_error(
        SourceFault.DAMAGED,
        address=attempt.address,
        live=attempt.live,
        detail="damaged: not a picture",
    )


class ImageFolderSource:
    """The pictures of a folder, in the order of the numbers in their names.

    What is not a picture is left out, counted and logged.

    Args:
        folder: Its sub-folders are not looked into.
        clock: Says when a picture arrived; with a `MediaClock` that is its media time.
        rate: Pictures a second.
        realtime: Yield each at its time rather than as fast as they can be read.
        loop: Begin again at the end; media time goes on.
        inference_interval_ns: Media time from one frame sampled for inference to the next; `None`
            samples every frame. All frames are yielded.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        rate: float = 1,
        realtime: bool = False,
        loop: bool = False,
        inference_interval_ns: int | None = None,
    ) -> None:
        if rate <= 0:
            raise ValueError(f"rate must be above 0, got {rate}")
        self._folder = folder
        self._clock = clock
        self._rate = Fraction(rate).limit_denominator(1001)
        self._realtime = realtime
        self._loop = loop
        self._sampler = FrameSampler(inference_interval_ns)
        self._number = 0
        self.damaged = 0
        """Files that could not be read as a picture."""

    def __repr__(self) -> str:
        return f"<ImageFolderSource {self._folder}>"

    def __call__(self, cancel: CancelToken) -> Iterator[Frame]:
        """Yield the pictures as frames.

        Raises:
            SourceRejected: The folder is not there, or holds no picture.
            Cancelled: Somebody wants to stop while it waits for the next picture's time.
        """
        from_ns = self._clock.monotonic_ns() - self._media_ns()
        while not cancel.is_set():
            before = self._number
            for path in self._paths():
                if cancel.is_set():
                    return
                picture = self._read(path)
                if picture is not None:
                    yield self._frame(picture, from_ns, cancel)
            if self._number == before:
                raise source_error(SourceFault.NO_VIDEO, address=str(self._folder), live=False)
            if not self._loop:
                return

    def _paths(self) -> list[Path]:
        try:
            found = [path for path in self._folder.iterdir() if path.suffix.lower() in _SUFFIXES]
        except OSError as error:
            raise source_error(
                SourceFault.NOT_FOUND,
                address=str(self._folder),
                live=False,
                detail=f"not found: {error.strerror}",
            ) from error
        return sorted(found, key=_by_number)

    def _read(self, path: Path) -> Image | None:
        attempt = FaultContext(address=str(path), live=False, opening=True, timeout_s=0)
        try:
            return decode_image(path.read_bytes(), attempt=attempt)
        except (OSError, SourceError) as error:
            self.damaged += 1
            _log.warning("picture left out", path=str(path), message=str(error))
            return None

    def _frame(self, picture: Image, from_ns: int, cancel: CancelToken) -> Frame:
        pts_ns = self._media_ns()
        if self._realtime:
            ahead_ns = from_ns + pts_ns - self._clock.monotonic_ns()
            if ahead_ns > 0:
                cancel.sleep(ahead_ns / _NS)
        self._clock.advance_to(pts_ns)
        frame = Frame(
            picture,
            pts_ns,
            self._clock.arrival_of(pts_ns),
            self._number,
            sampled=self._sampler.selects(pts_ns),
        )
        self._number += 1
        return frame

    def _media_ns(self) -> int:
        return self._number * _NS * self._rate.denominator // self._rate.numerator


def _by_number(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sorts 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], path.name
