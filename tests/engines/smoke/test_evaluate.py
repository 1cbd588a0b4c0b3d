"""What counts as found, what counts as a false alarm, and how the figures are put together."""

import json

import cv2
import numpy as np
import pytest

from engines.smoke.data import read_index
from engines.smoke.evaluate import (
    choose_threshold,
    compare,
    figures,
    intervals,
    look_size,
    measure_pictures,
    regions,
)


class Oracle:
    """Says smoke where the picture is white, and knows nothing else."""

    threshold = 0.5
    backend = "oracle"

    def __call__(self, image, background=None):
        return (image[::2, ::2].min(2) > 200).astype(np.float32) * 0.9


def blob(share=0.01, *, size=(480, 640)):
    mask = np.zeros(size, np.uint8)
    side = round((share * mask.size) ** 0.5)
    mask[100 : 100 + side, 200 : 200 + side] = 255
    return mask


def test_a_perfect_map_is_perfect():
    mask = blob()
    seen = compare(mask[::2, ::2] / np.float32(255), mask, threshold=0.5, group="a")
    assert seen.found
    assert seen.both == pytest.approx(seen.truth, rel=0.03)


def test_specks_are_no_region():
    probability = np.zeros((240, 320), np.float32)
    probability[10:12, 10:12] = 1
    keep, found = regions(probability, 0.5)
    assert not keep.any()
    assert found == []
    assert not compare(probability, None, threshold=0.5, group="a").called


def test_regions_come_largest_first_with_their_probabilities():
    probability = np.zeros((100, 100), np.float32)
    probability[:10, :10] = 0.6
    probability[50:70, 50:70] = 0.7
    probability[55, 55] = 0.9
    _, (large, small) = regions(probability, 0.5)
    assert large == {
        "area": 0.04,
        "mean": pytest.approx(0.7005, abs=1e-4),
        "peak": pytest.approx(0.9),
    }
    assert small["area"] == 0.01


def test_smoke_somewhere_else_is_a_miss_and_a_false_alarm_on_a_clear_picture():
    wrong = np.zeros((240, 320), np.float32)
    wrong[200:230, 10:40] = 0.9
    assert not compare(wrong, blob(), threshold=0.5, group="a").found
    assert compare(wrong, None, threshold=0.5, group="a").called


def test_figures_pool_pixels_and_sort_plumes_by_size():
    seen = []
    for share in (0.001, 0.005, 0.05):
        mask = blob(share)
        good = share != 0.005
        probability = mask[::2, ::2] / np.float32(255) * good
        seen.append(compare(probability, mask, threshold=0.5, group=str(share)))
    seen.append(compare(np.zeros((240, 320), np.float32), None, threshold=0.5, group="clear"))
    result = figures(seen)
    assert result["recall"] == pytest.approx(2 / 3)
    assert result["recall_under_0.2"] == result["recall_over_1"] == 1
    assert result["recall_0.2_to_1"] == 0
    assert result["iou_0.2_to_1"] == 0
    assert 0.85 < result["iou"] < 0.95
    assert result["clear_false_positive_rate"] == 0
    low, high = intervals(seen)["recall"]
    assert 0 <= low <= result["recall"] <= high <= 1


def test_a_set_without_clear_pictures_has_no_false_positive_rate():
    assert figures([])["clear_false_positive_rate"] is None


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1080, 1920), (352, 640)), ((480, 640), (480, 640)), ((240, 320), (480, 640))],
)
def test_pictures_are_looked_at_640_wide_in_whole_strides(shape, size):
    assert look_size(shape) == size


@pytest.fixture
def index(tmp_path):
    """Two views, one with a white square that is smoke, one without."""
    lines = ["source,path,mask,label,class,group"]
    for number in range(4):
        picture = np.full((480, 640, 3), 60 + number, np.uint8)
        mask = blob(0.003 * (number + 1))
        if number < 3:
            picture[mask > 0] = 255
            cv2.imwrite(str(tmp_path / f"{number}.png"), mask)
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), picture)
        smoke = f"{number}.png,drawn,smoke" if number < 3 else ",image,nonsmoke"
        lines.append(f"set,{number}.jpg,{smoke},view{number % 2}")
    path = tmp_path / "index.csv"
    path.write_text("\n".join(lines))
    return path


def test_any_index_can_be_measured_and_the_answer_has_the_agreed_keys(index):
    result = json.loads(json.dumps(measure_pictures(Oracle(), read_index(index))))
    assert result["iou"] > 0.95
    assert result["f1"] > 0.97
    assert result["recall_by_size"] == {"under_0.2": None, "0.2_to_1": 1.0, "over_1": None}
    assert set(result["iou_by_size"]) == set(result["recall_by_size"])
    assert result["clear_false_positive_rate"] == 0
    assert (result["groups"], result["engine"], result["threshold"]) == (2, "oracle", 0.5)
    assert (result["smoke_pictures"], result["clear_pictures"]) == (3, 1)


def test_the_operating_point_is_the_best_of_a_table(index):
    best, *rest = choose_threshold(Oracle(), read_index(index))
    assert best["threshold"] < 0.9
    assert all(best["score"] >= line["score"] for line in rest)
