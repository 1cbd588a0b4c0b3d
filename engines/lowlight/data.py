"""Pictures the low-light network learns from: pairs of exposures, split by scene."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import cv2

from engines.smoke.data import data_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Rgb = NDArray[np.uint8]

Part = Literal["train", "development", "validation"]
SPLIT_SALT = "lowlight-1"
TRAIN_PERCENT, DEVELOPMENT_PERCENT = 60, 15
"""Of the scenes; the rest is validation. Development chooses between runs, the rest is reported."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One line of the list."""

    low: Path
    ref: Path
    scene: str


def read_pairs(path: Path) -> list[Pair]:
    """Read a list of pairs; paths in it are relative to the folder that holds its own folder.

    Raises:
        OSError: A picture in it is missing.
    """
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Pair(_find(path, line["low"]), _find(path, line["ref"]), line["scene"])
            for line in csv.DictReader(file)
        ]


def _find(listed_in: Path, name: str) -> Path:
    """A picture beside the list, or beside the list's folder."""
    for folder in (listed_in.parent, listed_in.parent.parent):
        if (folder / name).is_file():
            return folder / name
    raise OSError(f"{listed_in}: cannot find the picture {name} beside it or beside its folder")


def training_pairs() -> list[Pair]:
    """Every pair of the development data, of all parts."""
    return read_pairs(data_folder() / "lowlight" / "sice_pairs.csv")


def part_of(scene: str) -> Part:
    """Which side of the split a scene is on. The same on every machine, for ever."""
    number = int(hashlib.sha256(f"{SPLIT_SALT}:{scene}".encode()).hexdigest()[:8], 16) % 100
    if number < TRAIN_PERCENT:
        return "train"
    return "development" if number < TRAIN_PERCENT + DEVELOPMENT_PERCENT else "validation"


def in_part(pairs: Sequence[Pair], part: Part) -> list[Pair]:
    """The pairs on one side of the split."""
    return [pair for pair in pairs if part_of(pair.scene) == part]


def read_picture(path: Path) -> Rgb:
    """(h, w, 3) RGB.

    Raises:
        OSError: It is missing or no picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise OSError(f"cannot read the picture {path}")
    return cast("Rgb", picture)


def digest_of(pairs: Sequence[Pair]) -> str:
    """A digest of which pictures were used, for the checkpoint and the card."""
    names = "\n".join(sorted(f"{pair.low.name}/{pair.ref.name}/{pair.scene}" for pair in pairs))
    return hashlib.sha256(names.encode()).hexdigest()
