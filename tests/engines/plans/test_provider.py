"""A plan is proven on the GPU before anybody relies on it, and what passed is not proven again."""

import threading

import numpy as np
import pytest

from engines import loading
from engines.backends import cuda, tensorrt
from engines.backends.tensorrt import ErrorLog, Library
from engines.engine import EngineState
from engines.errors import DeviceUnavailable, InaccurateEngine, OutOfDeviceMemory, UnsupportedLayer
from engines.loading import load_validated_engine
from engines.modelfile import read_model_file
from engines.plans import provider
from engines.plans.builder import BuildStopped, Progress, key_of
from engines.plans.cache import Plan, PlanCache, Profile
from engines.plans.provider import PlanProvider
from engines.registry import RegistryEntry
from engines.validation import Tolerance
from tests.support import fake_tensorrt
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt
from tests.support.onnx_bytes import metadata, one_node

SIZES = {"x": ((1, 1), (1, 4), (1, 8))}
X = np.arange(4, dtype=np.float32)[None]
STRICT = Tolerance(largest=1e-3, mean=1e-3)
TOLERANCES = {"f32": STRICT, "f16": STRICT, "int8": STRICT}


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
def entry(model):
    return RegistryEntry(
        name="negative",
        task="to test",
        path=model.path,
        precision="f32",
        tolerances={"f32": STRICT, "f16": STRICT},
        samples=lambda: [{"x": X}],
        profiles=(Profile(SIZES),),
    )


class Compiler:
    """Stands for a build in a process of its own; see `engines.plans.build_process`."""

    def __init__(self, library):
        self.library = library
        self.builds = 0
        self.off_by = 0.0
        self.error = None
        self.between = None

    def __call__(self, model, target, store, *, edition, gpu):
        self.builds += 1
        self.gpu = gpu
        self._model, self._target, self._store = model, target, store
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
        self._store.put(Plan(content, key_of(self._model, self.library, self._target)))


@pytest.fixture
def compiler(library, monkeypatch):
    made = Compiler(library)
    monkeypatch.setattr(provider, "Compilation", made)
    return made


@pytest.fixture
def prepare(model, entry, library, compiler):
    def made(**settings):
        return PlanProvider(model, entry, library=library, gpu=cuda.gpu(), **settings)

    return made


def build(preparer):
    shares = []
    return preparer.build(shares.append, threading.Event()), shares


def test_a_plan_is_built_on_the_gpu_that_it_is_for(prepare, compiler):
    prepare().build(lambda share: None, threading.Event()).close()
    assert compiler.gpu == 0


def test_a_plan_is_built_proven_and_then_found_ready(prepare, compiler):
    first = prepare()
    assert first.ready() is None
    engine, shares = build(first)
    assert shares == [0.1, 0.9]
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], -X)
    engine.close()
    again = prepare().ready()
    assert again.state == EngineState("cuda:0")
    again.close()
    assert compiler.builds == 1


def test_a_plan_too_far_from_the_reference_is_not_used_and_not_taken_for_ready(
    prepare, compiler, machine
):
    compiler.off_by = 0.5
    with pytest.raises(InaccurateEngine, match=r"up to 0\.5000 .* allowed are 0\.001"):
        build(prepare())
    assert prepare().ready() is None
    assert not any(machine.live.values())


def test_a_plan_that_nobody_proved_is_proven_without_building_it(
    prepare, compiler, model, entry, library
):
    key = key_of(model, library, entry.target("sm89", driver=None))
    PlanCache().put(Plan(fake_tensorrt.plan(model.content, [SIZES]), key))
    assert prepare().ready() is None
    build(prepare())[0].close()
    assert compiler.builds == 0
    prepare().ready().close()


def test_a_proof_that_is_too_weak_by_todays_tolerance_is_made_again(prepare, entry, compiler):
    compiler.off_by = 5e-4
    build(prepare())[0].close()
    entry.tolerances["f16"] = Tolerance(largest=1e-4, mean=1e-4)
    assert prepare().ready() is None
    with pytest.raises(InaccurateEngine):
        build(prepare())


def test_a_damaged_or_foreign_plan_is_built_anew(prepare, compiler, model, entry, library):
    build(prepare())[0].close()
    (path,) = PlanCache().folder.glob("*.plan")
    path.write_bytes(path.read_bytes()[:-1])
    assert prepare().ready() is None
    build(prepare())[0].close()
    foreign = fake_tensorrt.plan(model.content, [SIZES], version="9")
    key = key_of(model, library, entry.target("sm89", driver=cuda.gpu().driver_major))
    PlanCache().put(Plan(foreign, key))
    build(prepare())[0].close()
    assert compiler.builds == 3


