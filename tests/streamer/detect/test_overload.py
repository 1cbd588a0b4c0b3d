"""Overload as a state: when it begins and ends, and its figures."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.detect.overload import OverloadMonitor

S = 1_000_000_000


class Camera:
    """One frame a second is wanted; a share of them is inferred."""

    def __init__(self, *, interval_s=1):
        self.monitor = OverloadMonitor(interval_s * S)
        self.interval_s = interval_s
        self.now_s = 0
        self.counts = {"wanted": 0, "in_time": 0, "late": 0}
        self.state = None

    def run(self, frames, *, inferred, late=0.0):
        for number in range(frames):
            self.now_s += self.interval_s
            self.counts["wanted"] += 1
            self.counts["in_time"] += int((number + 1) * inferred) - int(number * inferred)
            self.counts["late"] += int((number + 1) * late) - int(number * late)
            self.state = self.monitor.update(self.now_s * S, **self.counts)
        return self.state


def test_a_camera_that_gets_what_it_wants_is_not_overloaded():
    state = Camera().run(100, inferred=1)
    assert state.since_ns is None
    assert (round(state.wanted_fps, 6), round(state.inferred_fps, 6), state.share) == (1, 1, 1)


def test_a_camera_that_gets_a_quarter_is_overloaded_with_its_figures():
    camera = Camera()
    camera.run(100, inferred=1)
    state = camera.run(60, inferred=0.25)
    assert 100 * S < state.since_ns < 115 * S
    assert abs(state.share - 0.25) < 0.05
    assert abs(state.inferred_fps - 0.25) < 0.05
    assert state.worst_share <= state.share


def test_late_results_are_inferences_but_not_in_time():
    state = Camera().run(60, inferred=0, late=1)
    assert state.since_ns is not None
    assert (state.share, round(state.inferred_fps, 6)) == (0, 1)


def test_the_state_ends_only_well_above_the_share_at_which_it_began():
    camera = Camera()
    assert camera.run(60, inferred=0.85).since_ns is not None
    assert camera.run(100, inferred=0.94).since_ns is not None
    assert camera.run(100, inferred=1).since_ns is None
    assert camera.state.worst_share == 1
    assert camera.run(100, inferred=0.94).since_ns is None


def test_one_missing_inference_of_a_slow_camera_is_no_overload():
    camera = Camera(interval_s=60)
    camera.run(20, inferred=1)
    assert camera.run(1, inferred=0).since_ns is None
    assert camera.run(30, inferred=0).since_ns is not None


def test_a_slow_start_is_no_overload():
    camera = Camera()
    assert camera.run(1, inferred=0).since_ns is None
    assert camera.run(60, inferred=1).since_ns is None


@given(st.lists(st.sampled_from(["in_time", "late", "skipped"]), max_size=200))
def test_the_shares_are_shares_whatever_happens(fates):
    camera = Camera()
    for fate in fates:
        state = camera.run(1, inferred=fate == "in_time", late=fate == "late")
        assert 0 <= state.worst_share <= state.share <= 1 or state.since_ns is None
        assert 0 <= state.inferred_fps <= state.wanted_fps + 1e-9
