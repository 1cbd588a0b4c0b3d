"""The full-resolution part on GPUs matches the CPU's, and falls back to it on failure."""

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from engines.backends.cpu import open_reference
from engines.common.dataset import read_rgb
from engines.common.i420 import i420_to_rgb, rgb_to_i420
from engines.engine import EngineState
from engines.errors import DeviceLost, EngineError, OutOfDeviceMemory
from engines.lowlight import full_resolution_gpu, model
from engines.lowlight.denoise import LONGEST, Noise, _shares
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.evaluate import CLIPS, dark_clip
from engines.lowlight.full_resolution import OnCpu
from engines.lowlight.metrics import brightness_flicker
from engines.lowlight.model import open_lowlight_model
from engines.yuv import Yuv
from tests.engines.lowlight.scenes import Model, lifting, planes, street

RATE = 25


class Pretending:
    """The reference, which says that it is a GPU's."""

    def __init__(self, path=full_resolution_gpu.SHIPPED):
        self._engine = open_reference(path)
        self.spec, self.backend = self._engine.spec, self._engine.backend
        self.state = EngineState("cuda:0")
        self.error = None
        self.calls = 0
        self.closed = False

    def infer(self, inputs):
        if self.error is not None:
            raise self.error
        self.calls += 1
        return self._engine.infer(inputs)

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def reference():
    return Pretending()


class Beside:
    """Both implementations on the same frames; records how far they differ."""

    def __init__(self, engine):
        self._pieces = (OnCpu(), full_resolution_gpu.OnDevice(engine, failed=pytest.fail))
        self.apart, self.shown = [], ([], [])

    def reset(self):
        for piece in self._pieces:
            piece.reset()

    def __call__(self, planes, done, noise, *, gain):
        both = [piece(planes, done, noise, gain=gain) for piece in self._pieces]
        for shown, lit in zip(self.shown, both, strict=True):
            shown.append(lit)
        pairs = zip(*(each.planes for each in both), strict=True)
        self.apart.append([np.abs(a.astype(int) - b) for a, b in pairs])
        return both[0]

    @property
    def largest(self):
        """Largest difference in bytes, of any plane of any frame."""
        return max(int(plane.max()) for planes in self.apart for plane in planes)

    @property
    def share(self):
        """Of bytes that differ, in the worst plane."""
        return max(float((plane > 0).mean()) for planes in self.apart for plane in planes)

    @property
    def mean(self):
        """Bytes, in the worst plane."""
        return max(float(plane.mean()) for planes in self.apart for plane in planes)


def beside(engine, frames, *, model=None):
    both = Beside(engine)
    enhancer = Enhancer(model or Model(0.4), always=True, full_resolution=both)
    for number, frame in enumerate(frames):
        enhancer(frame, number / RATE)
    return both


