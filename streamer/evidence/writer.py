"""Writes the evidence of alarms: stills, mask and event file, and the manifest that seals them."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.alarm.event import Event
from streamer.core.atomic_file import storage_error, write_atomically
from streamer.core.file_names import safe_file_name
from streamer.core.frame import Frame
from streamer.core.image import Image
from streamer.core.jpeg import EVIDENCE_QUALITY, encode_gray_png, encode_jpeg

from .manifest import seal


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
    """Runtime and device that ran the network."""

    threshold: float
    """Smoke probability from which a pixel counts, 0 to 1, as shipped with the network."""

    config_digest: str
    """SHA-256 of the configuration without its secrets."""


class EvidenceWriter:
    """Writes the evidence of all alarms of one camera or more.

    Args:
        root: Folder that holds `<camera>/<alarm>/`; made when needed.
        provenance: Returns what makes the decisions at that moment; stored in each event file.
        draw: Draws the detections over the image of a frame.
    """

    def __init__(
        self,
        root: Path,
        *,
        provenance: Callable[[], Provenance],
        draw: Callable[[Frame], Image],
    ) -> None:
        self._root = root
        self._provenance = provenance
        self._draw = draw
        # The alarm's thread and the clip writer's thread seal the same folder.
        self._sealing = threading.Lock()

    def write(self, event: Event, frame: Frame) -> Path:
        """Write stills, mask and event file, seal them, and return the folder of the alarm.

        Raises:
            StorageError: The disk does not accept them.
        """
        folder = self._root / safe_file_name(event.camera) / safe_file_name(event.alarm_id)
        number = event.sequence
        with _translated(folder):
            write_atomically(folder / f"still-{number}.jpg", _jpeg(frame.image))
            write_atomically(folder / f"overlay-{number}.jpg", _jpeg(self._draw(frame)))
            if frame.segmentation is not None:
                mask = _mask(frame.segmentation.probability)
                write_atomically(folder / f"mask-{number}.png", mask)
            write_atomically(folder / f"event-{number}.json", self._event_file(event, frame))
            self._seal(folder)
        return folder

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
            self._seal(folder)

    def _seal(self, folder: Path) -> None:
        with self._sealing:
            seal(folder)

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
                "provenance": asdict(self._provenance()),
            }
        )


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
