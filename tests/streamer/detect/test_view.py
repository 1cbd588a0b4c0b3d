"""Recognising a view: through light and smoke, and not after a move."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.detect.background import Background
from streamer.detect.view import SIGNATURE_SIZE, SceneTracker, same

from .test_background import NS, hut, mast


def known(image):
    view = SceneTracker()
    view.at(0, image)
    return view.signature


def test_before_the_first_picture_nothing_is_known():
    assert SceneTracker().signature is None
    assert SceneTracker().number == 0


def test_a_signature_has_one_size_whatever_the_picture():
    large = hut().repeat(4, 0).repeat(4, 1)
    for image in (hut(), large, large[:, :300]):
        signature = known(image)
        assert signature.shape == SIGNATURE_SIZE
        assert np.linalg.norm(signature) < 1


@given(level=st.integers(0, 120), dim=st.sampled_from([1, 1.5, 2]))
def test_other_light_is_the_same_view(level, dim):
    image = (hut(level) / dim).astype(np.uint8)
    view = SceneTracker()
    assert [view.at(0, hut()), view.at(NS, image)] == [0, 0]
    assert same(known(hut()), known(image))


def test_a_plume_is_the_same_view_and_a_move_is_another():
    smoky = hut()
    smoky[5:25, 50:70] = 80
    view = SceneTracker()
    shown = [hut(), smoky, hut(), mast(), mast(), hut()]
    assert [view.at(at * NS, image) for at, image in enumerate(shown)] == [0, 0, 0, 1, 1, 2]


def test_a_signature_that_was_handed_out_stays_as_it_was():
    view = SceneTracker()
    view.at(0, hut())
    before = view.signature
    copy = before.copy()
    view.at(30 * NS, hut(100))
    view.at(60 * NS, mast())
    np.testing.assert_array_equal(before, copy)


@pytest.mark.parametrize("rate", [1, 4, 25])
def test_light_is_followed_as_fast_at_any_rate(rate):
    smoky = hut()
    smoky[5:25, 50:70] = 80
    view = SceneTracker()
    view.at(0, hut())
    for look in range(1, 50 * rate + 1):
        view.at(look * NS // rate, smoky)
    way = np.linalg.norm(view.signature - known(hut()))
    assert way / np.linalg.norm(known(smoky) - known(hut())) == pytest.approx(0.632, abs=0.01)


def test_a_background_and_who_asks_it_share_one_view():
    background = Background()
    background.at(0, hut())
    np.testing.assert_array_equal(background.view.signature, known(hut()))
    background.at(NS, mast())
    assert background.view.number == 1
