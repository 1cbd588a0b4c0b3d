"""Write a bank of smoke densities for composites: `python -m engines.smoke.densities`.

Two kinds: snapshots of simulated plumes of many winds and ages (`plume.py`), and smoke filmed on
black, where brightness is opacity. Each is a small (h, w) byte field with the source at the middle
of the lower edge and 255 at the highest density; its optical depth is chosen when it is composited.
"""

# ruff: noqa: PLR2004  random ranges stand where they act
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import cv2
import numpy as np

from engines.common.dataset import data_folder, read_gray
from engines.smoke.plume import PlumeSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Field = NDArray[np.uint8]

LONG_SIDE_PX = 160
"""Longer side of a field; plumes in training are mostly smaller."""
FILMED_DENSEST = 4.0
"""Optical depth of a white pixel of filmed smoke: 98 % opaque."""
THINNEST = 0.05
"""Fields whose peak optical depth is below this are discarded."""


def simulated(count: int, *, seed: int) -> Iterator[Field]:
    """Yield four snapshots of each of `count` simulated plumes."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        plume = PlumeSimulator(
            height=112,
            width=112,
            seed=seed * 10_000 + number,
            wind=float(rng.normal(0, 6)),
            rise=float(rng.uniform(3, 12)),
            turbulence=float(rng.uniform(2, 6)),
        )
        strength = float(rng.uniform(0.4, 1.5))
        # One of five fires is extinguished half-way: its smoke drifts away from the source.
        dies = rng.random() < 0.2
        for age in range(4):
            plume.step(float(rng.uniform(1.5, 7)), strength=0.0 if dies and age > 1 else strength)
            if (field := _trim(plume.density)) is not None:
                yield field


def filmed(folder: Path) -> Iterator[Field]:
    """Yield frames of smoke filmed on black."""
    clips = {
        "javisdada_smoke10.avi": 20,
        "pyronear_test_smoke_720p.mp4": 3,
        "parthsolanke_smoke_1080p.mp4": 10,
    }
    images: list[NDArray[np.uint8]] = []
    for name, every in clips.items():
        with av.open(folder / name) as clip:
            frames = (
                cast("Field", frame.to_ndarray(format="gray")) for frame in clip.decode(video=0)
            )
            images += [frame for number, frame in enumerate(frames) if number % every == 0]
    for path in sorted((folder / "jingchengdeng_frames").glob("*.jpg")):
        images.append(read_gray(path))
    for image in images:
        small = cv2.resize(image, (640, 360), interpolation=cv2.INTER_AREA).astype(np.float32)
        alpha = np.clip((small - 12) / 243, 0, 1 - np.exp(-FILMED_DENSEST))
        if (field := _trim(-np.log(1 - alpha))) is not None:
            yield field


def _trim(density: NDArray[np.floating]) -> Field | None:
    """Return the largest connected piece, faded at the cut edges; None if there is hardly any."""
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
    # The lower edge is not faded: a plume stands on the ground.
    fade = _ramp(tall)
    fade[tall // 2 :] = np.minimum(1, 3 * fade[tall // 2 :])
    return cast("Field", (piece * fade[:, None] * _ramp(wide) * 255).astype(np.uint8))


def _ramp(length: int) -> NDArray[np.float32]:
    at = np.arange(length, dtype=np.float32) + 0.5
    return cast("NDArray[np.float32]", np.minimum(1, np.minimum(at, length - at) / (0.12 * length)))


def read_densities(path: Path) -> list[Field]:
    """Read a bank; empty if the file does not exist."""
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
