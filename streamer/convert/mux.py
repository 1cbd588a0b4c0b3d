"""Muxes the output: the encoded chunks in a row, and copies of all other streams."""

import contextlib
import errno
import heapq
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from streamer.core.atomic_file import AtomicFile, storage_error
from streamer.core.errors import SinkError

from . import audio_tempo, tags
from .chunk_sink import EncodeSettings
from .inspection import open_recording
from .journal import FinishedChunk, PacketEntry
from .media_info import MediaInfo, StreamInfo, VideoInfo

MUXERS: Final[Mapping[str, str]] = {
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm",
}  # fmt: skip
"""FFmpeg's muxer for the suffix of each container that can be written."""

_CODEC_TAGS: Final = {"hevc": "hvc1"}
"""Codec tags in MP4 and MOV. FFmpeg's default is `hev1`, which Apple's players reject."""

_DEFAULT_TIMESCALE: Final = 90_000
_MAX_TIMESCALE: Final = 100_000_000
"""Maximum ticks per second of MP4's movie timescale: with more, a recording of days overflows."""

_EMPTY_TEXT: Final = b"\0\0"
"""MP4's subtitle packet for no text; its muxer inserts these itself."""


@dataclass(frozen=True, slots=True)
class CopiedStream:
    """A stream whose packets are copied."""

    info: StreamInfo
    scale: Fraction = Fraction(1)
    """Factor by which its timestamps are multiplied."""


def unsupported_reason(stream: Any, suffix: str) -> str | None:
    """Return why a container cannot store a stream of an open recording; `None` if it can."""
    muxer = MUXERS[suffix]
    if stream.type == "attachment":
        return None if muxer == "matroska" else f"{suffix} does not support attachments"
    if stream.type == "data" and stream.codec_context is None and muxer != "mov":
        return f"{suffix} does not support this kind of data"
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as scratch:
            scratch.add_stream_from_template(stream, opaque=True)
    except (ValueError, av.error.FFmpegError):
        return f"{suffix} does not support it"
    return None


