"""The slow background: old pictures only, nothing while smoke is suspected, one view at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.detect.background import Background

NS = 1_000_000_000


def hut(level: int = 0):
    """A view with all its edges on the left; brighter by *level*."""
    image = np.full((48, 80, 3), 60, np.uint8)
    image[10:30, 5:20] = 120
    image[34:44, 10:30] = 30
    return image + np.uint8(level)


def mast():
    """A view with all its edges on the right."""
    return np.ascontiguousarray(hut()[::-1, ::-1])


def level_of(background) -> int | None:
    """Which `hut` a background is."""
    if background is None:
        return None
    level = int(background[0, 0, 0]) - 60
    assert np.array_equal(background, hut(level))
    return level


def learned(background: Background, levels, *, begin_s: int = 0) -> list[int | None]:
    """One look a second; what the background was at each."""
    return [
        level_of(background.at((begin_s + at) * NS, hut(level))) for at, level in enumerate(levels)
    ]


@pytest.mark.parametrize("slots", [0, -1, 2, 4])
def test_a_median_of_an_even_number_is_refused(slots):
    with pytest.raises(ValueError, match=f"slots must be odd, got {slots}"):
        Background(slots=slots)


def test_there_is_none_before_the_first_picture_is_old_enough():
    background = Background(min_age_s=90, step_s=45, slots=3)
    assert background.at(0, hut(1)) is None
    assert background.at(90 * NS - 1, hut(2)) is None
    assert level_of(background.at(90 * NS, hut(3))) == 1


def test_one_slot_is_the_picture_of_that_long_ago():
    background = Background(min_age_s=3, step_s=1, slots=1)
    assert learned(background, range(8)) == [None, None, None, 0, 1, 2, 3, 4]


def test_pictures_between_two_steps_never_count():
    background = Background(min_age_s=2, step_s=2, slots=1)
    levels = [10, 90, 20, 91, 30, 92, 40, 93]
    assert learned(background, levels) == [None, None, 10, 10, 20, 20, 30, 30]


def test_the_median_is_of_the_newest_odd_number_of_old_pictures():
    background = Background(min_age_s=1, step_s=1, slots=3)
    levels = [10, 50, 20, 40, 30, 0, 0]
    # 10; of two the newer: 50; then 10 50 20; 50 20 40; 20 40 30; 40 30 0.
    assert learned(background, levels) == [None, 10, 50, 20, 40, 30, 30]


def test_the_median_is_taken_for_each_pixel_and_each_colour():
    background = Background(min_age_s=1, step_s=1, slots=3)
    images = [hut(), hut(), hut()]
    for at, image in enumerate(images):
        image[at, at, at] = 200  # A speck in each picture, never the same.
        image[40, 70, 1] = (7, 9, 8)[at]
    for at, image in enumerate([*images, hut()]):
        found = background.at(at * NS, image)
    wanted = hut()
    wanted[40, 70, 1] = 8
    assert np.array_equal(found, wanted)


def test_what_passes_through_one_picture_is_not_in_the_background():
    background = Background(min_age_s=1, step_s=1, slots=3)
    for at in range(6):
        image = hut()
        if at == 2:
            image[20:30, 40:50] = 250
        found = background.at(at * NS, image)
        assert found is None or np.array_equal(found, hut())


def test_after_a_long_pause_all_that_waited_counts_at_once():
    background = Background(min_age_s=10, step_s=1, slots=3)
    learned(background, [1, 2, 3, 4, 5])
    assert level_of(background.at(1000 * NS, hut(9))) == 4


def test_while_held_nothing_is_learned_and_what_was_known_stays():
    background = Background(min_age_s=2, step_s=1, slots=1)
    assert learned(background, [1, 2, 3, 4])[-1] == 2
    background.hold = True
    assert learned(background, [50] * 9, begin_s=4) == [2] * 9


def test_pictures_that_waited_when_smoke_was_suspected_are_thrown_away():
    background = Background(min_age_s=3, step_s=1, slots=1)
    learned(background, [1, 2, 3])
    background.hold = True
    assert learned(background, [4], begin_s=3) == [None]
    background.hold = False
    assert learned(background, [5, 6, 7, 8, 9], begin_s=4) == [None, None, None, 5, 6]


def test_a_camera_that_moved_forgets_and_learns_the_new_view():
    background = Background(min_age_s=2, step_s=1, slots=3)
    assert learned(background, [1] * 6)[-1] == 1
    found = [background.at(at * NS, mast()) for at in range(6, 10)]
    assert found[:2] == [None, None]
    assert np.array_equal(found[2], mast())
    assert np.array_equal(found[3], mast())


def test_a_camera_that_moved_while_held_forgets_too():
    background = Background(min_age_s=2, step_s=1, slots=1)
    learned(background, [1] * 4)
    background.hold = True
    assert [background.at(at * NS, mast()) for at in range(4, 10)] == [None] * 6


def test_other_light_is_the_same_view():
    background = Background(min_age_s=1, step_s=1, slots=1)
    assert learned(background, [0, 0, 100, 100]) == [None, 0, 0, 100]
    dim = hut() // 2
    background.at(4 * NS, dim)
    assert np.array_equal(background.at(5 * NS, dim), dim)


def test_a_plume_of_a_tenth_of_the_picture_is_the_same_view():
    background = Background(min_age_s=2, step_s=1, slots=1)
    learned(background, [0, 0, 0])
    smoky = hut()
    smoky[5:25, 50:70] = 80
    assert level_of(background.at(3 * NS, smoky)) == 0


def test_a_view_that_changes_slowly_is_followed():
    background = Background(min_age_s=2, step_s=1, slots=1)
    first, last = hut().astype(float), mast().astype(float)
    for at in range(400):
        share = min(1, at / 300)
        image = np.round(first + share * (last - first)).astype(np.uint8)
        assert (background.at(at * NS, image) is not None) == (at >= 2)


@given(
    gaps=st.lists(st.integers(0, 4 * NS), min_size=1, max_size=40),
    held=st.sets(st.integers(0, 39), max_size=8),
    slots=st.sampled_from([1, 3, 5]),
)
def test_the_background_is_always_one_of_the_pictures_old_enough(gaps, held, slots):
    background = Background(min_age_s=5, step_s=2, slots=slots)
    now, past = 0, {}
    before = None
    for at, gap in enumerate(gaps):
        now += gap
        background.hold = at in held
        past[at] = (now, background.hold)
        level = level_of(background.at(now, hut(at)))
        if level is None:
            assert before is None
            continue
        taken, was_held = past[level]
        assert now - taken >= 5 * NS
        assert not was_held
        if background.hold:
            assert level == before
        before = level
        assert len(background._kept) <= slots


@given(st.integers(1, 25))
def test_no_more_pictures_wait_than_the_steps_within_the_age(rate):
    background = Background(min_age_s=4, step_s=1, slots=3)
    for look in range(12 * rate):
        background.at(look * NS // rate, hut())
        assert len(background._waiting) <= 5
