"""Inspects a recording: one pass over its packets, and one decoded frame.

The pass hashes every payload except that of the main video, so that `verify` compares two
recordings without reading either of them again.
"""

import hashlib
import itertools
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

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

from .media_info import (
    Chapter,
    HdrMetadata,
    MediaInfo,
    StreamInfo,
    TimestampQuality,
    VideoInfo,
)
from .packet_table import PacketTableBuilder
from .subtitle_text import TEXT_CODECS, Cue, decode_cue

_MAX_ATTEMPTS: Final = 400
"""Packets of the main video that are decoded in search of a first frame: more than a long GOP."""

_SECOND: Final = Fraction(1)

_ARBITRARY_START: Final = frozenset({"mpegts", "mpeg", "rtp", "asf"})
"""Formats whose timestamps start at an arbitrary value, which is taken as zero."""

_DURATION_TOLERANCE: Final = Fraction(1, 4)
"""Seconds by which a recording may end before the duration in its header: headers are rounded, and
include the duration of the last frame."""

_TS_PACKET: Final = 188
"""Bytes of an MPEG-TS packet; discs and camcorders put a four-byte timestamp in front."""


def open_recording(path: Path, *, hwaccel: HWAccel | None = None) -> av.container.InputContainer:
    """Open a recording for reading, to be decoded by *hwaccel* if one is given.

    Raises:
        SourceError: The file is missing, or FFmpeg cannot read it.
    """
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise SourceRejected(f"{path}: is empty", fault=SourceFault.DAMAGED)
        # A colon in a file's name is not a protocol: FFmpeg would ask the network for `http:/x`.
        return av.open(f"file:{path}", hwaccel=hwaccel)
    except (OSError, av.error.FFmpegError) as error:
        raise _unreadable(path, error) from error


def inspect(path: Path) -> MediaInfo:
    """Read the recording at *path* once and return what it contains.

    Raises:
        SourceError: The file is missing, or FFmpeg cannot read it.
    """
    with open_recording(path) as container:
        return _Inspection(path, container).run()


class _StreamRecord:
    def __init__(self, stream: Any, *, hashed: bool) -> None:
        self.stream = stream
        self.packets = PacketTableBuilder(hashed=hashed)
        self.digest = hashlib.sha256() if hashed else None
        self.pts: list[int | None] = []
        self.dts: list[int | None] = []
        self.durations: list[int] = []
        self.keyframes: list[bool] = []
        self.first_payload: bytes | None = None
        self.cues: list[Cue] = []
        self.damaged = 0
        """Packets marked corrupt by the demuxer that another packet follows."""

        self.corrupt_tail: list[Packet[Any]] = []
        """Corrupt packets that no packet follows yet: where a file was cut, one is incomplete."""

        self._has_text = stream.type == "subtitle" and codec_name(stream) in TEXT_CODECS

    def add(self, packet: "Packet[Any]") -> None:
        """Add a packet; a corrupt one counts only once the stream continues after it."""
        self.packets.add(packet)
        if packet.is_discard:
            return
        if packet.is_corrupt:
            self.corrupt_tail.append(packet)
            return
        self.damaged += len(self.corrupt_tail)
        for one in (*self.corrupt_tail, packet):
            self._add_presented(one)
        self.corrupt_tail.clear()

    def _add_presented(self, packet: "Packet[Any]") -> None:
        if self.digest is not None:
            payload = bytes(packet)
            self.digest.update(payload)
            if self.first_payload is None:
                self.first_payload = payload
        if self._has_text and (cue := decode_cue(self.stream, packet)) is not None:
            self.cues.append(cue)
        self.pts.append(packet.pts)
        self.dts.append(packet.dts)
        self.durations.append(packet.duration or 0)
        self.keyframes.append(packet.is_keyframe)


