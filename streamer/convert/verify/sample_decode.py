"""Decodes samples of a recording: all frames of a short one, eight segments of a long one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import av
import av.error
import numpy as np

from streamer.convert.inspection import open_recording
from streamer.convert.media_info import MediaInfo, VideoInfo

_MAX_PIXELS: Final = 1_500_000_000
"""Pixels up to which all frames are decoded: 720 frames of 1080p, which take some seconds."""

_PIXELS_PER_FRAME: Final = 250_000
"""Cost of a frame that does not depend on its size, in pixels."""

_SAMPLES: Final = 8
_SAMPLE_FRAMES: Final = 24
"""Source frames per sample: about a second."""

_SEGMENT_FRAMES: Final = 1000
"""Source frames compared together when all are decoded, which bounds the memory of thumbnails."""

_SEEK_ATTEMPTS: Final = 3
"""Key frames tried, each further back, before decoding starts at the beginning."""


@dataclass(frozen=True, slots=True)
class Segments:
    """The frames to decode."""

    ranges: tuple[tuple[int, int], ...]
    """Numbers of the first and the last source frame of each segment, both included."""

    cover_all: bool
    """Whether the segments cover the whole recording."""


def choose_segments(before: VideoInfo, after: VideoInfo, *, thorough: bool) -> Segments:
    """Choose which frames to decode.

    Args:
        before: Video of the source.
        after: Video of the output.
        thorough: Decode all frames, however many there are.
    """
    count = len(before.times)
    pixels = (count + len(after.times)) * (before.width * before.height + _PIXELS_PER_FRAME)
    if before.timestamp_quality != "exact":  # Seeking is not possible.
        return Segments(((0, count - 1),), cover_all=True)
    if thorough or pixels <= _MAX_PIXELS or count <= _SAMPLES * _SAMPLE_FRAMES:
        # Neighbouring segments share a frame, so that no scene change falls between them.
        firsts = range(0, max(1, count - 1), _SEGMENT_FRAMES)
        return Segments(
            tuple((first, min(first + _SEGMENT_FRAMES, count - 1)) for first in firsts),
            cover_all=True,
        )
    keys = np.searchsorted(before.times, before.key_times)
    ranges = []
    for number in range(_SAMPLES):
        target = number * (count - _SAMPLE_FRAMES) // (_SAMPLES - 1)
        key = int(np.searchsorted(keys, target, side="right")) - 1
        # The last sample ends with the recording, however far before it its key frame is.
        first = target if number == _SAMPLES - 1 or key < 0 else int(keys[key])
        ranges.append((first, min(first + _SAMPLE_FRAMES, count) - 1))
    return Segments(tuple(ranges), cover_all=False)


def decode_range(media: MediaInfo, first: int, last: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield the frames from number *first* to *last* in presentation order, with their numbers."""
    video = media.video
    assert video is not None
    origin = round(media.origin / video.time_base)
    with open_recording(media.path) as container:
        stream = container.streams[video.stream.index]
        assert isinstance(stream, av.VideoStream)
        stream.thread_type = "AUTO"
        if video.timestamp_quality == "exact":
            decoded = _from_key_frame(container, stream, video, first, origin)
            numbered = _numbered(decoded, video, origin)
        else:
            numbered = enumerate(_decoded(container, stream))
        for number, frame in numbered:
            if number > last:
                return
            if number >= first:
                yield number, frame


def _numbered(
    decoded: Iterator[av.VideoFrame], video: VideoInfo, origin: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield each frame with its number by its time, without frames that are not presented."""
    for frame in decoded:
        time = (frame.pts or 0) - origin
        number = int(np.searchsorted(video.times, time))
        if number == len(video.times):
            return
        if video.times[number] == time:
            yield number, frame


def _from_key_frame(
    container: Any, stream: av.VideoStream, video: VideoInfo, first: int, origin: int
) -> Iterator[av.VideoFrame]:
    """Yield frames from a key frame at or before number *first* on."""
    target = int(video.times[first])
    key = int(np.searchsorted(video.key_times, target, side="right")) - 1
    for back in range(_SEEK_ATTEMPTS):
        if key - back <= 0:
            break
        container.seek(int(video.key_times[key - back]) + origin, stream=stream)
        decoded = _decoded(container, stream)
        begin = next(decoded, None)
        # Containers seek by decoding time, and some only roughly.
        if begin is not None and (begin.pts or 0) - origin <= target:
            yield begin
            yield from decoded
            return
    if key > 0:
        container.seek(0 if not len(video.times) else int(video.times[0]) + origin, stream=stream)
    yield from _decoded(container, stream)


def _decoded(container: Any, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Yield the frames that can be decoded, skipping damaged packets."""
    for packet in container.demux(stream):
        try:
            found = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from (frame for frame in found if not frame.is_corrupt)
