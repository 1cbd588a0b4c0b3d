"""A network is measured in the dark: as it is, lifted, and as the program asks it."""

import cv2
import numpy as np
import pytest

from engines.smoke import evaluate_dark
from engines.smoke.data import read_index
from engines.smoke.model import SmokeOutput


class Oracle:
    """Says smoke where the picture is bright, and is half as sure when that was dark."""

    threshold, threshold_dark, low_threshold = 0.6, 0.3, 0.2

    def predict(self, image, background=None, *, dark=False):
        sure = (image[::2, ::2].min(2) > 150) * np.float32(0.9 if image.mean() > 90 else 0.45)
        if dark:
            sure = np.interp(sure, (0, 0.3, 1), (0, 0.6, 1)).astype(np.float32)
        return SmokeOutput(sure, float(sure.max()), sure[::16, ::16])

    def __call__(self, image, background=None):
        return self.predict(image, background).mask


@pytest.fixture
def rows(tmp_path):
    """Two smoking pictures and a clear one, drawn: a bright patch on a grey ground."""
    lines = ["source,path,mask,label,class,group"]
    for number in range(3):
        picture = np.full((480, 640, 3), 100, np.uint8)
        mask = np.zeros((480, 640), np.uint8)
        if number < 2:
            picture[100:160, 200:280] = 240
            mask[100:160, 200:280] = 255
            cv2.imwrite(str(tmp_path / f"{number}.png"), mask)
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), picture)
        smoke = f"{number}.png,drawn,smoke" if number < 2 else ",image,nonsmoke"
        lines.append(f"set,{number}.jpg,{smoke},view{number}")
    path = tmp_path / "index.csv"
    path.write_text("\n".join(lines))
    return read_index(path)


def brighter(picture):
    """Light enough to see, not as light as day."""
    return np.clip(picture.astype(int) * 2, 0, 200).astype(np.uint8)


def test_each_way_is_measured_at_its_own_and_at_the_shipped_threshold(rows, monkeypatch):
    monkeypatch.setattr(evaluate_dark, "judged_rows", lambda part: rows)
    monkeypatch.setattr(evaluate_dark, "ways", lambda: {"raw": lambda p: p, "lifted": brighter})
    result = evaluate_dark.measure(Oracle())
    assert result["day"]["recall"] == 1
    assert result["day"]["clear_false_positive_rate"] == 0
    assert result["dusk"]["raw"]["at_threshold"]["recall"] == 0
    lifted = result["dusk"]["lifted"]
    assert lifted["at_threshold"]["recall"] == 0  # half as sure
    assert lifted["at_best"]["recall"] == 1
    assert lifted["as_shipped"]["recall"] == 1
    assert lifted["best"] < 0.45
    assert lifted["as_shipped"]["clear_false_positive_rate"] == 0


def test_the_same_picture_is_darkened_alike_each_time(rows):
    seen = [
        evaluate_dark.seen_in(Oracle(), rows, brighter, light=0.15).by_threshold[0.3]
        for _ in range(2)
    ]
    assert seen[0] == seen[1]
