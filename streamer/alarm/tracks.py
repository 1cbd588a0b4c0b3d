"""Tracks: detections followed over time, with their duration, growth, drift and motion."""

import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from streamer.core.frame import Detection

_MAX_DISTANCE: Final = 0.06
"""Distance between two ground points, as a share of the frame, up to which a detection may continue
a track."""

_SIZE_ALLOWANCE: Final = 8
"""How much the size of a plume reduces its drift: the ground point of a plume of 1 % of the frame
may move 1.8 times as far. Arbitrary."""


@dataclass(frozen=True, slots=True)
class TrackPoint:
    """One detection of a track, in one inference."""

    pts_ns: int
    region: Detection


@dataclass(slots=True, eq=False)
class Track:
    """One plume, or what looks like one, over the inferences that showed it."""

    number: int
    points: deque[TrackPoint] = field(default_factory=deque)
    first_ns: int = 0
    """Media time of the first point, even if that point was discarded since."""

    @property
    def last(self) -> TrackPoint:
        """The newest point."""
        return self.points[-1]

    def points_since(self, since_ns: int) -> list[TrackPoint]:
        """Return the points at or after a media time, oldest first."""
        return [point for point in self.points if point.pts_ns >= since_ns]

    def growth(self, since_ns: int) -> float:
        """Return the growth of the area since then: 0.38 means 38 % more, negative is shrinking.

        The medians of the first and the last third are compared: one flickering mask has no effect.
        """
        areas = [point.region.area for point in self.points_since(since_ns)]
        third = len(areas) // 3
        if third == 0:
            return 0.0
        return _median(areas[-third:]) / _median(areas[:third]) - 1

    def drift(self, since_ns: int) -> float:
        """Return how far the ground point moved since then, as a share of the frame.

        It is reduced for large plumes, whose lowest point may be anywhere along their lower edge.
        """
        points = self.points_since(since_ns)
        third = len(points) // 3
        if third == 0:
            return 0.0
        begin, end = points[:third], points[-third:]
        size = math.sqrt(_median([point.region.area for point in points]))
        distance = math.dist(_median_ground_point(begin), _median_ground_point(end))
        return distance / (1 + _SIZE_ALLOWANCE * size)

    def motion(self, since_ns: int) -> float:
        """Return the median motion since then, 1 as the whole frame; 1 if it is unknown."""
        points = self.points_since(since_ns)
        values = [point.region.motion for point in points if point.region.motion is not None]
        return _median(values) if values else 1.0


class Tracker:
    """Assigns the detections of each inference to tracks.

    Args:
        window_ns: Points older than this are discarded.
        timeout_ns: A track without a point for this long has ended, unless the last inference
            showed it: inferences may be further apart than this.
        min_points: Number of points that are kept however old they are.
    """

    def __init__(self, *, window_ns: int, timeout_ns: int, min_points: int = 1) -> None:
        self._window_ns = window_ns
        self._timeout_ns = timeout_ns
        self._min_points = min_points
        self._updated_ns: int | None = None
        self._numbers = itertools.count(1)
        self.tracks: list[Track] = []
        """Tracks that have not ended, oldest first."""

    def update(self, pts_ns: int, regions: Sequence[Detection]) -> None:
        """Add the detections of one inference; inferences come in order of time.

        A plume tears and closes again: all regions that may continue a track continue it together,
        and tracks that are continued by one region are merged.
        """
        self.tracks = [
            track
            for track in self.tracks
            if pts_ns - track.last.pts_ns <= self._timeout_ns
            or track.last.pts_ns == self._updated_ns
        ]
        self._updated_ns = pts_ns
        # The regions before this inference: parts of a torn plume are compared with the whole.
        before = {track.number: [track.last.region] for track in self.tracks}
        for region in regions:
            near = [t for t in self.tracks if _is_near(before[t.number], region)]
            if near:
                track = self._merge(near)
                before[track.number] = [old for one in near for old in before[one.number]]
            else:
                track = Track(next(self._numbers), first_ns=pts_ns)
                self.tracks.append(track)
                before[track.number] = [region]
            self._extend(track, TrackPoint(pts_ns, region))

    def _merge(self, tracks: list[Track]) -> Track:
        """Return the oldest of *tracks*, with the points of all."""
        oldest, *others = tracks
        if others:
            by_time: dict[int, list[Detection]] = {}
            for track in tracks:
                for point in track.points:
                    by_time.setdefault(point.pts_ns, []).append(point.region)
            oldest.points = deque(
                TrackPoint(pts_ns, merge_regions(by_time[pts_ns])) for pts_ns in sorted(by_time)
            )
            self.tracks = [track for track in self.tracks if track not in others]
        return oldest

    def _extend(self, track: Track, point: TrackPoint) -> None:
        if track.points and track.last.pts_ns == point.pts_ns:
            previous = track.points.pop()
            point = TrackPoint(point.pts_ns, merge_regions([previous.region, point.region]))
        track.points.append(point)
        oldest_ns = point.pts_ns - self._window_ns
        while len(track.points) > self._min_points and track.points[0].pts_ns < oldest_ns:
            track.points.popleft()


