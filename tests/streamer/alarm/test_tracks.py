"""Tracks: which detection continues which track, what is discarded, and the measures."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.alarm.tracks import Track, Tracker, TrackPoint, merge_regions
from streamer.core.frame import Detection
from streamer.detect.regions import find_regions

NS = 1_000_000_000


def region(
    left, top, right, bottom, *, area=None, confidence=0.8, peak=0.9, motion=None, ground_point=None
):
    return Detection(
        box=(left, top, right, bottom),
        centroid=((left + right) / 2, (top + bottom) / 2),
        ground_point=ground_point or ((left + right) / 2, bottom),
        area=area or (right - left) * (bottom - top),
        confidence=confidence,
        peak=peak,
        motion=motion,
    )


def tracker(*, window_s: int = 60, track_timeout_s: int = 5) -> Tracker:
    return Tracker(window_ns=window_s * NS, timeout_ns=track_timeout_s * NS)


def track(*regions: Detection) -> Track:
    """One point per second."""
    found = Track(1)
    found.points.extend(TrackPoint(at * NS, seen) for at, seen in enumerate(regions))
    return found


def times(found: Track) -> list[float]:
    return [seen.pts_ns / NS for seen in found.points]


PLUME = region(0.2, 0.2, 0.4, 0.6)
FAR = region(0.7, 0.1, 0.8, 0.3)


def test_a_blob_that_stays_is_one_track_from_its_first_inference():
    tracks = tracker()
    for at in range(3, 8):
        tracks.update(at * NS, [PLUME])
    (only,) = tracks.tracks
    assert (only.number, only.first_ns) == (1, 3 * NS)
    assert times(only) == [3, 4, 5, 6, 7]
    assert only.last == TrackPoint(7 * NS, PLUME)


def test_inferences_further_apart_than_the_timeout_still_make_a_track():
    tracks = tracker(track_timeout_s=5)
    for at in (0, 60, 120):
        tracks.update(at * NS, [PLUME])
    (only,) = tracks.tracks
    assert only.number == 1


def test_a_plume_that_tears_and_closes_stays_one_track():
    tracks = tracker()
    whole = region(0.2, 0.2, 0.6, 0.6)
    parts = [region(0.2, 0.2, 0.3, 0.6), region(0.5, 0.2, 0.6, 0.6)]
    tracks.update(0, [whole])
    tracks.update(NS, parts)
    tracks.update(2 * NS, [whole])
    (only,) = tracks.tracks
    assert only.number == 1
    assert [seen.region for seen in only.points] == [whole, merge_regions(parts), whole]


def test_blobs_far_apart_are_two_tracks_whatever_their_order():
    tracks = tracker()
    for at, regions in enumerate([[PLUME, FAR], [FAR, PLUME], [PLUME, FAR]]):
        tracks.update(at * NS, regions)
    first, second = tracks.tracks
    assert (first.number, second.number) == (1, 2)
    assert {seen.region for seen in first.points} == {PLUME}
    assert {seen.region for seen in second.points} == {FAR}


def test_boxes_that_only_touch_do_not_overlap():
    tracks = tracker()
    tracks.update(0, [region(0.2, 0.2, 0.4, 0.6), region(0.4, 0.2, 0.6, 0.6)])
    assert len(tracks.tracks) == 2


@pytest.mark.parametrize(("step", "count"), [(0.05, 1), (0.07, 2)])
def test_a_small_blob_continues_while_its_ground_point_stays_near(step, count):
    tracks = tracker()
    tracks.update(0, [region(0.5, 0.5, 0.51, 0.51)])
    tracks.update(NS, [region(0.5 + step, 0.5, 0.51 + step, 0.51)])
    assert len(tracks.tracks) == count


def test_a_plume_over_the_same_ground_point_continues_without_any_overlap():
    tracks = tracker()
    tracks.update(0, [region(0.50, 0.5, 0.52, 0.6)])
    tracks.update(NS, [region(0.53, 0.3, 0.55, 0.6)])
    assert len(tracks.tracks) == 1


@given(
    steps=st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), max_size=20),
    grown=st.lists(st.integers(-1, 2), min_size=20, max_size=20),
)
def test_a_blob_that_drifts_and_grows_keeps_its_track(steps, grown):
    tracks, x, y, size = tracker(), 50, 50, 10
    for at, ((right, down), more) in enumerate(zip([(0, 0), *steps], grown, strict=False)):
        x, y = min(90, max(20, x + right)), min(90, max(20, y + down))
        size = min(20, max(8, size + more))
        probability = np.zeros((100, 100), np.float32)
        probability[y - size : y, x - size // 2 : x + size // 2] = 0.9
        tracks.update(at * NS, find_regions(probability, threshold=0.5))
        assert [found.number for found in tracks.tracks] == [1]
        assert len(tracks.tracks[0].points) == at + 1


def test_a_track_survives_its_timeout_and_not_a_nanosecond_more():
    tracks = tracker(track_timeout_s=5)
    tracks.update(0, [PLUME])
    tracks.update(5 * NS, [PLUME])
    assert [found.number for found in tracks.tracks] == [1]
    tracks.update(6 * NS, [])
    tracks.update(10 * NS + 1, [PLUME])
    (again,) = tracks.tracks
    assert (again.number, again.first_ns) == (2, 10 * NS + 1)
    assert times(again) == [10 + 1e-9]


def test_inferences_without_detections_end_a_track_only_after_its_timeout():
    tracks = tracker(track_timeout_s=5)
    tracks.update(0, [PLUME])
    tracks.update(5 * NS, [])
    assert times(tracks.tracks[0]) == [0]
    tracks.update(6 * NS, [])
    assert tracks.tracks == []


def test_points_older_than_the_window_are_discarded_but_the_first_time_stays():
    tracks = tracker(window_s=3)
    for at in range(8):
        tracks.update(at * NS, [PLUME])
    (only,) = tracks.tracks
    assert times(only) == [4, 5, 6, 7]
    assert only.first_ns == 0


def test_parts_with_ground_points_close_together_are_one_point():
    tracks = tracker()
    tracks.update(0, [PLUME])
    left, right = region(0.25, 0.3, 0.3, 0.6), region(0.3, 0.3, 0.35, 0.6)
    tracks.update(NS, [left, right])
    (only,) = tracks.tracks
    assert times(only) == [0, 1]
    assert only.last.region == merge_regions([left, right])


def test_a_region_over_two_tracks_merges_them_into_the_older_one():
    tracks = tracker()
    left, right = region(0.1, 0.2, 0.2, 0.6), region(0.5, 0.2, 0.6, 0.6)
    tracks.update(0, [left])
    tracks.update(NS, [right, FAR])
    tracks.update(2 * NS, [left, right, FAR])
    assert [found.number for found in tracks.tracks] == [1, 2, 3]
    both = region(0.1, 0.2, 0.6, 0.6)
    tracks.update(3 * NS, [both, FAR])
    joined, other = tracks.tracks
    assert (joined.number, joined.first_ns, other.number) == (1, 0, 3)
    assert times(joined) == [0, 1, 2, 3]
    seen = [point.region for point in joined.points]
    assert seen == [left, right, merge_regions([left, right]), both]


def test_track_numbers_are_unique():
    tracks = tracker(track_timeout_s=1)
    numbers = []
    for at in range(0, 20, 4):
        tracks.update(at * NS, [PLUME, FAR])
        numbers += [found.number for found in tracks.tracks]
        tracks.update((at + 2) * NS, [])
    assert numbers == list(range(1, 11))


def test_merged_parts_weigh_by_area_and_have_the_ground_point_of_the_lowest_large_part():
    large = region(0.2, 0.2, 0.4, 0.4, area=0.03, confidence=0.6, peak=0.7, motion=2.0)
    low = region(0.3, 0.5, 0.4, 0.7, area=0.01, confidence=0.8, peak=0.9, motion=None)
    speck = region(0.9, 0.8, 0.91, 0.81, area=0.005, confidence=0.8, peak=0.8, motion=8.0)
    whole = merge_regions([large, low, speck])
    assert whole.box == (0.2, 0.2, 0.91, 0.81)
    assert whole.area == pytest.approx(0.045)
    assert whole.ground_point == low.ground_point
    assert whole.confidence == pytest.approx((0.6 * 3 + 0.8 * 1.5) / 4.5)
    assert whole.peak == 0.9
    assert whole.motion == pytest.approx((2 * 6 + 8 * 1) / 7)
    x = (0.3 * 6 + 0.35 * 2 + 0.905) / 9
    assert whole.centroid == pytest.approx((x, (0.3 * 6 + 0.6 * 2 + 0.805) / 9))
    assert merge_regions([low]) is low
    assert merge_regions([low, low]).motion is None


corners = st.tuples(*[st.integers(0, 19)] * 2, *[st.integers(1, 6)] * 2)


@given(inferences=st.lists(st.lists(corners, max_size=4), max_size=8))
def test_every_region_is_in_exactly_one_track_and_time_only_rises(inferences):
    tracks = tracker()
    area = 0.0
    for at, boxes in enumerate(inferences):
        regions = [region(x / 25, y / 25, (x + w) / 25, (y + h) / 25) for x, y, w, h in boxes]
        area += sum(found.area for found in regions)
        # Far from the end of any gap: nothing may be lost.
        tracks.update(at * NS // 10, regions)
    assert sum(s.region.area for t in tracks.tracks for s in t.points) == pytest.approx(area)
    numbers = [found.number for found in tracks.tracks]
    assert numbers == sorted(set(numbers))
    for found in tracks.tracks:
        at = [seen.pts_ns for seen in found.points]
        assert all(a < b for a, b in itertools.pairwise(at))
        assert found.first_ns == at[0]


def test_growth_compares_the_last_third_with_the_first():
    areas = [0.01, 0.01, 0.5, 0.02, 0.02, 0.02, 0.03, 0.9, 0.03]
    found = track(*[region(0.2, 0.2, 0.4, 0.4, area=area) for area in areas])
    assert found.growth(0) == pytest.approx(2.0)
    # Of the six after that, the first two and the last two: their larger one is the median.
    assert found.growth(3 * NS) == pytest.approx(0.9 / 0.02 - 1)
    assert found.growth(7 * NS) == 0


def test_shrinking_is_negative_growth():
    found = track(*[region(0.2, 0.2, 0.4, 0.4, area=area) for area in (0.04, 0.02, 0.01)])
    assert found.growth(0) == pytest.approx(-0.75)


def test_drift_is_the_distance_of_the_ground_point_and_smaller_for_large_plumes():
    walk = [(0.1, 0.6), (0.2, 0.7), (0.4, 1.0)]
    for area, allowance in [(0.01, 1.8), (0.25, 5.0)]:
        found = track(*[region(0.1, 0.1, 0.5, 0.5, area=area, ground_point=at) for at in walk])
        assert found.drift(0) == pytest.approx(0.5 / allowance)
        assert found.drift(NS) == 0


def test_motion_is_the_median_of_the_measured_values():
    still = region(0.1, 0.1, 0.2, 0.2)
    moved = [region(0.1, 0.1, 0.2, 0.2, motion=value) for value in (9.0, 0.0, 3.0)]
    assert track(still, *moved).motion(0) == 3.0
    assert track(*moved, still).motion(2 * NS) == 3.0
    assert track(still).motion(0) == 1.0


def test_points_since_includes_a_point_at_that_time():
    found = track(PLUME, FAR, PLUME)
    assert [seen.pts_ns for seen in found.points_since(NS)] == [NS, 2 * NS]
    assert found.points_since(2 * NS + 1) == []
