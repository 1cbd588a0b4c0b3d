"""TensorRT compiles on its GPU and says little: its answers become errors in words."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extras train, tensorrt and rtx have it")
from onnx import TensorProto, helper

from engines.errors import (
    DeviceUnavailable,
    EngineError,
    ModelFileError,
    ModelMismatch,
    OutOfDeviceMemory,
    UnsupportedLayer,
)
from engines.plans.build_process import single_gpu
from engines.plans.builder import build
from engines.plans.cache import PlanCache
from engines.spec import Profile, Target
from tests.support.fake_builder import BuilderFlag, Says, fake
from tests.support.networks import file_of, graph_of

MODEL = file_of(
    graph_of(
        [helper.make_node("Relu", ["x"], ["y"])],
        inputs={"x": (TensorProto.FLOAT, ("n",))},
        outputs={"y": (TensorProto.FLOAT, ("n",))},
    )
)
TARGET = Target("sm90", "f32", (Profile({"x": ((1,), (2,), (3,))}),), driver=580)


@pytest.fixture
def timing(tmp_path):
    return PlanCache(tmp_path).timing_cache("tensorrt", "10.13.2", "sm90")


def test_the_network_is_strongly_typed_and_what_is_fp32_is_not_tf32():
    says = Says()
    plan = build(MODEL, fake(says), TARGET)
    assert plan.content == b"plan"
    assert says.recorded["flags"] == 1 << 1
    assert BuilderFlag.TF32 not in says.recorded["config"].flags


def test_kernel_times_are_kept_for_the_next_build(timing):
    build(MODEL, fake(Says()), TARGET, timing_cache=timing)
    assert timing.read_bytes() == b", and new ones"
    timing.write_bytes(b"known times")
    build(MODEL, fake(Says()), TARGET, timing_cache=timing)
    assert timing.read_bytes() == b"known times, and new ones"


@pytest.mark.parametrize("content", [b"foreign", b"damaged"])
def test_kernel_times_that_are_of_no_use_are_measured_anew(timing, content):
    timing.parent.mkdir(exist_ok=True)
    timing.write_bytes(content)
    build(MODEL, fake(Says()), TARGET, timing_cache=timing)
    assert timing.read_bytes() == b", and new ones"


def test_nowhere_to_keep_kernel_times_is_no_obstacle(tmp_path):
    (tmp_path / "file").touch()
    says = Says()
    assert build(MODEL, fake(says), TARGET, timing_cache=tmp_path / "file" / "times").content


def test_a_failed_build_leaves_the_kernel_times_alone(timing):
    with pytest.raises(EngineError):
        build(MODEL, fake(Says(plan=None)), TARGET, timing_cache=timing)
    assert not timing.exists()


NO_KERNEL = "Error Code 10: Internal Error (Could not find any implementation for node {}.)"
NO_ROOM = "Could not find any implementation for node /warp/GridSample due to little workspace."


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            NO_KERNEL.format("{ForeignNode[/a/Conv.../b/Add]}"),
            UnsupportedLayer,
            r"/a/Conv\.{3}/b/Add",
        ),
        (NO_KERNEL.format("/b/Add"), UnsupportedLayer, "small, layer /b/Add: "),
        (NO_ROOM, UnsupportedLayer, "small, layer /warp/GridSample: "),
        ("Error Code 2: OutOfMemory (no further information)", OutOfDeviceMemory, "no memory"),
        ("Cuda Runtime (out of memory)", OutOfDeviceMemory, "no memory"),
        ("Error Code 9: something new", EngineError, "cannot compile small: Error Code 9"),
        ("", EngineError, "it gave no reason"),
    ],
)
def test_the_message_of_a_failed_build_becomes_an_error_of_its_kind(error, kind, words):
    with pytest.raises(kind, match=words):
        build(MODEL, fake(Says(plan=None, error=error)), TARGET)


def test_a_file_that_the_parser_does_not_understand_is_no_model():
    with pytest.raises(ModelFileError, match="cannot read small: Failed to parse"):
        build(MODEL, fake(Says(parses=False)), TARGET)


def test_sizes_that_the_builder_refuses_are_shown():
    with pytest.raises(ModelMismatch, match=r"refuses the sizes .*\(1,\), \(2,\), \(3,\)"):
        build(MODEL, fake(Says(profile=-1)), TARGET)


def test_an_output_of_another_type_than_the_files_is_refused():
    with pytest.raises(ModelMismatch, match="expected the types"):
        build(MODEL, fake(Says(output=np.int64)), TARGET)


def test_without_a_gpu_it_is_not_even_tried():
    with pytest.raises(DeviceUnavailable, match="only on the GPU that runs the plan"):
        build(MODEL, fake(Says()), Target("sm90", "f32", TARGET.profiles))


@pytest.mark.parametrize(
    ("seen", "gpu", "visible"),
    [(None, 1, "1"), ("", 0, "0"), ("2,3", 1, "3"), ("GPU-8a2f, GPU-71c0", 0, "GPU-8a2f")],
)
def test_a_build_sees_the_gpu_that_its_plan_is_for(monkeypatch, seen, gpu, visible):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert single_gpu(gpu) == {"CUDA_VISIBLE_DEVICES": visible}
