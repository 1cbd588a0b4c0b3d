"""A bank of smoke densities for composites: `python -m engines.smoke.densities`.

Two kinds: snapshots of simulated plumes of many winds and ages (`plume.py`), and filmed smoke on
black, where brightness is opacity. Each ends as one small (h, w) byte field, foot at the middle of
the lower edge, 255 where the smoke is densest; how thick it stands in a picture is decided there.
"""

# ruff: noqa: PLR2004  chances and ranges of chance stand where they act
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import cv2
import numpy as np

from engines.smoke.data import data_folder
from engines.smoke.plume import PlumeSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Field = NDArray[np.uint8]

LONG_SIDE_PX = 160
"""Of a field; plumes in training are mostly smaller."""
FILMED_DENSEST = 4.0
"""Optical depth of a white pixel of filmed smoke: 98 % opaque."""
THINNEST = 0.05
"""Optical depth under which a whole field is no smoke."""


def simulated(count: int, *, seed: int) -> Iterator[Field]:
    """Four ages of each of `count` simulated plumes."""
    random = np.random.default_rng(seed)
    for number in range(count):
        plume = PlumeSimulator(
            height=112,
            width=112,
            seed=seed * 10_000 + number,
            wind=float(random.normal(0, 6)),
            rise=float(random.uniform(3, 12)),
            turbulence=float(random.uniform(2, 6)),
        )
        strength = float(random.uniform(0.4, 1.5))
        # One in five fires is put out half-way: its smoke drifts off without a foot.
        dies = random.random() < 0.2
        for age in range(4):
            plume.step(
                float(random.uniform(1.5, 7)), strength=0.0 if dies and age > 1 else strength
            )
            if (field := _trim(plume.density)) is not None:
                yield field


def filmed(folder: Path) -> Iterator[Field]:
    """Frames of smoke filmed on black."""
    clips = {
        "javisdada_smoke10.avi": 20,
        "pyronear_test_smoke_720p.mp4": 3,
        "parthsolanke_smoke_1080p.mp4": 10,
    }
    pictures: list[NDArray[np.uint8]] = []
    for name, every in clips.items():
        with av.open(folder / name) as clip:
            frames = (
                cast("Field", frame.to_ndarray(format="gray")) for frame in clip.decode(video=0)
            )
            pictures += [frame for number, frame in enumerate(frames) if number % every == 0]
    for path in sorted((folder / "jingchengdeng_frames").glob("*.jpg")):
        pictures.append(cast("NDArray[np.uint8]", cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)))
    for picture in pictures:
        small = cv2.resize(picture, (640, 360), interpolation=cv2.INTER_AREA).astype(np.float32)
        alpha = np.clip((small - 12) / 243, 0, 1 - np.exp(-FILMED_DENSEST))
        if (field := _trim(-np.log(1 - alpha))) is not None:
            yield field


def _trim(density: NDArray[np.floating]) -> Field | None:
    """Cut out the largest piece, faded where the frame cut it; None if there is hardly any."""
    densest = float(np.quantile(density, 0.995))
    if densest < THINNEST:
        return None
    solid = np.clip(density / densest, 0, 1).astype(np.float32)
    _, _, boxes, _ = cv2.connectedComponentsWithStats((solid > 0.06).astype(np.uint8))
    if len(boxes) < 2:
        return None
    x, y, width, height = boxes[1 + int(np.argmax(boxes[1:, 4])), :4]
    if min(width, height) < 10:
        return None
    piece = solid[y : y + height, x : x + width]
    scale = LONG_SIDE_PX / max(width, height)
    piece = cv2.resize(
        piece,
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    tall, wide = piece.shape
    # The foot stays: a plume stands on the ground.
    fade = _ramp(tall)
    fade[tall // 2 :] = np.minimum(1, 3 * fade[tall // 2 :])
    return cast("Field", (piece * fade[:, None] * _ramp(wide) * 255).astype(np.uint8))


def _ramp(length: int) -> NDArray[np.float32]:
    at = np.arange(length, dtype=np.float32) + 0.5
    return cast("NDArray[np.float32]", np.minimum(1, np.minimum(at, length - at) / (0.12 * length)))


def read_densities(path: Path) -> list[Field]:
    """A bank that was written before; none where the file is missing."""
    if not path.is_file():
        return []
    with np.load(path) as bank:
        return [bank[name] for name in bank.files]


def main() -> None:
    """Read the command line and write the bank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/densities.npz"))
    parser.add_argument("--plumes", type=int, default=160, help="simulated plumes, four ages each")
    a = parser.parse_args()
    fields = [*simulated(a.plumes, seed=1), *filmed(data_folder() / "smoke" / "mattes")]
    a.output.parent.mkdir(parents=True, exist_ok=True)
    # Any: numpy's stub takes the names of arrays for its own options.
    named: dict[str, Any] = {f"{number:04}": field for number, field in enumerate(fields)}
    np.savez_compressed(a.output, **named)


if __name__ == "__main__":
    main()
