"""The seam: files that are no networks, arrays that do not fit, many threads at once."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines import engine as seam
from engines.backends.cpu import open_engine, open_reference
from engines.backends.openvino import MOST_SIZES
from engines.errors import DeviceUnavailable, EngineError, ModelFileError, ModelMismatch
from engines.modelfile import read_model_file
from tests.support.onnx_bytes import metadata, one_node

OPENERS = [
    pytest.param(open_engine, id="openvino"),
    pytest.param(open_reference, id="onnxruntime"),
]


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(one_node("Neg") + metadata("name", "negative") + metadata("colour", "blue"))
    return path


BAD_FILES = {
    "zero bytes": b"",
    "text": b"this is no network\n" * 40,
    "zeros": bytes(1000),
    "cut short": one_node()[:-5],
    "an empty message": metadata("name", "nothing"),
    "noise": np.random.default_rng(1).bytes(5000),
}


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_file_that_is_no_network_is_one_clear_line(tmp_path, capfd, opener, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"bad\.onnx") as caught:
        opener(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("opener", OPENERS)
def test_a_network_with_an_unknown_operator_is_a_damaged_file(tmp_path, opener):
    path = tmp_path / "odd.onnx"
    path.write_bytes(one_node("NoSuchOperator"))
    with pytest.raises((ModelFileError, EngineError), match="odd"):
        opener(path).infer({"x": np.zeros((1, 4), np.float32)})


def test_opening_an_engine_starts_no_thread_and_calls_nobody(tiny):
    script = (
        "import sys, threading, pathlib, engines.backends.cpu as e\n"
        "e.open_engine(pathlib.Path(sys.argv[1])).close()\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tiny], timeout=60, check=False)
    assert done.returncode == 0


def test_without_the_libraries_of_gpus_auto_runs_on_the_cpu_and_nothing_is_missed():
    script = (
        "import sys, threading\n"
        "for name in ('tensorrt', 'tensorrt_rtx_bindings', 'pycuda', 'onnx'):\n"
        "    sys.modules[name] = None\n"
        "import streamer.app.supervisor, streamer.app\n"
        "from engines.smoke.model import open_smoke_model\n"
        "model = open_smoke_model('smoke-fast', validate=False)\n"
        "assert model.state.device == 'cpu', model.state\n"
        "assert threading.active_count() == 1\n"
        "model.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == 0


def test_a_missing_file_is_reported_as_missing(tmp_path):
    with pytest.raises(ModelFileError, match="no model file"):
        open_engine(tmp_path / "nowhere.onnx")


def test_a_folder_is_no_model_file(tmp_path):
    with pytest.raises(ModelFileError, match="directory"):
        open_engine(tmp_path)


def test_digest_and_metadata_come_from_the_file(tiny):
    model = read_model_file(tiny)
    assert model.name == "negative"
    assert model.metadata == {"name": "negative", "colour": "blue"}
    before = model.digest
    tiny.write_bytes(tiny.read_bytes() + metadata("colour", "red"))
    assert read_model_file(tiny).digest != before
    assert read_model_file(tiny).metadata["colour"] == "red"


@pytest.mark.parametrize("opener", OPENERS)
def test_spec_says_what_goes_in_and_comes_out(tiny, opener):
    engine = opener(tiny)
    assert [str(tensor) for tensor in engine.spec.inputs] == ["x (1, any) float32"]
    assert [str(tensor) for tensor in engine.spec.outputs] == ["y (1, any) float32"]
    assert engine.spec.digest == read_model_file(tiny).digest
    assert " cpu f32" in engine.backend
    engine.close()


MISFITS = {
    "another name": {"z": np.zeros((1, 4), np.float32)},
    "nothing": {},
    "one too many": {"x": np.zeros((1, 4), np.float32), "z": np.zeros(1)},
    "another type": {"x": np.zeros((1, 4), np.float64)},
    "another side": {"x": np.zeros((2, 4), np.float32)},
    "another rank": {"x": np.zeros(4, np.float32)},
}


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("inputs", MISFITS.values(), ids=MISFITS.keys())
def test_arrays_that_do_not_fit_are_named(tiny, opener, inputs):
    with pytest.raises(ModelMismatch, match=r"x \(1, any\) float32"):
        opener(tiny).infer(inputs)


@pytest.mark.parametrize("opener", OPENERS)
def test_results_belong_to_the_caller(tiny, opener):
    engine = opener(tiny)
    first = engine.infer({"x": np.ones((1, 4), np.float32)})["y"]
    engine.infer({"x": np.full((1, 4), 5, np.float32)})
    np.testing.assert_array_equal(first, np.full((1, 4), -1, np.float32))
    first += 1  # writable


@pytest.mark.parametrize("opener", OPENERS)
def test_arrays_need_not_lie_in_order(tiny, opener):
    crooked = np.arange(16, dtype=np.float32).reshape(1, 16)[:, ::-2]
    np.testing.assert_array_equal(opener(tiny).infer({"x": crooked})["y"], -crooked)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_closed_engine_says_so_and_closes_again(tiny, opener):
    engine = opener(tiny)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"x": np.zeros((1, 4), np.float32)})


@pytest.mark.parametrize("opener", OPENERS)
def test_eight_threads_get_what_one_gets(tiny, opener):
    engine = opener(tiny)
    together = threading.Barrier(8)

    def work(number):
        together.wait(10)
        for turn in range(50):
            # Sizes differ too: each is compiled once, whoever comes first.
            x = np.full((1, 1 + (number + turn) % 3), number * 100 + turn, np.float32)
            np.testing.assert_array_equal(engine.infer({"x": x})["y"], -x)

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, number) for number in range(8)]:
            done.result(30)
    engine.close()


def test_more_sizes_than_are_kept_still_work(tiny):
    engine = open_engine(tiny)
    for width in [*range(1, MOST_SIZES + 4), 1]:
        x = np.ones((1, width), np.float32)
        np.testing.assert_array_equal(engine.infer({"x": x})["y"], -x)
    engine.close()


@pytest.mark.parametrize(
    ("device", "read"),
    [("auto", ("auto", 0)), ("cpu", ("cpu", 0)), ("cuda", ("cuda", 0)), ("cuda:3", ("cuda", 3))],
)
def test_a_device_is_a_kind_and_an_index(device, read):
    assert seam.read_device(device) == read


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "CUDA"])
def test_what_is_no_device_is_refused_with_what_there_is(device):
    with pytest.raises(DeviceUnavailable, match="auto, cpu, cuda or cuda:N"):
        seam.read_device(device)


def test_a_cpu_engine_says_that_it_runs_on_the_cpu(tiny):
    assert open_engine(tiny).state == open_reference(tiny).state == seam.EngineState("cpu")


def test_an_unknown_precision_is_refused_by_name(tiny):
    with pytest.raises(DeviceUnavailable, match="f32 and bf16, not int4"):
        open_engine(tiny, precision="int4")
