"""The one command that measures, and what it is measured against."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from engines.interpolation import evaluate
from engines.interpolation.baselines import averaged_flow, blend
from engines.interpolation.data import planes_to_rgb
from tests.engines.interpolation.scenes import error, pan


@pytest.fixture
def triplets(tmp_path):
    """Two triplets of a pan, as images and a list."""
    lines = ["before,middle,after"]
    for number in range(2):
        names = []
        for name, planes in zip("abc", pan(120, 160, (2, 4 + number)), strict=True):
            names.append(f"{name}{number}.png")
            cv2.imwrite(str(tmp_path / names[-1]), planes_to_rgb(planes)[..., ::-1])
        lines.append(",".join(names))
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_one_command_measures_a_list(triplets, tmp_path):
    command = [sys.executable, "-m", "engines.interpolation.evaluate", "--json"]
    command += ["--triplets", str(triplets), "--methods", "ours", "averaged_flow", "blend"]
    command += ["--sheet", str(tmp_path / "sheet")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(answer.stdout)
    assert set(result["methods"]) == {"ours", "averaged_flow", "blend"}
    for figures in result["methods"].values():
        assert {"psnr", "ssim", "milliseconds"} <= set(figures["overall"])
    assert result["psnr"] == result["methods"]["ours"]["overall"]["psnr"]
    assert result["psnr"] > result["methods"]["blend"]["overall"]["psnr"] + 3
    assert result["methods"]["ours"]["overall"]["triplets"] == 2
    assert list((tmp_path / "sheet").glob("*.png"))


def test_an_image_that_is_missing_is_named(triplets):
    (triplets.parent / "b1.png").unlink()
    with pytest.raises(OSError, match=r"b1\.png"):
        list(evaluate.listed(triplets))


def test_burnt_in_text_stands_still_and_the_rest_is_left(triplets):
    triplet = next(evaluate.listed(triplets))
    burnt, inside = evaluate.with_text(triplet)
    assert inside.any()
    np.testing.assert_array_equal(burnt.before[0][inside], burnt.after[0][inside])
    np.testing.assert_array_equal(burnt.middle[0][~inside], triplet.middle[0][~inside])


def test_following_the_motion_beats_blending():
    before, wanted, after = pan(120, 160)
    assert error(averaged_flow(before, after)[0], wanted[0]) < 0.3 * error(
        blend(before, after)[0], wanted[0]
    )
