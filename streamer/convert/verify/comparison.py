"""The two recordings that are compared, and which of their streams belong together."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Final

import av

from streamer.convert.media_info import MediaInfo, StreamInfo, VideoInfo

from .containers import MUXERS, NAMES, Family, container_family
from .report import Expectation


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """One of the two recordings."""

    media: MediaInfo
    family: Family

    @property
    def container(self) -> str:
        """Name of the container, for people."""
        return NAMES[self.family]


def recording(media: MediaInfo) -> Recording:
    """Add the container family to an inspected recording."""
    brand = media.tags.get("major_brand")
    return Recording(media, container_family(media.path, media.format, brand))


@dataclass(frozen=True, slots=True, eq=False)
class StreamPair:
    """A stream of the source and the stream of the output that it became."""

    source: StreamInfo
    output: StreamInfo

    @property
    def is_copied(self) -> bool:
        """Whether both should contain the same packets."""
        return same_codec(self.source.codec, self.output.codec)

    @property
    def tick(self) -> Fraction:
        """Seconds per tick of the coarser time base."""
        return max(self.source.time_base, self.output.time_base)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Both recordings, their streams in pairs, and what is expected."""

    source: Recording
    output: Recording
    expected: Expectation
    shift: Fraction
    """Seconds by which everything in the output is later."""

    pairs: tuple[StreamPair, ...]
    """Matched streams, except the main video and cover art."""

    missing: tuple[StreamInfo, ...]
    """Streams of the source that the output lacks and that were not dropped on purpose."""

    extra: tuple[StreamInfo, ...]
    """Streams of the output that the source lacks."""

    @property
    def videos(self) -> tuple[VideoInfo, VideoInfo]:
        """The main videos of both recordings, which have one."""
        before, after = self.source.media.video, self.output.media.video
        assert before is not None
        assert after is not None
        return before, after


def match_streams(
    source: Recording, output: Recording, expected: Expectation
) -> tuple[tuple[StreamPair, ...], tuple[StreamInfo, ...], tuple[StreamInfo, ...]]:
    """Return matched, missing and extra streams.

    Streams with the same payload are matched first whatever their order, then those of the same
    codec and language, then the rest by order.
    """
    pairs: list[StreamPair] = []
    missing: list[StreamInfo] = []
    extra: list[StreamInfo] = []
    for kind in ("audio", "subtitle", "data", "video"):
        before = [one for one in _streams(source, kind)
                  if one.index not in expected.dropped_streams]  # fmt: skip
        after = list(_streams(output, kind))
        for matches in (_same_payload, _same_codec, _any):
            for one in list(before):
                match = next((other for other in after if matches(one, other)), None)
                if match is not None and (matches is not _any or len(before) == len(after)):
                    pairs.append(StreamPair(one, match))
                    before.remove(one)
                    after.remove(match)
        missing += before
        extra += after
    pairs.sort(key=lambda pair: pair.source.index)
    return tuple(pairs), tuple(missing), tuple(extra)


def _same_payload(one: StreamInfo, other: StreamInfo) -> bool:
    return one.digest == other.digest and len(one.times) > 0


def _same_codec(one: StreamInfo, other: StreamInfo) -> bool:
    language = one.tags.get("language", "und") == other.tags.get("language", "und")
    return same_codec(one.codec, other.codec) and language


def _any(_one: StreamInfo, _other: StreamInfo) -> bool:
    return True


def _streams(side: Recording, kind: str) -> Iterator[StreamInfo]:
    main = side.media.video
    for stream in side.media.streams:
        if stream.kind != kind or stream.is_cover or is_chapter_track(side, stream):
            continue
        if is_timecode(stream) and side.family in ("mp4", "mov"):
            continue  # The muxer makes it from the video's tag, which is compared.
        if main is None or stream.index != main.stream.index:
            yield stream


def is_chapter_track(side: Recording, stream: StreamInfo) -> bool:
    """Whether this is the track in which MP4 stores chapters; FFmpeg shows it as a stream."""
    return (
        side.family in ("mp4", "mov")
        and stream.kind == "data"
        and len(stream.times) == 0
        and bool(side.media.chapters)
    )


def is_timecode(stream: StreamInfo) -> bool:
    """Whether this is a timecode track."""
    return stream.kind == "data" and "timecode" in stream.tags


_CODEC_ALIASES: Final = ({"mp1", "mp2", "mp3"}, {"ass", "ssa"}, {"subrip", "srt"})
"""Names of the same payload format: MP4 does not distinguish the layers of MPEG audio."""


def same_codec(one: str, other: str) -> bool:
    """Whether both codec names mean the same payload format."""
    return one == other or any({one, other} <= names for names in _CODEC_ALIASES)


@cache
def can_store(family: Family, kind: str, codec: str) -> bool:
    """Whether FFmpeg can write such a stream to such a container."""
    if family == "other":
        return False
    if kind == "attachment":
        return family == "matroska"
    if kind == "data":
        return family in ("mp4", "mov") and codec == "bin_data"
    with av.open(io.BytesIO(), "w", format=MUXERS[family]) as container:
        supported = container.supported_codecs
    return any(same_codec(codec, name) for name in supported)
