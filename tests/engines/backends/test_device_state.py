"""What a stream remembers stays on the GPU: right, apart, and gone when nobody wants it."""

import gc

import numpy as np
import pytest

from engines.backends import cuda
from engines.backends.tensorrt import ErrorLog, Library, TensorRtEngine
from engines.engine import reference_spec
from engines.errors import DeviceLost, EngineError, ModelMismatch, OutOfDeviceMemory
from engines.lowlight import full_resolution_gpu
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.full_resolution import OnCpu
from engines.modelfile import read_model_file
from engines.stateful import recurrence
from tests.engines.lowlight.scenes import Model, planes, street
from tests.support import fake_tensorrt
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt

SIZE = (64, 96)


@pytest.fixture
def machine(monkeypatch):
    return Machine(memory=1 << 27).install(monkeypatch)


@pytest.fixture
def engine(machine):
    trt = FakeTensorRt(machine)
    model = read_model_file(full_resolution_gpu.SHIPPED)
    plan = fake_tensorrt.plan(
        model.content, [full_resolution_gpu.profile(), full_resolution_gpu.profile()]
    )
    opened = TensorRtEngine(
        plan,
        library=Library("tensorrt", trt.__version__, trt, ErrorLog(trt)),
        gpu=cuda.gpu(),
        spec=reference_spec(model),
        precision="f32",
    )
    yield opened
    opened.close()


def pictures(count, *, seed=0):
    return [
        planes(street(0.1, noise=2.5, seed=seed + number, size=SIZE), chroma=(120, 131))
        for number in range(count)
    ]


def on_device(engine):
    piece = full_resolution_gpu.OnDevice(engine, failed=pytest.fail)
    return Enhancer(Model(), always=True, full_resolution=piece)


def shown(enhancer, pictures):
    return [enhancer(each, at / 25, full_range=False) for at, each in enumerate(pictures)]


def apart(one, other):
    return max(
        int(np.abs(a.astype(int) - b).max())
        for pair in zip(one, other, strict=True)
        for a, b in zip(*pair, strict=True)
    )


def test_pictures_are_the_cpus_and_streams_remember_apart(engine):
    night = [pictures(5), pictures(5, seed=100)]
    streams = [on_device(engine), on_device(engine)]
    lit = [[], []]
    for at in range(5):
        for stream, seen, into in zip(streams, night, lit, strict=True):
            into.append(stream(seen[at], at / 25, full_range=False))
    for seen, into in zip(night, lit, strict=True):
        cpu = Enhancer(Model(), always=True, full_resolution=OnCpu())
        assert apart(into, shown(cpu, seen)) <= 1


def test_only_pictures_go_to_and_fro(engine, monkeypatch):
    moved = []
    for way in ("upload", "download"):
        monkeypatch.setattr(cuda.Stream, way, watched(getattr(cuda.Stream, way), moved))
    stream, seen = on_device(engine), pictures(4)
    for at, picture in enumerate(seen):
        moved.clear()
        stream(picture, at / 25, full_range=False)
        if at == 0:
            continue  # the state's beginning goes up, and calls are recorded
        picture_bytes = sum(plane.nbytes for plane in picture)
        # Recorded copies are in the graph: what is called here is what is not.
        assert sum(moved) <= 2 * (picture_bytes + 4096)


def watched(method, moved):
    def call(stream, *both):
        moved.append(next(each for each in both if hasattr(each, "array")).array.nbytes)
        return method(stream, *both)

    return call


def test_another_scene_gives_its_memory_back_and_closing_the_engine_the_rest(engine, machine):
    stream = on_device(engine)
    shown(stream, pictures(3))
    held = machine.live["memory"]
    for _ in range(5):
        stream(planes(street(0.1, size=(80, 120))), 1.0, full_range=False)
        shown(stream, pictures(2))
    # Contexts of the second size stay; memories of scenes that are over do not.
    one_size = len(engine.spec.inputs) + len(engine.spec.outputs)
    assert machine.live["memory"] <= held + 3 * one_size
    engine.close()
    assert not any(machine.live.values()), machine.live


def test_a_stream_that_is_forgotten_leaves_nothing(engine, machine):
    kept = on_device(engine)
    shown(kept, pictures(2))
    for _ in range(3):  # both lanes know the size
        shown(on_device(engine), pictures(2))
    gc.collect()
    shown(kept, pictures(2))
    before = machine.live["memory"]
    for _ in range(10):
        shown(on_device(engine), pictures(2))
        gc.collect()
    shown(kept, pictures(2))
    assert machine.live["memory"] == before


def memory_of(engine):
    made = recurrence(engine, full_resolution_gpu.STATE)
    asked = full_resolution_gpu.validation_samples()[0]
    state = {name: asked[name] for name in full_resolution_gpu.STATE.values()}
    return made, state, {name: array for name, array in asked.items() if name not in state}


def test_what_is_remembered_is_what_the_engine_gives_when_asked_for_all(engine):
    made, state, asked = memory_of(engine)
    made.start(state)
    got = [made.infer(asked) for _ in range(3)]
    for each in got:
        want = engine.infer({**asked, **state})
        assert each.keys() == want.keys() - full_resolution_gpu.STATE.keys()
        for name, array in each.items():
            np.testing.assert_array_equal(array, want[name])
        state = {into: want[out] for out, into in full_resolution_gpu.STATE.items()}
    made.close()
    made.close()


def test_no_state_a_wrong_one_and_a_closed_engine_are_told(engine):
    made, state, asked = memory_of(engine)
    with pytest.raises(EngineError, match="no state to go on from"):
        made.infer(asked)
    with pytest.raises(ModelMismatch, match=r"expected .*past_left.*, got"):
        made.start({"past_y": state["past_y"]})
    made.start({**state, "past_y": state["past_y"].astype(np.float64)})
    with pytest.raises(ModelMismatch, match="past_y"):
        made.infer(asked)
    made.start(state)  # of another type again: the memory of the wrong one does not do
    made.infer(asked)
    engine.close()
    with pytest.raises(EngineError, match=r"no state|closed"):
        made.infer(asked)
    with pytest.raises(EngineError, match="closed"):
        made.start(state)


def test_outputs_of_another_size_than_their_inputs_are_refused(engine):
    _, state, asked = memory_of(engine)
    wrong = recurrence(engine, {"next_y": "past_left", "next_uv": "past_uv", "next_left": "past_y"})
    wrong.start(state)
    with pytest.raises(ModelMismatch, match="another size"):
        wrong.infer(asked)


def test_a_full_gpu_and_a_lost_one_are_told_and_leave_nothing(engine, machine):
    made, state, asked = memory_of(engine)
    free, machine.memory = machine.memory, machine.used() + state["past_y"].nbytes
    with pytest.raises(OutOfDeviceMemory):
        made.start(state)
    machine.memory = free
    made.start(state)
    made.infer(asked)
    machine.lose()
    with pytest.raises(DeviceLost):
        made.infer(asked)
    with pytest.raises(EngineError):
        made.infer(asked)
