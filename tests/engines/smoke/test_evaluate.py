"""Metrics per image, their aggregation, and the evaluation command."""

import json

import cv2
import numpy as np
import pytest

from engines.smoke.data import read_index
from engines.smoke.evaluate import choose_thresholds, measure, measure_images
from engines.smoke.inference import input_size
from engines.smoke.metrics import Calibration, aggregate, bootstrap_ci, compare, flicker, regions
from engines.smoke.model import SmokeOutput
from engines.smoke.worst_cases import WorstCases


class Oracle:
    """Predicts smoke where the image is white."""

    threshold = 0.5
    low_threshold = 0.4
    backend = "oracle"
    name = "oracle"
    digest = "0"

    def __call__(self, image, background=None):
        return (image[::2, ::2].min(2) > 200).astype(np.float32) * 0.9

    def predict(self, image, background=None):
        mask = self(image)
        return SmokeOutput(mask, float(mask.max()), mask[::16, ::16])


def blob(share=0.01, *, size=(480, 640)):
    mask = np.zeros(size, np.uint8)
    side = round((share * mask.size) ** 0.5)
    mask[100 : 100 + side, 200 : 200 + side] = 255
    return mask


def test_a_perfect_map_is_perfect():
    mask = blob()
    results = compare(
        mask[::2, ::2] / np.float32(255), mask, threshold=0.5, low_threshold=0.5, group="a"
    )
    assert results.found
    assert results.tp == pytest.approx(results.actual, rel=0.03)


def test_specks_are_no_region():
    probability = np.zeros((240, 320), np.float32)
    probability[10:12, 10:12] = 1
    keep, found = regions(probability, 0.5, 0.5)
    assert not keep.any()
    assert found == []
    assert not compare(probability, None, threshold=0.5, low_threshold=0.5, group="a").alarm


def test_regions_come_largest_first_with_their_probabilities():
    probability = np.zeros((100, 100), np.float32)
    probability[:10, :10] = 0.6
    probability[50:70, 50:70] = 0.7
    probability[55, 55] = 0.9
    _, (large, small) = regions(probability, 0.5, 0.5)
    assert large == {
        "area": 0.04,
        "mean": pytest.approx(0.7005, abs=1e-4),
        "peak": pytest.approx(0.9),
    }
    assert small["area"] == 0.01


def test_smoke_somewhere_else_is_a_miss_and_a_false_alarm_on_a_clear_image():
    wrong = np.zeros((240, 320), np.float32)
    wrong[200:230, 10:40] = 0.9
    assert not compare(wrong, blob(), threshold=0.5, low_threshold=0.5, group="a").found
    assert compare(wrong, None, threshold=0.5, low_threshold=0.5, group="a").alarm


def test_figures_pool_pixels_and_sort_plumes_by_size():
    results = []
    for share in (0.001, 0.005, 0.05):
        mask = blob(share)
        good = share != 0.005
        probability = mask[::2, ::2] / np.float32(255) * good
        results.append(
            compare(probability, mask, threshold=0.5, low_threshold=0.5, group=str(share))
        )
    results.append(
        compare(
            np.zeros((240, 320), np.float32), None, threshold=0.5, low_threshold=0.5, group="clear"
        )
    )
    result = aggregate(results)
    assert result["recall"] == pytest.approx(2 / 3)
    assert result["recall_under_0.2"] == result["recall_over_1"] == 1
    assert result["recall_0.2_to_1"] == 0
    assert result["iou_0.2_to_1"] == 0
    assert 0.85 < result["iou"] < 0.95
    assert result["clear_false_positive_rate"] == 0
    low, high = bootstrap_ci(results)["recall"]
    assert 0 <= low <= result["recall"] <= high <= 1


def test_a_set_without_clear_images_has_no_false_positive_rate():
    assert aggregate([])["clear_false_positive_rate"] is None


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1080, 1920), (352, 640)), ((480, 640), (480, 640)), ((240, 320), (480, 640))],
)
def test_the_network_input_is_640_wide_in_whole_strides(shape, size):
    assert input_size(shape) == size


@pytest.fixture
def index(tmp_path):
    """Two views, one with a white square that is smoke, one without."""
    lines = ["source,path,mask,label,class,group"]
    for number in range(4):
        image = np.full((480, 640, 3), 60 + number, np.uint8)
        mask = blob(0.003 * (number + 1))
        if number < 3:
            image[mask > 0] = 255
            cv2.imwrite(str(tmp_path / f"{number}.png"), mask)
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), image)
        smoke = f"{number}.png,drawn,smoke" if number < 3 else ",image,nonsmoke"
        lines.append(f"set,{number}.jpg,{smoke},view{number % 2}")
    path = tmp_path / "index.csv"
    path.write_text("\n".join(lines))
    return path


def test_any_index_can_be_measured_and_the_answer_has_the_agreed_keys(index):
    measured = measure(Oracle(), ["images"], index=index)
    result = json.loads(json.dumps(measured))
    assert result["iou"] > 0.95
    assert result["f1"] > 0.97
    assert result["recall_by_size"] == {"under_0.2": None, "0.2_to_1": 1.0, "over_1": None}
    assert set(result["iou_by_size"]) == set(result["recall_by_size"])
    assert result["clear_false_positive_rate"] == 0
    assert (result["groups"], result["engine"], result["threshold"]) == (2, "oracle", 0.5)
    assert (result["smoke_images"], result["clear_images"]) == (3, 1)


def test_the_operating_point_is_the_best_of_a_table(index):
    best, *rest = choose_thresholds(Oracle(), read_index(index), [])
    assert best["threshold"] < 0.9
    assert all(best["score"] >= line["score"] for line in rest)


def test_calibration_compares_probabilities_with_labels():
    honest, boastful = Calibration(), Calibration()
    predicted = np.repeat(np.float32([0.25, 0.75]), 400).reshape(20, 40)
    actual = np.zeros((20, 40), bool)
    actual[:5, :20] = True  # a quarter of the lower half of what is predicted
    actual.ravel()[:] = np.concatenate([np.arange(400) % 4 == 0, np.arange(400) % 4 > 0])
    honest.add(predicted, actual)
    boastful.add(np.where(predicted > 0.5, 0.99, 0.99), actual)
    assert honest.figures()["expected_error"] == pytest.approx(0, abs=1e-6)
    assert boastful.figures()["expected_error"] == pytest.approx(0.49, abs=1e-3)
    assert honest.figures()["brier"] < boastful.figures()["brier"]
    assert sum(count for _, _, count in honest.figures()["bins"]) == 800


def test_flicker_is_the_share_of_the_outline_that_comes_and_goes():
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:4] = True
    assert flicker([mask, mask, mask]) == 0
    assert flicker([mask, ~mask]) == 1
    assert flicker([np.zeros((8, 8), bool)] * 3) is None


def test_the_worst_images_are_drawn(tmp_path, index):
    worst = WorstCases()
    entries = read_index(index)
    blind = Oracle()
    blind.threshold = 0.95  # misses all
    measure_images(blind, entries, worst)
    (path,) = worst.write(tmp_path / "worst")
    assert path.name == "missed.png"
    assert cv2.imread(str(path)).shape == (192, 1024, 3)
