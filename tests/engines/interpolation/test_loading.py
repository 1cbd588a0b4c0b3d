"""From a program's start to pictures made on a GPU: which way is taken, and that it stays."""

import logging
import threading
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extras train, tensorrt and rtx have it")
import onnx
from onnx import TensorProto, helper

from engines import registry
from engines.backends import tensorrt
from engines.backends.tensorrt import ErrorLog, Library
from engines.engine import EngineState
from engines.errors import DeviceUnavailable, UnsupportedLayer
from engines.interpolation import model
from engines.interpolation.flow_network import device
from engines.interpolation.model import open_interpolator
from engines.plans import provider
from engines.plans.cache import Profile
from tests.engines.interpolation.scenes import pan
from tests.engines.plans.test_provider import Compiler
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt
from tests.support.networks import graph_of

PLANES = "interpolation-whole-planes"


def mixing():
    """A network like the whole one that finds no motion and mixes by time."""
    picture, half = ("height", "width", 3), ("rows", "columns")
    nodes = [
        *(
            node
            for name in ("before", "after")
            for node in (
                helper.make_node("Cast", [name], [f"{name}.f"], to=TensorProto.FLOAT),
                helper.make_node(
                    "Transpose", [f"{name}.f"], [f"{name}.t"], name=name, perm=[0, 3, 1, 2]
                ),
            )
        ),
        helper.make_node("Add", ["before.t", "after.t"], ["both"]),
        helper.make_node("ReduceMean", ["both"], ["one"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["one", "nought"], ["none"]),
        helper.make_node("Add", ["none", "t"], ["late"]),
        helper.make_node("Sub", ["unit", "late"], ["early"]),
        helper.make_node("Concat", ["early", "late", "none", "none"], ["shares"], axis=1),
        helper.make_node("AveragePool", ["none"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["small"] * 4, ["ways"], axis=1),
        helper.make_node("Concat", ["small"] * 4, ["background"], axis=1),
    ]
    made = graph_of(
        nodes,
        inputs={
            "before": (TensorProto.UINT8, (1, *picture)),
            "after": (TensorProto.UINT8, (1, *picture)),
            "t": (TensorProto.FLOAT, (1,)),
        },
        outputs={
            "ways": (TensorProto.FLOAT, (1, 4, *half)),
            "background": (TensorProto.FLOAT, (1, 4, *half)),
            "shares": (TensorProto.FLOAT, (1, 4, "height", "width")),
        },
        constants={"nought": np.float32(0), "unit": np.float32(1)},
    )
    helper.set_model_props(made, {"name": "interpolation-whole"})
    return made


@pytest.fixture
def network(tmp_path, monkeypatch):
    path = tmp_path / "whole.onnx"
    onnx.save(mixing(), path)
    monkeypatch.setattr(model, "WHOLE", path)
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "cache"))
    return path


@pytest.fixture
def machine(network, monkeypatch):
    return Machine(memory=1 << 28).install(monkeypatch)


class Builds:
    """Builds of plans: they wait for a gate, and some fail."""

    def __init__(self, library):
        self.library = library
        self.gate = threading.Event()
        self.gate.set()
        self.failing = set()
        self.built = []

    def __call__(self, file, *asked, **settings):
        made = Compiler(self.library)
        made.between = lambda: self.gate.wait(60)
        if file.name in self.failing:
            made.error = UnsupportedLayer(f"cannot run {file.name}")
        self.built.append(file.name)
        return made(file, *asked, **settings)


@pytest.fixture
def builds(machine, monkeypatch):
    module = FakeTensorRt(machine)
    library = Library("rtx", module.__version__, module, ErrorLog(module))
    monkeypatch.setattr(tensorrt, "library", lambda edition=None: library)
    made = Builds(library)
    monkeypatch.setattr(provider, "Compilation", made)
    found = registry.entry_of

    def small(spec):
        """The entry, for small pictures only."""
        entry = found(spec)
        if entry.name != PLANES:
            return entry
        few = device.validation_samples()[1:3]
        shapes = {
            name: (least, few[1][name].shape, few[1][name].shape)
            for name, (least, _, _) in device.profile().shapes.items()
        }
        return replace(entry, profiles=(Profile(shapes),), samples=lambda: few)

    monkeypatch.setattr(registry, "entry_of", small)
    return made


