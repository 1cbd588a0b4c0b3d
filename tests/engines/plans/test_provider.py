"""A plan is checked on the GPU before it is used, and a passed check is recorded."""

import threading

import numpy as np
import pytest

from engines import loading
from engines.backends import cuda, tensorrt
from engines.backends.tensorrt import ErrorLog, Library
from engines.engine import EngineState
from engines.errors import (
    BuildStopped,
    DeviceUnavailable,
    EngineError,
    InaccurateEngine,
    OutOfDeviceMemory,
    UnsupportedLayer,
)
from engines.loading import cpu_precision, find_gpu, gpu_problem, load_on_gpu
from engines.modelfile import read_model_file
from engines.plans import provider
from engines.plans.builder import Progress, key_of
from engines.plans.cache import Plan, PlanCache
from engines.plans.provider import PlanProvider
from engines.plans.settings import PlanSettings
from engines.spec import Profile, Target
from engines.validation import Tolerance
from tests.support import fake_tensorrt
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt
from tests.support.onnx_bytes import metadata, one_node

SHAPES = {"x": ((1, 1), (1, 4), (1, 8))}
X = np.arange(4, dtype=np.float32)[None]
STRICT = Tolerance(largest=1e-3, mean=1e-3)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "negative.onnx"
    path.write_bytes(one_node("Neg") + metadata("name", "negative"))
    return read_model_file(path)


@pytest.fixture
def machine(monkeypatch):
    return Machine().install(monkeypatch)


@pytest.fixture
def library(machine, monkeypatch):
    module = FakeTensorRt(machine)
    found = Library("rtx", module.__version__, module, ErrorLog(module))
    monkeypatch.setattr(tensorrt, "library", lambda edition=None: found)
    return found


@pytest.fixture
def samples():
    return [{"x": X}]


@pytest.fixture
def settings(samples):
    return PlanSettings(
        {"f32": STRICT, "f16": STRICT}, lambda: samples, (Profile(SHAPES),), ({"x": (1, 4)},)
    )


class Compiler:
    """Replaces a build in another process; see `engines.plans.build_process`."""

    def __init__(self, library):
        self.library = library
        self.builds = 0
        self.off_by = 0.0
        self.error = None
        self.between = None

    def __call__(self, model, target, cache, *, edition, gpu):
        self.builds += 1
        self.gpu = gpu
        self._model, self._target, self._cache = model, target, cache
        return self

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        pass

    def progress(self):
        for share in (0.1, 0.9):
            if self.between is not None:
                self.between()
            yield Progress(share, "building", 1.0, None)
        if self.error is not None:
            raise self.error
        profiles = [dict(profile.shapes) for profile in self._target.profiles]
        content = fake_tensorrt.plan(self._model.content, profiles, off_by=self.off_by)
        self._cache.put(Plan(content, key_of(self._model, self.library, self._target)))


@pytest.fixture
def compiler(library, monkeypatch):
    made = Compiler(library)
    monkeypatch.setattr(provider, "Compilation", made)
    return made


@pytest.fixture
def provide(model, settings, library, compiler):
    def made(**options):
        return PlanProvider(model, settings, library=library, gpu=cuda.gpu(), **options)

    return made


def build(made):
    progress = []
    return made.build(progress.append, threading.Event()), progress


def test_a_plan_is_built_checked_warmed_up_and_then_ready(provide, compiler):
    first = provide()
    assert first.ready() is None
    assert not first.is_checked()
    engine, progress = build(first)
    assert (progress, compiler.gpu) == ([0.1, 0.9], 0)
    assert engine.is_ready({"x": (1, 4)})
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], -X)
    engine.close()
    assert provide().is_checked()
    again = provide().ready()
    assert again.state == EngineState("cuda:0")
    assert again.is_ready({"x": (1, 4)})
    again.close()
    assert compiler.builds == 1


def test_an_inaccurate_plan_is_not_used_and_not_ready_at_the_next_start(provide, compiler, machine):
    compiler.off_by = 0.5
    for _ in range(2):
        with pytest.raises(InaccurateEngine, match=r"up to 0\.5000 .* allowed are 0\.001"):
            build(provide())
        assert provide().ready() is None
    assert compiler.builds == 1
    assert not any(machine.live.values())


def put(model, library, target, **facts):
    key = key_of(model, library, target)
    PlanCache().put(Plan(fake_tensorrt.plan(model.content, [SHAPES], **facts), key))


def target(settings, driver):
    return Target("sm89", "f16", settings.profiles, driver)


def test_a_plan_without_a_check_is_checked_without_building_it(
    provide, compiler, model, settings, library
):
    put(model, library, target(settings, None))
    assert provide().ready() is None
    build(provide())[0].close()
    assert compiler.builds == 0
    provide().ready().close()


def test_a_failed_check_of_one_plan_does_not_let_another_run_in_its_place(
    provide, compiler, model, settings, library
):
    """Two plans serve one key: one compiled here, one compiled elsewhere for any driver."""
    put(model, library, target(settings, None))
    build(provide())[0].close()
    assert provide().is_checked()
    put(model, library, target(settings, cuda.gpu().driver_major), off_by=0.5)
    assert not provide().is_checked()
    assert provide().ready() is None
    with pytest.raises(InaccurateEngine):
        build(provide())
    assert provide().ready() is None


