"""Still images: decoding one from bytes, and the source that reads a folder of them."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av
import av.error
import structlog

from streamer.core.clock import CancelToken
from streamer.core.errors import SourceError, SourceFault
from streamer.core.frame import Frame
from streamer.core.image import Image

from .constant_rate import ConstantRate
from .ffmpeg_errors import FaultContext, source_error, translate

_log = structlog.get_logger(__name__)

_SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}


def decode_image(data: bytes, *, context: FaultContext) -> Image:
    """Decode a JPEG, PNG, WebP, ... image.

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
        frames: Numbers and times the frames.
        loop: Start again at the end; media time continues.
    """

    def __init__(self, folder: Path, frames: ConstantRate, *, loop: bool = False) -> None:
        self._folder = folder
        self._frames = frames
        self._loop = loop
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
        self._frames.begin()
        while not cancel.is_set():
            before = self._frames.number
            for path in self._paths():
                if cancel.is_set():
                    return
                image = self._read(path)
                if image is not None:
                    yield self._frames.frame(image, cancel)
            if self._frames.number == before:
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


def _by_number(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sorts 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], path.name