def test_an_older_plan_is_one_that_passed_on_this_gpu(prepare, compiler, entry, monkeypatch):
    build(prepare())[0].close()
    wider = (Profile({"x": ((1, 1), (1, 4), (1, 16))}),)
    object.__setattr__(entry, "profiles", wider)
    newer = prepare()
    assert newer.ready() is None
    older = newer.older()
    np.testing.assert_array_equal(older.infer({"x": X})["y"], -X)
    assert not older.accepts({"x": (1, 16)})
    older.close()


@pytest.mark.parametrize("error", [UnsupportedLayer("layer 'crop'"), OutOfDeviceMemory("full")])
def test_a_build_that_fails_says_why(prepare, compiler, error):
    compiler.error = error
    with pytest.raises(type(error), match=str(error)):
        build(prepare())


def test_a_build_that_is_not_wanted_any_more_ends(prepare, compiler):
    stop = threading.Event()
    compiler.between = stop.set
    with pytest.raises(BuildStopped):
        prepare().build(lambda share: None, stop)


def test_a_proof_that_is_not_wanted_any_more_ends_between_two_samples(
    prepare, entry, library, machine
):
    stop = threading.Event()
    seen = []

    def count(given):
        seen.append(given["x"].shape)
        stop.set()

    library.module.before_run = count
    with pytest.raises(BuildStopped):
        prepare().build(lambda share: None, stop)
    assert len(seen) == 1
    assert not any(machine.live.values())


@pytest.fixture
def known(entry, monkeypatch):
    monkeypatch.setattr("engines.registry.entry_of", lambda spec: entry)


def opened(model, **settings):
    asked = {"device": "auto", "precision": None, **settings}
    return load_validated_engine(model, samples=lambda: [{"x": X}], tolerances=TOLERANCES, **asked)


def test_auto_begins_on_the_cpu_and_goes_over_to_the_gpu(model, known, compiler):
    gate = threading.Event()
    compiler.between = lambda: gate.wait(10)
    engine = opened(model)
    assert engine.state.device == "cpu"
    assert " cpu f32" in engine.backend
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], -X)
    gate.set()
    engine._thread.join(10)
    assert engine.state == EngineState("cuda:0")
    assert engine.backend.endswith("sm89 f16")
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], -X)
    engine.close()


def test_closing_everything_gives_the_gpu_back(model, known, compiler, machine):
    engine = opened(model)
    engine._thread.join(10)
    engine.infer({"x": X})
    engine.close()
    assert not any(machine.live.values())


def test_a_gpu_by_index_runs_there_and_one_that_is_missing_is_an_error(
    model, known, compiler, machine
):
    machine.gpus = 2
    engine = opened(model, device="cuda:1")
    engine._thread.join(10)
    assert engine.state == EngineState("cuda:1")
    engine.close()
    with pytest.raises(DeviceUnavailable, match="no GPU 2"):
        opened(model, device="cuda:2")


def test_the_cpu_when_asked_for_asks_nobody_for_a_gpu(model, monkeypatch):
    def asked(*_):
        raise AssertionError

    monkeypatch.setattr(loading, "_preparer", asked)
    engine = opened(model, device="cpu")
    assert engine.state == EngineState("cpu")
    engine.close()


def test_without_a_gpu_auto_is_the_plain_cpu_and_a_gpu_that_cannot_be_used_is_told(
    model, monkeypatch, tmp_path
):
    Machine(gpus=0).install(monkeypatch)
    monkeypatch.setattr(loading, "_SIGNS_OF_A_GPU", (str(tmp_path / "none"),))
    engine = opened(model)
    assert type(engine).__name__ == "OpenVinoEngine"
    assert engine.state == EngineState("cpu")
    engine.close()
    monkeypatch.setattr(loading, "_SIGNS_OF_A_GPU", (str(tmp_path),))
    engine = opened(model)
    assert engine.state.degraded
    assert "no CUDA-capable device" in engine.state.reason
    engine.close()
    with pytest.raises(DeviceUnavailable, match="no CUDA-capable device"):
        opened(model, device="cuda")


@pytest.mark.parametrize(
    ("device", "precision", "words"),
    [
        ("cpu", "f16", "does not run f16"),
        ("cpu", "int8", "does not run int8"),
        ("auto", "bf16", "runs in f32, f16, int8, not bf16"),
    ],
)
def test_a_precision_that_cannot_be_had_is_refused(model, device, precision, words):
    with pytest.raises(DeviceUnavailable, match=words):
        opened(model, device=device, precision=precision)
