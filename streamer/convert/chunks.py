"""Cuts a recording into pieces that are converted one by one: what a kill costs is one of them.

A piece begins with a picture from which decoding can begin. It shows what is presented from there
until the next one begins, so that pictures which an open group stores behind the next key frame
but shows before it belong where they are seen.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from streamer.core.frame_schedule import NS

from .media_info import VideoInfo

_PICTURES: Final = 240
"""At least so many a chunk: an encoder begins each with a key frame and an empty memory."""

_SECONDS: Final = 5
"""At least so long: recordings of few pictures a second need no more key frames than others."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a recording. Times in nanoseconds of the recording."""

    number: int
    """Counting from 0."""

    begin_ns: int
    """Of its first picture."""

    end_ns: int
    """Of the picture after its last; of the recording's end for the last chunk."""

    pictures: int
    """How many the recording shows in it."""

    first: int
    """Number of its first picture in the recording, counting from 0."""

    last: bool
    """Whether nothing follows."""


def nanoseconds(ticks: int, time_base: Fraction) -> int:
    """A time in ticks as whole nanoseconds; loses nothing for ticks of two or more."""
    return round(ticks * time_base * NS)


def plan_chunks(video: VideoInfo) -> tuple[Chunk, ...]:
    """All pieces, in order; one, if pictures cannot be found by their times."""
    times = video.times
    starts = [0]
    if video.timestamp_quality == "known":
        # A key frame that is presented after a picture it follows in the file begins no chunk:
        # `searchsorted` finds where it is presented.
        keys = np.searchsorted(times, video.key_times)
        shortest = Fraction(_SECONDS) / video.time_base
        for key in keys.tolist():
            enough = key - starts[-1] >= _PICTURES and times[key] - times[starts[-1]] >= shortest
            rest = len(times) - key
            if enough and rest >= _PICTURES // 2:
                starts.append(key)
    ends = [*starts[1:], len(times)]
    base = video.time_base
    final = int(times[-1]) + video.last_duration
    return tuple(
        Chunk(
            number=number,
            begin_ns=nanoseconds(int(times[start]), base),
            end_ns=nanoseconds(int(times[end]) if end < len(times) else final, base),
            pictures=end - start,
            first=start,
            last=end == len(times),
        )
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    )
