"""The synthetic clip that the sections `decode` and `cameras` play."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from engines.cache_files import cache_folder
from engines.smoke.demo_clip import make_clip

if TYPE_CHECKING:
    from gpu.sections import Options

RATE = 30
"""Frames a second of the clip, with a key frame each second."""


def watch_clip(options: Options) -> Path:
    """Return a 1080p30 clip of a starting fire: the kit's, else a cached one."""
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
