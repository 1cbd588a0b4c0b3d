"""Decodes stretches of a recording: all of a short one, some places of a long one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import av
import av.error
import numpy as np

from streamer.convert.media_info import VideoInfo, open_recording

from .comparison import Recording

_WHOLE: Final = 1_500_000_000
"""Pixels that are decoded in all before places are chosen: 720 frames of 1080p, some seconds."""

_PER_FRAME: Final = 250_000
"""Pixels that take as long as all else that is done for a frame, however small it is."""

_PLACES: Final = 8
_STRETCH: Final = 24
"""Original frames of a place: a second of film."""

_PIECE: Final = 1000
"""Original frames that are looked at together: what is kept of each is small, but adds up."""

_TRIES: Final = 3
"""Key frames further back each time, before decoding from the beginning."""


@dataclass(frozen=True, slots=True)
class Stretches:
    """What will be decoded."""

    pieces: tuple[tuple[int, int], ...]
    """First and last original frame of each, both included."""

    whole: bool
    """Whether that is all there is."""


def stretches(before: VideoInfo, after: VideoInfo, *, thorough: bool) -> Stretches:
    """Choose what to decode.

    Args:
        before: Of the input.
        after: Of the output.
        thorough: All, however much that is.
    """
    count = len(before.times)
    pixels = (count + len(after.times)) * (before.width * before.height + _PER_FRAME)
    if before.timestamp_quality != "known":  # Nobody could find a place in it.
        return Stretches(((0, count - 1),), whole=True)
    if thorough or pixels <= _WHOLE or count <= _PLACES * _STRETCH:
        # A frame belongs to both its pieces, so that no cut falls between them.
        firsts = range(0, max(1, count - 1), _PIECE)
        return Stretches(
            tuple((first, min(first + _PIECE, count - 1)) for first in firsts), whole=True
        )
    keys = np.searchsorted(before.times, before.key_times)
    pieces = []
    for number in range(_PLACES):
        wanted = number * (count - _STRETCH) // (_PLACES - 1)
        place = int(np.searchsorted(keys, wanted, side="right")) - 1
        # The last place ends with the recording, however far before it its key frame is.
        first = wanted if number == _PLACES - 1 or place < 0 else int(keys[place])
        pieces.append((first, min(first + _STRETCH, count) - 1))
    return Stretches(tuple(pieces), whole=False)


def frames(side: Recording, first: int, last: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """The frames from place *first* to *last* by their times, each with its place."""
    video = side.inventory.video
    assert video is not None
    origin = round(side.inventory.origin / video.time_base)
    with open_recording(side.inventory.path) as container:
        stream = container.streams[video.stream.index]
        assert isinstance(stream, av.VideoStream)
        stream.thread_type = "AUTO"
        if video.timestamp_quality == "known":
            decoded = _from_key(container, stream, video, first, origin)
            numbered = _placed(decoded, video, origin)
        else:
            numbered = enumerate(_decoded(container, stream))
        for place, frame in numbered:
            if place > last:
                return
            if place >= first:
                yield place, frame


def _placed(
    decoded: Iterator[av.VideoFrame], video: VideoInfo, origin: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Each frame with its place by its time; without those that are not to be shown."""
    for frame in decoded:
        time = (frame.pts or 0) - origin
        place = int(np.searchsorted(video.times, time))
        if place == len(video.times):
            return
        if video.times[place] == time:
            yield place, frame


def _from_key(
    container: Any, stream: av.VideoStream, video: VideoInfo, first: int, origin: int
) -> Iterator[av.VideoFrame]:
    """Frames from a key frame on that is not after place *first*."""
    wanted = int(video.times[first])
    key = int(np.searchsorted(video.key_times, wanted, side="right")) - 1
    for back in range(_TRIES):
        if key - back <= 0:
            break
        container.seek(int(video.key_times[key - back]) + origin, stream=stream)
        decoded = _decoded(container, stream)
        begin = next(decoded, None)
        # Containers find key frames by decoding time, and some but roughly.
        if begin is not None and (begin.pts or 0) - origin <= wanted:
            yield begin
            yield from decoded
            return
    if key > 0:
        container.seek(0 if not len(video.times) else int(video.times[0]) + origin, stream=stream)
    yield from _decoded(container, stream)


def _decoded(container: Any, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """What can be decoded; a damaged packet costs its picture and no more."""
    for packet in container.demux(stream):
        try:
            found = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from (frame for frame in found if not frame.is_corrupt)
