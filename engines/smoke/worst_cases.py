"""Draws the worst cases of an evaluation as contact sheets."""

# ruff: noqa: PLR2004  the layout's sizes stand where they act
from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.smoke.metrics import ImageResult

WORST = 20
"""Images on a sheet."""
TILE = (192, 256)
"""(height, width) of one image on it."""
COLUMNS = 4


class WorstCases:
    """Collects the worst images of each kind and draws them.

    Kinds: `false_alarms` by predicted area; `missed` plumes by size; `wrong_outline` by IoU.
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
        result: ImageResult,
    ) -> None:
        """Keep an image if it is among the worst; its map is drawn in red, its mask outlined."""
        if result.share is None:
            kind, badness = "false_alarms", float(result.predicted)
        elif not result.found:
            kind, badness = "missed", result.share
        else:
            union = result.predicted + result.actual - result.tp
            kind, badness = "wrong_outline", -result.tp / max(1, union)
        if kind == "false_alarms" and not result.alarm:
            return
        kept = self._tiles[kind]
        kept.append((badness, _tile(name, image, probability, mask)))
        kept.sort(key=lambda entry: -entry[0])
        del kept[WORST:]

    def write(self, folder: Path) -> list[Path]:
        """Write one PNG per kind that has any images; return the paths."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for kind, tiles in self._tiles.items():
            if not tiles:
                continue
            images = [tile for _, tile in tiles]
            images += [np.zeros_like(images[0])] * (-len(images) % COLUMNS)
            rows = [np.hstack(images[at : at + COLUMNS]) for at in range(0, len(images), COLUMNS)]
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
    overlay = cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR)[..., None]
    red = np.array([255, 0, 0], np.float32)
    tile = np.ascontiguousarray(
        (small * (1 - 0.6 * overlay) + red * 0.6 * overlay).astype(np.uint8)
    )
    if mask is not None:
        drawn = (cv2.resize(mask, size, interpolation=cv2.INTER_AREA) > 127).astype(np.uint8)
        outline, _ = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, outline, -1, (0, 255, 0), 1)
    words = f"{name[:24]} {probability.max():.2f}"
    cv2.putText(tile, words, (4, TILE[0] - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    return cast("NDArray[np.uint8]", tile)