class Muxer:
    """Writes the output of one conversion. For one thread.

    Args:
        media: The recording.
        encoding: Settings with which the chunks were encoded.
        copied: Streams to copy.
        stretched: Numbers of the audio streams to re-encode at another speed.
    """

    def __init__(
        self,
        media: MediaInfo,
        encoding: EncodeSettings,
        copied: Sequence[CopiedStream],
        stretched: Sequence[int] = (),
    ) -> None:
        assert media.video is not None
        self._media = media
        self._video: VideoInfo = media.video
        self._encoding = encoding
        self._copied = {one.info.index: one for one in copied}
        self._stretched = frozenset(stretched)
        self._scale = 1 / encoding.schedule.speed

    def write(self, output: Path, chunks: Sequence[FinishedChunk]) -> Path:
        """Write `<output>.part` and return its path.

        Raises:
            SinkError: The muxer rejects a stream or packet.
            StorageError: The file cannot be written.
        """
        file = AtomicFile(output)
        try:
            self._mux(file, MUXERS[output.suffix.lower()], chunks)
            file.sync()
        except OSError as error:
            file.discard()
            if isinstance(error, av.error.FFmpegError) and error.errno != errno.ENOSPC:
                reason = (error.strerror or str(error)).lower()
                raise SinkError(f"cannot write {output.suffix}: {reason}") from error
            raise storage_error(output, error) from error
        except BaseException:
            file.discard()
            raise
        return file.part

    def _mux(self, file: AtomicFile, muxer: str, chunks: Sequence[FinishedChunk]) -> None:
        with ExitStack() as opened:
            recording = opened.enter_context(open_recording(self._media.path))
            options = self._options(muxer)
            output = opened.enter_context(av.open(file, "w", format=muxer, options=options))
            opened.push(partial(_abandon, file, output))
            output.metadata.update(tags.recording_tags(self._media.tags))
            targets = self._streams(recording, output, muxer, chunks[0].extradata)
            self._chapters(output)
            output.start_encoding()
            output.mux(self._cover_packets(targets))
            video = self._video_packets(chunks, targets[self._video.stream.index])
            others = self._copied_packets(recording, targets)
            for packet in heapq.merge(
                video, others, *self._stretched_packets(targets), key=_seconds
            ):
                output.mux(packet)

    def _options(self, muxer: str) -> dict[str, str]:
        if muxer not in ("mp4", "mov"):
            return {}
        # Start offsets of streams are stored on this timescale; the default is milliseconds.
        bases = [self._encoding.time_base, *(one.info.time_base for one in self._copied.values())]
        timescale = math.lcm(*(base.denominator for base in bases))
        options = {
            "movie_timescale": str(timescale if timescale <= _MAX_TIMESCALE else _DEFAULT_TIMESCALE)
        }
        if tags.needs_metadata_tags(self._media.tags, muxer):
            options["movflags"] = "use_metadata_tags"
        return options

    def _streams(
        self, recording: Any, output: OutputContainer, muxer: str, extradata: bytes
    ) -> dict[int, Any]:
        """Add the output streams in the recording's order; return them by input stream number."""
        targets: dict[int, Any] = {}
        infos = {info.index: info for info in self._media.streams}
        for stream in recording.streams:
            info = infos[stream.index]
            encoded = stream.index not in self._copied
            if stream.index == self._video.stream.index:
                target = self._video_stream(recording, output, muxer, extradata)
            elif stream.index in self._stretched:
                target = audio_tempo.add_stream(output, stream, info, muxer)
            elif encoded:
                continue
            elif info.is_cover and muxer == "matroska":
                _attach_cover(output, info)
                continue
            else:
                target = output.add_stream_from_template(stream, opaque=True)
                if stream.type == "video" and stream.sample_aspect_ratio:
                    target.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio
            # MP4's muxer writes cover art only for a stream with no other disposition.
            target.disposition = int(
                Disposition.attached_pic if info.is_cover else info.disposition
            )
            target.metadata.update(tags.stream_tags(info.tags, muxer, encoded=encoded))
            targets[stream.index] = target
        return targets

    def _video_stream(
        self, recording: Any, output: OutputContainer, muxer: str, extradata: bytes
    ) -> Any:
        encoding, source = self._encoding, recording.streams[self._video.stream.index]
        if self._video.stream.codec == encoding.spec.format:
            # The template carries the container's metadata of the video: HDR10, rotation.
            stream = output.add_stream_from_template(source, opaque=True)
        else:
            # PyAV creates a stream for encoded packets only from a template stream. This one
            # belongs to a container that is never written.
            with av.open(io.BytesIO(), "w", format=muxer) as scratch:
                template = scratch.add_stream(encoding.spec.codec, rate=encoding.rate)
                assert isinstance(template, VideoStream)
                stream = output.add_stream_from_template(template, opaque=True)
            stream.set_display_matrix(self._video.display_matrix)
        context = stream.codec_context
        configured = encoding.context()
        for name in ("width", "height", "pix_fmt", "sample_aspect_ratio", "framerate",
                     "colorspace", "color_primaries", "color_trc", "color_range"):  # fmt: skip
            value = getattr(configured, name)
            if value is not None:
                setattr(context, name, value)
        context.extradata = extradata or None
        if muxer in ("mp4", "mov") and encoding.spec.format in _CODEC_TAGS:
            context.codec_tag = _CODEC_TAGS[encoding.spec.format]
        stream.time_base = encoding.time_base
        return stream

    def _chapters(self, output: OutputContainer) -> None:
        unit = Fraction(1, 1_000_000_000)
        output.set_chapters(
            [
                {
                    "id": chapter.number,
                    "start": round(chapter.begin * self._scale / unit),
                    "end": round(chapter.end * self._scale / unit),
                    "time_base": unit,
                    "metadata": dict(chapter.tags),
                }
                for chapter in self._media.chapters
            ]
        )

    def _video_packets(
        self, chunks: Iterable[FinishedChunk], stream: Any
    ) -> "Iterator[Packet[Any]]":
        all_packets = [one for chunk in chunks for one in chunk.packets]
        dts = iter(decoding_times(all_packets))
        times = sorted(one.pts for one in all_packets)
        ends = [*times[1:], round(self._video.end * self._scale / self._encoding.time_base)]
        durations = {pts: max(1, end - pts) for pts, end in zip(times, ends, strict=True)}
        for chunk in chunks:
            for encoded, payload in chunk.payloads():
                packet = Packet(payload)
                packet.stream, packet.time_base = stream, self._encoding.time_base
                packet.pts, packet.dts = encoded.pts, next(dts)
                packet.duration = durations[encoded.pts]
                packet.is_keyframe = encoded.keyframe
                yield packet

    def _stretched_packets(self, targets: Mapping[int, Any]) -> "list[Iterator[Packet[Any]]]":
        speed, path = self._encoding.schedule.speed, self._media.path
        return [
            audio_tempo.packets(path, info, targets[info.index], speed=speed)
            for info in self._media.streams
            if info.index in self._stretched
        ]

    def _cover_packets(self, targets: Mapping[int, Any]) -> "list[Packet[Any]]":
        """Return the packets of cover art that is stored as a stream; they have no time."""
        packets = []
        for index, copied in self._copied.items():
            if copied.info.is_cover and index in targets:
                packet = Packet(copied.info.attachment or b"")
                packet.stream, packet.time_base = targets[index], copied.info.time_base
                packet.pts = packet.dts = 0
                packets.append(packet)
        return packets

    def _copied_packets(
        self, recording: Any, targets: Mapping[int, Any]
    ) -> "Iterator[Packet[Any]]":
        streams = [
            stream
            for stream in recording.streams
            if stream.index in targets and stream.index in self._copied
            if not self._copied[stream.index].info.is_cover
        ]
        if not streams:
            return
        packets = recording.demux(*streams)
        counts = dict.fromkeys(self._copied, 0)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError):  # `inspect` has reported a read error.
                return
            if packet.size == 0:  # The flush packet.
                continue
            copied = self._copied[packet.stream_index]
            counts[packet.stream_index] += not packet.is_discard
            if counts[packet.stream_index] > len(copied.info.times):
                continue  # An incomplete packet at the end of a truncated recording.
            # Packets that an edit list discards are copied: audio decoders need them to start.
            if packet.pts is None and packet.dts is None:
                continue
            if packet.size == len(_EMPTY_TEXT) and bytes(packet) == _EMPTY_TEXT:
                continue
            base = copied.info.time_base
            shift, scale = round(self._media.origin / base), copied.scale
            packet.pts = _rescaled(packet.pts, shift, scale)
            packet.dts = _rescaled(packet.dts, shift, scale)
            if scale != 1:
                packet.duration = round((packet.duration or 0) * scale)
            packet.time_base = base
            packet.stream = targets[packet.stream_index]
            yield packet