class _Inspection:
    def __init__(self, path: Path, container: av.container.InputContainer) -> None:
        self.path = path
        self.container = container
        self.main = next(
            (
                stream
                for stream in container.streams.video
                if not stream.disposition & Disposition.attached_pic
            ),
            None,
        )
        self.records = {
            stream.index: _StreamRecord(stream, hashed=stream is not self.main)
            for stream in container.streams
        }
        self.frame: av.VideoFrame | None = None
        self.attempts = 0
        self.encrypted = False
        arbitrary = _ARBITRARY_START & set(container.format.name.split(","))
        start = container.start_time if arbitrary else None
        self.origin = Fraction(start or 0, av.time_base)

    def run(self) -> MediaInfo:
        error = self._read()
        streams = tuple(self._stream(record) for record in self.records.values())
        by_index = {stream.index: stream for stream in streams}
        main = by_index[self.main.index] if self.main is not None else None
        video = self._video(main) if main is not None and len(main.times) else None
        return MediaInfo(
            path=self.path,
            format=self.container.format.name,
            tags=dict(self.container.metadata),
            chapters=self._chapters(),
            streams=streams,
            video=video,
            origin=self.origin,
            truncation=self._truncation(error, streams),
            encrypted=self.encrypted,
        )

    def _read(self) -> str | None:
        """Read all packets; return the error that ended reading early, if one did."""
        packets = self.container.demux()
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return None
            except av.error.FFmpegError as error:
                return error.strerror or str(error)
            record = self.records.get(packet.stream_index)
            if packet.size == 0 or record is None:
                continue  # The flush packet, or a stream that appears later.
            record.add(packet)
            if packet.is_discard:
                continue
            self.encrypted = self.encrypted or packet.has_sidedata("encryption_info")
            if self.main is not None and packet.stream_index == self.main.index:
                self._try_decode(packet)

    def _try_decode(self, packet: "Packet[Any]") -> None:
        if self.frame is not None or self.attempts >= _MAX_ATTEMPTS or self.encrypted:
            return
        self.attempts += 1
        try:
            frames = self.main.codec_context.decode(packet)  # type: ignore[union-attr]
        except av.error.FFmpegError:
            return
        self.frame = next((one for one in frames if not one.is_corrupt), None)

    def _stream(self, record: _StreamRecord) -> StreamInfo:
        stream = record.stream
        base = stream.time_base or Fraction(1, av.time_base)
        origin = round(self.origin / base)
        times = [
            (pts if pts is not None else dts if dts is not None else 0) - origin
            for pts, dts in zip(record.pts, record.dts, strict=True)
        ]
        attachment = bytes(stream.data) if stream.type == "attachment" else None
        if stream.disposition & Disposition.attached_pic:
            attachment = record.first_payload
        return StreamInfo(
            index=stream.index,
            kind=stream.type,
            codec=codec_name(stream),
            time_base=base,
            tags=dict(stream.metadata),
            disposition=int(stream.disposition),
            packets=record.packets.build(),
            times=np.array(times, np.int64),
            durations=np.array(record.durations, np.int64),
            digest=record.digest.hexdigest() if record.digest is not None else "",
            attachment=attachment,
            cues=tuple(record.cues),
        )

    def _video(self, info: StreamInfo) -> VideoInfo:
        stream = self.main
        assert stream is not None
        if self.frame is None and not self.encrypted:
            self._flush_decoder()
        frame, context = self.frame, stream.codec_context
        times, quality = self._frame_times(info)
        order = np.argsort(times, kind="stable")
        record = self.records[info.index]
        last = int(info.durations[order[-1]]) if quality == "exact" else 0
        if last <= 0:
            steps = np.diff(times[order])
            last = int(np.median(steps)) if len(steps) else self._frame_ticks(info)
        return VideoInfo(
            stream=info,
            width=frame.width if frame else context.width,
            height=frame.height if frame else context.height,
            pixel_format=frame.format.name if frame else context.pix_fmt or "",
            sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
            color=Image(frame).color if frame else ColorTags(),
            rate=self._rate(),
            display_matrix=_display_matrix(frame),
            hdr=_hdr_metadata(frame),
            interlaced=bool(frame and frame.interlaced_frame),
            times=times[order],
            key_times=np.sort(times[np.array(record.keyframes, bool)]),
            last_duration=max(last, 1),
            timestamp_quality=quality,
        )

    def _flush_decoder(self) -> None:
        """Take the frame of a stream so short that the decoder returns it only when flushed."""
        try:
            frames = self.main.codec_context.decode(None)  # type: ignore[union-attr]
        except av.error.FFmpegError:
            return
        self.frame = next(iter(frames), None)

    def _frame_times(self, info: StreamInfo) -> tuple[NDArray[np.int64], TimestampQuality]:
        record = self.records[info.index]
        if all(pts is not None for pts in record.pts) and _is_rising(sorted(info.times.tolist())):
            return info.times, "exact"
        if all(dts is not None for dts in record.dts):
            times = np.array(record.dts, np.int64) - round(self.origin / info.time_base)
            if _is_rising(times.tolist()):
                return times, "dts_only"
        return np.arange(len(info.times), dtype=np.int64) * self._frame_ticks(info), "inferred"

    def _rate(self) -> Fraction:
        stream = self.main
        assert stream is not None
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        return Fraction(rate) if rate else Fraction(25)

    def _frame_ticks(self, info: StreamInfo) -> int:
        return max(1, round(1 / self._rate() / info.time_base))

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

    def _truncation(self, error: str | None, streams: tuple[StreamInfo, ...]) -> str | None:
        records = self.records.values()
        if error is None and any(record.corrupt_tail for record in records):
            error = "a damaged packet"
        if error is not None:
            return f"reading stopped at {error.lower()}"
        damaged = sum(record.damaged for record in records)
        if damaged:
            return f"{damaged} of its packets are damaged"
        size = self.path.stat().st_size
        for record in records:
            entries = record.stream.index_entries
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
            if missing > _DURATION_TOLERANCE:
                return f"it ends {float(missing):.1f} s before its header says"
        return None


