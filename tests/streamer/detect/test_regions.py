"""Regions: their measures against values worked out by hand, and what holds for every map."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamer.detect.regions import find_regions
from streamer.detect.zones import Zones

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))

maps = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14),
    elements=st.sampled_from([0.0, 0.1, 0.3, 0.4, 0.45, 0.55, 0.7, 0.9, 1.0]).map(
        lambda value: float(np.float32(value))
    ),
)


def empty(height: int = 10, width: int = 20):
    return np.zeros((height, width), np.float32)


def test_an_even_rectangle_has_the_measures_of_a_rectangle():
    probability = empty()
    probability[2:6, 5:15] = 0.75
    (region,) = find_regions(probability, threshold=0.5)
    assert region.box == (0.25, 0.2, 0.75, 0.6)
    assert region.area == 40 / 200
    assert region.centroid == pytest.approx((0.5, 0.4))
    assert region.ground_point == pytest.approx((0.5, 0.6))
    assert region.confidence == region.peak == 0.75
    assert region.motion is None


def test_one_pixel_in_a_corner_is_a_region_that_ends_at_the_border():
    probability = empty()
    probability[9, 19] = 0.9
    (region,) = find_regions(probability, threshold=0.5)
    assert region.box == (19 / 20, 9 / 10, 1, 1)
    assert region.centroid == pytest.approx((19.5 / 20, 9.5 / 10))
    assert region.ground_point == pytest.approx((19.5 / 20, 1))
    assert region.area == 1 / 200


def test_the_centroid_is_weighted_by_probability():
    probability = empty()
    probability[4, 4], probability[4, 5] = 0.5, 1.0
    (region,) = find_regions(probability, threshold=0.6)
    # Centres 4.5 and 5.5 with weights 1 and 2.
    assert region.centroid == pytest.approx((31 / 6 / 20, 4.5 / 10))


def test_the_confidence_is_the_mean_of_the_highest_quarter():
    probability = empty()
    probability[0, :8] = [0.9, 0.5, 0.5, 0.5, 0.7, 0.5, 0.5, 0.5]
    (region,) = find_regions(probability, threshold=0.6)
    assert region.confidence == pytest.approx(0.8)
    assert region.peak == pytest.approx(0.9)


def test_the_ground_point_is_the_middle_of_the_lowest_tenth():
    probability = np.zeros((40, 40), np.float32)
    probability[0:30, 10:20] = 0.9
    probability[28:30, 10:16] = 0
    (region,) = find_regions(probability, threshold=0.5)
    # The lowest three of thirty rows: one of ten pixels from 10, two of four from 16.
    middle = (10 * 15 + 2 * 4 * 18) / 18
    assert region.ground_point == pytest.approx((middle / 40, 30 / 40))


def test_a_region_grows_to_the_low_threshold_but_needs_a_pixel_above_the_high_one():
    probability = empty()
    probability[2, 2:6] = [0.45, 0.6, 0.45, 0.3]
    probability[8, 10:14] = 0.45
    (region,) = find_regions(probability, threshold=0.5)
    assert region.box == (2 / 20, 2 / 10, 5 / 20, 3 / 10)
    assert region.area == 3 / 200


def test_exactly_the_threshold_is_not_above_it():
    probability = empty()
    probability[2, 2] = 0.5
    assert find_regions(probability, threshold=0.5) == ()


def test_corners_that_touch_connect():
    probability = empty()
    probability[2, 2] = probability[3, 3] = probability[4, 2] = 0.9
    (region,) = find_regions(probability, threshold=0.5)
    assert region.area == 3 / 200


def test_a_patch_within_the_box_of_another_is_not_measured_with_it():
    probability = empty(9, 9)
    probability[:, 0] = probability[8, :] = 0.6
    probability[2:4, 5:7] = 1.0
    corner, patch = sorted(find_regions(probability, threshold=0.5), key=lambda r: r.peak)
    assert (corner.area, corner.peak) == (17 / 81, pytest.approx(0.6))
    assert (patch.area, patch.peak) == (4 / 81, 1.0)
    assert patch.box == (5 / 9, 2 / 9, 7 / 9, 4 / 9)


def test_regions_are_sorted_by_area_times_confidence():
    probability = empty()
    probability[0, 0:4] = 0.6  # 2.4
    probability[4, 0:3] = 0.9  # 2.7
    probability[8, 0:2] = 1.0  # 2.0
    tops = [round(region.box[1] * 10) for region in find_regions(probability, threshold=0.5)]
    assert tops == [4, 0, 8]


def test_of_equal_regions_the_leftmost_and_then_the_topmost_comes_first():
    probability = empty()
    for row, column in [(8, 2), (0, 9), (4, 2)]:
        probability[row, column] = 0.9
    boxes = [region.box[:2] for region in find_regions(probability, threshold=0.5)]
    assert boxes == [(0.1, 0.4), (0.1, 0.8), (0.45, 0)]


def test_regions_smaller_than_the_smallest_area_are_left_out():
    probability = empty()
    probability[0, 0:4] = probability[4, 0:3] = 0.9
    (region,) = find_regions(probability, threshold=0.5, min_area=4 / 200)
    assert region.area == 4 / 200


def test_of_many_specks_only_the_first_32_are_returned():
    probability = np.zeros((20, 20), np.float32)
    probability[::2, ::2] = np.linspace(0.6, 0.99, 100, dtype=np.float32).reshape(10, 10)
    peaks = [region.peak for region in find_regions(probability, threshold=0.5)]
    assert peaks == sorted(probability[::2, ::2].ravel().tolist(), reverse=True)[:32]


def test_what_lies_outside_the_zones_is_neither_found_nor_measured():
    probability = empty()
    probability[4, :] = 0.9
    probability[4, 19] = 1.0
    probability[8, 15] = 1.0
    zones = Zones(include=(LEFT_HALF,))
    allowed = zones.mask((10, 20))
    (region,) = find_regions(probability, threshold=0.5, zones=zones)
    assert region.area == int(allowed[4].sum()) / 200
    assert region.peak == pytest.approx(0.9)


def test_a_peak_outside_the_zones_does_not_make_a_region_inside_them():
    probability = empty()
    probability[4, 2:18] = 0.45
    probability[4, 17] = 1.0
    assert len(find_regions(probability, threshold=0.5)) == 1
    assert find_regions(probability, threshold=0.5, zones=Zones(include=(LEFT_HALF,))) == ()


def test_motion_is_the_mean_within_the_region_alone():
    probability, motion = empty(), np.full((10, 20), 50, np.float32)
    probability[2, 2] = probability[3, 3] = 0.9
    motion[2, 2], motion[3, 3] = 1, 4
    (region,) = find_regions(probability, threshold=0.5, motion=motion)
    assert region.motion == 2.5


@given(probability=maps, threshold=st.sampled_from([0.2, 0.5, 0.8]))
def test_measures_agree_with_each_other_and_with_the_map(probability, threshold):
    regions = find_regions(probability, threshold=threshold)
    height, width = probability.shape
    assert bool(regions) == bool((probability > threshold).any())
    for region in regions:
        left, top, right, bottom = region.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert left < region.centroid[0] < right
        assert top < region.centroid[1] < bottom
        assert left < region.ground_point[0] < right
        assert region.ground_point[1] == bottom
        assert 1 / probability.size <= region.area
        assert region.area <= (right - left) * (bottom - top) + 1e-9
        assert threshold < region.peak <= 1
        assert threshold * 0.75 < region.confidence <= region.peak + 1e-6
        box = np.s_[
            round(top * height) : round(bottom * height), round(left * width) : round(right * width)
        ]
        assert region.peak <= probability[box].max()
    alarm = [region.area * region.confidence for region in regions]
    assert alarm == sorted(alarm, reverse=True)


@given(probability=maps)
def test_every_pixel_is_counted_once(probability):
    regions = find_regions(probability, threshold=0.5)
    counted = sum(round(region.area * probability.size) for region in regions)
    assert (probability > 0.5).sum() <= counted or len(regions) == 32
    assert counted <= (probability > 0.375).sum()


@given(probability=maps, rows=st.integers(0, 3), columns=st.integers(0, 3))
def test_a_map_moved_by_whole_pixels_moves_its_regions(probability, rows, columns):
    height, width = probability.shape
    moved = np.zeros((height + 3, width + 3), np.float32)
    moved[rows : rows + height, columns : columns + width] = probability
    plain = np.zeros_like(moved)
    plain[:height, :width] = probability
    before = find_regions(plain, threshold=0.5)
    after = find_regions(moved, threshold=0.5)
    right, down = columns / (width + 3), rows / (height + 3)
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        shift = (right, down, right, down)
        assert new.box == pytest.approx([a + b for a, b in zip(old.box, shift, strict=True)])
        assert new.ground_point == pytest.approx(
            (old.ground_point[0] + right, old.ground_point[1] + down)
        )
        same = dataclasses.replace(
            new, box=old.box, centroid=old.centroid, ground_point=old.ground_point
        )
        assert same == old
