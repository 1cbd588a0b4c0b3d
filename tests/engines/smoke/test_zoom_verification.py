"""Zoom verification: candidate regions are confirmed or vanish, the rest stays as it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.smoke.zoom_verification import (
    MAX_REGION_SIZE,
    MAX_REGIONS,
    WINDOW,
    crop_region,
    verify,
)

SHAPE = (192, 320)
NATIVE = (1080, 1920)


class Network:
    """Returns a constant map and records its inputs."""

    def __init__(self, crop_value=1.0):
        self.crop_value = crop_value
        self.inputs = []

    def __call__(self, image, background=None):
        self.inputs.append((image, background))
        return np.full((WINDOW[0] // 2, WINDOW[1] // 2), self.crop_value, np.float32)


def spot(*boxes, value=0.64):
    probability = np.full(SHAPE, 0.05, np.float32)
    for x, y, w, h in boxes:
        probability[y : y + h, x : x + w] = value
    return probability


def blank(box, size):
    return np.zeros((*size, 3), np.uint8)


def test_without_candidates_the_map_is_returned_as_it_is():
    network, probability = Network(), spot()
    assert (
        verify(network, probability, blank, threshold=0.5, low_threshold=0.4, native=NATIVE)
        is probability
    )
    assert network.inputs == []


@pytest.mark.parametrize(("crop_value", "wanted"), [(1.0, 0.8), (0.0, 0.0), (0.25, 0.4)])
def test_a_candidate_becomes_the_geometric_mean_of_both_passes_and_the_rest_stays(
    crop_value, wanted
):
    probability = spot((100, 80, 12, 9))
    again = verify(
        Network(crop_value), probability, blank, threshold=0.5, low_threshold=0.4, native=NATIVE
    )
    assert again[84, 105] == pytest.approx(wanted, abs=1e-6)
    outside = probability < 0.1
    np.testing.assert_array_equal(again[outside], probability[outside])
    assert probability[84, 105] == np.float32(0.64), "what was given is not written into"


def test_what_is_large_already_and_more_than_a_few_are_left_alone():
    wide = spot((10, 60, int(MAX_REGION_SIZE * SHAPE[1]) + 2, 20))
    network = Network(0.0)
    np.testing.assert_array_equal(
        verify(network, wide, blank, threshold=0.5, low_threshold=0.4, native=NATIVE), wide
    )
    many = spot(*((20 + 50 * number, 80, 5 + number, 5) for number in range(MAX_REGIONS + 2)))
    again = verify(network, many, blank, threshold=0.5, low_threshold=0.4, native=NATIVE)
    assert len(network.inputs) == MAX_REGIONS
    assert (again > 0.6).any(), "the weakest candidates are not verified"


def test_the_background_is_cut_at_the_same_place():
    background = np.zeros((384, 640, 3), np.uint8)
    background[160:180, 200:224] = 200
    network = Network()
    verify(
        network,
        spot((100, 80, 12, 10)),
        blank,
        threshold=0.5,
        low_threshold=0.4,
        native=NATIVE,
        background=background,
    )
    ((_, normal),) = network.inputs
    rows, columns = np.nonzero(normal[..., 0] > 100)
    assert abs(rows.mean() - WINDOW[0] / 2) < 12
    assert abs(columns.mean() - WINDOW[1] / 2) < 12


@given(
    x=st.integers(0, 300), y=st.integers(0, 180), w=st.integers(1, 100), h=st.integers(1, 60),
    native=st.sampled_from([(480, 640), (720, 1280), (1080, 1920), (2160, 3840), (96, 160)]),
)  # fmt: skip
def test_every_window_lies_within_the_frame_and_holds_its_region(x, y, w, h, native):
    windows = []

    def cut(box, size):
        windows.append(box)
        return blank(box, size)

    x, y = min(x, SHAPE[1] - w), min(y, SHAPE[0] - h)
    again = verify(
        Network(0.0), spot((x, y, w, h)), cut, threshold=0.5, low_threshold=0.4, native=native
    )
    for left, top, right, bottom in windows:
        assert -1e-9 <= left < right <= 1 + 1e-9
        assert -1e-9 <= top < bottom <= 1 + 1e-9
        assert left <= (x + w / 2) / SHAPE[1] <= right
        assert again[y + h // 2, x + w // 2] == pytest.approx(0, abs=1e-6)


def test_a_cropped_region_holds_the_pixels_at_its_place():
    columns = np.tile(np.arange(640) // 4, (384, 1)).astype(np.uint8)
    image = np.repeat(columns[..., None], 3, 2)
    part = crop_region(image, (0.25, 0.25, 0.75, 0.75), (192, 320))
    np.testing.assert_array_equal(part, image[96:288, 160:480])
