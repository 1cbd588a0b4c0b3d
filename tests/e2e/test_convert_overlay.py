"""A conversion of real clips with the overlay: what a replay finds is seen in every frame."""

import json
import shutil
from itertools import pairwise

import av
import numpy as np
import pytest

from .test_demo_and_replay import run

pytestmark = [pytest.mark.data, pytest.mark.slow]

PLATES = {"IDLE": (92, 80), "PENDING": (40, 168), "ALARM": (105, 225)}
"""Chroma of the word in the top left corner."""


def stated(frame):
    """What state is written on a frame: the colour of which most is in its corner."""
    height, width = frame.height, frame.width
    planes = [
        np.ndarray((height // 2, width // 2), np.uint8, bytes(plane), 0, (plane.line_size, 1))
        for plane in frame.planes[1:]
    ]
    u, v = (plane[: height // 36, : width // 4].astype(int) for plane in planes)
    near = {
        word: int(((abs(u - blue) < 30) & (abs(v - red) < 30)).sum())
        for word, (blue, red) in PLATES.items()
    }
    return max(near, key=near.__getitem__)


@pytest.mark.parametrize(
    ("name", "frames"),
    [("teerapongp_smoke_distant_plume", 354), ("cheahber_wildfire_aerial", 431)],
)
def test_every_frame_says_what_a_replay_says_of_its_time(data, tmp_path, name, frames):
    clip, out = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    shutil.copyfile(data / "smoke" / "clips_smoke" / f"{name}.mp4", clip)
    replayed = run("replay", clip, "--json")
    raised_s = json.loads(replayed.stdout.splitlines()[0])["media_s"]
    done = run("convert", clip, "-o", out, "--overlay", "--factor", 2, "--quality", "draft")
    assert done.returncode == 0, done.stderr
    with av.open(str(out)) as container:
        shown = [(frame.time, stated(frame)) for frame in container.decode(video=0)]
    assert len(shown) == 2 * frames
    alarmed = [time for time, state in shown if state == "ALARM"]
    assert alarmed[0] == pytest.approx(raised_s, abs=0.05)
    # The state changes at most once per inference and is constant between two.
    changes = [time for (_, one), (time, other) in pairwise(shown) if one != other]
    assert len(changes) <= 4
    assert all(abs(time - round(time)) < 0.06 for time in changes)
