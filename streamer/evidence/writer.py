"""Writes the evidence of alarms: stills, mask and event file, and the manifest that seals them."""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamer.alarm.event import Event
from streamer.core.atomic_file import storage_error, write_atomically
from streamer.core.file_names import safe_file_name
from streamer.core.frame import Frame
from streamer.core.image import Image
from streamer.core.jpeg import EVIDENCE_QUALITY, encode_gray_png, encode_jpeg

from .manifest import MANIFEST, seal

_LEFT_TO_EVENTS: Final = 4 << 20
"""Free space below which no evidence is written. On a full disk the event store gives itself room
from its reserve, a megabyte at a time, which evidence would take."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the decision: enough to reproduce it."""

    program: str
    """Name and version of this program."""

    model: str
    """Name of the network."""

    model_digest: str
    """SHA-256 of the file of the network."""

    backend: str
    """Library, device and precision that ran the network for this frame."""

    thresholds: Mapping[str, float]
    """Smoke probabilities of this camera, 0 to 1: `idle` and `active` are what a region must exceed
    somewhere, outside of and during an alarm, `low` what all of its pixels exceed, and `applied`
    the one of the first two that decided."""

    zones: Mapping[str, Any]
    """Where smoke counts at this camera: `include` and `exclude`, polygons."""

    config_digest: str
    """SHA-256 of the configuration without its secrets."""


class EvidenceWriter:
    """Writes the evidence of all alarms of one camera or more.

    Args:
        root: Folder that holds `<camera>/<alarm>/`; made when needed.
        provenance: Returns what decided on a frame; stored in each event file.
        draw: Draws the detections over the image of a frame.
    """

    def __init__(
        self,
        root: Path,
        *,
        provenance: Callable[[Frame], Provenance],
        draw: Callable[[Frame], Image],
    ) -> None:
        self._root = root
        self._provenance = provenance
        self._draw = draw
        # The alarm's thread and the clip writer's thread seal the same folder.
        self._sealing = threading.Lock()

    def folder(self, event: Event) -> Path:
        """Return the folder of the alarm of *event*, which may not exist yet."""
        return self._root / safe_file_name(event.camera) / safe_file_name(event.alarm_id)

    def write(self, event: Event, frame: Frame) -> "Written":
        """Encode and write overlay, event file, still and mask, and seal them. In a worker.

        A file that the disk does not accept does not keep the others from being written. The
        overlay comes first: a notification waits for it.
        """
        folder, number = self.folder(event), event.sequence
        if reason := self._no_room():
            return Written(None, (), [reason])
        contents: dict[str, Callable[[], bytes]] = {
            f"overlay-{number}.jpg": lambda: _jpeg(self._draw(frame)),
            f"event-{number}.json": lambda: self._event_file(event, frame),
            f"still-{number}.jpg": lambda: _jpeg(frame.image),
        }
        if frame.segmentation is not None:
            probability = frame.segmentation.probability
            contents[f"mask-{number}.png"] = lambda: _mask(probability)
        written, missing = [], []
        with self._sealing:
            self._make_private(folder)
            for name, content in contents.items():
                try:
                    write_atomically(folder / name, content())
                except OSError as error:
                    missing.append(str(storage_error(folder / name, error)))
                else:
                    written.append(name)
            try:
                if written:
                    seal(folder, changed=written)
            except OSError as error:
                missing.append(str(storage_error(folder / MANIFEST, error)))
        overlay = f"overlay-{number}.jpg"
        return Written(folder / overlay if overlay in written else None, tuple(written), missing)

    def add_clip(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Add a clip that was written into *folder* to its manifest.

        Args:
            folder: As `write` returned it.
            facts: Content of `clip.json`.

        Raises:
            StorageError: The disk does not accept it.
        """
        with _translated(folder):
            write_atomically(folder / "clip.json", as_json(facts))
            with self._sealing:
                seal(folder, changed=["clip.json", *facts["files"]])

    def _no_room(self) -> str:
        """Why nothing may be written: the last megabytes of a disk are for the event store."""
        with contextlib.suppress(OSError):
            parents = (self._root, *self._root.parents)
            disk = os.statvfs(next(path for path in parents if path.exists()))
            if disk.f_bavail * disk.f_frsize < _LEFT_TO_EVENTS:
                return f"cannot write {self._root}: the disk is full"
        return ""

    def _make_private(self, folder: Path) -> None:
        """Make the folders; others may not read what a camera saw."""
        with contextlib.suppress(OSError):  # The first file says it.
            self._root.parent.mkdir(parents=True, exist_ok=True)
            self._root.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(parents=True, exist_ok=True)

    def _event_file(self, event: Event, frame: Frame) -> bytes:
        return as_json(
            {
                **event.as_json(),
                "pts_ns": event.pts_ns,
                "onset_ns": event.onset_ns,
                "frame": frame.number,
                "width": frame.image.width,
                "height": frame.image.height,
                "regions": [asdict(region) for region in event.regions],
                "provenance": asdict(self._provenance(frame)),
            }
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the files of one event."""

    image: Path | None
    """The image for notifications, if it was written."""

    files: tuple[str, ...]
    """Names of what was written."""

    missing: list[str]
    """What was not, and why, a line each."""


def _jpeg(image: Image) -> bytes:
    return encode_jpeg(image.rgb(), quality=EVIDENCE_QUALITY)


def _mask(probability: NDArray[np.float32]) -> bytes:
    levels = np.rint(np.clip(np.nan_to_num(probability), 0, 1) * 255)
    return encode_gray_png(levels.astype(np.uint8))


def as_json(value: Mapping[str, Any]) -> bytes:
    """Return *value* as the bytes of a JSON file."""
    # `default=float` converts NumPy numbers.
    text = json.dumps(value, indent=1, sort_keys=True, default=float)
    return (text + "\n").encode()


@contextlib.contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """Turn errors of the disk into a `StorageError` that names the folder and the reason."""
    try:
        yield
    except OSError as error:
        raise storage_error(folder, error) from error
