"""A network is evaluated on darkened images: raw, enhanced, and as the program runs it."""

import cv2
import evaluate_dark
import numpy as np
import pytest

from engines.smoke.data import read_index
from engines.smoke.model import SmokeOutput


class Oracle:
    """Predicts smoke where the image is bright, with half the probability in the dark."""

    threshold, threshold_dark, low_threshold = 0.6, 0.3, 0.2

    def predict(self, image, background=None, *, dark=False):
        probability = (image[::2, ::2].min(2) > 150) * np.float32(
            0.9 if image.mean() > 90 else 0.45
        )
        if dark:
            probability = np.interp(probability, (0, 0.3, 1), (0, 0.6, 1)).astype(np.float32)
        return SmokeOutput(probability, float(probability.max()), probability[::16, ::16])

    def __call__(self, image, background=None):
        return self.predict(image, background).mask


@pytest.fixture
def entries(tmp_path):
    """Two images with smoke and a clear one: a bright patch on a grey ground."""
    lines = ["source,path,mask,label,class,group"]
    for number in range(3):
        image = np.full((480, 640, 3), 100, np.uint8)
        mask = np.zeros((480, 640), np.uint8)
        if number < 2:
            image[100:160, 200:280] = 240
            mask[100:160, 200:280] = 255
            cv2.imwrite(str(tmp_path / f"{number}.png"), mask)
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), image)
        smoke = f"{number}.png,drawn,smoke" if number < 2 else ",image,nonsmoke"
        lines.append(f"set,{number}.jpg,{smoke},view{number}")
    path = tmp_path / "index.csv"
    path.write_text("\n".join(lines))
    return read_index(path)


def brighter(image):
    """Return the image brighter, but not as bright as by day."""
    return np.clip(image.astype(int) * 2, 0, 200).astype(np.uint8)


def test_each_preprocessing_is_measured_at_its_own_and_at_the_shipped_threshold(
    entries, monkeypatch
):
    monkeypatch.setattr(evaluate_dark, "far_entries", lambda part: entries)
    monkeypatch.setattr(
        evaluate_dark, "preprocessings", lambda: {"raw": lambda p: p, "enhanced": brighter}
    )
    result = evaluate_dark.measure(Oracle())
    assert result["day"]["recall"] == 1
    assert result["day"]["clear_false_positive_rate"] == 0
    assert result["dusk"]["raw"]["at_threshold"]["recall"] == 0
    enhanced = result["dusk"]["enhanced"]
    assert enhanced["at_threshold"]["recall"] == 0  # half as probability
    assert enhanced["at_best"]["recall"] == 1
    assert enhanced["as_shipped"]["recall"] == 1
    assert enhanced["best"] < 0.45
    assert enhanced["as_shipped"]["clear_false_positive_rate"] == 0


def test_an_image_is_darkened_alike_each_time(entries):
    results = [
        evaluate_dark.evaluate(Oracle(), entries, brighter, light=0.15).by_threshold[0.3]
        for _ in range(2)
    ]
    assert results[0] == results[1]
