"""`streamer prior`: the prior of a camera as an image, and deleting it."""

import json
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest

from streamer.cli import main
from streamer.cli.exit_codes import Exit
from streamer.detect.false_positive_prior import FalsePositivePrior
from streamer.store.prior_file import PriorFile


@pytest.fixture
def data_dir(tmp_path):
    prior = FalsePositivePrior(learn_s=10)
    probability = np.zeros((96, 160), np.float32)
    probability[40:50, 60:70] = 0.6
    for second in range(20):
        prior.update(probability, datetime(2026, 6, 1, 13, tzinfo=UTC), second * 10**9)
    prior.select_scene(np.full((24, 40), 0.03, np.float32))
    PriorFile(tmp_path / "priors" / "ridge.npz").save(prior)
    return tmp_path


def test_the_prior_is_drawn_for_each_two_hours(data_dir, capsys):
    image = data_dir / "ridge.png"
    arguments = ["prior", "ridge", "--data-dir", str(data_dir), "-o", str(image), "--json"]
    assert main(arguments) == Exit.OK
    record = json.loads(capsys.readouterr().out)
    assert record["kind"] == "prior"
    assert record["highest"] == pytest.approx(0.6, abs=0.02)
    sheet = cv2.imread(str(image))
    assert sheet.shape == (4 * 192, 3 * 320, 3)
    tiles = sheet.reshape(4, 192, 3, 320, 3)
    hot = [
        int((tiles[row, 60:, column, :, 2] > 150).sum()) for row in range(4) for column in range(3)
    ]
    assert hot.index(max(hot)) == 6, "12-14 UTC is the seventh"


def test_a_camera_without_a_prior_is_an_error(data_dir, capsys):
    assert main(["prior", "valley", "--data-dir", str(data_dir)]) == Exit.FAILED
    error = capsys.readouterr().err
    assert "valley" in error
    assert "ten minutes" in error


def test_a_camera_that_is_not_configured_is_a_usage_error(data_dir, capsys):
    config = data_dir / "c.yaml"
    config.write_text(f"data_dir: {data_dir}\ncameras: {{ridge: {{source: {{address: a.mp4}}}}}}\n")
    assert main(["prior", "valley", "--config", str(config)]) == Exit.USAGE
    assert "there is no camera 'valley', but ridge" in capsys.readouterr().err
    image = str(data_dir / "a.png")
    assert main(["prior", "ridge", "--config", str(config), "-o", image]) == Exit.OK


def test_a_damaged_file_counts_as_no_prior(data_dir, capsys):
    (data_dir / "priors" / "ridge.npz").write_bytes(b"PK")
    assert main(["prior", "ridge", "--data-dir", str(data_dir)]) == Exit.FAILED
    assert "Traceback" not in capsys.readouterr().err


def test_an_image_that_cannot_be_written_is_an_error(data_dir, capsys):
    arguments = [
        "prior",
        "ridge",
        "--data-dir",
        str(data_dir),
        "-o",
        str(data_dir / "no" / "a.png"),
    ]
    assert main(arguments) == Exit.FAILED
    assert "cannot write the image" in capsys.readouterr().err


def test_forget_deletes_the_prior(data_dir, capsys):
    arguments = ["prior", "ridge", "--data-dir", str(data_dir), "--forget", "--json"]
    assert main(arguments) == Exit.OK
    assert json.loads(capsys.readouterr().out)["existed"] is True
    assert not (data_dir / "priors" / "ridge.npz").exists()
    assert main(arguments) == Exit.OK
    assert json.loads(capsys.readouterr().out)["existed"] is False