def _attach_cover(output: OutputContainer, info: StreamInfo) -> None:
    """Add cover art as an attachment, as Matroska stores it."""
    kind = "png" if info.codec == "png" else "jpeg"
    name = info.tags.get("filename") or f"cover.{kind.replace('jpeg', 'jpg')}"
    mimetype = info.tags.get("mimetype") or f"image/{kind}"
    output.add_attachment(name, mimetype, info.attachment or b"")


def _abandon(file: AtomicFile, output: OutputContainer, error: object, *_: object) -> None:
    """On an error, close the output without writing: its trailer would fail too and hide why."""
    if error is not None:
        file.abandon()
        with contextlib.suppress(OSError, ValueError, av.error.FFmpegError):
            output.close()


def _rescaled(ticks: int | None, shift: int, scale: Fraction) -> int | None:
    return None if ticks is None else round((ticks - shift) * scale)


def decoding_times(packets: Sequence[PacketEntry]) -> list[int]:
    """Return a decoding timestamp in ticks for each packet: rising, and never above its pts.

    Chunks come from independent encoders, so their own decoding timestamps would overlap. The
    sorted presentation timestamps are reused, delayed by the deepest reordering of all chunks; the
    first packets get timestamps before the first presentation.
    """
    pts = sorted(packet.pts for packet in packets)
    rank = {value: number for number, value in enumerate(pts)}
    delay = max((number - rank[one.pts] for number, one in enumerate(packets)), default=0)
    step = (pts[-1] - pts[0]) // max(1, len(pts) - 1) if len(pts) > 1 else 1
    early = [pts[0] - max(1, step) * (delay - number) for number in range(delay)] if pts else []
    return [*early, *pts][: len(packets)]


def _seconds(packet: "Packet[Any]") -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return (ticks or 0) * packet.time_base
