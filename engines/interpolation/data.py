"""Clips the interpolation networks learn from and are judged by: decoded once, split by scene.

Decoded frames lie under `runs/`, which git ignores: one (n, 3/2 h, w) uint8 array a clip, luma over
the two halved chroma planes side by side, no wider than `WIDEST`. Decode all of them with
`python -m engines.interpolation.data`.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import cv2
import numpy as np

from engines.smoke.data import data_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

FOLDER = Path("runs/interpolation/clips")
WIDEST = 854
"""Pixels; wider clips are reduced when they are decoded."""
MOST_FRAMES = 400
"""Of one clip."""
SPLIT = Path(__file__).with_name("split.txt")
MORE = (
    "video/clips/opencv/vtest.mp4",
    "video/uavdark_person11_night",
    "smoke/clips_nonsmoke/shashank_haze_city.mp4",
    "smoke/clips_smoke/cheahber_wildfire_aerial.mp4",
)
"""Trained on besides: ten pictures a second, a night flight, a city, a flight over smoke."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip by name, decoded or not."""

    name: str
    """Its path in the development data."""

    @property
    def decoded(self) -> Path:
        """Where its frames lie once they are decoded."""
        return FOLDER / f"{self.name.replace('/', '+')}.npy"

    def frames(self) -> Frames:
        """Its frames, mapped into memory.

        Raises:
            OSError: It has not been decoded.
        """
        return cast("Frames", np.load(self.decoded, mmap_mode="r"))


def held_out() -> list[Clip]:
    """The clips of `split.txt`; davis480p_val as one clip for each of its sequences."""
    return [clip for name in _listed() for clip in _clips(name)]


def training_clips() -> list[Clip]:
    """What is trained on."""
    lines = (data_folder() / "video" / "interpolation.txt").read_text(encoding="utf-8").split()
    out = set(_listed())
    return [Clip(name) for name in [*lines, *MORE] if name not in out]


def _listed() -> list[str]:
    lines = SPLIT.read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line and not line.startswith("#")]


def _clips(name: str) -> list[Clip]:
    folder = data_folder() / name
    below = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [Clip(f"{name}/{path.name}") for path in below] or [Clip(name)]


def planes_of(frame: Frames) -> list[Frames]:
    """Luma and the two chroma planes of one decoded frame."""
    width = frame.shape[1]
    luma = frame.shape[0] * 2 // 3
    return [frame[:luma], frame[luma:, : width // 2], frame[luma:, width // 2 :]]


def packed(planes: list[Frames]) -> Frames:
    """One frame as it is stored."""
    return np.vstack([planes[0], np.hstack(planes[1:])])


def from_rgb(picture: NDArray[np.uint8]) -> Frames:
    """(h, w, 3) RGB of any size as one frame is stored; an odd row or column is dropped."""
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    even = np.ascontiguousarray(picture[:height, :width])
    flat = cast("Frames", cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420))
    luma = flat[:height]
    chroma = flat[height:].reshape(2, height // 2, width // 2)
    return packed([luma, chroma[0], chroma[1]])


def decode(name: str) -> Iterator[Frames]:
    """The frames of a video file or of a folder of pictures, as they are stored."""
    source = data_folder() / name
    if source.is_dir():
        for path in sorted([*source.glob("*.jpg"), *source.glob("*.png")]):
            picture = cast("Frames", cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))
            if picture.shape[1] > WIDEST:
                size = (WIDEST, round(picture.shape[0] * WIDEST / picture.shape[1] / 2) * 2)
                picture = cast("Frames", cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
            yield from_rgb(picture)
        return
    with av.open(str(source)) as container:
        for frame in container.decode(video=0):
            width = min(frame.width, WIDEST) // 2 * 2
            height = round(frame.height * width / frame.width / 2) * 2
            small = frame.reformat(width, height, "yuv420p", interpolation="AREA")
            yield packed([_plane(plane) for plane in small.planes])


def _plane(plane: Any) -> Frames:
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width].copy()


def decode_all() -> None:
    """Decode every clip that has not been."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for clip in [*training_clips(), *held_out()]:
        if not clip.decoded.exists():
            frames = [
                frame for _, frame in zip(range(MOST_FRAMES), decode(clip.name), strict=False)
            ]
            part = clip.decoded.with_suffix(".part.npy")
            np.save(part, np.stack(frames))
            part.replace(clip.decoded)


def digest_of(clips: list[Clip]) -> str:
    """A digest of which clips were used, for the checkpoint and the card."""
    return hashlib.sha256("\n".join(sorted(clip.name for clip in clips)).encode()).hexdigest()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    decode_all()
