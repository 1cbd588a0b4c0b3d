"""Finding the development data, splitting it, reading images."""

import pytest

from engines.common.dataset import data_folder, names_digest, read_rgb, split_of


def test_missing_data_names_the_variable_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMER_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="STREAMER_DATA"):
        data_folder()


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "x.png").write_text("no")
    with pytest.raises(OSError, match=r"cannot read the image .*x\.png"):
        read_rgb(tmp_path / "x.png")


def test_the_split_follows_the_percentages():
    parts = [
        split_of(str(number), salt="s", train_percent=60, development_percent=15)
        for number in range(1000)
    ]
    shares = [parts.count(part) / 1000 for part in ("train", "development", "validation")]
    assert shares == pytest.approx([0.6, 0.15, 0.25], abs=0.04)


def test_the_digest_of_names_ignores_their_order():
    assert names_digest(["b", "a"]) == names_digest(["a", "b"]) != names_digest(["a"])
