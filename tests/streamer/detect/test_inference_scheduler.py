"""Scheduling of an engine, as simulated by discrete events with the real links and seats."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.clock import SystemClock
from streamer.detect.inference_scheduler import InferenceScheduler
from tests.support.engine_simulation import NS, Camera, Simulation
from tests.support.frames import frame

LOADS = (1.1, 1.5, 2.0, 4.0)


def cameras_at(load, *, service_s=0.125, spread=0.0, slots=1, count=8, seed=0, sample_every=1):
    """Cameras that together want *load* times what an engine with *slots* can do."""
    rng = random.Random(seed)
    fps = load * slots / service_s / count
    return [
        Camera(
            fps=fps * sample_every,
            sample_every=sample_every,
            phase_s=rng.random() / fps,
            service_s=lambda: service_s * rng.lognormvariate(-(spread**2) / 2, spread),
        )
        for _ in range(count)
    ]


def simulated(cameras, *, seconds=60.0, slots=1):
    simulation = Simulation(cameras, slots=slots)
    simulation.run(seconds)
    return simulation


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(("service_s", "slots"), [(0.125, 1), (0.06, 2), (0.2, 4)])
@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_an_overloaded_engine_works_at_its_capacity_for_results_in_time(
    load, service_s, slots, spread
):
    cameras = cameras_at(load, service_s=service_s, slots=slots, spread=spread)
    simulated(cameras, slots=slots)
    warm_s, span_s = 11, 50
    results = [camera.in_time(after_s=warm_s) / span_s for camera in cameras]
    capacity = slots / service_s
    assert sum(results) >= 0.9 * capacity
    fair = min(cameras[0].fps, capacity / len(cameras))
    assert min(results) >= 0.8 * fair
    ages = sorted(age for camera in cameras for age in camera.ages_s)
    assert ages[int(0.99 * len(ages))] <= cameras[0].budget_s


def test_below_its_capacity_every_sampled_frame_is_inferred_in_time():
    cameras = cameras_at(0.9)
    for counts in simulated(cameras).statistics():
        assert counts.skipped == {}
        assert counts.late == 0
        assert counts.wanted - 2 <= counts.inferred <= counts.wanted


@pytest.mark.parametrize("load", LOADS)
def test_a_fast_camera_takes_nothing_from_slow_ones_that_want_less_than_their_share(load):
    fast = Camera(fps=10 * load, service_s=lambda: 0.1)
    slow = [Camera(fps=1, phase_s=n / 10, service_s=lambda: 0.1) for n in range(4)]
    simulated([fast, *slow])
    for camera in slow:
        assert camera.in_time(after_s=11) / 50 >= 0.95
    assert fast.in_time(after_s=11) / 50 >= 5.5


def test_a_short_budget_goes_first_while_everything_fits():
    """Earliest deadline first: in order of arrival the short budget would be missed."""
    patient = [Camera(fps=1, service_s=lambda: 0.1, phase_s=0.001 * n) for n in range(4)]
    urgent = Camera(fps=1, service_s=lambda: 0.1, phase_s=0.01, budget_s=0.35)
    simulated([*patient, urgent])
    counts = urgent.seat.statistics()
    assert (counts.skipped, counts.late) == ({}, 0)
    assert all(camera.seat.statistics().skipped == {} for camera in patient)


def test_an_engine_that_is_too_slow_for_any_budget_gives_each_camera_its_minimum_though_late():
    cameras = [Camera(fps=1, service_s=lambda: 3.0, min_fps=0.05) for _ in range(4)]
    simulation = simulated(cameras, seconds=300)
    for camera, counts in zip(cameras, simulation.statistics(), strict=True):
        gaps = [b - a for a, b in zip(camera.starts_s, camera.starts_s[1:], strict=False)]
        assert max(gaps) <= 1 / camera.min_fps + 4 * 3.0
        assert counts.late == counts.inferred > 10
        assert counts.skipped["no_time"] > 0
        assert counts.overload.since_ns is not None


def test_a_camera_whose_frames_come_too_late_still_gets_its_minimum():
    lagging = Camera(fps=1, delay_s=5.0, service_s=lambda: 0.1)
    others = cameras_at(2, count=4, service_s=0.1)
    simulated([lagging, *others])
    gaps = [b - a for a, b in zip(lagging.starts_s, lagging.starts_s[1:], strict=False)]
    assert max(gaps) <= 1 / lagging.min_fps + 1.5
    assert lagging.seat.statistics().late == len(lagging.ends_s)


def test_a_slow_minute_does_not_end_a_cameras_inferences():
    """Every estimate is above the budget after it, and still the camera recovers soon."""
    slow = [True]
    camera = Camera(fps=1, service_s=lambda: 5.0 if slow[0] else 0.05)
    simulation = simulated([camera], seconds=200)
    slow[0] = False
    simulation.run(120)
    assert camera.in_time(after_s=261) >= 55


def test_the_newest_frame_is_inferred_and_every_frame_is_passed_on_in_order():
    cameras = cameras_at(2, sample_every=10)
    simulated(cameras)
    for camera in cameras:
        numbers = [each.number for each in camera.passed]
        assert numbers == sorted(set(numbers))
        assert len(numbers) >= 0.9 * 60 * camera.fps, "the live view does not freeze"
    waited_s = sorted(age - 0.125 for camera in cameras for age in camera.ages_s)
    assert waited_s[-1] <= 1.1 / cameras[0].fps


def test_a_hung_inference_keeps_its_slot_and_is_visible_while_the_others_go_on():
    hung = Camera(fps=1, service_s=lambda: 1e6)
    others = [Camera(fps=1, service_s=lambda: 0.1) for _ in range(3)]
    simulation = simulated([hung, *others], slots=2)
    counts = hung.seat.statistics()
    assert simulation.clock.now_ns - counts.running_since_ns > 50 * NS
    assert counts.overload.since_ns is not None
    for camera in others:
        assert camera.seat.statistics().overload.share > 0.9
    simulation.scheduler.remove(hung.seat)
    assert hung.seat in simulation.scheduler.seats(), "the engine still works for it"


services = st.builds(
    lambda typical_s, spread, seed: (typical_s, spread, seed),
    st.floats(0.005, 4),
    st.floats(0, 1),
    st.integers(0, 99),
)


@st.composite
def any_camera(draw):
    typical_s, spread, seed = draw(services)
    rng = random.Random(seed)
    return Camera(
        fps=draw(st.floats(0.05, 12)),
        budget_s=draw(st.floats(0.05, 10)),
        phase_s=draw(st.floats(0, 5)),
        min_fps=draw(st.floats(0.05, 2)),
        sample_every=draw(st.integers(1, 5)),
        delay_s=draw(st.sampled_from([0, 0.01, 1, 20])),
        service_s=lambda: typical_s * rng.lognormvariate(0, spread),
    )


@settings(max_examples=60, deadline=None)
@given(
    cameras=st.lists(any_camera(), min_size=1, max_size=6),
    slots=st.integers(1, 4),
    seconds=st.floats(1, 40),
)
def test_whatever_happens_each_frame_is_counted_once_and_no_camera_starves(cameras, slots, seconds):
    simulation = simulated(cameras, slots=slots, seconds=seconds)
    assert simulation.most_running <= slots
    for camera in cameras:
        counts, link = camera.seat.statistics(), camera.link.statistics()
        running = counts.running_since_ns is not None
        assert counts.wanted == counts.inferred + counts.skipped_total + counts.waiting + running
        assert 0 <= counts.waiting <= 2
        assert len(camera.starts_s) == counts.inferred + running
        assert link.received == link.delivered + link.dropped_full + link.dropped_late + link.depth
        numbers = [each.number for each in camera.passed]
        assert numbers == sorted(set(numbers))
    longest_s = max([end - start for one in cameras for start, end in one.spans_s()], default=0.0)
    for camera in cameras:
        # Each other camera goes first at most once in every turn, and some frames may be refused.
        turn_s = (len(cameras) + 1) * longest_s
        minimum_s = max(camera.interval_s, 1 / camera.min_fps)
        bound_s = minimum_s + 5 * camera.interval_s + camera.budget_s + 2 * turn_s
        for gap_s in camera.gaps_s(simulation.clock.now_ns / NS):
            assert gap_s <= bound_s
    simulation.close()
    for camera in cameras:
        counts = camera.seat.statistics()
        running = counts.running_since_ns is not None
        assert counts.waiting == 0
        assert counts.wanted == counts.inferred + counts.skipped_total + running


def seat_of(scheduler):
    return scheduler.seat("a", budget_ns=NS, interval_ns=NS, min_interval_ns=NS)


def test_a_failed_inference_is_counted_and_gives_its_slot_back():
    camera = Camera(fps=1, service_s=lambda: 0.1)
    simulation = Simulation([camera])
    camera.link.put(frame(0, arrived_ns=simulation.clock.now_ns))
    admitted = camera.link._get()
    with pytest.raises(RuntimeError, match="engine"), camera.seat.inference(admitted):
        raise RuntimeError("engine failed")
    assert camera.seat.statistics().skipped == {"failed": 1}
    assert not camera.seat.holds_slot


def test_the_seat_of_a_removed_camera_is_forgotten():
    scheduler = InferenceScheduler(lambda: 1, clock=SystemClock())
    seat = seat_of(scheduler)
    scheduler.remove(seat)
    assert scheduler.seats() == []


def test_impossible_values_are_refused():
    scheduler = InferenceScheduler(lambda: 1, clock=SystemClock())
    with pytest.raises(ValueError, match="must be at least 1, got 0, 1 and 1"):
        scheduler.seat("a", budget_ns=0, interval_ns=1, min_interval_ns=1)
