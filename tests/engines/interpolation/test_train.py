"""Samples are what they say, training goes on where it stopped, exports mean the same."""

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("onnx", reason="exporting needs onnx")

from engines.errors import InaccurateEngine  # noqa: E402  torch decides whether any of it runs
from engines.interpolation import data, export, samples, train  # noqa: E402
from engines.interpolation.model import open_interpolator, proof_samples  # noqa: E402
from engines.interpolation.network import GUESSES, DeployedMixer, Mixer  # noqa: E402
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
    monkeypatch.setattr(train, "training", lambda: [clip])
    return [clip]


def test_a_frame_is_packed_and_unpacked():
    planes = pan(90, 120)[0]
    for plane, want in zip(data.planes_of(data.packed(planes)), planes, strict=True):
        np.testing.assert_array_equal(plane, want)


def test_a_picture_of_odd_size_becomes_planes():
    picture = np.random.default_rng(1).integers(0, 256, (33, 51, 3), dtype=np.uint8)
    assert [plane.shape for plane in data.planes_of(data.from_rgb(picture))] == [
        (32, 50),
        (16, 25),
        (16, 25),
    ]


@pytest.mark.data
def test_no_clip_is_on_both_sides_of_the_split():
    ours, theirs = ({clip.name for clip in each} for each in (data.training(), data.held_out()))
    assert not ours & theirs
    assert len(theirs) >= 6
    assert sum("davis" in name for name in theirs) == 3


def test_a_sample_is_the_same_each_time(clips):
    first, again = (samples.Maker(clips, 1).sample(5) for _ in range(2))
    np.testing.assert_array_equal(first.seen, again.seen)
    np.testing.assert_array_equal(first.wanted[0], again.wanted[0])
    assert 0 < first.t < 1


def test_the_guesses_of_a_pan_are_what_is_wanted():
    before, wanted, after = (data.packed(planes) for planes in pan(256, 256))
    made = samples.prepared([before, wanted, after], 0.5)
    for guess in made.guessed[0]:
        assert error(guess, made.wanted[0]) < 0.35 * error(before[:256], made.wanted[0])


def test_shares_add_up_and_the_nearer_picture_weighs_more():
    given = [torch.from_numpy(proof_samples()[1][name]) for name in export.INPUTS]
    with torch.no_grad():
        shares = DeployedMixer(Mixer().eval())(*given)
    assert shares.shape[1] == GUESSES
    assert torch.allclose(shares.sum(1), torch.ones(1))
    assert shares[0, 0].mean() > shares[0, 1].mean()  # t is one quarter


def test_training_learns_from_a_batch(clips):
    maker = samples.Maker(clips, 1)
    batch = train.together([maker.sample(number) for number in range(4)])
    network = Mixer()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        terms = train.terms_of(network, batch)
        loss = torch.stack([train.WEIGHTS[name] * term for name, term in terms.items()]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_a_run_goes_on_where_its_checkpoint_stands(clips, tmp_path):
    recipe = train.Recipe(minutes=5, batch=2)
    assert train.train(recipe, tmp_path / "run", workers=0, steps=2) == 2
    assert train.train(recipe, tmp_path / "run", workers=0, steps=3) == 3
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3
    assert state["spent"] > 0
    assert len(state["code"]) == len(state["data"]) == 64


def test_what_is_exported_opens_and_means_the_same(tmp_path):
    path = tmp_path / "small.onnx"
    network = Mixer()
    assert export.export(network, path, metadata={"name": "small"}) < 1e-4
    model = open_interpolator(path, device="cpu", precision="f32")
    before, wanted, after = pan(128, 192)
    assert model.name == "small"
    assert error(model.between(before, after).at(0.5)[0], wanted[0]) < 3
    model.close()


def test_an_export_that_says_something_else_is_not_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(InaccurateEngine):
        export.export(Mixer(), tmp_path / "small.onnx", metadata={})
    assert not list(tmp_path.iterdir())
