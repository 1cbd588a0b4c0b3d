"""The shipped low-light network: what goes in, what comes out, that darkness is lifted."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.common.i420 import i420_to_rgb
from engines.errors import ModelMismatch
from engines.lowlight.enhancer import thumbnail_of
from engines.lowlight.model import LowLightModel, open_lowlight_model
from engines.lowlight.still_image import darken, enhance_image
from engines.smoke.model import SHIPPED
from tests.engines.lowlight.scenes import planes, street


@pytest.fixture(scope="module")
def model():
    model = open_lowlight_model(device="cpu", validate=False)
    yield model
    model.close()


def thumbnail(light):
    return thumbnail_of(planes(street(light)), LowLightModel.thumbnail_size)


def test_the_model_states_name_digest_and_backend(model):
    assert model.name == "lowlight"
    assert len(model.digest) == 64
    assert model.backend.endswith(" cpu f32")


def test_the_output_is_a_valid_adjustment(model):
    output = model(thumbnail(0.1), 2.0)
    levels = len(output.curves)
    assert output.curves.shape == output.gains.shape == (levels, 256)
    assert output.exposure.shape == (12, 20)
    assert output.exposure.min() >= 0
    assert output.exposure.max() <= 1
    assert output.curves.min() >= 0
    assert output.curves.max() <= 1 + 1e-6
    assert (np.diff(output.curves, axis=1) >= -1e-6).all()
    assert output.gains.min() > 0


def test_the_darker_it_is_the_more_light_is_added(model):
    gains = [
        model(frame, 1.0).gain_of(np.bincount(frame[..., 1].ravel(), minlength=256) / 15360)
        for frame in map(thumbnail, (0.5, 0.2, 0.07))
    ]
    assert gains == sorted(gains)
    assert gains[-1] > 2 * gains[0]


def test_a_dark_street_becomes_visible(model):
    day = i420_to_rgb(planes(street(1.0).astype(np.uint8)))
    night = darken(day, np.random.default_rng(1), noise=1.0)
    lit = enhance_image(model, night)
    assert night.mean() < 45
    assert 80 < lit.mean() < 180
    assert abs(lit.astype(float) - day).mean() < 0.5 * abs(night.astype(float) - day).mean()


def test_black_stays_dark_and_white_stays_white(model):
    black = np.zeros((96, 160, 3), np.uint8)
    assert enhance_image(model, black).mean() < 60
    assert enhance_image(model, black + 255).mean() > 235


def test_many_threads_may_call_at_once(model):
    frames = [thumbnail(light) for light in (0.05, 0.1, 0.3, 0.6)] * 8
    alone = [model(frame, 1.0).curves for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda frame: model(frame, 1.0).curves, frames))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


MISFITS = {
    "not a multiple": np.zeros((97, 160, 3), np.uint8),
    "grey": np.zeros((96, 160), np.uint8),
    "four channels": np.zeros((96, 160, 4), np.uint8),
    "float": np.zeros((96, 160, 3), np.float32),
}


@pytest.mark.parametrize("frame", MISFITS.values(), ids=MISFITS)
def test_a_wrong_thumbnail_is_refused_with_what_was_expected(model, frame):
    with pytest.raises(ModelMismatch, match="thumbnail: expected"):
        model(frame, 1.0)


def test_another_kind_of_network_is_refused():
    with pytest.raises(ModelMismatch):
        open_lowlight_model(SHIPPED["smoke-fast"], device="cpu")


class Broken:
    """An engine whose output is not finite."""

    backend = "broken"

    def __init__(self, spec):
        self.spec = spec

    def infer(self, inputs):
        nothing = np.full((1, 4, 256), np.nan, np.float32)
        return {
            "curves": nothing,
            "gains": nothing,
            "exposure": np.zeros((1, 12, 20), np.float32),
            "balance": np.zeros((1, 2), np.float32),
        }


def test_output_that_is_not_finite_changes_nothing(model):
    broken = LowLightModel(Broken(model._engine.spec))
    output = broken(thumbnail(0.1), 1.0)
    dark = planes(street(0.1))
    np.testing.assert_array_equal(output.apply(dark).y, dark.y)
