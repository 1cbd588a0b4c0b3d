"""Every network compiles for every kind of GPU, on a machine that has none of them.

Deserialising a plan needs a driver, so these tests check the compiler's inputs and messages.
"""

import itertools
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extras train, tensorrt and rtx have it")
from onnx import TensorProto, helper

from engines.backends.tensorrt import library
from engines.errors import BuildStopped, DeviceUnavailable, ModelMismatch, UnsupportedLayer
from engines.plans.build_process import STARTING, Compilation
from engines.plans.builder import build, key_of
from engines.plans.cache import PlanCache
from engines.registry import COMPILED, find
from engines.spec import Profile, Target
from tests.support.networks import file_of, graph_of, opened

pytestmark = pytest.mark.compile
GPUS = ("sm86", "sm89", "sm120")


@pytest.fixture(scope="module")
def rtx():
    try:
        return library("rtx")
    except DeviceUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("entry", "gpu"),
    [
        *((entry, GPUS[1]) for entry in COMPILED),
        *((find("smoke-fast-planar"), gpu) for gpu in (GPUS[0], GPUS[2])),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_network_of_the_program_compiles_and_one_for_every_gpu(rtx, entry, gpu):
    model, target = entry.model(), entry.target(gpu)
    profiles = target.profiles
    plan = build(model, rtx, target)
    spec = opened(model.content).spec
    for key, tensors in (("inputs", spec.inputs), ("outputs", spec.outputs)):
        made = [(name, kind) for name, _, kind in plan.facts[key]]
        assert made == [(tensor.name, tensor.dtype.name) for tensor in tensors]
    assert plan.facts["profiles"] == [
        {name: list(sizes) for name, sizes in profile.shapes.items()} for profile in profiles
    ]
    for name, shape, _ in plan.facts["inputs"]:
        for least, _, most in (profile.shapes[name] for profile in profiles):
            assert all(
                side in {-1, low} and (side == -1 or low == high)
                for side, low, high in zip(shape, least, most, strict=True)
            )
    assert (plan.facts["f16_layers"] > 0) == (target.precision == "f16")
    header = rtx.module.Runtime(rtx.errors.logger).engine_header_size
    assert header < len(plan.content) < 40_000_000
    assert plan.key == key_of(model, rtx, target)


def test_a_plan_in_fp16_holds_the_weights_in_half_the_bytes(rtx):
    entry = find("smoke-fast-planar")
    model = entry.model()
    half, whole = (
        len(build(model, rtx, entry.target("sm89", precision)).content)
        for precision in ("f16", "f32")
    )
    # The file holds its weights in 16 bits and little else.
    assert whole - half > 0.75 * len(model.content)


def small(nodes, shape, **inputs):
    return file_of(
        graph_of(
            nodes,
            inputs={name: (TensorProto.FLOAT, shape) for name, shape in inputs.items()},
            outputs={"y": (TensorProto.FLOAT, shape)},
            constants={"w": np.ones((1, 1, 3, 3), np.float32)},
        )
    )


CONVOLUTION = small(
    [helper.make_node("Conv", ["x", "w"], ["y"], name="c")], (1, 1, "a", "b"), x=(1, 1, "h", "v")
)
SIZES = Profile({"x": ((1, 1, 8, 8), (1, 1, 16, 16), (4, 1, 32, 32))})
TARGET = Target("sm89", "f16", (SIZES,))


def test_a_layer_that_cannot_be_run_is_named(rtx):
    odd = small([helper.make_node("Det", ["x"], ["y"], name="/head/odd")], (), x=(2, 2))
    profile = Profile({"x": ((2, 2), (2, 2), (2, 2))})
    with pytest.raises(UnsupportedLayer, match=r"small, layer '/head/odd' \(Det\)"):
        build(odd, rtx, replace(TARGET, profiles=(profile,)))


@pytest.mark.parametrize("gpu", ["sm90", "sm1", "current", "none", ""])
def test_a_gpu_that_the_library_does_not_know_is_refused_with_those_it_knows(rtx, gpu):
    with pytest.raises(DeviceUnavailable, match=f"compiles for sm.*sm89.*, not for {gpu}"):
        build(CONVOLUTION, rtx, replace(TARGET, capability=gpu))


def test_a_precision_that_plans_do_not_have_is_refused(rtx):
    with pytest.raises(DeviceUnavailable, match="not in bf16"):
        build(CONVOLUTION, rtx, replace(TARGET, precision="bf16"))


def test_sizes_of_another_network_are_refused(rtx):
    wrong = replace(TARGET, profiles=(Profile({"x": ((1, 3, 8, 8),) * 3}),))
    with pytest.raises(ModelMismatch, match="x: takes"):
        build(CONVOLUTION, rtx, wrong)


def test_progress_goes_one_way_and_names_what_is_done(rtx, monkeypatch):
    monkeypatch.setattr("engines.plans.builder.SECONDS_BETWEEN", 0)
    seen = []
    build(CONVOLUTION, rtx, TARGET, progress=seen.append)
    shares = [now.progress for now in seen]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1
    assert all(now.phase for now in seen)


def test_a_build_ends_when_nobody_wants_it(rtx, monkeypatch):
    monkeypatch.setattr("engines.plans.builder.SECONDS_BETWEEN", 0)

    def leave(progress):
        raise KeyboardInterrupt

    with pytest.raises(BuildStopped):
        build(CONVOLUTION, rtx, TARGET, progress=leave)
    assert build(CONVOLUTION, rtx, TARGET).content


@pytest.fixture
def store(tmp_path):
    return PlanCache(tmp_path / "plans")


def test_a_build_in_a_process_of_its_own_ends_up_in_the_store(rtx, store):
    with Compilation(CONVOLUTION, TARGET, store, edition="rtx") as made:
        shares = [now.progress for now in made.progress()]
    assert shares
    assert made.key == key_of(CONVOLUTION, rtx, TARGET)
    assert made.facts["name"] == "small"
    assert store.get(made.key)
    assert [entry.problem for entry in store.verify()] == [""]
    assert list(store.folder.iterdir()) == [store.entries()[0].path]


def test_why_a_build_in_a_process_of_its_own_failed_comes_out_as_it_was_raised(rtx, store):
    wrong = replace(TARGET, capability="sm90")
    with (
        Compilation(CONVOLUTION, wrong, store, edition="rtx") as made,
        pytest.raises(DeviceUnavailable, match="not for sm90"),
    ):
        list(made.progress())
    assert made.key is None
    assert not store.folder.exists()


def begun(progress):
    """Wait until the compiler is at work."""
    next(now for now in progress if now.phase != STARTING)


def test_a_silent_build_is_heard_of_and_can_be_left(store, monkeypatch, tmp_path):
    """A step of TensorRT may take a minute, during which the program may be stopped."""
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(silent))
    monkeypatch.setattr("engines.plans.build_process.HEARTBEAT_S", 0.01)
    with Compilation(CONVOLUTION, TARGET, store) as made:
        first, second = itertools.islice(made.progress(), 2)
    assert (first.progress, first.phase) == (0, STARTING)
    assert second.elapsed_s > first.elapsed_s
    assert made._process.poll() is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_ended_leaves_nothing(rtx, store, number):
    entry = find("smoke-planar")
    with Compilation(entry.model(), entry.target("sm89"), store, edition="rtx") as made:
        seen = made.progress()
        begun(seen)
        made._process.send_signal(number)
        with pytest.raises(Exception, match=r"stopped|status -9"):
            list(seen)
    assert not store.folder.exists() or not list(store.folder.iterdir())


def test_leaving_a_build_ends_its_process(rtx, store):
    entry = find("smoke-planar")
    with Compilation(entry.model(), entry.target("sm89"), store, edition="rtx") as made:
        begun(made.progress())
    assert made._process.poll() is not None


def test_a_build_whose_program_is_gone_ends_too(rtx, store):
    """Nobody reads what it says: the pipe is broken, and it does not go on for minutes."""
    entry = find("smoke-planar")
    with Compilation(entry.model(), entry.target("sm89"), store, edition="rtx") as made:
        begun(made.progress())
        made._process.stdout.close()
        made._process.stdout = None
        assert made._process.wait(30) == 1
    assert not list(store.folder.glob("*.plan"))


def test_a_compiler_that_crashes_is_reported_with_its_last_output(store, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        Compilation(CONVOLUTION, TARGET, store) as made,
        pytest.raises(
            Exception, match=r"small: the compiler ended with status 1: it printed nothing"
        ),
    ):
        list(made.progress())
