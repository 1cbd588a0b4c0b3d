"""What a recording contains: streams, timestamps, metadata. Plain values made by `inspection`.

The planner and `verify` use the same values, so what is preserved and what is checked to be
preserved cannot differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from streamer.core.image import ColorTags

from .packet_table import PacketTable
from .subtitle_text import Cue

StreamKind = Literal["video", "audio", "subtitle", "data", "attachment"]

TimestampQuality = Literal["exact", "dts_only", "inferred"]
"""How a video's timestamps were obtained. `exact`: the file stores presentation timestamps.
`dts_only`: it stores decoding timestamps only. `inferred`: it stores none; the nominal frame rate
is used."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamInfo:
    """One stream of a recording. Times are exact, in seconds since the recording begins."""

    index: int
    kind: StreamKind
    codec: str
    """FFmpeg's name of the format, not of a decoder."""

    time_base: Fraction
    tags: Mapping[str, str]
    disposition: int
    """FFmpeg's flags, see `av.stream.Disposition`."""

    packets: PacketTable
    """All packets of the file."""

    times: NDArray[np.int64]
    """Presentation time in ticks of each packet that is presented, in file order. Packets that an
    edit list discards and damaged packets at the end of the stream are excluded."""

    durations: NDArray[np.int64]
    """Duration in ticks of each packet in `times`; zero if unknown."""

    digest: str
    """SHA-256 over the payloads of the packets in `times`; empty for the main video, which is
    compared by decoding."""

    attachment: bytes | None = field(default=None, repr=False)
    """Content of an attachment or of cover art."""

    cues: tuple[Cue, ...] = field(default=(), repr=False)
    """Texts of a subtitle stream in a text format."""

    @property
    def begin(self) -> Fraction | None:
        """Seconds to the first presented packet; `None` without packets."""
        return int(self.times.min()) * self.time_base if len(self.times) else None

    @property
    def end(self) -> Fraction | None:
        """Seconds to the end of the last presented packet; `None` without packets."""
        if not len(self.times):
            return None
        return int((self.times + self.durations).max()) * self.time_base

    @property
    def is_cover(self) -> bool:
        """Whether the stream is cover art, not video."""
        return bool(self.disposition & Disposition.attached_pic)

    def __str__(self) -> str:
        language = self.tags.get("language", "")
        return f"{self.kind} stream {self.index} ({self.codec}{', ' * bool(language)}{language})"


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """Static HDR10 metadata: SMPTE ST 2086 and CTA-861.3, in FFmpeg's numbers."""

    mastering_display: tuple[Fraction, ...] | None
    """x and y of red, green, blue and white point; minimum and maximum luminance in cd/m2."""

    content_light_level: tuple[int, int] | None
    """MaxCLL and MaxFALL in cd/m2: brightest pixel, and brightest frame average."""

    @property
    def is_present(self) -> bool:
        """Whether either part is stored."""
        return self.mastering_display is not None or self.content_light_level is not None


@dataclass(frozen=True, slots=True, eq=False)
class VideoInfo:
    """The main video stream: its frames and their timestamps."""

    stream: StreamInfo
    width: int
    height: int
    pixel_format: str
    """FFmpeg's name; empty if no frame can be decoded."""

    sample_aspect_ratio: Fraction
    """Width over height of a pixel; 1 if the file does not store it."""

    color: ColorTags
    rate: Fraction
    """Nominal frames per second."""

    display_matrix: tuple[int, ...] | None
    """Nine numbers that rotate or mirror the frame for display; `None` if not stored."""

    hdr: HdrMetadata
    interlaced: bool
    times: NDArray[np.int64]
    """Presentation times in ticks of `time_base`, rising."""

    key_times: NDArray[np.int64]
    """Presentation times of the key frames, rising."""

    last_duration: int
    """Ticks for which the last frame is shown."""

    timestamp_quality: TimestampQuality

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick."""
        return self.stream.time_base

    @property
    def begin(self) -> Fraction:
        """Seconds to the first frame."""
        return int(self.times[0]) * self.time_base

    @property
    def end(self) -> Fraction:
        """Seconds to the end of the last frame."""
        return (int(self.times[-1]) + self.last_duration) * self.time_base


@dataclass(frozen=True, slots=True)
class Chapter:
    """One chapter. Times in seconds since the recording begins."""

    number: int
    begin: Fraction
    end: Fraction
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class MediaInfo:
    """What one recording contains."""

    path: Path
    format: str
    """FFmpeg's names of the container format, separated by commas."""

    tags: Mapping[str, str]
    chapters: tuple[Chapter, ...]
    streams: tuple[StreamInfo, ...]
    video: VideoInfo | None
    """The first video stream that is not cover art; `None` if it has no packets."""

    origin: Fraction
    """Seconds on the file's own clock at which the recording begins; zero for most formats."""

    truncation: str | None
    """Why the recording is incomplete, for people; `None` if it seems complete."""

    encrypted: bool = False

    def other_streams(self) -> tuple[StreamInfo, ...]:
        """Return all streams except the main video."""
        main = self.video.stream.index if self.video else None
        return tuple(stream for stream in self.streams if stream.index != main)
