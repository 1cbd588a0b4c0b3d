"""A training run: EMA, schedule, checkpoint, resume."""

import json

import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="training needs torch")

from torch import nn  # noqa: E402  torch decides first whether any of it runs

from engines.common.training import (  # noqa: E402
    TrainingRun,
    code_digest,
    cosine_schedule,
    update_ema,
)

STEPS = 40


def run_in(folder):
    torch.manual_seed(5)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05)
    schedule = cosine_schedule(lambda step, _: step / STEPS, warmup_steps=5, floor=0.01)
    return TrainingRun(
        network, optimizer, folder, schedule=schedule, max_gradient_norm=1.0, average_buffers=True
    )


def step(run):
    torch.manual_seed(run.step)
    x = torch.randn(8, 3)
    loss = (run.network.train()(x)[:, 0] - x.sum(1)).square().mean()
    run.optimize(loss, {"loss": loss})


def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path):
    whole, stopped = run_in(tmp_path / "whole"), run_in(tmp_path / "stopped")
    for _ in range(20):
        step(whole)
    for _ in range(12):
        step(stopped)
    stopped.save(code="c")
    resumed = run_in(tmp_path / "stopped")
    assert resumed.resumed
    assert resumed.step == 12
    for _ in range(8):
        step(resumed)
    for one, other in zip(
        [*whole.network.state_dict().values(), *whole.average.state_dict().values()],
        [*resumed.network.state_dict().values(), *resumed.average.state_dict().values()],
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_the_log_holds_means_since_the_last_line(tmp_path):
    run = run_in(tmp_path)
    for _ in range(3):
        step(run)
    assert run.log(score=0.5)["step"] == 3
    step(run)
    run.log()
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert first["score"] == 0.5
    assert {"loss", "gradient", "ms_per_step"} <= second.keys()


def test_only_a_better_score_replaces_the_best_weights(tmp_path):
    run = run_in(tmp_path)
    run.save_if_best(0.5, code="a")
    run.save_if_best(0.4, code="b")
    assert torch.load(tmp_path / "best.pt", weights_only=True)["code"] == "a"


def test_the_ema_follows_fast_at_first_and_slowly_later_and_copies_counters():
    update = update_ema(0.998)
    for count, keep in ((1, 2 / 11), (100_000, 0.998)):
        average, current = [torch.zeros(2)], [torch.ones(2)]
        update(average, current, count)
        torch.testing.assert_close(average[0], torch.full((2,), 1 - keep))
    counters = [torch.tensor(3)]
    update(counters, [torch.tensor(7)], 5)
    assert counters[0] == 7


def test_the_schedule_warms_up_and_falls_to_its_floor():
    factor = cosine_schedule(lambda step, _: step / 1000, warmup_steps=100, floor=0.01)
    assert factor(0, 0.0) == pytest.approx(0.01)
    assert factor(99, 0.0) == pytest.approx(0.976, abs=1e-3)
    assert factor(1000, 0.0) == 0.01
    by_time = cosine_schedule(lambda _, seconds: seconds / 60, warmup_steps=1, floor=0.01)
    assert by_time(500, 30.0) == pytest.approx(0.5)


def test_the_code_digest_ignores_comments_and_layout(tmp_path):
    (tmp_path / "a.py").write_text("x = 1  # one\n")
    first = code_digest(tmp_path, ["a.py"])
    (tmp_path / "a.py").write_text("\nx   =   1\n")
    assert code_digest(tmp_path, ["a.py"]) == first
    (tmp_path / "a.py").write_text("x = 2\n")
    assert code_digest(tmp_path, ["a.py"]) != first
