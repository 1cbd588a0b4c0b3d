"""Sheets of the worst pictures: what a table of figures hides is seen in a second."""

# ruff: noqa: PLR2004  the layout's sizes stand where they act
from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.smoke.metrics import Seen

WORST = 20
"""Pictures on a sheet."""
TILE = (192, 256)
"""(height, width) of one picture on it."""
COLUMNS = 4


class Sheets:
    """Collects pictures by how badly they were judged, and draws the worst of each kind.

    Kinds: clear pictures called smoke, by how much of them; plumes that were missed, the largest
    first; plumes whose outline is wrong, by how little of it is right.
    """

    def __init__(self) -> None:
        self._tiles: dict[str, list[tuple[float, NDArray[np.uint8]]]] = {
            "false_alarms": [],
            "missed": [],
            "wrong_outline": [],
        }

    def add(
        self,
        name: str,
        image: NDArray[np.uint8],
        probability: NDArray[np.float32],
        mask: NDArray[np.uint8] | None,
        seen: Seen,
    ) -> None:
        """Keep a picture if it is among the worst: its map in red, the drawn mask outlined."""
        if seen.share is None:
            kind, badness = "false_alarms", float(seen.said)
        elif not seen.found:
            kind, badness = "missed", seen.share
        else:
            kind, badness = "wrong_outline", -seen.both / max(1, seen.said + seen.truth - seen.both)
        if kind == "false_alarms" and not seen.called:
            return
        kept = self._tiles[kind]
        kept.append((badness, _tile(name, image, probability, mask)))
        kept.sort(key=lambda entry: -entry[0])
        del kept[WORST:]

    def write(self, folder: Path) -> list[Path]:
        """Write a PNG for each kind that has any; their paths come back."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for kind, tiles in self._tiles.items():
            if not tiles:
                continue
            pictures = [tile for _, tile in tiles]
            pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % COLUMNS)
            rows = [
                np.hstack(pictures[at : at + COLUMNS]) for at in range(0, len(pictures), COLUMNS)
            ]
            path = folder / f"{kind}.png"
            cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])
            written.append(path)
        return written


def _tile(
    name: str,
    image: NDArray[np.uint8],
    probability: NDArray[np.float32],
    mask: NDArray[np.uint8] | None,
) -> NDArray[np.uint8]:
    size = TILE[::-1]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    chance = cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR)[..., None]
    red = np.array([255, 0, 0], np.float32)
    tile = np.ascontiguousarray((small * (1 - 0.6 * chance) + red * 0.6 * chance).astype(np.uint8))
    if mask is not None:
        drawn = (cv2.resize(mask, size, interpolation=cv2.INTER_AREA) > 127).astype(np.uint8)
        outline, _ = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, outline, -1, (0, 255, 0), 1)
    words = f"{name[:24]} {probability.max():.2f}"
    cv2.putText(tile, words, (4, TILE[0] - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    return cast("NDArray[np.uint8]", tile)
