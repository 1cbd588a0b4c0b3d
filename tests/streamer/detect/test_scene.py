"""Scene: recognising the scene, the background model and the frame difference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.detect.scene import (
    SIGNATURE_SIZE,
    Background,
    SceneTracker,
    same_scene,
)

NS = 1_000_000_000


def hut(level: int = 0):
    """A scene with all its edges on the left; brighter by *level*."""
    image = np.full((48, 80, 3), 60, np.uint8)
    image[10:30, 5:20] = 120
    image[34:44, 10:30] = 30
    return image + np.uint8(level)


def mast():
    """A scene with all its edges on the right."""
    return np.ascontiguousarray(hut()[::-1, ::-1])


def level_of(background) -> int | None:
    """Return the level of the `hut` that a background shows."""
    if background is None:
        return None
    level = int(background[0, 0, 0]) - 60
    assert np.array_equal(background, hut(level))
    return level


def learned(background: Background, levels, *, begin_s: int = 0) -> list[int | None]:
    """One frame per second; the background after each."""
    return [
        level_of(background.update((begin_s + at) * NS, hut(level)))
        for at, level in enumerate(levels)
    ]


@pytest.mark.parametrize("slots", [0, -1, 2, 4])
def test_an_even_number_of_slots_is_refused(slots):
    with pytest.raises(ValueError, match=f"slots must be odd, got {slots}"):
        Background(slots=slots)


def test_there_is_no_background_before_the_first_frame_is_old_enough():
    background = Background(min_age_s=90, step_s=45, slots=3)
    assert background.update(0, hut(1)) is None
    assert background.update(90 * NS - 1, hut(2)) is None
    assert level_of(background.update(90 * NS, hut(3))) == 1


def test_one_slot_is_the_frame_of_that_long_ago():
    background = Background(min_age_s=3, step_s=1, slots=1)
    assert learned(background, range(8)) == [None, None, None, 0, 1, 2, 3, 4]


def test_frames_between_two_steps_are_not_stored():
    background = Background(min_age_s=2, step_s=2, slots=1)
    levels = [10, 90, 20, 91, 30, 92, 40, 93]
    assert learned(background, levels) == [None, None, 10, 10, 20, 20, 30, 30]


def test_the_median_is_of_the_newest_odd_number_of_old_frames():
    background = Background(min_age_s=1, step_s=1, slots=3)
    levels = [10, 50, 20, 40, 30, 0, 0]
    # 10; of two the newer: 50; then 10 50 20; 50 20 40; 20 40 30; 40 30 0.
    assert learned(background, levels) == [None, 10, 50, 20, 40, 30, 30]


def test_the_median_is_taken_for_each_pixel_and_each_color():
    background = Background(min_age_s=1, step_s=1, slots=3)
    images = [hut(), hut(), hut()]
    for at, image in enumerate(images):
        image[at, at, at] = 200  # A speck in each frame, never at the same place.
        image[40, 70, 1] = (7, 9, 8)[at]
    for at, image in enumerate([*images, hut()]):
        found = background.update(at * NS, image)
    wanted = hut()
    wanted[40, 70, 1] = 8
    assert np.array_equal(found, wanted)


def test_an_object_that_is_in_one_frame_only_is_not_in_the_background():
    background = Background(min_age_s=1, step_s=1, slots=3)
    for at in range(6):
        image = hut()
        if at == 2:
            image[20:30, 40:50] = 250
        found = background.update(at * NS, image)
        assert found is None or np.array_equal(found, hut())


def test_after_a_long_pause_all_waiting_frames_are_used_at_once():
    background = Background(min_age_s=10, step_s=1, slots=3)
    learned(background, [1, 2, 3, 4, 5])
    assert level_of(background.update(1000 * NS, hut(9))) == 4


def test_a_frozen_background_does_not_change():
    background = Background(min_age_s=2, step_s=1, slots=1)
    assert learned(background, [1, 2, 3, 4])[-1] == 2
    background.frozen = True
    assert learned(background, [50] * 9, begin_s=4) == [2] * 9


def test_frames_that_waited_when_the_background_was_frozen_are_discarded():
    background = Background(min_age_s=3, step_s=1, slots=1)
    learned(background, [1, 2, 3])
    background.frozen = True
    assert learned(background, [4], begin_s=3) == [None]
    background.frozen = False
    assert learned(background, [5, 6, 7, 8, 9], begin_s=4) == [None, None, None, 5, 6]


def test_when_the_camera_moves_the_background_starts_over():
    background = Background(min_age_s=2, step_s=1, slots=3)
    assert learned(background, [1] * 6)[-1] == 1
    found = [background.update(at * NS, mast()) for at in range(6, 10)]
    assert found[:2] == [None, None]
    assert np.array_equal(found[2], mast())
    assert np.array_equal(found[3], mast())


def test_when_the_camera_moves_a_frozen_background_is_discarded():
    background = Background(min_age_s=2, step_s=1, slots=1)
    learned(background, [1] * 4)
    background.frozen = True
    assert [background.update(at * NS, mast()) for at in range(4, 10)] == [None] * 6


def test_a_change_of_light_does_not_reset_the_background():
    background = Background(min_age_s=1, step_s=1, slots=1)
    assert learned(background, [0, 0, 100, 100]) == [None, 0, 0, 100]
    dim = hut() // 2
    background.update(4 * NS, dim)
    assert np.array_equal(background.update(5 * NS, dim), dim)


def test_a_plume_of_a_tenth_of_the_frame_does_not_reset_the_background():
    background = Background(min_age_s=2, step_s=1, slots=1)
    learned(background, [0, 0, 0])
    smoky = hut()
    smoky[5:25, 50:70] = 80
    assert level_of(background.update(3 * NS, smoky)) == 0


def test_a_scene_that_changes_slowly_does_not_reset_the_background():
    background = Background(min_age_s=2, step_s=1, slots=1)
    first, last = hut().astype(float), mast().astype(float)
    for at in range(400):
        blend = min(1, at / 300)
        image = np.round(first + blend * (last - first)).astype(np.uint8)
        assert (background.update(at * NS, image) is not None) == (at >= 2)


@given(
    gaps=st.lists(st.integers(0, 4 * NS), min_size=1, max_size=40),
    frozen=st.sets(st.integers(0, 39), max_size=8),
    slots=st.sampled_from([1, 3, 5]),
)
def test_the_background_is_always_one_of_the_frames_that_are_old_enough(gaps, frozen, slots):
    background = Background(min_age_s=5, step_s=2, slots=slots)
    now, past = 0, {}
    before = None
    for at, gap in enumerate(gaps):
        now += gap
        background.frozen = at in frozen
        past[at] = (now, background.frozen)
        level = level_of(background.update(now, hut(at)))
        if level is None:
            assert before is None
            continue
        taken_ns, was_frozen = past[level]
        assert now - taken_ns >= 5 * NS
        assert not was_frozen
        if background.frozen:
            assert level == before
        before = level
        assert len(background._slots) <= slots


@given(st.integers(1, 25))
def test_no_more_frames_wait_than_the_steps_within_the_age(rate):
    background = Background(min_age_s=4, step_s=1, slots=3)
    for index in range(12 * rate):
        background.update(index * NS // rate, hut())
        assert len(background._waiting) <= 5


def signature_of(image):
    tracker = SceneTracker()
    tracker.update(0, image)
    return tracker.signature


def test_before_the_first_frame_there_is_no_signature():
    assert SceneTracker().signature is None
    assert SceneTracker().number == 0


def test_a_signature_has_one_size_for_images_of_any_size():
    large = hut().repeat(4, 0).repeat(4, 1)
    for image in (hut(), large, large[:, :300]):
        signature = signature_of(image)
        assert signature.shape == SIGNATURE_SIZE
        assert np.linalg.norm(signature) < 1


@given(level=st.integers(0, 120), dim=st.sampled_from([1, 1.5, 2]))
def test_other_light_is_the_same_scene(level, dim):
    image = (hut(level) / dim).astype(np.uint8)
    tracker = SceneTracker()
    assert [tracker.update(0, hut()), tracker.update(NS, image)] == [0, 0]
    assert same_scene(signature_of(hut()), signature_of(image))


def test_a_plume_is_the_same_scene_and_a_move_is_another():
    smoky = hut()
    smoky[5:25, 50:70] = 80
    tracker = SceneTracker()
    shown = [hut(), smoky, hut(), mast(), mast(), hut()]
    assert [tracker.update(at * NS, image) for at, image in enumerate(shown)] == [0, 0, 0, 1, 1, 2]


def test_a_signature_that_was_returned_does_not_change():
    tracker = SceneTracker()
    tracker.update(0, hut())
    before = tracker.signature
    copy = before.copy()
    tracker.update(30 * NS, hut(100))
    tracker.update(60 * NS, mast())
    np.testing.assert_array_equal(before, copy)


@pytest.mark.parametrize("rate", [1, 4, 25])
def test_light_is_followed_at_the_same_speed_at_any_rate(rate):
    smoky = hut()
    smoky[5:25, 50:70] = 80
    tracker = SceneTracker()
    tracker.update(0, hut())
    for index in range(1, 50 * rate + 1):
        tracker.update(index * NS // rate, smoky)
    distance = np.linalg.norm(tracker.signature - signature_of(hut()))
    assert distance / np.linalg.norm(signature_of(smoky) - signature_of(hut())) == pytest.approx(
        0.632, abs=0.01
    )


def test_a_background_tracks_the_scene_that_it_belongs_to():
    background = Background()
    background.update(0, hut())
    np.testing.assert_array_equal(background.scene.signature, signature_of(hut()))
    background.update(NS, mast())
    assert background.scene.number == 1
