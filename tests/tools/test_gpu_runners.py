"""The program's own engine and the bare loop beside it, on simulated GPU and TensorRT."""

from dataclasses import replace

import numpy as np
import pytest
from gpu import runtimes, tensorrt_runner, validating
from gpu.sections import Options, ResultLog
from gpu.speed import one_batch
from gpu.tensorrt_runner import TensorRtRunner

from engines.backends.tensorrt import ErrorLog, Library
from engines.errors import DeviceUnavailable
from engines.plans import provider
from engines.plans.settings import PlanSettings
from engines.registry import find
from engines.spec import Profile
from engines.validation import Tolerance
from tests.engines.plans.test_provider import Compiler
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt
from tests.support.onnx_bytes import metadata, one_node

TOLERANCES = {"f16": Tolerance(0.01, 0.01)}


@pytest.fixture
def machine(monkeypatch):
    return Machine(memory=1 << 20).install(monkeypatch)


@pytest.fixture
def entry(tmp_path):
    """A network of the registry that negates."""
    path = tmp_path / "negative.onnx"
    path.write_bytes(one_node("Neg") + metadata("name", "negative"))

    def samples():
        return [{"x": np.array([[1, 2, 3, 4]], np.float32)}]

    profile = Profile({"x": ((1, 1), (1, 4), (1, 8))})
    return replace(
        find("lowlight"), name="negative", path=path, tolerances=TOLERANCES, samples=samples,
        gpu=PlanSettings(TOLERANCES, samples, (profile,)),
    )  # fmt: skip


@pytest.fixture
def compiler(machine, monkeypatch, tmp_path):
    """Replaces the compiler of TensorRT; TensorRT for RTX is not installed."""
    module = FakeTensorRt(machine)
    installed = Library("tensorrt", module.__version__, module, ErrorLog(module))
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "cache"))

    def library(edition):
        if edition == "rtx":
            raise DeviceUnavailable("TensorRT for RTX (extra `rtx`): not installed")
        return installed

    made = Compiler(installed)
    monkeypatch.setattr(tensorrt_runner, "library", library)
    monkeypatch.setattr(provider, "Compilation", made)
    return made


def test_the_engine_and_the_bare_loop_run_the_same_plan_and_free_everything(
    compiler, machine, entry
):
    runner = TensorRtRunner.open("tensorrt", entry, "f16", 0)
    figures = one_batch(runner, entry, 1, Options(quick=True, seconds=0.02))
    assert figures["bare_per_s"] > 0
    assert figures["of_bare"] > 0
    runner.close()
    assert not any(machine.live.values()), machine.live


def test_a_plan_is_built_once_and_found_after_that(compiler, entry):
    for _ in range(2):
        TensorRtRunner.open("tensorrt", entry, "f16", 0).close()
    assert compiler.builds == 1


@pytest.mark.parametrize("off_by", [0.0, 1.0])
def test_plans_are_compared_with_the_reference_and_a_missing_edition_is_reported(
    compiler, entry, monkeypatch, tmp_path, off_by
):
    compiler.off_by = off_by
    monkeypatch.setattr(runtimes, "entries", lambda options: [entry])
    results = ResultLog(tmp_path / "notes.json")
    options = Options(device="cuda", runtimes=("tensorrt", "tensorrt-rtx"))
    validating.run(options, results)
    assert len(results.problems) == 1
    assert "TensorRT for RTX (extra `rtx`): not installed" in results.problems[0]
    assert {row["reached"] for row in results.rows} == {off_by == 0}
