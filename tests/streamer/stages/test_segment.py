"""The segment stage: when it looks, what it looks with, and what a frame carries on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.alarm.background import Background
from streamer.frame import Frame
from streamer.picture import Picture
from streamer.stages.segment import Segment

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


def frames(times_ns, *, picture=None):
    picture = picture or Picture.from_rgb(np.full((96, 144, 3), 90, np.uint8))
    return [
        Frame(picture=picture, pts_ns=pts_ns, arrived_ns=pts_ns, number=number)
        for number, pts_ns in enumerate(times_ns)
    ]


def looked(segment, shown):
    return [frame.pts_ns for frame in segment(iter(shown)) if frame.looked]


@given(rate=st.integers(1, 60), interval_s=st.sampled_from([0.5, 1, 2, 10]))
def test_looks_come_as_often_as_asked_at_any_frame_rate(rate, interval_s):
    seconds = 60
    times = [round(number * NS / rate) for number in range(seconds * rate)]
    times_looked = looked(Segment(Network(), interval_ns=round(interval_s * NS)), frames(times))
    wanted = seconds * min(rate, 1 / interval_s)
    assert abs(len(times_looked) - wanted) <= 1


def test_after_a_gap_looks_begin_anew_and_the_old_map_is_not_carried_on():
    times = [0, NS, 50 * NS, 50 * NS + NS // 2, 51 * NS]
    shown = list(Segment(Network(), interval_ns=NS)(iter(frames(times))))
    assert [frame.smoke.pts_ns for frame in shown] == [0, NS, 50 * NS, 50 * NS, 51 * NS]
    segment = Segment(Network(), interval_ns=10 * NS)
    invented = [replace(frame, synthetic=True) for frame in frames([0, NS])]
    assert [frame.smoke for frame in segment(iter(invented))] == [None, None]


def test_invented_pictures_are_never_looked_at():
    network = Network()
    first, second = frames([0, 5 * NS])
    shown = list(Segment(network, interval_ns=NS)(iter([first, replace(second, synthetic=True)])))
    assert len(network.looks) == 1
    assert not shown[1].looked
    assert shown[1].smoke is shown[0].smoke


@pytest.mark.parametrize(("again", "left"), [(1.0, 0.9), (0.0, 0.0)])
def test_what_is_suspect_is_looked_at_again_in_the_cameras_own_pixels(again, left):
    network = Network(again=again)
    (frame,) = Segment(network, interval_ns=NS, suspect=(0.4, 0.3))(iter(frames([0])))
    assert len(network.looks) == 2
    assert frame.smoke.probability[16, 24] == pytest.approx(left, abs=1e-6)
    assert not frame.smoke.probability.flags.writeable


@pytest.mark.parametrize("suspect", [None, (0.9, 0.3)])
def test_what_is_not_suspect_is_looked_at_once(suspect):
    network = Network()
    (frame,) = Segment(network, interval_ns=NS, suspect=suspect)(iter(frames([0])))
    assert network.looks == [SIZE]
    assert frame.smoke.probability[16, 24] == pytest.approx(0.81)


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
