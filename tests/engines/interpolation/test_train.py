"""Samples are what they say, training goes on where it stopped, exports mean the same."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("onnx", reason="exporting needs onnx")

from engines.errors import InaccurateEngine  # noqa: E402  torch decides whether any of it runs
from engines.interpolation import data, dis_interpolation, export, samples, train  # noqa: E402
from engines.interpolation.flow_network import network as whole  # noqa: E402
from engines.interpolation.model import open_interpolator, validation_samples  # noqa: E402
from engines.interpolation.network import GUESSES, DeployedFusionNet, FusionNet  # noqa: E402
from tests.engines.interpolation.scenes import error, pan  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded_and_alone(monkeypatch):
    monkeypatch.setattr(whole, "TURNS", (1, 1, 1, 1, 1))  # the shipped 21 take minutes to open
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


@pytest.mark.parametrize(("name", "rate"), [("fusion", 2e-3), ("flow", 1e-3)])
def test_training_learns_from_a_batch(clips, name, rate):
    task, sampler = train.TASKS[name](), samples.Sampler(clips, 1)
    batch = task.collate([task.prepare(*sampler.frames(number)) for number in range(4)])
    network = task.network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate)
    losses = []
    for _ in range(12):
        terms = task.terms(network, batch)
        loss = torch.stack([task.weights[name] * term for name, term in terms.items()]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["fusion", "flow"])
def test_a_run_goes_on_where_its_checkpoint_stands(clips, tmp_path, name):
    recipe = train.Recipe(network=name, minutes=5, batch=2)
    assert train.train(recipe, tmp_path / "run", workers=0, steps=2) == 2
    assert train.train(recipe, tmp_path / "run", workers=0, steps=3) == 3
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3
    assert state["seconds"] > 0
    assert len(state["code"]) == len(state["data"]) == 64


def test_what_is_taught_of_a_pan_is_the_pan(clips):
    task = train.TASKS["flow"]()
    before, wanted, after = (data.packed(planes) for planes in pan(256, 256, (4, 10)))
    sample = task.prepare([before, wanted, after], 0.5)
    inside = sample.taught[12:-12, 12:-12].reshape(-1, 4)
    way = np.array([5, 2, -5, -2]) / 4  # (x, y) half the way, seen at a quarter of the size
    assert np.abs(np.abs(np.median(inside, 0)) - np.abs(way)).max() < 0.1
    assert sample.trust[12:-12, 12:-12].mean() > 0.6


def test_a_smeared_window_loses_slopes_along_its_way():
    still = data.packed(pan(256, 256)[0])
    blurred = samples._motion_blur(still, np.array([12.0, 0.0]))
    down, across = (
        np.abs(np.diff(blurred[:256].astype(int), axis=axis)).mean()
        / np.abs(np.diff(still[:256].astype(int), axis=axis)).mean()
        for axis in (0, 1)
    )
    assert across < 0.75 * down


def test_the_structure_tensor_asks_for_the_step_that_was_made():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    waves = [
        torch.sin(x / 5 + 0.3) + torch.cos(y / 4),
        torch.sin((x - 0.5) / 5 + 0.3) + torch.cos((y + 0.3) / 4),
    ]
    before, after = (wave[None, None] for wave in waves)
    step = whole.tensor_step(before, after, (11,))[0, :2, 12:-12, 12:-12]
    assert torch.allclose(step.mean((1, 2)), torch.tensor([0.5, -0.3]), atol=0.1)


def test_the_background_of_a_pan_with_something_crossing_is_the_pan():
    motion = torch.full((1, 2, 64, 96), 3.0)
    motion[:, :, 20:36, 30:50] = -9.0
    assert torch.allclose(whole.background(motion), torch.full((1, 2, 64, 96), 3.0), atol=0.2)


def test_the_cost_volume_peaks_where_the_other_frame_went():
    features = torch.nn.functional.normalize(torch.randn(1, 24, 20, 30), dim=1)
    moved = torch.roll(features, (1, -2), (2, 3))  # one down, two to the left
    found = whole.likeness(features, moved)[0, :, 4:-4, 4:-4].mean((1, 2))
    assert int(found.argmax()) == (2 + 1) * 5 + (2 - 2)


def test_blur_of_one_frame_points_along_it():
    before = torch.randn(1, 1, 64, 64)
    after = torch.nn.functional.avg_pool2d(before, (1, 5), 1, (0, 2))
    blur = whole.blur_apart(before * 0.2, after * 0.2)[0]
    assert blur[0, 0] > 0.2
    assert abs(float(blur[0, 1])) < 0.1
    assert torch.allclose(blur[0, 0], -blur[1, 1])


@pytest.mark.parametrize("name", ["fusion", "flow"])
def test_what_is_exported_opens_and_means_the_same(tmp_path, name):
    path, kind = tmp_path / "small.onnx", export.KINDS[name]
    network = kind.network()
    assert export.export(network, path, metadata={"name": "small"}, kind=kind) < kind.allowed
    model = open_interpolator(path, precision="f32", prove=False)
    before, wanted, after = pan(128, 192)
    assert model.name == "small"
    made = model.between(before, after).at(0.5)[0]
    assert made.shape == wanted[0].shape
    if name == "fusion":  # what has learnt nothing believes the search
        assert error(made, wanted[0]) < 3
    model.close()


def test_an_export_that_says_something_else_is_not_left_behind(tmp_path):
    kind = replace(export.FUSION, allowed=-1.0)
    with pytest.raises(InaccurateEngine):
        export.export(FusionNet(), tmp_path / "small.onnx", metadata={}, kind=kind)
    assert not list(tmp_path.iterdir())
