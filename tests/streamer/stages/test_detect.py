"""The segment stage: when it looks, what it looks with, and what a frame carries on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.smoke.yuv_model import Measures, Seen
from engines.smoke.zoom_verification import WINDOW
from streamer.core.frame import Frame
from streamer.core.image import Image
from streamer.detect.background import Background
from streamer.stages.detect import Segment

NS = 1_000_000_000
SIZE = (64, 96)


class Network:
    """A spot in the middle when it looks at the whole, `again` everywhere when at a part."""

    input_size = SIZE

    def __init__(self, *, again=1.0):
        self.again = again
        self.looks = []
        self.backgrounds = []

    def __call__(self, image, background=None):
        self.looks.append(image.shape[:2])
        self.backgrounds.append(background)
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        if image.shape[:2] != SIZE:
            return np.full((rows, columns), self.again, np.float32)
        probability = np.zeros((rows, columns), np.float32)
        probability[14:18, 22:26] = 0.81
        return probability


def frames(times_ns, *, image=None):
    image = image or Image.from_rgb(np.full((96, 144, 3), 90, np.uint8))
    return [
        Frame(image=image, pts_ns=pts_ns, arrived_ns=pts_ns, number=number)
        for number, pts_ns in enumerate(times_ns)
    ]


def has_fresh_result(segment, shown):
    return [frame.pts_ns for frame in segment(iter(shown)) if frame.has_fresh_result]


@given(rate=st.integers(1, 60), interval_s=st.sampled_from([0.5, 1, 2, 10]))
def test_looks_come_as_often_as_asked_at_any_frame_rate(rate, interval_s):
    seconds = 60
    times = [round(number * NS / rate) for number in range(seconds * rate)]
    times_looked = has_fresh_result(
        Segment(Network(), interval_ns=round(interval_s * NS)), frames(times)
    )
    wanted = seconds * min(rate, 1 / interval_s)
    assert abs(len(times_looked) - wanted) <= 1


def test_after_a_gap_looks_begin_anew_and_the_old_map_is_not_carried_on():
    times = [0, NS, 50 * NS, 50 * NS + NS // 2, 51 * NS]
    shown = list(Segment(Network(), interval_ns=NS)(iter(frames(times))))
    assert [frame.segmentation.pts_ns for frame in shown] == [0, NS, 50 * NS, 50 * NS, 51 * NS]
    segment = Segment(Network(), interval_ns=10 * NS)
    invented = [replace(frame, synthetic=True) for frame in frames([0, NS])]
    assert [frame.segmentation for frame in segment(iter(invented))] == [None, None]


def test_invented_pictures_are_never_looked_at():
    network = Network()
    first, second = frames([0, 5 * NS])
    shown = list(Segment(network, interval_ns=NS)(iter([first, replace(second, synthetic=True)])))
    assert len(network.looks) == 1
    assert not shown[1].has_fresh_result
    assert shown[1].segmentation is shown[0].segmentation


@pytest.mark.parametrize(("again", "left"), [(1.0, 0.9), (0.0, 0.0)])
def test_what_is_suspect_is_looked_at_again_in_the_cameras_own_pixels(again, left):
    network = Network(again=again)
    (frame,) = Segment(network, interval_ns=NS, suspect=(0.4, 0.3))(iter(frames([0])))
    assert len(network.looks) == 2
    assert frame.segmentation.probability[16, 24] == pytest.approx(left, abs=1e-6)
    assert not frame.segmentation.probability.flags.writeable


@pytest.mark.parametrize("suspect", [None, (0.9, 0.3)])
def test_what_is_not_suspect_is_looked_at_once(suspect):
    network = Network()
    (frame,) = Segment(network, interval_ns=NS, suspect=suspect)(iter(frames([0])))
    assert network.looks == [SIZE]
    assert frame.segmentation.probability[16, 24] == pytest.approx(0.81)


def test_both_looks_have_the_background_once_there_is_one():
    network = Network()
    segment = Segment(
        network,
        interval_ns=NS,
        background=Background(min_age_s=2, step_s=1, slots=1),
        suspect=(0.4, 0.3),
    )
    list(segment(iter(frames([number * NS for number in range(5)]))))
    assert network.backgrounds[0] is None
    assert network.backgrounds[-2].shape[:2] == SIZE
    assert network.backgrounds[-1].shape[:2] == network.looks[-1]


def test_a_senseless_interval_is_refused():
    with pytest.raises(ValueError, match="interval_ns"):
        Segment(Network(), interval_ns=0)


class ByPlanes:
    """On a GPU: says what `Network` says, and remembers what it was asked."""

    input_size = SIZE

    def __init__(self, *, again=1.0):
        self.ready = True
        self.network = Network(again=again)
        self.asked = []
        self.at_once = []

    def look(self, views, *, level, dark=False):
        self.at_once.append(len(views))
        return [self._seen(view, level) for view in views]

    def _seen(self, view, level):
        self.asked.append(view)
        left, top, width, height = view.window
        luma = view.planes.y[top : top + height, left : left + width]
        image = np.full((*view.size, 3), np.uint8(luma.mean()), np.uint8)
        mask = self.network(image, view.background)
        there = mask > level
        measures = Measures(float(mask.max()), float(there.mean()), 0, 0, 0, 0, 0)
        return Seen(mask, image, 0.5, measures)


def test_on_a_gpu_the_planes_are_looked_at_and_what_was_seen_comes_back():
    gpu = ByPlanes()
    segment = Segment(
        Refusing(), on_gpu=gpu, interval_ns=NS, background=Background(), suspect=(0.4, 0.3)
    )
    shown = list(segment(iter(frames([0, NS, 2 * NS]))))
    assert [view.size for view in gpu.asked] == [SIZE, WINDOW] * 3
    assert gpu.asked[0].planes.y.base is not None, "the decoder's own memory"
    assert shown[0].segmentation.probability[16, 24] == pytest.approx(0.9, abs=1e-6)
    assert not shown[0].segmentation.probability.flags.writeable
    assert shown[0].segmentation.scene_signature is not None
    assert shown[1].segmentation.motion is not None


class Refusing(Network):
    def __call__(self, image, background=None):
        raise AssertionError("the CPU was asked")


def test_whenever_the_gpu_is_not_ready_the_cpu_looks_and_the_background_goes_on():
    cpu, gpu = Network(), ByPlanes()
    background = Background(min_age_s=2, step_s=1, slots=1)
    segment = Segment(cpu, on_gpu=gpu, interval_ns=NS, background=background)
    for number, frame in enumerate(frames([number * NS for number in range(6)])):
        gpu.ready = number % 2 == 0
        list(segment(iter([frame])))
    assert len(cpu.looks) == 3
    assert len(gpu.asked) >= 3
    assert cpu.backgrounds[-1] is not None
    assert gpu.asked[-1].background is not None


def test_a_look_with_a_background_that_it_made_old_is_taken_again():
    gpu = ByPlanes()
    background = Background(min_age_s=2, step_s=1, slots=1)
    segment = Segment(Refusing(), on_gpu=gpu, interval_ns=NS, background=background)
    given = []
    for frame in frames([number * NS for number in range(4)]):
        before = len(gpu.asked)
        list(segment(iter([frame])))
        given.append([view.background for view in gpu.asked[before:]])
    assert [len(looks) for looks in given] == [1, 1, 2, 2]
    assert given[2][0] is None
    assert all(looks[-1] is not None for looks in given[2:])


def test_suspects_are_looked_at_together_and_nothing_is_where_nothing_exceeds():
    gpu = ByPlanes()
    gpu.network = Spots()
    (frame,) = Segment(Refusing(), on_gpu=gpu, interval_ns=NS, suspect=(0.4, 0.3))(
        iter(frames([0]))
    )
    assert gpu.at_once == [1, 2]
    assert frame.segmentation.probability.max() < 0.1
    quiet = ByPlanes()
    list(Segment(Refusing(), on_gpu=quiet, interval_ns=NS, suspect=(0.9, 0.3))(iter(frames([0]))))
    assert quiet.at_once == [1]


class Spots(Network):
    """Two spots far apart; nothing when it looks again."""

    def __call__(self, image, background=None):
        mask = np.zeros((image.shape[0] // 2, image.shape[1] // 2), np.float32)
        if image.shape[:2] == SIZE:
            mask[4:7, 4:7] = mask[24:27, 40:43] = 0.8
        return mask
