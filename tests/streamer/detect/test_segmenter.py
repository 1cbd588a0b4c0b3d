"""Segmenter: what the networks get on the CPU and on a GPU, and zoom verification."""

import numpy as np
import pytest

from engines.smoke.yuv_model import MaskStats, Result
from engines.smoke.zoom_verification import WINDOW
from streamer.core.image import Image
from streamer.detect.scene import Background
from streamer.detect.segmenter import CpuSegmenter, GpuSegmenter

NS = 1_000_000_000
SIZE = (64, 96)
IMAGE = Image.from_rgb(np.full((96, 144, 3), 90, np.uint8))


class Network:
    """Reports a spot in the middle of a whole frame, and `crop` everywhere in a crop."""

    input_size = SIZE

    def __init__(self, *, crop=1.0):
        self.crop = crop
        self.sizes = []
        self.backgrounds = []

    def __call__(self, image, background=None):
        self.sizes.append(image.shape[:2])
        self.backgrounds.append(background)
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        if image.shape[:2] != SIZE:
            return np.full((rows, columns), self.crop, np.float32)
        probability = np.zeros((rows, columns), np.float32)
        probability[14:18, 22:26] = 0.81
        return probability


class TwoSpots(Network):
    """Reports two spots far apart, and nothing in a crop."""

    def __call__(self, image, background=None):
        probability = np.zeros((image.shape[0] // 2, image.shape[1] // 2), np.float32)
        if image.shape[:2] == SIZE:
            probability[4:7, 4:7] = probability[24:27, 40:43] = 0.8
        return probability


class NeverCalled(Network):
    def __call__(self, image, background=None):
        raise AssertionError("the CPU was used")


class GpuNetwork:
    """Reports what `Network` reports, and records its inputs."""

    input_size = SIZE

    def __init__(self, network=None):
        self.ready = True
        self.network = network or Network()
        self.views = []
        self.batches = []

    def predict(self, views, *, level, dark=False):
        self.batches.append(len(views))
        return [self._infer(view, level) for view in views]

    def _infer(self, view, level):
        self.views.append(view)
        left, top, width, height = view.window
        luma = view.planes.y[top : top + height, left : left + width]
        image = np.full((*view.size, 3), np.uint8(luma.mean()), np.uint8)
        mask = self.network(image, view.background)
        above = mask > level
        measures = MaskStats(float(mask.max()), float(above.mean()), 0, 0, 0, 0, 0)
        return Result(mask, image, 0.5, measures)


def run(segmenter, *, seconds=1, background=None):
    """Infer one frame per second; return the last result."""
    for second in range(seconds):
        result = segmenter(IMAGE, second * NS, background, enhanced=False)
    return result


@pytest.mark.parametrize(("crop", "left"), [(1.0, 0.9), (0.0, 0.0)])
def test_regions_above_the_high_threshold_are_inferred_again_on_a_crop(crop, left):
    network = Network(crop=crop)
    result = run(CpuSegmenter(network, verify_thresholds=(0.4, 0.3)))
    assert network.sizes == [SIZE, WINDOW]
    assert result.probability[16, 24] == pytest.approx(left, abs=1e-6)


@pytest.mark.parametrize("thresholds", [None, (0.9, 0.3)])
def test_without_a_region_above_the_high_threshold_there_is_one_inference(thresholds):
    network = Network()
    result = run(CpuSegmenter(network, verify_thresholds=thresholds))
    assert network.sizes == [SIZE]
    assert result.probability[16, 24] == pytest.approx(0.81)


def test_frame_and_crop_are_compared_with_the_background_once_there_is_one():
    network = Network()
    background = Background(min_age_s=2, step_s=1, slots=1)
    segmenter = CpuSegmenter(network, verify_thresholds=(0.4, 0.3))
    assert not run(segmenter, background=background).used_background
    assert run(segmenter, seconds=5, background=background).used_background
    assert network.backgrounds[0] is None
    assert network.backgrounds[-2].shape[:2] == SIZE
    assert network.backgrounds[-1].shape[:2] == network.sizes[-1] == WINDOW


def test_a_frame_that_was_made_brighter_is_inferred_as_a_dark_one():
    given = []

    class Dark(Network):
        def __call__(self, image, background=None, *, dark=False):
            given.append(dark)
            return super().__call__(image, background)

    segmenter = CpuSegmenter(Dark(), verify_thresholds=(0.4, 0.3))
    for enhanced in (True, False):
        segmenter(IMAGE, 0, None, enhanced=enhanced)
    assert given == [True, True, False, False]


def test_a_gpu_gets_the_decoded_planes():
    gpu = GpuNetwork()
    segmenter = GpuSegmenter(gpu, CpuSegmenter(NeverCalled()), verify_thresholds=(0.4, 0.3))
    result = run(segmenter, seconds=3, background=Background())
    assert [view.size for view in gpu.views] == [SIZE, WINDOW] * 3
    assert gpu.views[0].planes.y.base is not None, "the decoder's own memory"
    assert result.probability[16, 24] == pytest.approx(0.9, abs=1e-6)
    assert result.image.shape == (*SIZE, 3)


def test_while_the_gpu_is_not_ready_the_cpu_infers_with_the_same_background():
    cpu, gpu = Network(), GpuNetwork()
    background = Background(min_age_s=2, step_s=1, slots=1)
    segmenter = GpuSegmenter(gpu, CpuSegmenter(cpu))
    for second in range(6):
        gpu.ready = second % 2 == 0
        segmenter(IMAGE, second * NS, background, enhanced=False)
    assert len(cpu.sizes) == 3
    assert len(gpu.views) >= 3
    assert cpu.backgrounds[-1] is not None
    assert gpu.views[-1].background is not None


def test_a_frame_that_changes_the_background_is_inferred_again_with_the_new_one():
    gpu = GpuNetwork()
    background = Background(min_age_s=2, step_s=1, slots=1)
    segmenter = GpuSegmenter(gpu, CpuSegmenter(NeverCalled()))
    given = []
    for second in range(4):
        before = len(gpu.views)
        segmenter(IMAGE, second * NS, background, enhanced=False)
        given.append([view.background for view in gpu.views[before:]])
    assert [len(backgrounds) for backgrounds in given] == [1, 1, 2, 2]
    assert given[2][0] is None
    assert all(backgrounds[-1] is not None for backgrounds in given[2:])


def test_all_crops_of_a_frame_are_one_batch():
    gpu = GpuNetwork(TwoSpots())
    segmenter = GpuSegmenter(gpu, CpuSegmenter(NeverCalled()), verify_thresholds=(0.4, 0.3))
    assert run(segmenter).probability.max() < 0.1
    assert gpu.batches == [1, 2]


def test_below_the_high_threshold_no_crop_is_inferred():
    gpu = GpuNetwork()
    segmenter = GpuSegmenter(gpu, CpuSegmenter(NeverCalled()), verify_thresholds=(0.9, 0.3))
    run(segmenter)
    assert gpu.batches == [1]