@pytest.fixture
def searching():
    """What the CPU way is called by."""
    with_network = open_interpolator(device="cpu", precision="f32", prove=False)
    with_network.close()
    return with_network.digest


PAIR = pan(64, 96)[::2]
RECORDED = 6
"""Pictures of one size after which a plan runs as a recorded graph, which is counted."""


def made_by(interpolator):
    return interpolator.between(*PAIR).at(0.25)


def test_who_asks_for_the_gpu_has_the_whole_network_there_from_the_first_pair_on(
    machine, builds, network
):
    interpolator = open_interpolator(device="cuda", prove=False)
    assert interpolator.name == "interpolation-whole"
    assert interpolator.state == EngineState("cuda:0")
    assert builds.built == ["interpolation-whole", PLANES]
    launched = machine.launches
    made = [made_by(interpolator) for _ in range(RECORDED)][-1]
    assert machine.launches > launched
    alone = open_interpolator(network, device="cpu", prove=False)
    assert interpolator.digest == alone.digest
    for plane, want in zip(made, made_by(alone), strict=True):
        assert np.abs(plane.astype(int) - want).max() <= 1
    interpolator.close()
    assert not any(machine.live.values()), machine.live


def test_it_waits_for_its_plans_and_says_how_far_they_are(builds, monkeypatch, caplog):
    monkeypatch.setattr(model, "_TELL_EVERY_S", 0.0)
    builds.gate.clear()
    threading.Timer(0.5, builds.gate.set).start()
    with caplog.at_level(logging.INFO):
        interpolator = open_interpolator(device="cuda", prove=False)
    assert interpolator.state == EngineState("cuda:0")
    assert "a plan for cuda:0" in caplog.text
    assert "% done" in caplog.text
    interpolator.close()


def test_who_asks_for_nothing_has_the_better_way_whatever_gpu_there_is(builds, searching):
    interpolator = open_interpolator(device="auto", precision="f32", prove=False)
    assert interpolator.digest == searching
    assert interpolator.state == EngineState("cpu")
    assert not builds.built
    interpolator.close()


def test_a_build_that_fails_is_an_error_for_who_asked_for_the_gpu(builds, machine):
    builds.failing.add("interpolation-whole")
    with pytest.raises(DeviceUnavailable, match="cannot run interpolation-whole"):
        open_interpolator(device="cuda", prove=False)
    assert not any(machine.live.values()), machine.live


def test_without_the_graph_by_planes_the_network_runs_there_alone(builds, machine, caplog):
    builds.failing.add(PLANES)
    interpolator = open_interpolator(device="cuda", prove=False)
    assert interpolator.state == EngineState("cuda:0")
    assert f"cannot run {PLANES}" in caplog.text
    launched = machine.launches
    for _ in range(RECORDED):
        made = made_by(interpolator)
    assert machine.launches > launched
    assert [plane.shape for plane in made] == [plane.shape for plane in PAIR[0]]
    interpolator.close()


def test_waiting_has_an_end(builds, machine, monkeypatch):
    monkeypatch.setattr(model, "LONGEST_WAIT_S", 0.2)
    builds.gate.clear()
    threading.Timer(1.0, builds.gate.set).start()  # a build sees between two steps that it is over
    with pytest.raises(DeviceUnavailable, match="no plan after"):
        open_interpolator(device="cuda", prove=False)
    assert not any(machine.live.values()), machine.live


def test_a_device_lost_in_mid_run_leaves_the_same_network_on_the_cpu(builds, machine, caplog):
    interpolator = open_interpolator(device="cuda", prove=False)
    digest = interpolator.digest
    before = made_by(interpolator)
    machine.lose()
    after = made_by(interpolator)
    for plane, want in zip(after, before, strict=True):
        assert np.abs(plane.astype(int) - want).max() <= 1
    assert (interpolator.name, interpolator.digest) == ("interpolation-whole", digest)
    assert (interpolator.state.device, interpolator.state.degraded) == ("cpu", True)
    assert "on the CPU until the program is started again" in caplog.text
    interpolator.close()


def test_a_machine_without_a_gpu_lacks_nothing_and_opens_nothing_else(network, searching, caplog):
    network.unlink()
    interpolator = open_interpolator(device="auto", precision="f32", prove=False)
    assert interpolator.digest == searching
    assert not caplog.text
    interpolator.close()
