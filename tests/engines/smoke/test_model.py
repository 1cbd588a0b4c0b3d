"""The smoke model: what goes in, what comes out, and that threads do not disturb each other."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.backends.cpu import open_reference
from engines.errors import DeviceUnavailable, InaccurateEngine, ModelFileError, ModelMismatch
from engines.smoke import model as room
from engines.smoke.model import SHIPPED, SmokeModel, open_smoke_model, validation_samples
from tests.support.onnx_bytes import metadata, one_node


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STREAMER_CACHE", raising=False)
        model = open_smoke_model(validate=False)
        yield model
        model.close()


def random_image(height=384, width=640, *, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_model_states_name_digest_and_backend(model):
    assert model.name == "smoke"
    assert len(model.digest) == 64
    assert 0.05 <= model.threshold <= 0.95
    assert model.backend.endswith(" cpu f32")
    assert model.input_size == (384, 640)


@pytest.mark.parametrize("size", [(384, 640), (480, 640), (256, 320), (32, 32), (64, 1280)])
def test_the_map_is_half_the_size_and_from_0_to_1(model, size):
    mask = model(random_image(*size))
    assert mask.shape == (size[0] // 2, size[1] // 2)
    assert mask.dtype == np.float32
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert np.isfinite(mask).all()


def test_a_background_matters_and_the_same_image_gives_the_same_map(model):
    image, background = random_image(seed=1), random_image(seed=2)
    np.testing.assert_array_equal(model(image), model(image))
    assert np.abs(model(image) - model(image, background)).max() > 1e-4


def test_read_only_and_strided_images_are_accepted(model):
    image = random_image()
    want = model(image)
    image.setflags(write=False)
    np.testing.assert_array_equal(model(image), want)
    np.testing.assert_array_equal(model(image[:, ::-1][:, ::-1]), want)


MISFITS = {
    "not a multiple": (random_image(380, 640), None, "multiples of 32, got 380x640"),
    "empty": (np.zeros((0, 0, 3), np.uint8), None, "multiples of 32"),
    "grey": (random_image()[..., 0], None, r"image: expected \(height, width, 3\) uint8"),
    "four channels": (np.zeros((32, 32, 4), np.uint8), None, "image: expected"),
    "float": (random_image().astype(np.float32), None, "float32"),
    "another background": (
        random_image(),
        random_image(480, 640),
        "background: expected the image's",
    ),
    "grey background": (random_image(), random_image()[..., 0], "background: expected"),
}


@pytest.mark.parametrize(("image", "background", "words"), MISFITS.values(), ids=MISFITS.keys())
def test_an_image_that_does_not_fit_is_refused_with_what_was_expected(
    model, image, background, words
):
    with pytest.raises(ModelMismatch, match=words):
        model(image, background)


def test_eight_threads_get_what_one_gets(model):
    images = [random_image(192, 320, seed=seed) for seed in range(8)]
    alone = [model(image, images[0]) for image in images]

    def infer(number):
        return [model(images[number], images[0]) for _ in range(4)]

    with ThreadPoolExecutor(8) as threads:
        for want, masks in zip(alone, threads.map(infer, range(8), timeout=60), strict=True):
            for mask in masks:
                np.testing.assert_array_equal(mask, want)


def test_the_map_is_that_of_the_reference(model):
    reference = open_reference(SHIPPED["smoke"])
    for sample in validation_samples():
        flag = sample["has_background"][0]
        mask = model(sample["image"][0], sample["background"][0] if flag else None)
        np.testing.assert_allclose(mask, reference.infer(sample)["mask"][0], atol=0.01)
    reference.close()


def test_opening_proves_once_and_remembers(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path))
    open_smoke_model().close()
    (proof,) = (tmp_path / "proofs").glob("*.json")
    monkeypatch.setattr(
        "engines.validation.open_reference", lambda path: pytest.fail("proven again")
    )
    open_smoke_model().close()
    assert proof.is_file()


def test_an_inaccurate_engine_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path))
    impossible = {"f32": room.Tolerance(largest=-1.0, mean=-1.0)}
    monkeypatch.setattr(room, "TOLERANCES", impossible)
    with pytest.raises(InaccurateEngine, match="smoke on openvino"):
        open_smoke_model()


def test_a_network_for_something_else_does_not_fit(tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(one_node())
    with pytest.raises(ModelMismatch, match="expected the inputs image uint8"):
        open_smoke_model(path)


def test_a_file_without_an_operating_point_does_not_fit(tmp_path):
    path = tmp_path / "smoke.onnx"
    path.write_bytes(SHIPPED["smoke"].read_bytes() + metadata("threshold", "high"))
    with pytest.raises(ModelMismatch, match="threshold"):
        open_smoke_model(path, validate=False)


def test_a_damaged_copy_is_a_damaged_file(tmp_path):
    path = tmp_path / "smoke.onnx"
    path.write_bytes(SHIPPED["smoke"].read_bytes()[:-1000])
    with pytest.raises(ModelFileError, match="ends early"):
        open_smoke_model(path)


def test_an_unknown_precision_is_refused_with_the_known_ones():
    with pytest.raises(DeviceUnavailable, match="f32, bf16"):
        open_smoke_model(precision="int4")


def test_input_size_is_the_class_default():
    assert SmokeModel.input_size == (384, 640)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_network_opens_by_its_name_and_explains_itself(name):
    model = open_smoke_model(name, validate=False)
    try:
        output = model.predict(random_image())
        assert model.name == name
        assert 0 <= output.image_score <= 1
        assert output.cam.ndim == 2
        assert output.cam.min() >= 0
        assert output.cam.max() <= 1
        assert output.image_score <= output.cam.max() + 1e-3, (
            "the image score is pooled from the map"
        )
    finally:
        model.close()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelFileError, match="there are smoke, smoke-fast"):
        open_smoke_model("smokey")


def test_probabilities_in_the_dark_are_rescaled_to_those_of_the_day(model, monkeypatch):
    image = random_image()
    plain = model(image)
    monkeypatch.setattr(model, "threshold", 0.6)
    monkeypatch.setattr(model, "threshold_dark", 0.3)
    dark = model(image, dark=True)
    assert dark.dtype == np.float32
    np.testing.assert_allclose(dark, np.interp(plain, (0, 0.3, 1), (0, 0.6, 1)), atol=1e-6)
    np.testing.assert_array_equal(model(image), plain)
    monkeypatch.setattr(model, "threshold_dark", 0.6)
    np.testing.assert_array_equal(model(image, dark=True), plain)
