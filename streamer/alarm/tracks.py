"""Regions followed over time: how long, how steadily, growing or not, anchored or drifting."""

import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from streamer.core.frame import Detection

_NS: Final = 1_000_000_000
_NEAR: Final = 0.06
"""A region whose base lies this close to a track's, as a share of the picture, may continue it."""

_FOOT: Final = 8
"""How much a plume's size excuses a wandering base: one of 1 % of the picture may wander 1.8 times
as far. Arbitrary."""


@dataclass(frozen=True, slots=True)
class TrackPoint:
    """One region in one look."""

    pts_ns: int
    region: Detection


@dataclass(slots=True, eq=False)
class Track:
    """One plume, or whatever looks like one, over the looks that showed it."""

    number: int
    sightings: deque[TrackPoint] = field(default_factory=deque)
    first_ns: int = 0

    @property
    def last(self) -> TrackPoint:
        """The newest sighting."""
        return self.sightings[-1]

    def within(self, since_ns: int) -> list[TrackPoint]:
        """Sightings at or after an instant, oldest first."""
        return [seen for seen in self.sightings if seen.pts_ns >= since_ns]

    def growth(self, since_ns: int) -> float:
        """By how much the area grew since then: 0.38 for 38 % more, negative when it shrank.

        Medians of the first and the last third, so that one flickering mask says nothing.
        """
        areas = [seen.region.area for seen in self.within(since_ns)]
        third = len(areas) // 3
        if third == 0:
            return 0.0
        return _median(areas[-third:]) / _median(areas[:third]) - 1

    def drift(self, since_ns: int) -> float:
        """How far the base went since then, as a share of the picture; near 0 when anchored.

        Less for large plumes, whose lowest point is anywhere along their foot.
        """
        seen = self.within(since_ns)
        third = len(seen) // 3
        if third == 0:
            return 0.0
        begin, end = seen[:third], seen[-third:]
        size = math.sqrt(_median([sighting.region.area for sighting in seen]))
        return math.dist(_median_base(begin), _median_base(end)) / (1 + _FOOT * size)

    def motion(self, since_ns: int) -> float:
        """How much it moved since then, 1 as the whole picture; 1 where that is not known."""
        known = [s.region.motion for s in self.within(since_ns) if s.region.motion is not None]
        return _median(known) if known else 1.0


class Tracker:
    """Assigns the regions of each look to tracks.

    Args:
        window_ns: Sightings older than this are forgotten.
        gap_ns: A track not seen for so long has ended, unless the last look showed it: looks
            may be further apart than this.
        least: Sightings that are kept however old they are.
    """

    def __init__(self, *, window_ns: int, gap_ns: int, least: int = 1) -> None:
        self._window_ns = window_ns
        self._gap_ns = gap_ns
        self._least = least
        self._looked_ns: int | None = None
        self._numbers = itertools.count(1)
        self.tracks: list[Track] = []
        """Those that have not ended, oldest first."""

    def update(self, pts_ns: int, regions: Sequence[Detection]) -> None:
        """Take the regions of one look; looks come in order of time.

        A plume tears and closes again: all regions that may continue a track do so together, and
        tracks that one region continues are one.
        """
        self.tracks = [
            track
            for track in self.tracks
            if pts_ns - track.last.pts_ns <= self._gap_ns or track.last.pts_ns == self._looked_ns
        ]
        self._looked_ns = pts_ns
        # As they were before this look: the parts of a torn plume are compared with the whole.
        before = {track.number: [track.last.region] for track in self.tracks}
        for region in regions:
            near = [t for t in self.tracks if _is_near(before[t.number], region)]
            if near:
                track = self._joined(near)
                before[track.number] = [old for one in near for old in before[one.number]]
            else:
                track = Track(next(self._numbers), first_ns=pts_ns)
                self.tracks.append(track)
                before[track.number] = [region]
            self._extend(track, TrackPoint(pts_ns, region))

    def _joined(self, tracks: list[Track]) -> Track:
        """The oldest of *tracks*, with what all of them saw."""
        oldest, *others = tracks
        if others:
            seen: dict[int, list[Detection]] = {}
            for track in tracks:
                for sighting in track.sightings:
                    seen.setdefault(sighting.pts_ns, []).append(sighting.region)
            oldest.sightings = deque(TrackPoint(at, together(seen[at])) for at in sorted(seen))
            self.tracks = [track for track in self.tracks if track not in others]
        return oldest

    def _extend(self, track: Track, seen: TrackPoint) -> None:
        if track.sightings and track.last.pts_ns == seen.pts_ns:
            before = track.sightings.pop()
            seen = TrackPoint(seen.pts_ns, together([before.region, seen.region]))
        track.sightings.append(seen)
        oldest_ns = seen.pts_ns - self._window_ns
        while len(track.sightings) > self._least and track.sightings[0].pts_ns < oldest_ns:
            track.sightings.popleft()


def together(regions: Sequence[Detection]) -> Detection:
    """Parts of one plume as one region; it stands on the lowest of its larger parts."""
    if len(regions) == 1:
        return regions[0]
    area = math.fsum(region.area for region in regions)
    largest = max(region.area for region in regions)
    lefts, tops, rights, bottoms = zip(*(region.box for region in regions), strict=True)
    lowest = max((r for r in regions if r.area >= largest / 4), key=lambda r: r.ground_point[1])
    known = [region for region in regions if region.motion is not None]
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
            math.fsum((r.motion or 0) * r.area for r in known) / math.fsum(r.area for r in known)
            if known
            else None
        ),
    )


def _is_near(before: Sequence[Detection], region: Detection) -> bool:
    return any(_distance(old, region) <= 1 for old in before)


def _distance(one: Detection, other: Detection) -> float:
    """Below 1 when both may be the same plume: overlapping boxes or bases close together."""
    left, top = max(one.box[0], other.box[0]), max(one.box[1], other.box[1])
    right, bottom = min(one.box[2], other.box[2]), min(one.box[3], other.box[3])
    apart = math.dist(one.ground_point, other.ground_point) / _NEAR
    if right > left and bottom > top:
        shared = (right - left) * (bottom - top)
        smaller = min(_size(one), _size(other))
        return min(apart, 1 - shared / smaller)
    return apart


def _size(region: Detection) -> float:
    left, top, right, bottom = region.box
    return (right - left) * (bottom - top)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _median_base(seen: Sequence[TrackPoint]) -> tuple[float, float]:
    return _median([s.region.ground_point[0] for s in seen]), _median(
        [s.region.ground_point[1] for s in seen]
    )
