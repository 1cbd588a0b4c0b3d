"""The two recordings that are compared, and which of their streams belong together."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Final

import av

from streamer.convert.media_info import MediaInfo, StreamInfo, take

from .packets import Family, PacketList, family, take_packets
from .report import Expectation

_FORMATS: Final[dict[Family, str]] = {
    "mp4": "mp4", "mov": "mov", "matroska": "matroska", "webm": "webm",
}  # fmt: skip
"""FFmpeg's muxer of each family."""

NAMES: Final[dict[Family, str]] = {
    "mp4": "MP4", "mov": "MOV", "matroska": "Matroska", "webm": "WebM", "other": "this container",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """One of the two recordings."""

    inventory: MediaInfo
    packets: dict[int, PacketList]
    """By the number of the stream."""

    family: Family

    @property
    def name(self) -> str:
        """Of the container, for people."""
        return NAMES[self.family]

    def of(self, stream: StreamInfo) -> PacketList:
        """The packets of *stream*."""
        return self.packets[stream.index]


def side(path: Path) -> Recording:
    """Go through the recording at *path*.

    Raises:
        SourceError: It is not there, or nothing FFmpeg can read.
    """
    inventory = take(path)
    brand = inventory.tags.get("major_brand")
    main = inventory.video.stream.index if inventory.video else None
    return Recording(
        inventory, take_packets(path, unmarked=main), family(path, inventory.format, brand)
    )


@dataclass(frozen=True, slots=True, eq=False)
class StreamPair:
    """A stream and what became of it."""

    before: StreamInfo
    after: StreamInfo

    @property
    def copied(self) -> bool:
        """Whether it should hold the same packets."""
        return same_codec(self.before.codec, self.after.codec)

    @property
    def tick(self) -> Fraction:
        """Seconds of a tick of the coarser clock."""
        return max(self.before.time_base, self.after.time_base)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Both recordings, their streams in pairs, and what is expected."""

    before: Recording
    after: Recording
    expected: Expectation
    shift: Fraction
    """Seconds by which all of the output is later."""

    pairs: tuple[StreamPair, ...]
    """Streams with packets, except the main video and covers."""

    missing: tuple[StreamInfo, ...]
    """Streams of the input that the output lacks though they were not left out on purpose."""

    extra: tuple[StreamInfo, ...]
    """Streams of the output that the input lacks."""


def match_streams(
    before: Recording, after: Recording, expected: Expectation
) -> tuple[tuple[StreamPair, ...], tuple[StreamInfo, ...], tuple[StreamInfo, ...]]:
    """Pairs, what is missing and what is extra: the same bytes first, the rest by its order."""
    pairs: list[StreamPair] = []
    missing: list[StreamInfo] = []
    extra: list[StreamInfo] = []
    for kind in ("audio", "subtitle", "data", "video"):
        ours = [one for one in _streams(before, kind) if one.index not in expected.dropped_streams]
        theirs = list(_streams(after, kind))
        # The same bytes belong together whatever the order; the rest goes by its order.
        for alike in (_same_bytes, _same_codec, _anything):
            for one in list(ours):
                match = next((other for other in theirs if alike(one, other)), None)
                if match is not None and (alike is not _anything or len(ours) == len(theirs)):
                    pairs.append(StreamPair(one, match))
                    ours.remove(one)
                    theirs.remove(match)
        missing += ours
        extra += theirs
    pairs.sort(key=lambda pair: pair.before.index)
    return tuple(pairs), tuple(missing), tuple(extra)


def _same_bytes(one: StreamInfo, other: StreamInfo) -> bool:
    return one.digest == other.digest and one.packets > 0


def _same_codec(one: StreamInfo, other: StreamInfo) -> bool:
    language = one.tags.get("language", "und") == other.tags.get("language", "und")
    return same_codec(one.codec, other.codec) and language


def _anything(_one: StreamInfo, _other: StreamInfo) -> bool:
    return True


def _streams(side: Recording, kind: str) -> Iterator[StreamInfo]:
    main = side.inventory.video
    for stream in side.inventory.streams:
        if stream.kind != kind or stream.cover or is_chapter_track(side, stream):
            continue
        if is_time_code(stream) and side.family in ("mp4", "mov"):
            continue  # Made anew by the muxer from the video's tag, which is compared.
        if main is None or stream.index != main.stream.index:
            yield stream


def is_chapter_track(side: Recording, stream: StreamInfo) -> bool:
    """Whether this is how an MP4 keeps its chapters, which FFmpeg shows as a stream of its own."""
    return (
        side.family in ("mp4", "mov")
        and stream.kind == "data"
        and stream.packets == 0
        and bool(side.inventory.chapters)
    )


def is_time_code(stream: StreamInfo) -> bool:
    """Whether this is a track that says at which hour and frame the recording began."""
    return stream.kind == "data" and "timecode" in stream.tags


_ALIKE: Final = ({"mp1", "mp2", "mp3"}, {"ass", "ssa"}, {"subrip", "srt"})
"""Names for the same bytes: MP4 does not tell the layers of MPEG audio apart."""


def same_codec(one: str, other: str) -> bool:
    """Whether both names mean packets of the same form."""
    return one == other or any({one, other} <= names for names in _ALIKE)


@cache
def can_hold(family: Family, kind: str, codec: str) -> bool:
    """Whether such a container has a place for such a stream, as FFmpeg writes it."""
    if family == "other":
        return False
    if kind == "attachment":
        return family == "matroska"
    if kind == "data":
        return family in ("mp4", "mov") and codec == "bin_data"
    with av.open(io.BytesIO(), "w", format=_FORMATS[family]) as container:
        supported = container.supported_codecs
    return any(same_codec(codec, name) for name in supported)
