"""The shipped interpolation networks: planes in, planes of any time between out."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from engines.backends.cpu import open_engine
from engines.errors import EngineError, ModelMismatch
from engines.interpolation.model import SHIPPED, Interpolator, open_interpolator
from engines.smoke.model import SHIPPED as SMOKE
from tests.engines.interpolation.scenes import error, pan, texture


@pytest.fixture(scope="module")
def model():
    model = open_interpolator(precision="f32", validate=False)
    yield model
    model.close()


def test_it_has_its_name_digest_and_backend(model):
    assert model.name == "interpolation"
    assert len(model.digest) == 64
    assert model.backend.endswith(" cpu f32")


@pytest.mark.parametrize("t", [0.2, 1 / 3, 0.5, 0.75])
def test_a_pan_is_followed_at_any_time(model, t):
    before, wanted, after = pan(180, 320, t=t)
    made = model.between(before, after).at(t)
    for plane, want, first in zip(made, wanted, before, strict=True):
        assert (plane.shape, plane.dtype) == (want.shape, want.dtype)
        assert error(plane, want) < 0.35 * max(error(first, want), 2)


@pytest.mark.parametrize(
    ("height", "width", "options"),
    [
        (16, 16, {}),
        (17, 33, {}),
        (64, 400, {}),
        (181, 319, {}),
        (240, 426, {"subsampling": (1, 1)}),
        (240, 427, {"subsampling": (1, 2)}),
        (240, 428, {"subsampling": (1, 4)}),
        (240, 320, {"planes": 1}),
        (241, 321, {"planes": 4}),
        (360, 640, {"depth": 10}),
        (361, 641, {"depth": 16, "planes": 4}),
        (720, 1280, {}),
    ],
)
def test_any_size_and_layout_works(model, height, width, options):
    before, wanted, after = pan(height, width, (2, 3), **options)
    depth = options.get("depth", 8)
    made = model.between(before, after, depth=depth).at(0.5)
    assert [(p.shape, p.dtype) for p in made] == [(p.shape, p.dtype) for p in wanted]
    for plane, want, first in zip(made, wanted, before, strict=True):
        if min(want.shape) >= 100:
            assert error(plane, want, depth) < max(0.6 * error(first, want, depth), 0.8)


def test_red_green_and_blue_work_like_luma(model):
    before, wanted, after = pan(240, 320, subsampling=(1, 1))
    made = model.between(before, after, rgb=True).at(0.5)
    assert all(
        error(p, w) < 0.6 * error(f, w) for p, w, f in zip(made, wanted, before, strict=True)
    )


def test_between_equal_frames_that_frame_is_returned(model):
    before, _, _ = pan(120, 160)
    made = model.between(before, [plane.copy() for plane in before]).at(0.4)
    for plane, want in zip(made, before, strict=True):
        np.testing.assert_array_equal(plane, want)
        assert not np.shares_memory(plane, want)


def test_the_input_frames_are_not_changed(model):
    before, _, after = pan(120, 160)
    kept = [plane.copy() for plane in (*before, *after)]
    model.between(before, after).at(0.5)
    for plane, want in zip((*before, *after), kept, strict=True):
        np.testing.assert_array_equal(plane, want)


def test_planes_with_a_stride_give_the_same(model):
    before, _, after = pan(120, 160)
    wide = [
        [np.pad(plane, ((0, 0), (0, 24)))[:, : plane.shape[1]] for plane in planes]
        for planes in (before, after)
    ]
    made = model.between(*wide).at(0.5)
    for plane, want in zip(made, model.between(before, after).at(0.5), strict=True):
        np.testing.assert_array_equal(plane, want)


def test_a_logo_stays_sharp_over_a_moving_scene(model):
    before, wanted, after = pan(360, 640, (6, 14))
    ink = np.zeros((360, 640), np.uint8)
    cv2.putText(ink, "LIVE 12:34:56", (40, 320), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 255, 2)
    for planes in (before, wanted, after):
        planes[0][cv2.dilate(ink, np.ones((5, 5))) > 0] = 16
        planes[0][ink > 0] = 235
    made = model.between(before, after).at(0.5)[0]
    letters = np.abs(made.astype(float) - wanted[0])[ink > 0]
    assert letters.mean() < 3


def test_frames_of_two_scenes_are_interpolated_without_error(model):
    before, _, _ = pan(120, 160)
    after = [texture(*plane.shape, seed=9) for plane in before]
    made = model.between(before, after).at(0.5)
    assert [plane.shape for plane in made] == [plane.shape for plane in before]


def test_threads_get_the_same_results_as_one_thread(model):
    pairs = [pan(120, 160, (step, 2 * step)) for step in range(1, 7)]
    alone = [model.between(before, after).at(0.5) for before, _, after in pairs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: model.between(pair[0], pair[2]).at(0.5), pairs * 3))
    for made, want in zip(together, alone * 3, strict=True):
        for plane, other in zip(made, want, strict=True):
            np.testing.assert_array_equal(plane, other)


def test_one_pair_serves_several_times_at_once(model):
    before, _, after = pan(120, 160)
    between = model.between(before, after)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(between.at, [0.25, 0.5, 0.75] * 2))
    for first, second in zip(made[:3], made[3:], strict=True):
        np.testing.assert_array_equal(first[0], second[0])


GREY = np.zeros((64, 64), np.uint8)


@pytest.mark.parametrize(
    ("planes", "options", "message"),
    [
        ([], {}, "1 to 4 planes"),
        ([GREY] * 5, {}, "1 to 4 planes"),
        ([GREY] * 2, {"rgb": True}, "3 or 4"),
        ([GREY], {"depth": 10}, "uint16"),
        ([GREY.astype(np.uint16)], {}, "uint8"),
        ([GREY], {"depth": 7}, "8 to 16"),
        ([GREY[None]], {}, r"\(1, 64, 64\)"),
        ([GREY[:8]], {}, "64x8"),
        ([np.zeros((16, 8193), np.uint8)], {}, "8193x16"),
        ([GREY, GREY[:9, :9], GREY[:9, :9]], {}, "9x9"),
        ([GREY[:32, :32], GREY, GREY], {}, "larger"),
    ],
)
def test_unsupported_planes_are_refused_with_a_message(model, planes, options, message):
    with pytest.raises(ModelMismatch, match=message):
        model.between(planes, planes, **options)


def test_frames_of_two_sizes_are_refused(model):
    with pytest.raises(ModelMismatch, match="same shapes"):
        model.between([GREY], [GREY[:32]])


@pytest.mark.parametrize("t", [0.0, 1.0, -0.5, float("nan")])
def test_a_time_that_is_not_between_is_refused(model, t):
    with pytest.raises(ModelMismatch, match="between 0 and 1"):
        model.between([GREY], [GREY + 1]).at(t)


def test_another_network_is_refused():
    with pytest.raises(ModelMismatch):
        open_interpolator(next(iter(SMOKE.values())), validate=False)


def test_a_closed_interpolator_raises():
    model = open_interpolator(precision="f32", validate=False)
    model.close()
    before, _, after = pan(64, 64)
    with pytest.raises(EngineError, match="closed"):
        model.between(before, after).at(0.5)


class _Broken:
    """An engine whose outputs are NaN."""

    def __init__(self, engine):
        self._engine, self.spec, self.backend = engine, engine.spec, engine.backend

    def infer(self, inputs):
        outputs = self._engine.infer(inputs)
        return {name: np.full_like(array, np.nan) for name, array in outputs.items()}


def test_a_network_that_returns_nan_leaves_the_optical_flow():
    engine = open_engine(SHIPPED)
    before, wanted, after = pan(180, 320)
    model = Interpolator(_Broken(engine))
    made = model.between(before, after).at(0.5)
    engine.close()
    assert error(made[0], wanted[0]) < error(before[0], wanted[0])
