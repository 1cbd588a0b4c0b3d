"""Still images: decoding one from bytes, and the source that reads a folder of them."""

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


def decode_image(data: bytes, *, context: FaultContext) -> Image:
    """Decode a JPEG, PNG, WebP, ... image.

    Args:
        data: The file's content.
        context: For the error.

    Raises:
        SourceError: *data* is no image, or it is damaged.
    """
    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            for frame in container.decode(video=0):
                if not frame.is_corrupt:
                    return Image(frame)
    except av.error.FFmpegError as error:
        raise translate(error, context) from error
    except IndexError:  # No video stream in it.
        pass
    raise source_error(
        SourceFault.DAMAGED,
        address=context.address,
        live=context.live,
        detail="damaged: not an image",
    )


class ImageFolderSource:
    """Yields the images of a folder, ordered by the numbers in their names.

    Files that are not images are skipped, counted and logged.

    Args:
        folder: Subfolders are ignored.
        clock: Gives each frame its arrival time.
        rate: Frames per second of media time.
        realtime: Yield each frame at its time; `False` yields them as fast as they can be read.
        loop: Start again at the end; media time continues.
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
        """Files that could not be decoded."""

    def __repr__(self) -> str:
        return f"<ImageFolderSource {self._folder}>"

    def __call__(self, cancel: CancelToken) -> Iterator[Frame]:
        """Yield the images as frames.

        Raises:
            SourceRejected: The folder does not exist, or contains no image.
            Cancelled: *cancel* was set while the source waited for the time of a frame.
        """
        start_ns = self._clock.monotonic_ns() - self._media_ns()
        while not cancel.is_set():
            before = self._number
            for path in self._paths():
                if cancel.is_set():
                    return
                image = self._read(path)
                if image is not None:
                    yield self._frame(image, start_ns, cancel)
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
        context = FaultContext(address=str(path), live=False, opening=True, timeout_s=0)
        try:
            return decode_image(path.read_bytes(), context=context)
        except (OSError, SourceError) as error:
            self.damaged += 1
            _log.warning("image skipped", path=str(path), message=str(error))
            return None

    def _frame(self, image: Image, start_ns: int, cancel: CancelToken) -> Frame:
        pts_ns = self._media_ns()
        if self._realtime:
            ahead_ns = start_ns + pts_ns - self._clock.monotonic_ns()
            if ahead_ns > 0:
                cancel.sleep(ahead_ns / _NS)
        self._clock.advance_to(pts_ns)
        frame = Frame(
            image,
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