def test_a_check_is_repeated_after_an_update_of_the_driver(provide, monkeypatch):
    monkeypatch.setattr(cuda.gpu(), "driver", "13.1")
    build(provide())[0].close()
    assert provide().is_checked()
    monkeypatch.setattr(cuda.gpu(), "driver", "13.2")
    assert not provide().is_checked()


def test_a_check_is_repeated_with_other_samples(provide, samples):
    build(provide())[0].close()
    samples[0] = {"x": X + 1}
    assert not provide().is_checked()


def test_a_check_is_repeated_if_todays_tolerance_is_stricter(provide, settings, compiler):
    compiler.off_by = 5e-4
    build(provide())[0].close()
    settings.tolerances["f16"] = Tolerance(largest=1e-4, mean=1e-4)
    assert provide().ready() is None
    with pytest.raises(InaccurateEngine):
        build(provide())


def test_a_damaged_or_foreign_plan_is_built_again(provide, compiler, model, settings, library):
    build(provide())[0].close()
    (path,) = PlanCache().folder.glob("*.plan")
    path.write_bytes(path.read_bytes()[:-1])
    assert provide().ready() is None
    build(provide())[0].close()
    put(model, library, target(settings, cuda.gpu().driver_major), version="9")
    build(provide())[0].close()
    assert compiler.builds == 3


@pytest.mark.parametrize("error", [UnsupportedLayer("layer 'crop'"), OutOfDeviceMemory("full")])
def test_a_build_that_fails_says_why(provide, compiler, error):
    compiler.error = error
    with pytest.raises(type(error), match=str(error)):
        build(provide())


def test_a_stopped_build_ends(provide, compiler):
    stop = threading.Event()
    compiler.between = stop.set
    with pytest.raises(BuildStopped):
        provide().build(lambda progress: None, stop)


def test_a_stopped_check_ends_between_two_samples(provide, library, machine):
    stop = threading.Event()
    library.module.before_run = lambda given: stop.set()
    with pytest.raises(BuildStopped):
        provide().build(lambda progress: None, stop)
    assert not any(machine.live.values())


def opened(model, settings, device="auto", precision=None):
    runtime = find_gpu(device, precision)
    return runtime and load_on_gpu(model, runtime, settings, precision=precision)


def wait(engine):
    """Wait until the plan is in use or cannot be had."""
    with engine._work:
        assert engine._work.wait_for(lambda: engine._building is None, 10)


def test_auto_starts_on_the_cpu_and_changes_over_to_the_gpu(model, settings, compiler):
    gate = threading.Event()
    compiler.between = lambda: gate.wait(10)
    engine = opened(model, settings)
    assert engine.state.device == "cpu"
    assert " cpu f32" in engine.backend
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], -X)
    gate.set()
    wait(engine)
    assert engine.state == EngineState("cuda:0")
    assert engine.backend.endswith("sm89 f16")
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], -X)
    engine.close()


def test_closing_frees_the_gpu(model, settings, compiler, machine):
    engine = opened(model, settings)
    wait(engine)
    engine.infer({"x": X})
    engine.close()
    assert not any(machine.live.values())


def test_a_gpu_is_selected_by_index_and_a_missing_one_is_an_error(
    model, settings, compiler, machine
):
    machine.gpus = 2
    engine = opened(model, settings, device="cuda:1")
    wait(engine)
    assert engine.state == EngineState("cuda:1")
    engine.close()
    with pytest.raises(DeviceUnavailable, match="no GPU 2"):
        find_gpu("cuda:2")


def test_the_cpu_uses_no_gpu(monkeypatch):
    monkeypatch.setattr(cuda, "gpu", None)
    assert find_gpu("cpu") is None


def test_without_a_gpu_auto_is_the_cpu_and_an_unusable_gpu_is_reported(monkeypatch, tmp_path):
    Machine(gpus=0).install(monkeypatch)
    monkeypatch.setattr(loading, "_GPU_DEVICE_FILES", (str(tmp_path / "none"),))
    assert find_gpu("auto") is None
    assert gpu_problem("auto") == ""
    monkeypatch.setattr(loading, "_GPU_DEVICE_FILES", (str(tmp_path),))
    assert "no CUDA-capable device" in gpu_problem("auto")
    assert gpu_problem("cpu") == ""
    with pytest.raises(DeviceUnavailable, match="no CUDA-capable device"):
        find_gpu("cuda")


def test_bf16_with_a_cuda_device_is_refused_before_anything_is_built(model, settings, compiler):
    with pytest.raises(DeviceUnavailable, match="f32 and f16, not bf16"):
        opened(model, settings, device="cuda", precision="bf16")
    assert opened(model, settings, device="auto", precision="bf16") is None
    assert compiler.builds == 0


def test_a_precision_without_a_tolerance_is_refused_before_anything_is_built(
    model, settings, compiler
):
    del settings.tolerances["f16"]
    with pytest.raises(EngineError, match="runs in f32, not in f16"):
        opened(model, settings, precision="f16")
    assert compiler.builds == 0


@pytest.mark.parametrize(
    ("precision", "device", "on_cpu"),
    [("f16", "auto", None), ("f16", "cpu", "f16"), ("bf16", "auto", "bf16"), (None, "cpu", None)],
)
def test_beside_a_gpu_f16_is_f32_on_the_cpu(precision, device, on_cpu):
    assert cpu_precision(precision, device) == on_cpu
