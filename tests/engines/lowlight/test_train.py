"""Curves, losses, training that resumes, and the exported file."""

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("onnx", reason="exporting needs onnx")

import cv2  # noqa: E402  torch decides first whether any of it runs

from engines.common.i420 import i420_to_rgb  # noqa: E402
from engines.lowlight import data, losses, train  # noqa: E402
from engines.lowlight.curves import Adjustment  # noqa: E402
from engines.lowlight.export import export  # noqa: E402
from engines.lowlight.model import open_lowlight_model, validation_samples  # noqa: E402
from engines.lowlight.network import (  # noqa: E402
    POINTS,
    DeployedNetwork,
    LowLightNetwork,
    enhance,
    splines,
    to_rgb,
    to_yuv,
)
from engines.lowlight.still_image import darken  # noqa: E402
from engines.yuv import Yuv  # noqa: E402
from tests.engines.lowlight.scenes import planes, street  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded_and_alone():
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_splines_add_up_and_hold_the_straight_line():
    made = splines()
    at = np.arange(256) / 255
    np.testing.assert_allclose(made.values.sum(1), 1, atol=1e-9)
    np.testing.assert_allclose(made.values @ made.identity, at, atol=1e-6)
    np.testing.assert_allclose(made.slopes @ made.identity, 1, atol=1e-6)


def test_the_slope_of_a_spline_is_its_slope():
    made = splines()
    points = np.sort(np.random.default_rng(1).uniform(0, 1, POINTS))
    curve = made.values @ points
    middle = (curve[2:] - curve[:-2]) * 255 / 2
    np.testing.assert_allclose(middle, (made.slopes @ points)[1:-1], atol=0.05)
    assert (np.diff(curve) >= 0).all()


def output_of(light=0.1):
    image = torch.from_numpy(street(light) / 255).float().expand(1, 3, -1, -1)
    network = LowLightNetwork().eval()
    thumbnail = torch.nn.functional.interpolate(image, size=(96, 160), mode="area")
    return image, network(thumbnail, torch.zeros(1))


def test_curves_rise_whatever_the_weights():
    network = LowLightNetwork().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
        output = network(torch.rand(4, 3, 96, 160), torch.rand(4) * 0.02)
    assert (output.curves.diff(dim=2) >= -1e-6).all()
    assert ((output.curves >= 0) & (output.curves <= 1 + 1e-5)).all()
    assert ((output.exposure >= 0) & (output.exposure <= 1)).all()


def test_training_applies_curves_as_the_program_does():
    image, output = output_of()
    with torch.no_grad():
        trained = enhance(image, output)
    adjustment = Adjustment(
        *(part[0].detach().numpy() for part in (output.curves, output.gains)),
        output.exposure[0, 0].detach().numpy(),
    )
    luma = np.rint(image[0, 0].numpy() * 255).astype(np.uint8)
    grey = np.full((72, 128), 128, np.uint8)
    shown = adjustment.apply(Yuv(luma, (grey, grey), full_range=True)).y
    np.testing.assert_allclose(trained[0, 0].numpy() * 255, shown, atol=2.5)


def test_yuv_and_back():
    image = torch.rand(2, 3, 8, 8)
    assert torch.allclose(to_rgb(*to_yuv(image)), image, atol=1e-5)


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """Six scenes of two exposures, as the training data has them."""
    pairs = []
    for number in range(6):
        day = i420_to_rgb(planes(street(1 - 0.1 * number, seed=number)))
        ref = tmp_path / f"ref{number}.png"
        cv2.imwrite(str(ref), day)
        for light in (0.05, 0.2):
            low = tmp_path / f"low{number}-{light}.png"
            cv2.imwrite(str(low), darken(day, np.random.default_rng(number), light=light))
            pairs.append(data.Pair(low, ref, f"s{number}"))
    monkeypatch.setattr(train, "training_pairs", lambda: pairs)
    monkeypatch.setattr(train, "SIZE", 64)
    return pairs


