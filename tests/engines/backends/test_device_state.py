"""The state of a stream stays on the GPU: correct, separate per stream, and freed."""

import gc

import numpy as np
import pytest

from engines.backends import cuda
from engines.backends.cpu import reference_spec
from engines.backends.tensorrt import ErrorLog, Library
from engines.backends.tensorrt_engine import TensorRtEngine
from engines.errors import DeviceLost, EngineError, ModelMismatch, OutOfDeviceMemory
from engines.lowlight import full_resolution_gpu
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.full_resolution import OnCpu
from engines.modelfile import read_model_file
from engines.stateful import stateful_session
from tests.engines.lowlight.scenes import Model, planes, street
from tests.support import fake_tensorrt
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt

SIZE = (64, 96)


@pytest.fixture
def machine(monkeypatch):
    return Machine(memory=1 << 30).install(monkeypatch)


@pytest.fixture
def engine(machine):
    trt = FakeTensorRt(machine)
    model = read_model_file(full_resolution_gpu.SHIPPED)
    large = full_resolution_gpu._shapes((200, 300), levels=8, grid=(64, 64))
    shapes = {
        name: (small, large[name], large[name])
        for name, (small, _, _) in full_resolution_gpu.profile().shapes.items()
    }
    opened = TensorRtEngine(
        fake_tensorrt.plan(model.content, [shapes]),
        library=Library("tensorrt", trt.__version__, trt, ErrorLog(trt)),
        gpu=cuda.gpu(),
        spec=reference_spec(model),
        precision="f32",
    )
    for size in (SIZE, (80, 120)):
        opened.prepare(full_resolution_gpu._shapes(size, levels=2, grid=(12, 20)))
    yield opened
    opened.close()


def frames(count, *, seed=0):
    return [
        planes(street(0.1, noise=2.5, seed=seed + number, size=SIZE), chroma=(120, 131))
        for number in range(count)
    ]


def on_device(engine):
    part = full_resolution_gpu.OnDevice(engine, failed=pytest.fail)
    return Enhancer(Model(), always=True, full_resolution=part)


def shown(enhancer, frames_):
    return [enhancer(each, at / 25) for at, each in enumerate(frames_)]


def planes_of(frame):
    return frame.y, *frame.chroma


def apart(one, other):
    return max(
        int(np.abs(a.astype(int) - b).max())
        for pair in zip(one, other, strict=True)
        for a, b in zip(*(planes_of(each) for each in pair), strict=True)
    )


def test_frames_are_the_cpus_and_streams_have_separate_states(engine):
    night = [frames(5), frames(5, seed=100)]
    streams = [on_device(engine), on_device(engine)]
    lit = [[], []]
    for at in range(5):
        for stream, seen, into in zip(streams, night, lit, strict=True):
            into.append(stream(seen[at], at / 25))
    for seen, into in zip(night, lit, strict=True):
        cpu = Enhancer(Model(), always=True, full_resolution=OnCpu())
        assert apart(into, shown(cpu, seen)) <= 1


def test_only_frames_are_copied_between_host_and_device(engine, machine):
    stream, seen = on_device(engine), frames(4)
    stream(seen[0], 0)  # uploads the initial state
    for at, frame in enumerate(seen[1:], 1):
        machine.copied.clear()
        stream(frame, at / 25)
        size = sum(plane.nbytes for plane in planes_of(frame))
        assert sum(count for way, count in machine.copied if way == "down") == size
        assert size < sum(count for way, count in machine.copied if way == "up") < size + 4096


def test_another_scene_frees_its_state_and_closing_the_engine_the_rest(engine, machine):
    stream = on_device(engine)
    shown(stream, frames(3))
    held = machine.live["memory"]
    for _ in range(5):
        stream(planes(street(0.1, size=(80, 120))), 1.0)
        shown(stream, frames(2))
    assert machine.live["memory"] == held
    engine.close()
    assert not any(machine.live.values()), machine.live


def test_a_stream_that_is_dropped_without_closing_leaks_nothing(engine, machine):
    kept = on_device(engine)
    shown(kept, frames(2))
    before = machine.live["memory"]
    for _ in range(10):
        shown(on_device(engine), frames(2))
        gc.collect()
    shown(kept, frames(2))
    assert machine.live["memory"] == before


def session_of(engine):
    session = stateful_session(engine, full_resolution_gpu.STATE)
    inputs = full_resolution_gpu.validation_samples()[0]
    state = {name: inputs[name] for name in full_resolution_gpu.STATE.values()}
    return session, state, {name: a for name, a in inputs.items() if name not in state}


def test_a_state_on_the_device_gives_the_results_of_a_state_in_the_inputs(engine):
    session, state, inputs = session_of(engine)
    session.start(state)
    got = [session.infer(inputs) for _ in range(3)]
    for each in got:
        want = engine.infer({**inputs, **state})
        assert each.keys() == want.keys() - full_resolution_gpu.STATE.keys()
        for name, array in each.items():
            np.testing.assert_array_equal(array, want[name])
        state = {into: want[out] for out, into in full_resolution_gpu.STATE.items()}
    session.close()
    session.close()


def test_a_missing_state_a_wrong_one_and_a_closed_engine_are_errors(engine):
    session, state, inputs = session_of(engine)
    with pytest.raises(EngineError, match="no state to continue from"):
        session.infer(inputs)
    with pytest.raises(ModelMismatch, match=r"expected .*past_left.*, got"):
        session.start({"past_y": state["past_y"]})
    with pytest.raises(ModelMismatch, match="past_y"):
        session.start({**state, "past_y": state["past_y"].astype(np.float64)})
    session.start(state)
    session.infer(inputs)
    engine.close()
    with pytest.raises(EngineError, match=r"no state|closed"):
        session.infer(inputs)
    with pytest.raises(EngineError, match="closed"):
        session.start(state)


def test_outputs_of_another_size_than_their_inputs_are_refused(engine):
    _, state, inputs = session_of(engine)
    links = {"next_y": "past_left", "next_uv": "past_uv", "next_left": "past_y"}
    wrong = stateful_session(engine, links)
    wrong.start(state)
    with pytest.raises(ModelMismatch, match="another size"):
        wrong.infer(inputs)


def test_a_full_gpu_and_a_lost_one_are_errors_and_leak_nothing(engine, machine):
    session, state, inputs = session_of(engine)
    free, machine.memory = machine.memory, machine.used() + state["past_y"].nbytes
    with pytest.raises(OutOfDeviceMemory):
        session.start(state)
    machine.memory = free
    session.start(state)
    session.infer(inputs)
    machine.lose()
    with pytest.raises(DeviceLost):
        session.infer(inputs)
    with pytest.raises(EngineError):
        session.infer(inputs)
