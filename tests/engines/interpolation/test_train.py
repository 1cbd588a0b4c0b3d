"""Samples are correct and repeatable, training resumes, exports match PyTorch."""

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("onnx", reason="exporting needs onnx")

from engines.errors import InaccurateEngine  # noqa: E402  torch decides whether any of it runs
from engines.interpolation import data, dis_interpolation, export, losses, samples, train  # noqa: E402
from engines.interpolation.model import open_interpolator, validation_samples  # noqa: E402
from engines.interpolation.network import GUESSES, DeployedFusionNet, FusionNet  # noqa: E402
from tests.engines.interpolation.scenes import error, pan  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded_and_alone():
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """One decoded clip of a moving camera to learn from."""
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    clip = data.Clip("clips/pan.mp4")
    frames = [data.packed(pan(300, 400, (4, 9), t=t)[1]) for t in np.linspace(0.01, 0.99, 12)]
    np.save(clip.decoded, np.stack(frames))
    monkeypatch.setattr(train, "training_clips", lambda: [clip])
    return [clip]


def test_a_frame_is_packed_and_unpacked():
    planes = pan(90, 120)[0]
    for plane, want in zip(data.planes_of(data.packed(planes)), planes, strict=True):
        np.testing.assert_array_equal(plane, want)


def test_an_image_of_odd_size_becomes_planes():
    image = np.random.default_rng(1).integers(0, 256, (33, 51, 3), dtype=np.uint8)
    assert [plane.shape for plane in data.planes_of(data.from_rgb(image))] == [
        (32, 50),
        (16, 25),
        (16, 25),
    ]


@pytest.mark.data
def test_no_clip_is_on_both_sides_of_the_split():
    ours, theirs = (
        {clip.name for clip in each} for each in (data.training_clips(), data.held_out())
    )
    assert not ours & theirs
    assert len(theirs) >= 6
    assert sum("davis" in name for name in theirs) == 3


def test_a_sample_is_the_same_each_time(clips):
    first, again = (samples.Sampler(clips, 1).sample(5) for _ in range(2))
    np.testing.assert_array_equal(first.differences, again.differences)
    np.testing.assert_array_equal(first.target[0], again.target[0])
    assert 0 < first.t < 1


def test_the_guesses_of_a_pan_are_what_is_wanted():
    before, wanted, after = (data.packed(planes) for planes in pan(256, 256))
    made = samples.prepare([before, wanted, after], 0.5)
    for guess in made.guesses[0]:
        assert error(guess, made.target[0]) < 0.35 * error(before[:256], made.target[0])


def test_weights_add_up_and_the_nearer_frame_weighs_more():
    given = [torch.from_numpy(validation_samples()[1][name]) for name in dis_interpolation.INPUTS]
    with torch.no_grad():
        weights = DeployedFusionNet(FusionNet().eval())(*given)
    assert weights.shape[1] == GUESSES
    assert torch.allclose(weights.sum(1), torch.ones(1))
    assert weights[0, 0].mean() > weights[0, 1].mean()  # t is one quarter


def test_training_learns_from_a_batch(clips):
    sampler = samples.Sampler(clips, 1)
    batch = losses.collate([sampler.sample(number) for number in range(4)])
    network = FusionNet()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    values = []
    for _ in range(12):
        terms = losses.loss_terms(network, batch)
        loss = torch.stack([losses.WEIGHTS[name] * term for name, term in terms.items()]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0]


def test_a_run_resumes_from_its_checkpoint(clips, tmp_path):
    recipe = train.Recipe(minutes=5, batch=2)
    assert train.train(recipe, tmp_path / "run", workers=0, steps=2) == 2
    assert train.train(recipe, tmp_path / "run", workers=0, steps=3) == 3
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3
    assert state["seconds"] > 0
    assert len(state["code"]) == len(state["data"]) == 64


def test_motion_blur_reduces_gradients_along_its_direction():
    still = data.packed(pan(256, 256)[0])
    blurred = samples._motion_blur(still, np.array([12.0, 0.0]))
    down, across = (
        np.abs(np.diff(blurred[:256].astype(int), axis=axis)).mean()
        / np.abs(np.diff(still[:256].astype(int), axis=axis)).mean()
        for axis in (0, 1)
    )
    assert across < 0.75 * down


def test_an_exported_network_opens_and_interpolates(tmp_path):
    path = tmp_path / "small.onnx"
    difference = export.export(FusionNet(), path, metadata={"name": "small"})
    assert difference < export.ALLOWED
    model = open_interpolator(path, precision="f32", validate=False)
    before, wanted, after = pan(128, 192)
    assert model.name == "small"
    made = model.between(before, after).at(0.5)[0]
    assert made.shape == wanted[0].shape
    assert error(made, wanted[0]) < 3  # an untrained network relies on the optical flow
    model.close()


def test_an_export_that_differs_from_pytorch_is_deleted(tmp_path):
    with pytest.raises(InaccurateEngine):
        export.export(FusionNet(), tmp_path / "small.onnx", metadata={}, allowed=-1.0)
    assert not list(tmp_path.iterdir())
