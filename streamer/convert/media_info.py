"""What is in a recording: every stream, every time, and what players must know about them.

One pass over the packets and one decoded picture. Both the planner and `verify` go by it, so
that what is kept and what is proven to be kept cannot come apart.
"""

import hashlib
import itertools
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av
import av.error
import numpy as np
from av.codec.hwaccel import HWAccel
from av.packet import Packet  # noqa: TC002  one place for imports
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from numpy.typing import NDArray

from streamer.core.errors import SourceError, SourceFault, SourceRejected
from streamer.core.image import ColorTags, Image

Kind = Literal["video", "audio", "subtitle", "data", "attachment"]

_ATTEMPTS: Final = 400
"""Packets of the main video that are decoded in search of a first picture: beyond a long GOP."""

_SECOND: Final = Fraction(1)

_HAS_OWN_CLOCK: Final = frozenset({"mpegts", "mpeg", "rtp", "asf"})
"""Formats that start anywhere: where they begin means nothing, and is taken as zero."""

_DECLARED_END: Final = Fraction(1, 4)
"""Seconds by which a recording may end before what its header says: headers round, and count the
last picture's duration."""

_TS_PACKET: Final = 188
"""Bytes of an MPEG-TS packet; with four bytes of time in front on discs and in camcorders."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamInfo:
    """One stream of a recording. Times are exact, in seconds since the recording begins."""

    index: int
    kind: Kind
    codec: str
    """FFmpeg's name of the format, not of a decoder."""

    time_base: Fraction
    tags: Mapping[str, str]
    disposition: int
    """FFmpeg's flags, see `av.stream.Disposition`."""

    packets: int
    times: NDArray[np.int64]
    """Presentation time of each packet in ticks, in the order of the file."""

    durations: NDArray[np.int64]
    """Of each packet in ticks; zero if unknown."""

    digest: str
    """SHA-256 over the payloads, in the order of the file."""

    attachment: bytes | None = field(default=None, repr=False)
    """What an attachment or a cover picture holds."""

    @property
    def begin(self) -> Fraction | None:
        """Seconds to the first presentation; `None` without packets."""
        return int(self.times.min()) * self.time_base if self.packets else None

    @property
    def end(self) -> Fraction | None:
        """Seconds to the end of what is presented last; `None` without packets."""
        if not self.packets:
            return None
        return int((self.times + self.durations).max()) * self.time_base

    @property
    def cover(self) -> bool:
        """Whether this is a picture that belongs to the recording, not a video."""
        return bool(self.disposition & Disposition.attached_pic)

    def __str__(self) -> str:
        language = self.tags.get("language", "")
        return f"{self.kind} stream {self.index} ({self.codec}{', ' * bool(language)}{language})"


@dataclass(frozen=True, slots=True)
class HighDynamicRange:
    """What a display must know of HDR10: SMPTE ST 2086 and CTA-861.3, as FFmpeg's numbers."""

    mastering: tuple[Fraction, ...] | None
    """x and y of red, green, blue and white; darkest and brightest luminance in cd/m2."""

    light: tuple[int, int] | None
    """Brightest pixel and brightest mean of a picture, cd/m2 (MaxCLL, MaxFALL)."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoInfo:
    """The main video: its pictures and their times."""

    stream: StreamInfo
    width: int
    height: int
    pixel_format: str
    aspect: Fraction
    """Of a pixel, width over height; 1 if nothing is said."""

    color: ColorTags
    rate: Fraction
    """Nominal pictures a second."""

    display_matrix: tuple[int, ...] | None
    """Nine numbers that turn or mirror the picture; `None` if it is shown as it is."""

    dynamic_range: HighDynamicRange
    interlaced: bool
    times: NDArray[np.int64]
    """Presentation times in ticks of `time_base`, rising."""

    key_times: NDArray[np.int64]
    """Of the pictures from which decoding can begin."""

    last_duration: int
    """Ticks for which the last picture is shown."""

    timestamp_quality: Literal["known", "in order", "guessed"]
    """`in order`: only decoding times are stored; `guessed`: none are, the nominal rate counts."""

    @property
    def time_base(self) -> Fraction:
        """Seconds a tick."""
        return self.stream.time_base

    @property
    def begin(self) -> Fraction:
        """Seconds to the first picture."""
        return int(self.times[0]) * self.time_base

    @property
    def end(self) -> Fraction:
        """Seconds to the end of the last picture."""
        return (int(self.times[-1]) + self.last_duration) * self.time_base


@dataclass(frozen=True, slots=True)
class Chapter:
    """A named part. Times in seconds since the recording begins."""

    number: int
    begin: Fraction
    end: Fraction
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class MediaInfo:
    """What is in a recording."""

    path: Path
    format: str
    """FFmpeg's names, separated by commas."""

    tags: Mapping[str, str]
    chapters: tuple[Chapter, ...]
    streams: tuple[StreamInfo, ...]
    video: VideoInfo | None
    """The first stream of moving pictures."""

    origin: Fraction
    """Seconds in the file's own clock at which the recording begins; zero for most formats."""

    broken: str | None
    """Why the end may be missing, in words; `None` if all seems to be there."""

    encrypted: bool = False

    def others(self) -> tuple[StreamInfo, ...]:
        """All streams but the main video."""
        main = self.video.stream.index if self.video else None
        return tuple(stream for stream in self.streams if stream.index != main)


