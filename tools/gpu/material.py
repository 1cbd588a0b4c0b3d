"""Material of the sections: a synthetic clip, and its frames by day and by night."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from engines.cache_files import cache_folder
from engines.smoke.demo_clip import make_clip
from streamer.core.image import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu.sections import Options

RATE = 30
"""Frames a second of the clip, with a key frame each second."""
_LIGHT, _NOISE = 0.03, 2.5
"""Of the day's light, and deviation of a sensor's noise in bytes, as in `streamer bench night`."""


def watch_clip(options: Options) -> Path:
    """A fire that starts, 1080p30: the kit's, else one that is made once and kept."""
    kit = os.environ.get("STREAMER_KIT")
    folder = options.clips or (f"{kit}/clips" if kit else "")
    if folder and not options.quick and (found := Path(folder) / "watch.mp4").is_file():
        return found
    height, seconds = (180, 2) if options.quick else (1080, 20)
    path = cache_folder() / "clips" / f"watch-{height}p{RATE}-{seconds}s.mp4"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{os.getpid()}.part.mp4")
        size = (height, height * 16 // 9 // 2 * 2)
        make_clip(part, seconds=seconds, size=size, fps=RATE, onset_s=1)
        part.replace(path)
        for beside in path.parent.glob(f"{os.getpid()}.part.*"):
            beside.unlink()
    return path


def frames(options: Options, count: int) -> list[Image]:
    """The clip's first frames."""
    with av.open(str(watch_clip(options))) as file:
        return [Image(frame) for frame in islice(file.decode(video=0), count)]


def darkened(day: Sequence[Image]) -> list[Image]:
    """The same at night: less linear light, then noise."""
    random = np.random.default_rng(1)
    dark = []
    for frame in day:
        light = ((frame.rgb() / np.float32(255)) ** 2.2 * _LIGHT) ** (1 / 2.2) * 255
        light += random.normal(0, _NOISE, light.shape)
        dark.append(Image.from_rgb(np.clip(np.rint(light), 0, 255).astype(np.uint8)))
    return dark
