"""An engine is compared with the reference once for everything the comparison depends on."""

import json

import numpy as np
import pytest

from engines import validation as room
from engines.backends.cpu import open_engine, open_reference
from engines.errors import InaccurateEngine
from engines.modelfile import read_model_file
from engines.spec import Profile
from engines.validation import Tolerance, boundary_inputs, compare_with_reference, validate_cached
from tests.support.onnx_bytes import metadata, one_node

STRICT = Tolerance(largest=1e-6, mean=1e-6)
SAMPLES = [{"x": np.linspace(-3, 3, 8, dtype=np.float32)[None]}]


class Skewed:
    """An engine that is off by a little."""

    def __init__(self, engine, by):
        self.spec, self.backend, self._engine, self._by = (
            engine.spec,
            "skewed 1 cpu f32",
            engine,
            by,
        )
        self.calls = 0

    def infer(self, inputs):
        self.calls += 1
        return {name: value + self._by for name, value in self._engine.infer(inputs).items()}

    def close(self):
        self._engine.close()


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.onnx"
    path.write_bytes(one_node("Tanh"))
    return path


def test_a_faithful_engine_passes_and_is_described(path):
    report = compare_with_reference(open_engine(path), path, SAMPLES, STRICT)
    assert report.passed
    assert report.backend.startswith("openvino ")
    assert report.reference.startswith("onnxruntime ")
    assert report.cpu


@pytest.mark.parametrize("by", [0.01, -0.01, np.nan, np.inf])
def test_an_engine_that_is_off_is_refused_with_the_figures(path, by):
    with pytest.raises(InaccurateEngine, match="precision f32"):
        validate_cached(Skewed(open_engine(path), by), path, SAMPLES, STRICT)


def test_a_pass_is_remembered_and_a_failure_is_not(path):
    good, bad = Skewed(open_engine(path), 0.0), Skewed(open_engine(path), 0.5)
    first = validate_cached(good, path, SAMPLES, STRICT)
    assert validate_cached(good, path, SAMPLES, STRICT) == first
    assert good.calls == 1
    loose = Tolerance(largest=0.1, mean=0.1)
    for _ in range(2):
        with pytest.raises(InaccurateEngine):
            validate_cached(bad, path, SAMPLES, loose)
    assert bad.calls == 2


def change_backend(engine, path):
    engine.backend = "skewed 2 cpu f32"
    return SAMPLES, STRICT


def change_samples(engine, path):
    return [{"x": SAMPLES[0]["x"] + 1}], STRICT


def change_tolerance(engine, path):
    return SAMPLES, Tolerance(largest=2e-6, mean=1e-6)


def change_model(engine, path):
    path.write_bytes(path.read_bytes() + metadata("version", "2"))
    engine.spec = open_engine(path).spec
    return SAMPLES, STRICT


@pytest.mark.parametrize("change", [change_backend, change_samples, change_tolerance, change_model])
def test_whatever_changes_is_proven_again(path, change):
    engine = Skewed(open_engine(path), 0.0)
    validate_cached(engine, path, SAMPLES, STRICT)
    samples, tolerance = change(engine, path)
    validate_cached(engine, path, samples, tolerance)
    assert engine.calls == 2


def test_another_processor_is_proven_again(path, monkeypatch):
    engine = Skewed(open_engine(path), 0.0)
    validate_cached(engine, path, SAMPLES, STRICT)
    monkeypatch.setattr(room, "cpu_name", lambda: "another")
    validate_cached(engine, path, SAMPLES, STRICT)
    assert engine.calls == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"model": "x"}'])
def test_a_damaged_memory_is_made_again(path, tmp_path, damage):
    engine = Skewed(open_engine(path), 0.0)
    validate_cached(engine, path, SAMPLES, STRICT)
    (remembered,) = (tmp_path / "cache" / "proofs").iterdir()
    remembered.write_text(damage)
    validate_cached(engine, path, SAMPLES, STRICT)
    assert json.loads(remembered.read_text())["backend"] == "skewed 1 cpu f32"


def test_nowhere_to_remember_is_no_obstacle(path, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "file"))
    assert validate_cached(open_engine(path), path, SAMPLES, STRICT).passed


FRAMES = [{"x": np.full((1, 2, 3), n, np.uint8), "f": np.array([n], np.float32)} for n in (5, 7)]


def ends(*shapes):
    """Boundary inputs of a profile from the smallest to the largest shape of a frame."""
    least, most = shapes[0], shapes[-1]
    flags = (least[:1], least[:1], most[:1])
    return boundary_inputs(FRAMES, [Profile({"x": (least, least, most), "f": flags})])


def test_the_largest_batch_is_made_of_different_frames():
    (most,) = ends((1, 2, 3), (3, 2, 3))
    assert most["x"].shape == (3, 2, 3)
    first, second, third = (set(frame.flat) for frame in most["x"])
    assert first == third != second
    assert most["f"].tolist() == [first.pop(), second.pop(), third.pop()]


def test_the_smallest_and_the_largest_frames_hold_the_values_of_the_samples():
    least, most = ends((1, 1, 1), (1, 4, 9))
    assert (least["x"].shape, most["x"].shape) == ((1, 1, 1), (1, 4, 9))
    assert set(least["x"].flat) | set(most["x"].flat) <= {5, 7}


def test_sizes_that_the_samples_have_are_not_made_again():
    assert ends((1, 2, 3), (1, 2, 3)) == []


def test_a_frame_is_enlarged_by_repeating():
    samples = [{"x": np.arange(6).reshape(2, 3)}]
    (made,) = boundary_inputs(samples, [Profile({"x": ((2, 3), (2, 3), (4, 3))})])
    assert made["x"].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]]


class Batched(Skewed):
    """An engine with a batch dimension; it permutes the results if requested."""

    def __init__(self, engine, order):
        super().__init__(engine, 0.0)
        self._order = order

    def infer(self, inputs):
        outputs = [self._engine.infer({"x": row[None]})["y"] for row in inputs["x"]]
        return {"y": np.concatenate(outputs)[self._order]}


@pytest.mark.parametrize(("order", "passed"), [([0, 1], True), ([1, 0], False)])
def test_a_batch_is_compared_with_single_frames(path, order, passed):
    together = [{"x": np.array([[0.5] * 8, [2.0] * 8], np.float32)}]
    assert (
        compare_with_reference(Batched(open_engine(path), order), path, together, STRICT).passed
        == passed
    )


def test_a_network_that_is_no_file_is_proven_too(path):
    model = read_model_file(path)
    path.unlink()
    engine = Skewed(open_reference(model), 0.0)
    assert compare_with_reference(engine, model, SAMPLES, STRICT).passed