def moving(size, count=12, *, full_range=False):
    """A dark street, noisy in all planes, that moves at times."""
    for number in range(count):
        rng = np.random.default_rng(number)
        frame = planes(street(0.1, noise=2.5, seed=number, size=size, shift=2 * (number // 3)))
        grain = (rng.normal(0, 2, plane.shape) for plane in frame.chroma)
        chroma = tuple(np.rint(124 + each).astype(np.uint8) for each in grain)
        yield replace(frame, chroma=chroma, full_range=full_range)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (144, 256), (180, 324)])
def test_it_says_what_the_cpu_says_but_for_halves(reference, size, full_range):
    both = beside(reference, moving(size, full_range=full_range))
    assert both.largest <= 1
    assert both.share < 2e-3


def test_balance_and_blots_are_heeded(reference):
    both = Beside(reference)
    done = replace(lifting(0.5, levels=4), balance=(7.0, -9.0))
    for frame in moving((144, 256), 14):
        both(frame, done, Noise(2.5, 0.9), gain=3.0)
    assert both.largest <= 1
    assert both.share < 2e-3


@pytest.mark.parametrize(
    ("size", "luma", "chroma"),
    [
        ((180, 322), 0.001, 0.25),  # an odd half: chroma is guided in other windows
        ((145, 255), 0.9, 0.9),  # odd itself: so is luma
        ((17, 33), 2.5, 1.5),
    ],
)
def test_odd_sizes_differ_by_where_windows_lie(reference, size, luma, chroma):
    both = beside(reference, moving(size))
    worst = np.max([[plane.mean() for plane in planes] for planes in both.apart], axis=0)
    assert worst[0] < luma
    assert worst[1:].max() < chroma
    ours, theirs = (np.mean([lit.y for lit in shown]) for shown in both.shown)
    assert theirs == pytest.approx(ours, abs=0.1)


def test_at_odd_sizes_as_much_noise_is_left_as_the_cpu_leaves_at_even_ones(reference):
    left = {}
    for size in ((180, 320), (181, 321)):
        half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        flat = [
            np.full(side, level, float) for side, level in ((size, 30), (half, 120), (half, 131))
        ]
        noisy = []
        for number in range(12):
            rng = np.random.default_rng(number)
            grain = (plane + rng.normal(0, 2.5, plane.shape) for plane in flat)
            y, *chroma = (np.rint(plane).astype(np.uint8) for plane in grain)
            noisy.append(Yuv(y, tuple(chroma)))
        cpus, gpus = beside(reference, noisy).shown
        left[size] = [
            float(plane.std()) for plane in (cpus if size[0] % 2 == 0 else gpus)[-1].planes
        ]
    even, odd = left.values()
    assert odd == pytest.approx(even, rel=0.1)


@pytest.mark.parametrize("count", range(1, LONGEST + 1))
def test_every_share_equals_that_of_the_cpus_table(reference, count):
    # Flat blocks, each so many bytes from a black past, where a byte of change is one step.
    change = np.arange(256, dtype=np.uint8)
    y = np.tile(change.repeat(16), (16, 1))
    terms = full_resolution_gpu.Terms.of(Noise(0, 0), gain=1, frames=count)._replace(unit=1 / 25)
    frame = Yuv(y, (np.zeros((8, 2048), np.uint8),) * 2, full_range=True)
    given = full_resolution_gpu.inputs_of(frame, lifting(0.5), terms)
    past = {
        "past_y": np.zeros(y.shape, np.float32),
        "past_uv": np.zeros((2, 8, 2048), np.float32),
        "past_left": np.ones((8, 2048), np.float32),
    }
    kept = reference.infer({**given, **past})["next_y"][8, 8::16]
    share = np.rint(256 * _shares(count))
    np.testing.assert_array_equal(kept, np.rint(64.0 * change * share / 256))


def test_what_the_cpu_remembers_is_gone_on_with_when_a_plan_is_ready():
    engine = Pretending()
    engine.state = EngineState("cpu", building=0.5)
    both = Beside(engine)
    enhancer = Enhancer(Model(), full_resolution=both)
    for number, frame in enumerate(moving((144, 256))):
        if number == 5:
            assert engine.calls == 0
            engine.state = EngineState("cuda:0")
        enhancer(frame, number / RATE)
    assert engine.calls == 7
    assert both.largest <= 1


@pytest.mark.parametrize("error", [DeviceLost, OutOfDeviceMemory, EngineError])
def test_a_frame_that_the_device_fails_is_reported_and_done_by_the_cpu(error):
    engine, reported = Pretending(), []
    part = full_resolution_gpu.OnDevice(engine, failed=reported.append)
    enhancer = Enhancer(Model(), full_resolution=part)
    lit = []
    for number, frame in enumerate(moving((144, 256), 8)):
        engine.error = error("gone") if number == 4 else None
        lit.append(enhancer(frame, number / RATE))
    assert reported == ["gone"]
    assert engine.calls == 7
    means = [float(each.y.mean()) for each in lit]
    assert means[4:] == pytest.approx([means[3]] * 4, rel=0.05)


@pytest.mark.parametrize("size", [(15, 300), (300, 14)])
def test_what_is_smaller_than_it_was_compiled_for_is_done_by_the_cpu(reference, size):
    calls = reference.calls
    both = beside(reference, moving(size, 2))
    assert both.largest == 0
    assert reference.calls == calls


def test_a_size_that_changes_begins_anew(reference):
    frames = [*moving((144, 256), 3), *moving((96, 160), 3)]
    assert beside(reference, frames).largest <= 1


def opened(monkeypatch, full_resolution):
    """The model, on a machine whose GPU runs this engine."""
    monkeypatch.setattr(model, "find_gpu", lambda device: full_resolution and "a GPU")
    monkeypatch.setattr(model, "load_on_gpu", lambda file, runtime, settings: full_resolution)
    return open_lowlight_model(device="auto", validate=False)


@pytest.mark.parametrize("device", ["cuda:0", "cpu"])
def test_backend_and_state_are_those_of_the_full_resolution_part_at_this_moment(
    monkeypatch, device
):
    engine = Pretending()
    engine.state = EngineState("cpu", building=0.1)
    lowlight = opened(monkeypatch, engine)
    assert lowlight.state.building == 0.1
    engine.state, engine.backend = EngineState(device), f"changed over to {device}"
    assert (lowlight.state, lowlight.backend) == (engine.state, engine.backend)
    (dark,) = moving((144, 256), 1)
    lowlight.enhancer()(dark, 0.0)
    assert engine.calls == (device != "cpu")
    lowlight.enhancer(denoise=False)(dark, 0.0)
    assert engine.calls == (device != "cpu")
    lowlight.close()
    assert engine.closed


def test_without_a_gpu_no_engine_is_opened_for_full_resolution(monkeypatch):
    lowlight = opened(monkeypatch, None)
    (dark,) = moving((144, 256), 1)
    assert lowlight.enhancer()(dark, 0.0).y.mean() > dark.y.mean()
    assert lowlight.state == EngineState("cpu")


def test_a_gpu_that_fails_is_reported_in_the_log(monkeypatch, caplog):
    engine = Pretending()
    lowlight = opened(monkeypatch, engine)
    engine.error = DeviceLost("the driver went away")
    (dark,) = moving((144, 256), 1)
    lit = lowlight.enhancer()(dark, 0.0)
    assert lit.y.mean() > dark.y.mean()
    assert "the driver went away" in caplog.text


@pytest.fixture(scope="module")
def network():
    return open_lowlight_model(device="cpu", validate=False)


@pytest.mark.data
@pytest.mark.slow
def test_a_real_night_of_1080p_is_the_same_to_a_byte(reference, network, data):
    paths = sorted((data / "video" / "uavdark_person11_night").glob("*.jpg"))[:7]
    both = beside(reference, [rgb_to_i420(read_rgb(path)) for path in paths], model=network)
    assert both.largest <= 1
    assert both.share < 5e-4


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("clip", CLIPS)
def test_darkened_clips_are_the_same_and_flicker_no_more(reference, network, data, clip):
    frames = dark_clip(data / "video" / clip)[:25]
    both = beside(reference, map(rgb_to_i420, frames), model=network)
    assert both.mean < 0.1
    ours, theirs = (brightness_flicker([i420_to_rgb(lit) for lit in shown]) for shown in both.shown)
    assert theirs == pytest.approx(ours, abs=0.002)


@pytest.mark.data
def test_single_dark_photos_are_the_same(reference, network, data):
    paths = sorted((data / "lowlight").glob("*/*.*"))
    images = [p for p in paths if p.suffix.lower() in {".jpg", ".png", ".bmp"}]
    assert images
    for path in itertools.islice(images, 0, None, max(1, len(images) // 8)):
        both = beside(reference, [rgb_to_i420(read_rgb(path))], model=network)
        assert both.mean < 0.25, path


def test_the_shipped_file_is_what_the_code_makes():
    onnx = pytest.importorskip("onnx", reason="the extras train, tensorrt and rtx have it")
    from engines.lowlight.full_resolution_graph import make

    shipped, made = onnx.load(str(full_resolution_gpu.SHIPPED)), make()
    assert shipped.graph == made.graph
    assert shipped.metadata_props == made.metadata_props


def test_the_profile_names_every_input(reference):
    shapes = full_resolution_gpu.profile().shapes
    assert shapes.keys() == {tensor.name for tensor in reference.spec.inputs}
    for sample in full_resolution_gpu.validation_samples():
        for name, array in sample.items():
            few, _, many = shapes[name]
            assert all(a <= b <= c for a, b, c in zip(few, array.shape, many, strict=True))


def test_running_needs_no_onnx():
    code = (
        "import sys, engines.lowlight.model, engines.lowlight.full_resolution_gpu;"
        "print(sorted({'onnx', 'tensorrt', 'pycuda', 'torch'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
