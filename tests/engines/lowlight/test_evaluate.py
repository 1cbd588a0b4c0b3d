"""The list of pairs, the split, and the one command that measures."""

import json
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from engines.common.dataset import read_rgb
from engines.common.i420 import i420_to_rgb
from engines.lowlight import evaluate
from engines.lowlight.data import pairs_of, read_pairs, split_of
from engines.lowlight.still_image import darken
from tests.engines.lowlight.scenes import Model, planes, street


@pytest.fixture
def pairs(tmp_path):
    """Two pairs of two scenes, listed in a folder beside that of the images."""
    (tmp_path / "images").mkdir()
    (tmp_path / "lists").mkdir()
    lines = ["low,ref,scene"]
    for number in range(2):
        day = i420_to_rgb(planes(street(1 - 0.2 * number)))
        for name, image in (
            ("ref", day),
            ("low", darken(day, np.random.default_rng(number), light=0.1)),
        ):
            cv2.imwrite(str(tmp_path / "images" / f"{name}{number}.png"), image[..., ::-1])
        lines.append(f"images/low{number}.png,images/ref{number}.png,s{number}")
    path = tmp_path / "lists" / "pairs.csv"
    path.write_text("\n".join(lines))
    return path


def test_images_are_found_beside_the_list_or_beside_its_folder(pairs):
    first, second = read_pairs(pairs)
    assert (first.scene, second.scene) == ("s0", "s1")
    assert read_rgb(first.low).mean() < read_rgb(first.ref).mean()


def test_a_missing_image_is_named(pairs):
    pairs.write_text(pairs.read_text().replace("low1", "gone"))
    with pytest.raises(OSError, match=r"cannot find the image images/gone\.png"):
        read_pairs(pairs)


def test_the_part_of_a_scene_never_changes(pairs):
    # The reported figures hold only for this split.
    assert [split_of(scene) for scene in ("1", "2", "3", "40")] == [
        "validation",
        "train",
        "train",
        "train",
    ]
    everything = read_pairs(pairs)
    assert sorted(
        pair.scene
        for part in ("train", "development", "validation")
        for pair in pairs_of(everything, part)
    ) == ["s0", "s1"]


def test_one_command_measures_any_list(pairs, tmp_path):
    sheet = tmp_path / "sheet.png"
    done = subprocess.run(
        [sys.executable, "-m", "engines.lowlight.evaluate",
         "--pairs", pairs, "--json", "--sheet", sheet],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["pairs"] == result["scenes"] == 2
    assert {"raw", "auto_gamma", "clahe"} <= set(result["baselines"])
    assert result["psnr"] > result["baselines"]["raw"]["psnr"] + 3
    assert 0 < result["baselines"]["raw"]["ssim"] < result["ssim"] < 1
    assert cv2.imread(str(sheet)).shape[0] == 440


def test_streams_are_compared_with_equally_smoothed_gamma(monkeypatch, tmp_path):
    frames = [i420_to_rgb(planes(street(0.1, noise=2, seed=number))) for number in range(12)]
    monkeypatch.setattr(evaluate, "_sources", lambda: iter([("street", frames)]))
    result = evaluate.measure_video(Model())["street"]
    evaluate.write_clip(Model(), tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as shown:
        assert [(f.width, f.height) for f in shown.decode(video=0)] == [(1920, 360)] * 12
    for method in ("ours", "auto_gamma"):
        assert result[method]["brightness"] > 50
        assert all(np.isfinite(list(result[method].values())))
    assert result["ours"]["noise_gain"] < result["auto_gamma"]["noise_gain"]
