"""From the start of a program to frames enhanced on a GPU: the full-resolution part by a plan."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from engines.backends import tensorrt
from engines.backends.tensorrt import ErrorLog, Library
from engines.engine import EngineState
from engines.lowlight import full_resolution_gpu
from engines.lowlight.model import open_lowlight_model
from engines.plans import provider
from engines.spec import Profile
from tests.engines.lowlight.scenes import planes, street
from tests.engines.plans.test_provider import Compiler
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt

SIZE = (64, 96)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path))
    return Machine(memory=1 << 30).install(monkeypatch)


@pytest.fixture
def gate(machine, monkeypatch):
    """Open; builds wait for it."""
    opened = threading.Event()
    opened.set()
    module = FakeTensorRt(machine)
    library = Library("rtx", module.__version__, module, ErrorLog(module))
    monkeypatch.setattr(tensorrt, "library", lambda edition=None: library)

    def compilation(*arguments, **settings):
        made = Compiler(library)  # of its own: two networks are built at once
        made.between = lambda: opened.wait(60)
        return made(*arguments, **settings)

    monkeypatch.setattr(provider, "Compilation", compilation)
    large = full_resolution_gpu._shapes((97, 131), levels=4, grid=(12, 20))
    shapes = {
        name: (small, large[name], large[name])
        for name, (small, _, _) in full_resolution_gpu.profile().shapes.items()
    }
    few = full_resolution_gpu.validation_samples()[:4]
    settings = replace(
        full_resolution_gpu.SETTINGS,
        samples=lambda: few,
        profiles=(Profile(shapes),),
        warm_shapes=(full_resolution_gpu._shapes(SIZE, levels=4, grid=(12, 20)),),
    )
    monkeypatch.setattr(full_resolution_gpu, "SETTINGS", settings)
    return opened


def ready(lowlight):
    """Wait until the plan is in use."""
    engine = lowlight._full_resolution
    with engine._work:
        assert engine._work.wait_for(lambda: engine._building is None, 60)


def night(count=6):
    return [planes(street(0.1, noise=2.5, seed=at, size=SIZE)) for at in range(count)]


def shown(enhancer, frames, *, start=0):
    return [enhancer(each, (start + at) / 25) for at, each in enumerate(frames)]


def apart(one, other):
    return max(
        int(np.abs(a.astype(int) - b).max())
        for pair in zip(one, other, strict=True)
        for a, b in zip(*(each.planes for each in pair), strict=True)
    )


def test_a_stream_is_done_by_the_gpu_as_by_the_cpu_and_everything_is_given_back(machine, gate):
    lowlight = open_lowlight_model(device="cuda", validate=False)
    ready(lowlight)
    assert lowlight.state == EngineState("cuda:0")
    on_cpu = open_lowlight_model(device="cpu", validate=False)
    machine.copied.clear()
    lit = shown(lowlight.enhancer(), night())
    assert machine.copied
    assert apart(lit, shown(on_cpu.enhancer(), night())) <= 1
    lowlight.close()
    assert not any(machine.live.values()), machine.live


def test_a_device_lost_in_mid_stream_is_reported_and_frames_go_on(machine, gate):
    lowlight = open_lowlight_model(device="cuda", validate=False)
    ready(lowlight)
    stream = lowlight.enhancer()
    before = shown(stream, night())
    machine.lose()
    after = shown(stream, night(), start=6)
    assert lowlight.state.device == "cpu"
    assert lowlight.state.degraded
    means = [float(each.y.mean()) for each in (*before[2:], *after)]
    assert max(means) - min(means) < 0.05 * np.mean(means)
    lowlight.close()


def test_while_plans_are_built_the_cpu_enhances_frames(machine, gate):
    gate.clear()
    lowlight = open_lowlight_model(device="auto", validate=False)
    stream = lowlight.enhancer()
    lit = shown(stream, night(3))
    assert lowlight.state.building is not None
    gate.set()
    ready(lowlight)
    assert lowlight.state == EngineState("cuda:0")
    lit += shown(stream, night()[3:], start=3)
    on_cpu = open_lowlight_model(device="cpu", validate=False)
    assert apart(lit, shown(on_cpu.enhancer(), night())) <= 1
    lowlight.close()
