"""Regions followed over time: how long, how steadily, growing or not, anchored or drifting."""

import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from streamer.frame import Region

_NS: Final = 1_000_000_000
_NEAR: Final = 0.06
"""A region whose base lies this close to a track's, as a share of the picture, may continue it."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One region in one look."""

    pts_ns: int
    region: Region


@dataclass(slots=True)
class Track:
    """One plume, or whatever looks like one, over the looks that showed it."""

    number: int
    sightings: deque[Sighting] = field(default_factory=deque)
    first_ns: int = 0

    @property
    def last(self) -> Sighting:
        """The newest sighting."""
        return self.sightings[-1]

    def within(self, since_ns: int) -> list[Sighting]:
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
        """How far the base went since then, as a share of the picture; 0 for an anchored plume."""
        seen = self.within(since_ns)
        third = len(seen) // 3
        if third == 0:
            return 0.0
        begin, end = seen[:third], seen[-third:]
        return math.dist(_median_base(begin), _median_base(end))


class Tracker:
    """Assigns the regions of each look to tracks.

    Args:
        window_ns: Sightings older than this are forgotten.
        gap_ns: A track not seen for so long has ended.
    """

    def __init__(self, *, window_ns: int, gap_ns: int) -> None:
        self._window_ns = window_ns
        self._gap_ns = gap_ns
        self._numbers = itertools.count(1)
        self.tracks: list[Track] = []
        """Those that have not ended, oldest first."""

    def update(self, pts_ns: int, regions: Sequence[Region]) -> None:
        """Take the regions of one look; looks come in order of time."""
        self.tracks = [t for t in self.tracks if pts_ns - t.last.pts_ns <= self._gap_ns]
        free = list(self.tracks)
        for region in regions:
            track = min(free, key=lambda t: _distance(t.last.region, region), default=None)
            if track is None or _distance(track.last.region, region) > 1:
                track = Track(next(self._numbers), first_ns=pts_ns)
                self.tracks.append(track)
            else:
                free.remove(track)
            track.sightings.append(Sighting(pts_ns, region))
            while track.sightings[0].pts_ns < pts_ns - self._window_ns:
                track.sightings.popleft()


def _distance(one: Region, other: Region) -> float:
    """Below 1 when both may be the same plume: overlapping boxes or bases close together."""
    left, top = max(one.box[0], other.box[0]), max(one.box[1], other.box[1])
    right, bottom = min(one.box[2], other.box[2]), min(one.box[3], other.box[3])
    apart = math.dist(one.base, other.base) / _NEAR
    if right > left and bottom > top:
        shared = (right - left) * (bottom - top)
        smaller = min(_size(one), _size(other))
        return min(apart, 1 - shared / smaller)
    return apart


def _size(region: Region) -> float:
    left, top, right, bottom = region.box
    return (right - left) * (bottom - top)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _median_base(seen: Sequence[Sighting]) -> tuple[float, float]:
    return _median([s.region.base[0] for s in seen]), _median([s.region.base[1] for s in seen])