def test_a_batch_depends_on_its_number_only(scenes):
    recipe = train.Recipe(batch=2)
    batches = train.Batches(scenes, recipe)
    for one, other in zip(batches.batch(7), train.Batches(scenes, recipe).batch(7), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(batches.batch(7)[0], batches.batch(8)[0])
    low, ref, noise = batches.batch(1)
    assert low.shape == ref.shape == (2, 3, 64, 64)
    assert noise.shape == (2,)


def test_a_killed_run_resumes_as_if_it_had_not_been_killed(scenes, tmp_path):
    short = train.Recipe(
        steps=103, batch=1, final=True, without=("contrast",)
    )  # a checkpoint is made every 100
    train.train(short, tmp_path / "whole", check=100)
    stopped = tmp_path / "stopped"
    original = train.Batches.batch

    def until_it_is_killed(self, number):
        if number == 102:
            raise KeyboardInterrupt
        return original(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Batches, "batch", until_it_is_killed)
        with pytest.raises(KeyboardInterrupt):
            train.train(short, stopped, check=100)
    train.train(short, stopped, check=100)
    one, other = (
        torch.load(folder / "checkpoint.pt", weights_only=True)
        for folder in (tmp_path / "whole", stopped)
    )
    assert one["step"] == other["step"] == 103
    assert one["code"] == train.code_digest()
    for name, tensor in one["average"].items():
        assert torch.allclose(tensor, other["average"][name], atol=1e-5), name


def test_steps_on_one_batch_bring_it_nearer(scenes):
    batch = train.Batches(scenes, train.Recipe(batch=4)).batch(0)
    network, features = LowLightNetwork(), train.Features()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    distances = []
    for _ in range(25):
        terms = train.terms_of(network, features, *batch)
        loss = sum(train.WEIGHTS[name] * term for name, term in terms.items())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        distances.append(float(terms["distance"].detach()))
    assert set(terms) == set(train.WEIGHTS)
    assert min(distances[-3:]) < 0.9 * distances[0]


def test_every_term_is_least_where_it_should_be():
    light = torch.full((1, 3, 64, 64), 0.5)
    dark, red = light * 0.1, light * torch.tensor([1, 0.3, 0.3])[:, None, None]
    assert losses.distance(light, light) == 0
    assert losses.structure(light, light) == pytest.approx(0, abs=1e-5)
    assert losses.exposure(light) < losses.exposure(dark)
    assert losses.grey_world(light) < losses.grey_world(red)
    ramp = torch.linspace(0, 0.5, 64).expand(1, 3, 64, 64)
    assert losses.spatial(ramp * 2, ramp) == pytest.approx(0, abs=1e-9)
    assert losses.spatial(light, ramp) > 0
    flat, bumpy = torch.zeros(1, 1, 12, 20), torch.rand(1, 1, 12, 20)
    assert losses.smooth(flat) < losses.smooth(bumpy)
    regions = torch.ones(1, 1, 12, 20)
    assert losses.semantic_brightness(flat, regions) < losses.semantic_brightness(bumpy, regions)
    assert losses.temporal(flat, flat) < losses.temporal(flat, bumpy)


def mean_colour(images):
    return images.mean((2, 3))


def test_contrast_wants_to_be_nearer_to_the_good_than_to_the_bad():
    good, bad = torch.full((2, 3, 8, 8), 0.5), torch.full((2, 3, 8, 8), 0.05)
    near = losses.contrast(mean_colour, good * 1.05, good, bad)
    far = losses.contrast(mean_colour, bad * 1.2, good, bad)
    assert near == 0
    assert far > 0.3


def test_the_exported_network_computes_what_pytorch_computes(tmp_path):
    network = LowLightNetwork().eval()
    path = tmp_path / "lowlight.onnx"
    assert export(network, path, metadata={"name": "lowlight", "version": "0"}) < 1e-3
    model = open_lowlight_model(path, device="cpu", validate=False)
    sample = validation_samples()[1]
    output = model(sample["thumbnail"][0], float(sample["noise"][0]))
    with torch.no_grad():
        want = DeployedNetwork(network)(*map(torch.from_numpy, sample.values()))
    np.testing.assert_allclose(output.curves, want[0][0].numpy(), atol=1e-3)
    model.close()
