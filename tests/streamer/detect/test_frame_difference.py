"""Frame difference: change since about one second ago, relative to the whole frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.detect.scene import FrameDifference

NS = 1_000_000_000
SIZE = (24, 32)


def gray(level: int, size: tuple[int, int] = SIZE):
    return np.full((*size, 3), level, np.uint8)


def with_patch(level: int, ground: int = 100):
    image = gray(ground)
    image[8:16, 8:16] = level
    return image


def noise(seed: int, *, least: int = 90, most: int = 110):
    return np.random.default_rng(seed).integers(least, most, (*SIZE, 3), np.uint8)


def test_the_first_frame_has_no_difference():
    assert FrameDifference().update(0, gray(100), SIZE) is None


@pytest.mark.parametrize(
    ("later_ns", "compared"),
    [
        (NS // 2 - 1, False),
        (NS // 2, True),
        (NS, True),
        (15 * NS, True),
        (15 * NS + 1, False),
    ],
)
def test_only_frames_half_a_second_to_fifteen_seconds_apart_are_compared(later_ns, compared):
    difference = FrameDifference()
    difference.update(7 * NS, gray(100), SIZE)
    assert (difference.update(7 * NS + later_ns, gray(100), SIZE) is not None) == compared


def test_two_equal_frames_show_no_motion():
    difference = FrameDifference()
    difference.update(0, noise(1), SIZE)
    change = difference.update(NS, noise(1), SIZE)
    assert change.shape == SIZE
    assert change.dtype == np.float32
    assert not change.any()


def test_motion_in_a_still_frame_is_relative_to_the_noise_floor():
    difference = FrameDifference()
    difference.update(0, with_patch(100), SIZE)
    change = difference.update(NS, with_patch(112), SIZE)
    assert change[9:15, 9:15] == pytest.approx(12 / 0.3)
    # The blur reaches one pixel out: three of nine along an edge, one at a corner.
    assert change[7, 12] == pytest.approx(12 / 0.3 / 3)
    assert change[7, 7] == pytest.approx(12 / 0.3 / 9)
    change[7:17, 7:17] = 0
    assert not change.any()


def test_a_change_of_the_whole_frame_measures_one():
    difference = FrameDifference()
    difference.update(0, gray(100), SIZE)
    assert difference.update(NS, gray(110), SIZE) == pytest.approx(10 / 10.3)


def test_darker_is_as_much_motion_as_brighter():
    changes = []
    for level in (80, 120):
        difference = FrameDifference()
        difference.update(0, with_patch(100), SIZE)
        changes.append(difference.update(NS, with_patch(level), SIZE))
    assert np.array_equal(*changes)


def test_in_a_noisy_frame_the_same_patch_measures_less():
    calm, restless = FrameDifference(), FrameDifference()
    calm.update(0, noise(1), SIZE)
    restless.update(0, noise(1), SIZE)
    after = noise(1)
    after[8:16, 8:16] += 60
    shaken = noise(2)
    shaken[8:16, 8:16] = after[8:16, 8:16]
    patch = np.s_[9:15, 9:15]
    still = calm.update(NS, after, SIZE)[patch].mean()
    assert still == pytest.approx(60 / 0.3, rel=0.01)
    assert 5 < restless.update(NS, shaken, SIZE)[patch].mean() < still / 5


def test_the_frame_is_scaled_to_the_size_of_the_map():
    difference = FrameDifference()
    size = (6, 8)
    difference.update(0, gray(100), size)
    image = gray(100)
    image[8:12, 12:16] = 190
    change = difference.update(NS, image, size)
    assert change.shape == size
    # One cell of 4 x 4 pixels, spread by the blur over its eight neighbours.
    wanted = np.zeros(size)
    wanted[1:4, 2:5] = 90 / 9 / 0.3
    assert change == pytest.approx(wanted)


def test_maps_of_different_sizes_are_not_compared():
    difference = FrameDifference()
    difference.update(0, gray(100), SIZE)
    assert difference.update(NS, gray(100), (12, 16)) is None
    assert difference.update(2 * NS, gray(100), (12, 16)).shape == (12, 16)


@pytest.mark.parametrize("rate", [1, 2, 4, 5, 10, 25])
def test_the_difference_does_not_depend_on_the_rate_of_inferences(rate):
    difference = FrameDifference()
    for index in range(3 * rate + 1):
        # The level of the patch rises by 50 levels a second.
        change = difference.update(index * NS // rate, with_patch(50 + 50 * index // rate), SIZE)
    assert change[12, 12] == pytest.approx(50 / 0.3)


def test_a_patch_that_comes_to_rest_stops_moving_a_second_later():
    difference = FrameDifference()
    levels = [100, 150, 150, 150, 150, 150, 150, 150]
    seen = [
        difference.update(at * NS // 4, with_patch(level), SIZE) for at, level in enumerate(levels)
    ]
    moving = [None if change is None else bool(change.any()) for change in seen]
    assert moving == [None, None, True, True, True, False, False, False]


def test_after_a_pause_the_frame_before_it_is_not_used():
    difference = FrameDifference()
    difference.update(0, gray(0), SIZE)
    difference.update(20 * NS, with_patch(100), SIZE)
    assert difference.update(20 * NS + NS // 2, with_patch(100), SIZE) is None
    change = difference.update(21 * NS, with_patch(100), SIZE)
    assert not change.any()


@given(gaps=st.lists(st.integers(0, 3 * NS), min_size=1, max_size=40), levels=st.randoms())
def test_the_reference_is_the_newest_frame_that_is_a_second_old(gaps, levels):
    difference, past, now = FrameDifference(), [], 0
    for gap in gaps:
        now += gap
        level = levels.randrange(256)
        change = difference.update(now, with_patch(level), SIZE)
        past.append((now, level))
        old = [seen for seen in past if now - seen[0] >= NS] or past
        before_ns, before = old[-1] if old is not past else past[0]
        if now - before_ns < NS // 2:
            assert change is None
        else:
            assert change[12, 12] == pytest.approx(abs(level - before) / 0.3)


def test_no_more_frames_are_stored_than_a_second_needs():
    difference = FrameDifference()
    for index in range(500):
        difference.update(index * NS // 25, gray(100), SIZE)
    assert len(difference._past) <= 27
