"""The same frame again, the same scene later, another scene."""

import io
import time

import av
import cv2
import numpy as np
import pytest

from engines.interpolation.scene_change import Relation, relation
from tests.engines.interpolation.scenes import pan, texture

HEIGHT, WIDTH = 360, 640


def scene(seed=3):
    return texture(HEIGHT, WIDTH, seed)


def noisy(frame, sigma, seed):
    grain = np.random.default_rng(seed).normal(0, sigma, frame.shape)
    return np.clip(frame + grain, 0, 255).astype(np.uint8)


def moved(step):
    before, _, after = pan(HEIGHT, WIDTH, step, planes=1)
    return before[0], after[0]


CASES = {
    "the same": (scene(), scene(), Relation.SAME),
    "black and black": (np.zeros((90, 160), np.uint8),) * 2 + (Relation.SAME,),
    "a few bytes off by one": (scene(), scene() + (scene(5) > 200), Relation.SAME),
    "sensor noise": (noisy(scene(), 1.5, 1), noisy(scene(), 1.5, 2), Relation.MOVING),
    "a slow pan": (*moved((0, 1)), Relation.MOVING),
    "a pan": (*moved((4, 12)), Relation.MOVING),
    "a fast pan": (*moved((10, 30)), Relation.MOVING),
    "another scene": (scene(3), scene(4), Relation.CUT),
    "a step of a fade": (scene(), (scene() * 0.9).astype(np.uint8), Relation.MOVING),
    "a late step of a fade": (scene() // 8, scene() // 10, Relation.MOVING),
    "a flash": (scene(), np.clip(scene() * 1.2 + 50, 0, 255).astype(np.uint8), Relation.MOVING),
    "a scene after black": (np.zeros((HEIGHT, WIDTH), np.uint8), scene(), Relation.CUT),
    "16 by 16": (texture(16, 16), texture(16, 16), Relation.SAME),
}


@pytest.mark.parametrize("case", CASES)
def test_frames_are_classified(case):
    before, after, want = CASES[case]
    assert relation(before, after) is want


def test_one_thing_moving_is_no_repeat():
    before, after = scene(), scene()
    before[100:120, 100:120] = 255
    after[100:120, 104:124] = 255
    assert relation(before, after) is Relation.MOVING


@pytest.mark.parametrize("case", ["the same", "a pan", "another scene", "sensor noise"])
def test_ten_bits_say_what_eight_say(case):
    before, after, want = CASES[case]
    assert relation(before.astype(np.uint16) << 2, after.astype(np.uint16) << 2, depth=10) is want


def test_a_repeat_is_known_after_a_lossy_codec():
    frames = [moved((0, step))[1] for step in range(0, 40, 4)]
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=50, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in (frame for frame in frames for _ in range(2)):
            grey = np.vstack([frame, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="yuv420p")))
        out.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as encoded:
        decoded = [frame.to_ndarray()[:HEIGHT] for frame in encoded.decode(video=0)]
    repeats = [relation(decoded[i], decoded[i + 1]) for i in range(0, 20, 2)]
    steps = [relation(decoded[i], decoded[i + 1]) for i in range(1, 19, 2)]
    assert repeats.count(Relation.SAME) >= 9
    assert set(steps) == {Relation.MOVING}


def test_it_costs_little_beside_the_rest():
    before, after = (cv2.resize(p, (1280, 720)) for p in moved((4, 12)))
    taken = []
    for _ in range(20):
        began = time.thread_time()
        relation(before, after)
        taken.append(time.thread_time() - began)
    assert min(taken) < 0.005
