"""Draw a sheet of training samples: `python tools/smoke_sheet.py -o sheet.png`.

Each sample stands beside its background (black: none), with the target outlined. If a person can
tell a composite from a photograph, the network learns to do the same.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from engines.smoke.data import entries_of, read_labelled, training_entries
from engines.smoke.densities import read_densities
from engines.smoke.synthesis import KINDS, Sample, SampleMaker

TILE = (160, 240)
"""(height, width) of one image on the sheet."""
HALF = 127
COLUMNS = 4


def tile(sample: Sample) -> np.ndarray:
    """Return a sample and its background side by side, (160, 480, 3) RGB."""
    height, width = TILE
    image = sample.image.copy()
    target = cv2.resize(sample.target, image.shape[1::-1])
    outline, _ = cv2.findContours(
        (target > HALF).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(image, outline, -1, (255, 0, 0), 1)
    background = sample.background if sample.has_background else np.zeros_like(image)
    return np.hstack([cv2.resize(each, (width, height)) for each in (image, background)])


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("sheet.png"))
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, default=[256, 384], help="height, width")
    parser.add_argument("--kind", choices=KINDS, help="samples of one kind only")
    parser.add_argument("--densities", type=Path, default=Path("runs/densities.npz"))
    a = parser.parse_args()
    images = [read_labelled(entry) for entry in entries_of(training_entries(), "train")]
    height, width = a.size
    maker = SampleMaker(images, read_densities(a.densities), size=(height, width), seed=a.seed)
    tiles = [tile(maker.sample(number, kind=a.kind)) for number in range(a.count)]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[at : at + COLUMNS]) for at in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(a.output), np.vstack(rows)[..., ::-1])
    print(a.output)


if __name__ == "__main__":
    main()
