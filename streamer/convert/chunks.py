"""Splits a recording into chunks that are converted independently: a kill costs one chunk at most.

A chunk begins with a key frame. It holds the frames presented from there until the next chunk
begins: leading frames of an open GOP, which are stored after a key frame but presented before it,
belong to the chunk before.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from streamer.core.frame_schedule import NS

from .media_info import VideoInfo

_MIN_FRAMES: Final = 240
"""Minimum frames of a chunk: an encoder starts each with a key frame and without history."""

_MIN_SECONDS: Final = 5
"""Minimum duration of a chunk, so that recordings of a high frame rate get no more key frames."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a recording. Times in nanoseconds on the recording's clock."""

    number: int
    """Index of the chunk, from 0."""

    begin_ns: int
    """Time of its first frame."""

    end_ns: int
    """Time of the first frame after it; for the last chunk, the end of the recording."""

    frame_count: int
    """Frames presented in it."""

    first: int
    """Index of its first frame in the recording, from 0."""

    is_last: bool


def nanoseconds(ticks: int, time_base: Fraction) -> int:
    """Convert ticks to nanoseconds, rounded; exact enough to convert back for ticks of 2 ns."""
    return round(ticks * time_base * NS)


def plan_chunks(video: VideoInfo) -> tuple[Chunk, ...]:
    """Return all chunks in order; a single one if the file lacks presentation timestamps."""
    times = video.times
    starts = [0]
    if video.timestamp_quality == "exact":
        # `searchsorted` yields the place of a key frame in presentation order, which differs
        # from its place in the file where frames are reordered.
        keys = np.searchsorted(times, video.key_times)
        shortest = Fraction(_MIN_SECONDS) / video.time_base
        for key in keys.tolist():
            long_enough = (
                key - starts[-1] >= _MIN_FRAMES and times[key] - times[starts[-1]] >= shortest
            )
            if long_enough and len(times) - key >= _MIN_FRAMES // 2:
                starts.append(key)
    ends = [*starts[1:], len(times)]
    base = video.time_base
    final = int(times[-1]) + video.last_duration
    return tuple(
        Chunk(
            number=number,
            begin_ns=nanoseconds(int(times[start]), base),
            end_ns=nanoseconds(int(times[end]) if end < len(times) else final, base),
            frame_count=end - start,
            first=start,
            is_last=end == len(times),
        )
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    )
