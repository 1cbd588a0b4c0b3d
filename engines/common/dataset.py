"""The development data: where it is, how it is split by group, how its images are read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import cv2

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

Part = Literal["train", "development", "validation"]
"""Part of the split. Development fixes thresholds and checkpoints, validation is reported."""


def data_folder() -> Path:
    """Return the folder of the development data.

    It is `$STREAMER_DATA`, or `shared/data` beside the checkout.

    Raises:
        FileNotFoundError: The folder does not exist or holds no `smoke/index.csv`.
    """
    configured = os.environ.get("STREAMER_DATA")
    folder = Path(configured) if configured else Path(__file__).parents[3] / "shared" / "data"
    if not (folder / "smoke" / "index.csv").is_file():
        raise FileNotFoundError(
            f"no development data at {folder}: set STREAMER_DATA to the folder with smoke/index.csv"
        )
    return folder


def split_of(group: str, *, salt: str, train_percent: int, development_percent: int) -> Part:
    """Return the part of the split that a group belongs to: by hash, the same on every machine."""
    number = int(hashlib.sha256(f"{salt}:{group}".encode()).hexdigest()[:8], 16) % 100
    if number < train_percent:
        return "train"
    return "development" if number < train_percent + development_percent else "validation"


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image file as (h, w, 3) RGB.

    Raises:
        OSError: The file is missing or no image.
    """
    return _read(path, cv2.IMREAD_COLOR_RGB)


def read_gray(path: Path) -> NDArray[np.uint8]:
    """Read an image file as (h, w) luma.

    Raises:
        OSError: The file is missing or no image.
    """
    return _read(path, cv2.IMREAD_GRAYSCALE)


def _read(path: Path, mode: int) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), mode)
    if image is None:
        raise OSError(f"cannot read the image {path}")
    return cast("NDArray[np.uint8]", image)


def names_digest(names: Iterable[str]) -> str:
    """Return the SHA-256 of a set of names: records which samples a network was trained on."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
