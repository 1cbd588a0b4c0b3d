"""Training steps, stops, goes on, and what it made is exported as it is."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("onnx", reason="exporting needs onnx")

from engines.engine import open_reference  # noqa: E402  torch decides first whether any of it runs
from engines.errors import InaccurateEngine  # noqa: E402
from engines.smoke import export as room  # noqa: E402
from engines.smoke.export import export  # noqa: E402
from engines.smoke.model import open_smoke_model  # noqa: E402
from engines.smoke.network import DeployedNetwork, SmokeNetwork  # noqa: E402
from engines.smoke.synthesis import SampleMaker  # noqa: E402
from engines.smoke.train import (  # noqa: E402
    Recipe,
    Stream,
    Training,
    code_digest,
    draw_curves,
    loss_of,
)
from tests.engines.smoke.test_data import densities, stills  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded_and_alone():
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other on busy cores are slower
    yield
    torch.set_num_threads(threads)


def batches(count, *, first=0):
    maker = SampleMaker(stills(), densities(), size=(64, 96), seed=1)
    stream = Stream(maker, first=first * 4, count=count * 4)
    return torch.utils.data.DataLoader(stream, batch_size=4)


def test_a_few_steps_lower_the_loss_and_leave_a_checkpoint(tmp_path):
    run = Training(Recipe(steps=60, batch=4, height=64, width=96), tmp_path, begin=None)
    (batch,) = batches(1)
    losses = [run.learn(batch)["loss"] for _ in range(12)]
    assert all(map(np.isfinite, losses))
    assert min(losses[-3:]) < losses[0]
    run.save(data="d", code="c")
    again = Training(Recipe(steps=60, batch=4, height=64, width=96), tmp_path, begin=None)
    assert again.step == 12
    for mine, theirs in zip(
        run.average.state_dict().values(), again.average.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
    again.learn(batch)


def test_a_run_that_goes_on_sees_what_it_would_have_seen():
    through, after = list(batches(3)), list(batches(1, first=2))
    for mine, theirs in zip(through[2], after[0], strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_loss_prefers_the_truth_and_hears_labels_without_masks():
    target = torch.zeros(2, 32, 32)
    target[0, 10:14, 10:14] = 1
    known, smoke = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    right = torch.where(target > 0.5, 6.0, -6.0)[:, None]
    right[1] = 6.0
    picture = torch.full((2,), 6.0)
    best, _ = loss_of(right, picture, target, known, smoke)
    for wrong in (torch.full_like(right, -6.0), torch.full_like(right, 6.0)):
        worse, _ = loss_of(wrong, picture, target, known, smoke)
        assert worse > best + 0.3
    silent = right.clone()
    silent[1] = -6.0
    assert loss_of(silent, picture, target, known, smoke)[0] > best + 1


FACTS = {"name": "smoke", "threshold": "0.4"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network and its file. Of the module: the exporter keeps a thread for its next use."""
    network, path = SmokeNetwork(), tmp_path_factory.mktemp("export") / "smoke.onnx"
    assert export(network, path, metadata=FACTS) < 1e-3
    return network, path


def test_the_exported_network_says_what_pytorch_says(exported):
    network, path = exported
    engine = open_reference(path)
    assert engine.spec.metadata == FACTS
    random = np.random.default_rng(1)
    image, background = random.integers(0, 256, (2, 1, 96, 160, 3), dtype=np.uint8)
    flag = np.ones(1, np.float32)
    with torch.no_grad():
        want, picture = DeployedNetwork(network).eval()(
            *map(torch.from_numpy, (image, background, flag))
        )
    got = engine.infer({"image": image, "background": background, "has_background": flag})
    np.testing.assert_allclose(got["mask"], want.numpy(), atol=1e-4)
    np.testing.assert_allclose(got["picture"], picture.numpy(), atol=1e-4)
    model = open_smoke_model(path, device="cpu", prove=False)
    assert model.threshold == 0.4
    np.testing.assert_allclose(model(image[0], background[0]), want.numpy()[0], atol=1e-3)


def test_an_export_that_differs_is_not_kept(tmp_path, monkeypatch, exported):
    monkeypatch.setattr(room, "difference", lambda *_: 0.5)
    with pytest.raises(InaccurateEngine, match=r"0\.5"):
        export(exported[0], tmp_path / "smoke.onnx", metadata={})
    assert list(tmp_path.iterdir()) == []


def test_without_a_background_its_content_does_not_matter():
    deployed = DeployedNetwork(SmokeNetwork()).eval()
    image, one, other = torch.randint(0, 256, (3, 1, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        masks = [deployed(image, background, torch.zeros(1))[0] for background in (one, other)]
    torch.testing.assert_close(masks[0], masks[1])


def test_the_network_is_small():
    assert sum(weight.numel() for weight in SmokeNetwork().parameters()) <= 500_000


def test_the_code_digest_is_about_code():
    assert len(code_digest()) == 64
    assert code_digest() == code_digest()


def test_the_learning_curve_is_drawn(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [{"step": 100, "loss": 2.0}, {"step": 200, "loss": 1.0, "iou": 0.3, "clear": 0.1}]
    log.write_text("\n".join(map(json.dumps, lines)))
    draw_curves(log, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