def open_recording(path: Path, *, hwaccel: HWAccel | None = None) -> av.container.InputContainer:
    """Open a recording for reading, its pictures decoded by *hwaccel* if there is one.

    Raises:
        SourceError: It is not there, or nothing FFmpeg can read.
    """
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise SourceRejected(f"{path}: is empty", fault=SourceFault.DAMAGED)
        return av.open(str(path), hwaccel=hwaccel)
    except (OSError, av.error.FFmpegError) as error:
        raise _unreadable(path, error) from error


def take(path: Path) -> MediaInfo:
    """Go through the recording at *path*.

    Raises:
        SourceError: It is not there, or nothing FFmpeg can read.
    """
    with open_recording(path) as container:
        return _Taking(path, container).take()


class _Tally:
    """What is gathered about one stream while its packets go by."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()
        self.pts: list[int | None] = []
        self.dts: list[int | None] = []
        self.durations: list[int] = []
        self.keys: list[bool] = []
        self.payload: bytes | None = None
        self.damaged = 0
        """Packets that the demuxer calls damaged, and after which more came."""

        self.doubtful: list[Packet[Any]] = []
        """Such packets, after which nothing came yet: where a file was cut, they are a part."""

    def add(self, packet: "Packet[Any]") -> None:
        """Take note of a packet: a damaged one counts as soon as the stream goes on after it."""
        if packet.is_corrupt:
            self.doubtful.append(packet)
            return
        self.damaged += len(self.doubtful)
        for one in (*self.doubtful, packet):
            self._add(one)
        self.doubtful.clear()

    def _add(self, packet: "Packet[Any]") -> None:
        payload = bytes(packet)
        self.digest.update(payload)
        if len(self.pts) == 0:
            self.payload = payload
        self.pts.append(packet.pts)
        self.dts.append(packet.dts)
        self.durations.append(packet.duration or 0)
        self.keys.append(packet.is_keyframe)


class _Taking:
    def __init__(self, path: Path, container: av.container.InputContainer) -> None:
        self.path = path
        self.container = container
        self.tallies = {stream.index: _Tally(stream) for stream in container.streams}
        self.main = next(
            (
                stream
                for stream in container.streams.video
                if not stream.disposition & Disposition.attached_pic
            ),
            None,
        )
        self.image: av.VideoFrame | None = None
        self.attempts = 0
        self.encrypted = False
        own_clock = _HAS_OWN_CLOCK & set(container.format.name.split(","))
        start = container.start_time if own_clock else None
        self.origin = Fraction(start or 0, av.time_base)

    def take(self) -> MediaInfo:
        error = self._read()
        streams = tuple(self._stream(tally) for tally in self.tallies.values())
        by_index = {stream.index: stream for stream in streams}
        main = by_index[self.main.index] if self.main is not None else None
        video = self._video(main) if main is not None and main.packets else None
        return MediaInfo(
            path=self.path,
            format=self.container.format.name,
            tags=dict(self.container.metadata),
            chapters=self._chapters(),
            streams=streams,
            video=video,
            origin=self.origin,
            broken=self._broken(error, streams),
            encrypted=self.encrypted,
        )

    def _read(self) -> str | None:
        """Go through all packets; what ended it early, if anything did."""
        packets = self.container.demux()
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return None
            except av.error.FFmpegError as error:
                return error.strerror or str(error)
            tally = self.tallies.get(packet.stream_index)
            if packet.size == 0 or packet.is_discard or tally is None:
                continue  # The end's mark; hidden by an edit list; of a stream not known before.
            tally.add(packet)
            self.encrypted = self.encrypted or packet.has_sidedata("encryption_info")
            if self.main is not None and packet.stream_index == self.main.index:
                self._look_for_picture(packet)

    def _look_for_picture(self, packet: "Packet[Any]") -> None:
        if self.image is not None or self.attempts >= _ATTEMPTS or self.encrypted:
            return
        self.attempts += 1
        try:
            pictures = self.main.codec_context.decode(packet)  # type: ignore[union-attr]
        except av.error.FFmpegError:
            return
        self.image = next((one for one in pictures if not one.is_corrupt), None)

    def _stream(self, tally: _Tally) -> StreamInfo:
        stream = tally.stream
        base = stream.time_base or Fraction(1, av.time_base)
        origin = round(self.origin / base)
        times = [
            (pts if pts is not None else dts if dts is not None else 0) - origin
            for pts, dts in zip(tally.pts, tally.dts, strict=True)
        ]
        attachment = bytes(stream.data) if stream.type == "attachment" else None
        if stream.disposition & Disposition.attached_pic:
            attachment = tally.payload
        return StreamInfo(
            index=stream.index,
            kind=stream.type,
            codec=codec_name(stream),
            time_base=base,
            tags=dict(stream.metadata),
            disposition=int(stream.disposition),
            packets=len(times),
            times=np.array(times, np.int64),
            durations=np.array(tally.durations, np.int64),
            digest=tally.digest.hexdigest(),
            attachment=attachment,
        )

    def _video(self, facts: StreamInfo) -> VideoInfo:
        stream = self.main
        assert stream is not None
        if self.image is None and not self.encrypted:
            self._drain()
        picture, context = self.image, stream.codec_context
        times, known = self._picture_times(facts)
        order = np.argsort(times, kind="stable")
        tally = self.tallies[facts.index]
        last = int(facts.durations[order[-1]]) if known == "known" else 0
        if last <= 0:
            steps = np.diff(times[order])
            last = int(np.median(steps)) if len(steps) else self._tick(facts)
        return VideoInfo(
            stream=facts,
            width=picture.width if picture else context.width,
            height=picture.height if picture else context.height,
            pixel_format=picture.format.name if picture else context.pix_fmt or "",
            aspect=stream.sample_aspect_ratio or Fraction(1),
            color=Image(picture).color if picture else ColorTags(),
            rate=self._rate(),
            display_matrix=_display_matrix(picture),
            dynamic_range=_dynamic_range(picture),
            interlaced=bool(picture and picture.interlaced_frame),
            times=times[order],
            key_times=np.sort(times[np.array(tally.keys, bool)]),
            last_duration=max(last, 1),
            timestamp_quality=known,
        )

    def _drain(self) -> None:
        """A single picture comes out only when the decoder hears that no more packets come."""
        try:
            pictures = self.main.codec_context.decode(None)  # type: ignore[union-attr]
        except av.error.FFmpegError:
            return
        self.image = next(iter(pictures), None)

    def _picture_times(
        self, facts: StreamInfo
    ) -> tuple[NDArray[np.int64], Literal["known", "in order", "guessed"]]:
        tally = self.tallies[facts.index]
        if all(pts is not None for pts in tally.pts) and _rising(sorted(facts.times.tolist())):
            return facts.times, "known"
        if all(dts is not None for dts in tally.dts):
            times = np.array(tally.dts, np.int64) - round(self.origin / facts.time_base)
            if _rising(times.tolist()):
                return times, "in order"
        return np.arange(facts.packets, dtype=np.int64) * self._tick(facts), "guessed"

    def _rate(self) -> Fraction:
        stream = self.main
        assert stream is not None
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        return Fraction(rate) if rate else Fraction(25)

    def _tick(self, facts: StreamInfo) -> int:
        return max(1, round(1 / self._rate() / facts.time_base))

    def _chapters(self) -> tuple[Chapter, ...]:
        return tuple(
            Chapter(
                number=chapter["id"],
                begin=chapter["start"] * (chapter["time_base"] or _SECOND) - self.origin,
                end=chapter["end"] * (chapter["time_base"] or _SECOND) - self.origin,
                tags=dict(chapter["metadata"]),
            )
            for chapter in self.container.chapters()
        )

    def _broken(self, error: str | None, streams: tuple[StreamInfo, ...]) -> str | None:
        tallies = self.tallies.values()
        if error is None and any(tally.doubtful for tally in tallies):
            error = "a damaged packet"
        if error is not None:
            return f"reading stopped at {error.lower()}"
        damaged = sum(tally.damaged for tally in tallies)
        if damaged:
            return f"{damaged} of its packets are damaged"
        size = self.path.stat().st_size
        for tally in self.tallies.values():
            entries = tally.stream.index_entries
            last = entries[-1] if "mov" in self.container.format.name and len(entries) else None
            if last is not None and last.pos + last.size > size:
                return "the file ends before what its index lists"
        if "mpegts" in self.container.format.name and size % _TS_PACKET and size % (_TS_PACKET + 4):
            return "the file ends within a packet"
        ends = [stream.end for stream in streams if stream.end is not None]
        declared_end = Fraction(self.container.duration or 0, av.time_base)
        start = Fraction(self.container.start_time or 0, av.time_base) - self.origin
        if ends and declared_end and "matroska" in self.container.format.name:
            missing = start + declared_end - max(ends)
            if missing > _DECLARED_END:
                return f"it ends {float(missing):.1f} s before its header says"
        return None


def codec_name(stream: Any) -> str:
    """FFmpeg's name of a stream's format."""
    context = stream.codec_context
    if context is None:
        return stream.name or "none"
    return str(context.codec.canonical_name)


def _rising(times: list[int]) -> bool:
    return all(after > before for before, after in itertools.pairwise(times))


def _side_data(picture: av.VideoFrame | None, kind: SideDataType) -> bytes | None:
    if picture is None:
        return None
    side_data: Any = picture.side_data  # A mapping by its type, but it gives its values in turn.
    return next((bytes(data) for data in side_data if data.type == kind), None)


def _display_matrix(picture: av.VideoFrame | None) -> tuple[int, ...] | None:
    data = _side_data(picture, SideDataType.DISPLAYMATRIX)
    return struct.unpack("=9i", data[:36]) if data is not None else None


def _dynamic_range(picture: av.VideoFrame | None) -> HighDynamicRange:
    """From AVMasteringDisplayMetadata and AVContentLightMetadata (libavutil)."""
    mastering = _side_data(picture, SideDataType.MASTERING_DISPLAY_METADATA)
    light = _side_data(picture, SideDataType.CONTENT_LIGHT_LEVEL)
    numbers: tuple[Fraction, ...] | None = None
    if mastering is not None:
        raw = struct.unpack("=22i", mastering[:88])
        if raw[20] and raw[21]:  # Primaries and luminance are both said.
            pairs = zip(raw[0:20:2], raw[1:20:2], strict=True)
            numbers = tuple(Fraction(top, bottom or 1) for top, bottom in pairs)
    levels = struct.unpack("=2I", light[:8]) if light is not None else None
    return HighDynamicRange(numbers, levels)


def _unreadable(path: Path, error: Exception) -> SourceError:
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    missing = isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError)
    if isinstance(error, av.error.InvalidDataError):
        reason = "not a recording, or its index is missing because it was cut short"
    if isinstance(error, EOFError):
        reason = "ends before its first picture"
    fault = SourceFault.NOT_FOUND if missing else SourceFault.DAMAGED
    return SourceRejected(f"{path}: {reason}", fault=fault)
