"""The program's own engine and the bare loop beside it, on the fakes of GPU and TensorRT."""

from dataclasses import replace

import numpy as np
import pytest
from gpu import building, runtimes, tensorrt_runner
from gpu.sections import Options, ResultLog
from gpu.speed import one_batch
from gpu.tensorrt_runner import TensorRtRunner

from engines.backends.tensorrt import ErrorLog, Library
from engines.errors import DeviceUnavailable, EngineError
from engines.plans.cache import Plan, Profile
from engines.registry import find
from tests.support import fake_tensorrt
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt
from tests.support.onnx_bytes import metadata, one_node

SIZES = {"x": ((1, 1), (1, 4), (1, 8))}


@pytest.fixture
def machine(monkeypatch):
    return Machine(memory=1 << 20).install(monkeypatch)


@pytest.fixture
def entry(tmp_path):
    """A catalogue's network that negates."""
    path = tmp_path / "negative.onnx"
    path.write_bytes(one_node("Neg") + metadata("name", "negative"))
    x = np.array([[1, 2, 3, 4]], np.float32)
    return replace(
        find("lowlight"), name="negative", path=path, keep_f32=(), profiles=(Profile(SIZES),),
        samples=lambda: [{"x": x}],
    )  # fmt: skip


@pytest.fixture
def trt(machine, entry, monkeypatch, tmp_path):
    """A TensorRT whose compiler copies the network into a plan; `built` counts how often."""
    module = FakeTensorRt(machine)
    module.built = 0
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "cache"))

    def library(edition):
        if edition == "rtx":
            raise DeviceUnavailable("TensorRT for RTX (extra `rtx`): not installed")
        return Library("tensorrt", module.__version__, module, ErrorLog(module))

    def build(model, found, target, **_):
        module.built += 1
        content = fake_tensorrt.plan(model.content, [SIZES], off_by=module.off_by)
        return Plan(content, tensorrt_runner.key_of(model, found, target), {"seconds": 1.5})

    module.off_by = 0.0
    monkeypatch.setattr(tensorrt_runner, "library", library)
    monkeypatch.setattr("engines.backends.tensorrt.library", library)
    monkeypatch.setattr(tensorrt_runner, "build", build)
    return module


def test_the_engine_and_the_bare_loop_run_the_same_plan_and_give_everything_back(
    trt, machine, entry
):
    runner = TensorRtRunner.open("tensorrt", entry, "f16", 0)
    figures = one_batch(runner, entry, 1, Options(quick=True, seconds=0.02))
    assert figures["bare_per_s"] > 0
    assert figures["of_bare"] > 0
    runner.close()
    assert not any(machine.live.values()), machine.live


def test_a_plan_is_built_once_and_found_after_that(trt, entry):
    for _ in range(2):
        TensorRtRunner.open("tensorrt", entry, "f16", 0).close()
    assert trt.built == 1


def test_the_bare_loop_refuses_a_size_that_the_plan_was_not_made_for(trt, entry):
    runner = TensorRtRunner.open("tensorrt", entry, "f16", 0)
    with pytest.raises(EngineError, match="not made for"):
        runner.bare({"x": np.zeros((1, 9), np.float32)})
    runner.close()


@pytest.mark.usefixtures("machine")
def test_a_edition_that_is_not_installed_is_said_before_anything_else(trt, entry):
    with pytest.raises(DeviceUnavailable, match="RTX"):
        TensorRtRunner.open("rtx", entry, "f16", 0)


@pytest.mark.parametrize("off_by", [0.0, 1.0])
def test_built_plans_are_proven_and_the_missing_edition_is_told(
    trt, entry, monkeypatch, tmp_path, off_by
):
    trt.off_by = off_by
    monkeypatch.setattr(runtimes, "entries", lambda options: [entry])
    notebook = ResultLog(tmp_path / "notes.json")
    building.run(Options(device="cuda"), notebook)
    assert notebook.problems == ["rtx: TensorRT for RTX (extra `rtx`): not installed"]
    assert {row["reached"] for row in notebook.rows} == {off_by == 0}
    assert "1.5 s" in notebook.rows[0]["figure"]