def merge_regions(regions: Sequence[Detection]) -> Detection:
    """Return parts of one plume as one region; its ground point is of the lowest large part."""
    if len(regions) == 1:
        return regions[0]
    area = math.fsum(region.area for region in regions)
    largest = max(region.area for region in regions)
    lefts, tops, rights, bottoms = zip(*(region.box for region in regions), strict=True)
    lowest = max((r for r in regions if r.area >= largest / 4), key=lambda r: r.ground_point[1])
    moving = [region for region in regions if region.motion is not None]
    return Detection(
        box=(min(lefts), min(tops), max(rights), max(bottoms)),
        centroid=(
            math.fsum(r.centroid[0] * r.area for r in regions) / area,
            math.fsum(r.centroid[1] * r.area for r in regions) / area,
        ),
        ground_point=lowest.ground_point,
        area=area,
        confidence=math.fsum(r.confidence * r.area for r in regions) / area,
        peak=max(region.peak for region in regions),
        motion=(
            math.fsum((r.motion or 0) * r.area for r in moving) / math.fsum(r.area for r in moving)
            if moving
            else None
        ),
    )


def same_place(known: Detection, region: Detection) -> bool:
    """Whether a region may be smoke from the place of a known one, minutes later too.

    The boxes overlap, or the ground points are close. How close depends on the size: the lowest
    point of a large plume may be anywhere along its lower edge.
    """
    allowance = 1 + _SIZE_ALLOWANCE * math.sqrt(max(known.area, region.area))
    close = math.dist(known.ground_point, region.ground_point) <= _MAX_DISTANCE * allowance
    return close or _distance(known, region) <= 1


def _is_near(before: Sequence[Detection], region: Detection) -> bool:
    return any(_distance(old, region) <= 1 for old in before)


def _distance(one: Detection, other: Detection) -> float:
    """Return at most 1 if both may be the same plume: boxes overlap or ground points are close."""
    left, top = max(one.box[0], other.box[0]), max(one.box[1], other.box[1])
    right, bottom = min(one.box[2], other.box[2]), min(one.box[3], other.box[3])
    apart = math.dist(one.ground_point, other.ground_point) / _MAX_DISTANCE
    if right > left and bottom > top:
        overlap = (right - left) * (bottom - top)
        smaller = min(_box_area(one), _box_area(other))
        return min(apart, 1 - overlap / smaller)
    return apart


def _box_area(region: Detection) -> float:
    left, top, right, bottom = region.box
    return (right - left) * (bottom - top)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _median_ground_point(points: Sequence[TrackPoint]) -> tuple[float, float]:
    places = [point.region.ground_point for point in points]
    return _median([x for x, _ in places]), _median([y for _, y in places])
