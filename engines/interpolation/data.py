"""The training and evaluation clips of the interpolation networks: decoded once, split by scene.

Decoded frames are stored under `runs/`, which git ignores: one (n, 3/2 h, w) uint8 array per clip,
luma above the two chroma planes side by side, at most `MAX_WIDTH_PX` wide. Decode all of them with
`python -m engines.interpolation.data`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import cv2
import numpy as np

from engines.common.dataset import data_folder, names_digest, read_rgb
from engines.common.i420 import i420_to_rgb, rgb_to_i420
from engines.yuv import Yuv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

FOLDER = Path("runs/interpolation/clips")
MAX_WIDTH_PX = 854
"""Wider clips are reduced when they are decoded."""
MAX_FRAMES = 400
"""Frames used of one clip."""
SPLIT = Path(__file__).with_name("split.txt")
MORE_TRAINING = (
    "video/clips/opencv/vtest.mp4",
    "video/uavdark_person11_night",
    "smoke/clips_nonsmoke/shashank_haze_city.mp4",
    "smoke/clips_smoke/cheahber_wildfire_aerial.mp4",
)
"""Additional training clips: ten frames per second, a night flight, a city, a flight over smoke."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip by name, decoded or not."""

    name: str
    """Its path in the development data."""

    @property
    def decoded(self) -> Path:
        """File of its decoded frames."""
        return FOLDER / f"{self.name.replace('/', '+')}.npy"

    def frames(self) -> Frames:
        """Return its frames, memory-mapped.

        Raises:
            OSError: The clip has not been decoded.
        """
        return cast("Frames", np.load(self.decoded, mmap_mode="r"))


def held_out() -> list[Clip]:
    """Return the clips of `split.txt`; each sequence of davis480p_val is a clip."""
    return [clip for name in _listed() for clip in _clips(name)]


def training_clips() -> list[Clip]:
    """Return the training clips."""
    lines = (data_folder() / "video" / "interpolation.txt").read_text(encoding="utf-8").split()
    out = set(_listed())
    return [Clip(name) for name in [*lines, *MORE_TRAINING] if name not in out]


def _listed() -> list[str]:
    lines = SPLIT.read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line and not line.startswith("#")]


def _clips(name: str) -> list[Clip]:
    folder = data_folder() / name
    below = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [Clip(f"{name}/{path.name}") for path in below] or [Clip(name)]


def planes_of(frame: Frames) -> list[Frames]:
    """Return luma and the two chroma planes of one packed frame."""
    width = frame.shape[1]
    luma = frame.shape[0] * 2 // 3
    return [frame[:luma], frame[luma:, : width // 2], frame[luma:, width // 2 :]]


def packed(planes: list[Frames]) -> Frames:
    """Pack three planes into one array, as frames are stored."""
    return np.vstack([planes[0], np.hstack(planes[1:])])


def planes_to_rgb(planes: Sequence[Frames]) -> Frames:
    """Convert luma and two chroma planes to (h, w, 3) RGB."""
    return i420_to_rgb(Yuv(planes[0], tuple(planes[1:])))


def from_rgb(image: NDArray[np.uint8]) -> Frames:
    """Pack an RGB image (h, w, 3) of any size; an odd row or column is dropped."""
    return packed(list(rgb_to_i420(image).planes))


def decode(name: str) -> Iterator[Frames]:
    """Yield the packed frames of a video file or of a folder of images."""
    source = data_folder() / name
    if source.is_dir():
        for path in sorted([*source.glob("*.jpg"), *source.glob("*.png")]):
            image = read_rgb(path)
            if image.shape[1] > MAX_WIDTH_PX:
                height = round(image.shape[0] * MAX_WIDTH_PX / image.shape[1] / 2) * 2
                size = (MAX_WIDTH_PX, height)
                image = cast("Frames", cv2.resize(image, size, interpolation=cv2.INTER_AREA))
            yield from_rgb(image)
        return
    with av.open(str(source)) as container:
        for frame in container.decode(video=0):
            width = min(frame.width, MAX_WIDTH_PX) // 2 * 2
            height = round(frame.height * width / frame.width / 2) * 2
            small = frame.reformat(width, height, "yuv420p", interpolation="AREA")
            yield packed([_plane(plane) for plane in small.planes])


def _plane(plane: Any) -> Frames:
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width].copy()


def decode_all() -> None:
    """Decode every clip that is not decoded yet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for clip in [*training_clips(), *held_out()]:
        if not clip.decoded.exists():
            frames = [frame for _, frame in zip(range(MAX_FRAMES), decode(clip.name), strict=False)]
            part = clip.decoded.with_suffix(".part.npy")
            np.save(part, np.stack(frames))
            part.replace(clip.decoded)


def digest_of(clips: list[Clip]) -> str:
    """Return the digest of the clips that a network was trained on."""
    return names_digest(clip.name for clip in clips)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    decode_all()
