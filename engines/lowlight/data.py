"""The training images of the low-light network: pairs of exposures, split by scene."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.common import dataset
from engines.common.dataset import data_folder, names_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engines.common.dataset import Part

SPLIT_SALT = "lowlight-1"
TRAIN_PERCENT, DEVELOPMENT_PERCENT = 60, 15
"""Percentages of the scenes; the rest is validation."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One line of the list: a dark image and its well exposed reference."""

    low: Path
    ref: Path
    scene: str


def read_pairs(path: Path) -> list[Pair]:
    """Read a list of pairs, whose paths are relative to its folder or to the folder above.

    Raises:
        OSError: An image of it is missing.
    """
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Pair(_find(path, line["low"]), _find(path, line["ref"]), line["scene"])
            for line in csv.DictReader(file)
        ]


def _find(listed_in: Path, name: str) -> Path:
    """Return the image beside the list, or beside the list's folder."""
    for folder in (listed_in.parent, listed_in.parent.parent):
        if (folder / name).is_file():
            return folder / name
    raise OSError(f"{listed_in}: cannot find the image {name} beside it or beside its folder")


def training_pairs() -> list[Pair]:
    """Return every pair of the development data, of all parts."""
    return read_pairs(data_folder() / "lowlight" / "sice_pairs.csv")


def split_of(scene: str) -> Part:
    """Return the part of the split that a scene belongs to."""
    return dataset.split_of(
        scene,
        salt=SPLIT_SALT,
        train_percent=TRAIN_PERCENT,
        development_percent=DEVELOPMENT_PERCENT,
    )


def pairs_of(pairs: Sequence[Pair], part: Part) -> list[Pair]:
    """Return the pairs of one part of the split."""
    return [pair for pair in pairs if split_of(pair.scene) == part]


def digest_of(pairs: Sequence[Pair]) -> str:
    """Return the digest of the pairs that a network was trained on."""
    return names_digest(f"{pair.low.name}/{pair.ref.name}/{pair.scene}" for pair in pairs)