def codec_name(stream: Any) -> str:
    """Return FFmpeg's name of the format of *stream*."""
    context = stream.codec_context
    if context is None:
        return stream.name or "none"
    return str(context.codec.canonical_name)


def _is_rising(times: list[int]) -> bool:
    return all(after > before for before, after in itertools.pairwise(times))


def _side_data(frame: av.VideoFrame | None, kind: SideDataType) -> bytes | None:
    if frame is None:
        return None
    side_data: Any = frame.side_data  # A mapping by type that iterates over its values.
    return next((bytes(data) for data in side_data if data.type == kind), None)


def _display_matrix(frame: av.VideoFrame | None) -> tuple[int, ...] | None:
    data = _side_data(frame, SideDataType.DISPLAYMATRIX)
    return struct.unpack("=9i", data[:36]) if data is not None else None


def _hdr_metadata(frame: av.VideoFrame | None) -> HdrMetadata:
    """Unpack AVMasteringDisplayMetadata and AVContentLightMetadata (libavutil)."""
    mastering = _side_data(frame, SideDataType.MASTERING_DISPLAY_METADATA)
    light = _side_data(frame, SideDataType.CONTENT_LIGHT_LEVEL)
    numbers: tuple[Fraction, ...] | None = None
    if mastering is not None:
        raw = struct.unpack("=22i", mastering[:88])
        if raw[20] and raw[21]:  # has_primaries and has_luminance.
            pairs = zip(raw[0:20:2], raw[1:20:2], strict=True)
            numbers = tuple(Fraction(top, bottom or 1) for top, bottom in pairs)
    levels = struct.unpack("=2I", light[:8]) if light is not None else None
    return HdrMetadata(numbers, levels)


def _unreadable(path: Path, error: Exception) -> SourceError:
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    missing = isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError)
    if isinstance(error, av.error.InvalidDataError):
        reason = "not a recording, or its index is missing because it was cut short"
    if isinstance(error, EOFError):
        reason = "ends before its first frame"
    fault = SourceFault.NOT_FOUND if missing else SourceFault.DAMAGED
    return SourceRejected(f"{path}: {reason}", fault=fault)
