"""Evidence: the files that show why an alarm was raised, and a manifest that seals them.

    <root>/<camera>/<alarm>/
        event-0.json        one for each event of the alarm, with all times and digests
        still-0.jpg         the image as it came
        overlay-0.jpg       the same with what was seen drawn over it
        mask-0.png          probability of smoke, 8 bit, at the network's size
        clip.mp4            the camera's own packets around the alarm
        manifest.json       size and SHA-256 of each of the above

Every file is written under another name, synced and renamed; the manifest comes last. So what a
manifest names is whole, and what is whole but unnamed was cut off by a crash.
"""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from streamer.alarm.event import Event
from streamer.core.atomic_file import PART, storage_error, write_atomically
from streamer.core.frame import Frame
from streamer.core.image import Image
from streamer.core.jpeg import EVIDENCE_QUALITY, encode_gray_png, encode_jpeg

MANIFEST: Final = "manifest.json"
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Provenance:
    """What decided: enough to run it again."""

    program: str
    """Name and version of this program."""

    model: str
    """Name of the network."""

    model_digest: str
    """SHA-256 of its file."""

    backend: str
    """What ran it."""

    threshold: float
    """Probability from which a pixel counted, as shipped."""

    config_digest: str
    """SHA-256 of the configuration without its secrets."""


class EvidenceFolder:
    """Writes the evidence of all alarms under one root.

    Args:
        root: Created when needed.
        provenance: Says what decides at that moment; written into each event's file.
        draw: Draws what was seen over an image.
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
        # The alarm's thread and the one that writes clips seal the same folder.
        self._sealing = threading.Lock()

    def write(self, event: Event, frame: Frame) -> Path:
        """Write stills, mask and event file, and seal them. Returns the alarm's folder.

        Raises:
            StorageError: The disk does not take them.
        """
        folder = self._root / safe_name(event.camera) / safe_name(event.alarm_id)
        number = event.sequence
        with _translated(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(
                folder / f"still-{number}.jpg",
                encode_jpeg(frame.image.rgb(), quality=EVIDENCE_QUALITY),
            )
            write_atomically(
                folder / f"overlay-{number}.jpg",
                encode_jpeg(self._draw(frame).rgb(), quality=EVIDENCE_QUALITY),
            )
            if frame.segmentation is not None:
                write_atomically(
                    folder / f"mask-{number}.png", _mask(frame.segmentation.probability)
                )
            write_atomically(folder / f"event-{number}.json", self._facts(event, frame))
            self._seal(folder)
        return folder

    def add_clip(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Take a clip that was written into *folder* into its manifest.

        Args:
            folder: As `write` returned it.
            facts: What is known of the clip, for `clip.json`.

        Raises:
            StorageError: The disk does not take it.
        """
        with _translated(folder):
            write_atomically(folder / "clip.json", _as_json(facts))
            self._seal(folder)

    def _seal(self, folder: Path) -> None:
        with self._sealing:
            seal(folder)

    def _facts(self, event: Event, frame: Frame) -> bytes:
        return _as_json(
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


def seal(folder: Path) -> None:
    """Write the manifest anew: size and SHA-256 of every finished file in *folder*."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST and path.suffix != PART
    }
    write_atomically(folder / MANIFEST, _as_json({"version": 1, "files": files}))


def verify(folder: Path) -> list[str]:
    """What is wrong with the evidence in *folder*, a line each; empty when all is as sealed."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        digests = {name: sealed["sha256"] for name, sealed in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{MANIFEST}: cannot be read ({error})"]
    wrong = []
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name}: missing")
        elif _digest(path) != digest:
            wrong.append(f"{name}: changed since it was sealed")
    return wrong


def safe_name(name: str) -> str:
    """*name* as the name of a file: letters, digits, dot, dash and underscore survive.

    Names that had to be changed get a digest, so that two of them never share a folder.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[:100] or "_"
    if safe == name:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _mask(probability: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    return encode_gray_png(
        np.rint(np.clip(np.nan_to_num(probability), 0, 1) * 255).astype(np.uint8)
    )


def _as_json(value: Mapping[str, Any]) -> bytes:
    # `float`: numbers of numpy's.
    text = json.dumps(value, indent=1, sort_keys=True, default=float)
    return (text + "\n").encode()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """Turn errors of the disk into a `StorageError` that names the folder and the reason."""
    try:
        yield
    except OSError as error:
        raise storage_error(folder, error) from error
