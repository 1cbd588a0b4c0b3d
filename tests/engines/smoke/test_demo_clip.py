"""The demonstration clip shows what the truth beside it says."""

import json

import av
import numpy as np
import pytest

from engines.smoke.demo_clip import make_clip


def decoded(path):
    with av.open(str(path)) as clip:
        return np.stack([frame.to_ndarray(format="gray") for frame in clip.decode(video=0)])


@pytest.fixture(scope="module")
def fire(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "fire.mp4"
    truth = make_clip(path, seconds=6, size=(180, 320), fps=10, onset_s=2.0)
    return path, truth, decoded(path), np.load(path.with_suffix(".alpha.npz"))["alpha"]


def test_every_frame_is_in_the_file(fire):
    path, truth, frames, _ = fire
    assert len(frames) == truth.frames == 60
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        keys = [
            packet.pts * stream.time_base for packet in clip.demux(stream) if packet.is_keyframe
        ]
        assert keys == list(range(6))
        assert not stream.codec_context.has_b_frames
        assert stream.codec_context.colorspace == 1


def test_there_is_no_smoke_before_the_onset(fire):
    _, truth, _, alpha = fire
    assert not alpha[:2].any()
    assert truth.area[:3] == (0, 0, 0)
    assert truth.box[0] is None


def test_smoke_grows_after_the_onset(fire):
    _, truth, _, alpha = fire
    assert 0 < truth.area[3] < truth.area[4] < truth.area[5] < 0.02
    assert alpha[5].max() > 100


def test_the_frame_changes_where_the_truth_says_and_not_elsewhere(fire):
    _, _, frames, alpha = fire
    before, after = frames[5].astype(float), frames[50].astype(float)
    changed = np.abs(after - before).reshape(45, 4, 80, 4).mean((1, 3))
    # Clouds drift: only the ground stands still.
    ground = np.s_[20:]
    assert changed[alpha[5] > 60].mean() > 4 * changed[ground][alpha[5][ground] == 0].mean()


def test_smoke_stands_on_its_anchor(fire):
    _, truth, _, _ = fire
    left, top, right, bottom = truth.box[5]
    x, y = truth.anchor
    assert left - 0.02 <= x <= right + 0.02
    assert top < y
    assert abs(bottom - y) < 0.04


def test_the_truth_file_says_the_same_as_the_answer(fire):
    path, truth, _, alpha = fire
    written = json.loads(path.with_suffix(".json").read_text())
    assert written["onset_s"] == truth.onset_s == 2.0
    assert tuple(written["anchor"]) == truth.anchor
    assert written["area"] == pytest.approx((alpha > 25).mean((1, 2)).tolist(), abs=1e-4)


def test_the_same_arguments_make_the_same_frames(tmp_path):
    first, second, other = (tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4"))
    for path, seed in ((first, 5), (second, 5), (other, 6)):
        make_clip(path, seconds=1, size=(90, 160), fps=5, seed=seed, onset_s=0.2)
    assert np.array_equal(decoded(first), decoded(second))
    assert not np.array_equal(decoded(first), decoded(other))


def test_a_clear_clip_has_no_smoke(tmp_path):
    truth = make_clip(tmp_path / "clear.mp4", seconds=2, size=(90, 160), fps=5, smoke=False)
    assert truth.onset_s is None
    assert truth.anchor is None
    assert set(truth.area) == {0.0}
    assert set(truth.box) == {None}
