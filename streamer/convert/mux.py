"""Puts a conversion together: the coded chunks, and everything else of the recording as it was."""

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
from .journal import CodedPicture, FinishedChunk
from .media_info import MediaInfo, StreamInfo, VideoInfo, open_recording

MUXERS: Final[Mapping[str, str]] = {
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm",
}  # fmt: skip
"""FFmpeg's muxer for each suffix of a file that can be written."""

_TAGS: Final = {"hevc": "hvc1"}
"""In MP4 and MOV; FFmpeg's own choice is `hev1`, which Apple's players refuse."""

_CLOCK: Final = 90_000
_FINEST_CLOCK: Final = 100_000_000
"""Ticks a second in which MP4 counts delays. Above it a recording of days does not fit."""

_EMPTY_TEXT: Final = b"\0\0"
"""What MP4 stores while no subtitle is shown; its muxer puts them in by itself."""


@dataclass(frozen=True, slots=True)
class CopiedStream:
    """A stream that goes into the conversion as it is."""

    facts: StreamInfo
    scale: Fraction = Fraction(1)
    """What its times are multiplied by."""


def unsupported_reason(stream: Any, suffix: str) -> str | None:
    """Why a stream of an open recording cannot be stored in such a file; `None` if it can."""
    muxer = MUXERS[suffix]
    if stream.type == "attachment":
        return None if muxer == "matroska" else f"{suffix} has no attachments"
    if stream.type == "data" and stream.codec_context is None and muxer != "mov":
        return f"{suffix} has no place for this kind of data"
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as scratch:
            scratch.add_stream_from_template(stream, opaque=True)
    except (ValueError, av.error.FFmpegError):
        return f"{suffix} cannot hold it"
    return None


class Muxer:
    """Writes the conversion of one recording. Belongs to one thread.

    Args:
        inventory: Of the recording.
        coding: What the encoder was told.
        copied: The streams to copy.
        stretched: Audio streams that are made to fit another speed.
    """

    def __init__(
        self,
        inventory: MediaInfo,
        coding: EncodeSettings,
        copied: Sequence[CopiedStream],
        stretched: Sequence[int] = (),
    ) -> None:
        assert inventory.video is not None
        self._inventory = inventory
        self._video: VideoInfo = inventory.video
        self._coding = coding
        self._copied = {one.facts.index: one for one in copied}
        self._stretched = frozenset(stretched)
        self._scale = 1 / coding.retiming.speed

    def write(self, output: Path, chunks: Sequence[FinishedChunk]) -> Path:
        """Write the conversion as `<output>.part`, and say where that is.

        Raises:
            SinkError: The container refuses.
            StorageError: The disk does not take it.
        """
        file = AtomicFile(output)
        try:
            self._mux(file, MUXERS[output.suffix.lower()], chunks)
            file.sync()
        except OSError as error:
            file.discard()
            if isinstance(error, av.error.FFmpegError) and error.errno != errno.ENOSPC:
                reason = (error.strerror or str(error)).lower()
                raise SinkError(f"{output.suffix} does not take it: {reason}") from error
            raise storage_error(output, error) from error
        except BaseException:
            file.discard()
            raise
        return file.part

    def _mux(self, file: AtomicFile, muxer: str, chunks: Sequence[FinishedChunk]) -> None:
        with ExitStack() as opened:
            recording = opened.enter_context(open_recording(self._inventory.path))
            options = self._options(muxer)
            output = opened.enter_context(av.open(file, "w", format=muxer, options=options))
            opened.push(partial(_leave, file, output))
            output.metadata.update(tags.of_recording(self._inventory.tags))
            targets = self._streams(recording, output, muxer, chunks[0].extradata)
            self._chapters(output)
            output.start_encoding()
            output.mux(self._covers(targets))
            pictures = self._pictures(chunks, targets[self._video.stream.index])
            others = self._others(recording, targets)
            for packet in _in_order(pictures, others, *self._stretched_packets(targets)):
                output.mux(packet)

    def _options(self, muxer: str) -> dict[str, str]:
        if muxer not in ("mp4", "mov"):
            return {}
        # Streams that begin late say so by this clock; by default it counts milliseconds.
        bases = [self._coding.time_base, *(one.facts.time_base for one in self._copied.values())]
        clock = math.lcm(*(base.denominator for base in bases))
        options = {"movie_timescale": str(clock if clock <= _FINEST_CLOCK else _CLOCK)}
        if tags.has_others(self._inventory.tags, muxer):
            options["movflags"] = "use_metadata_tags"
        return options

    def _streams(
        self, recording: Any, output: OutputContainer, muxer: str, extradata: bytes
    ) -> dict[int, Any]:
        """A stream of the output for each that is kept, in the recording's order."""
        targets: dict[int, Any] = {}
        all_facts = {facts.index: facts for facts in self._inventory.streams}
        for stream in recording.streams:
            facts = all_facts[stream.index]
            encoded = stream.index not in self._copied
            if stream.index == self._video.stream.index:
                target = self._video_stream(recording, output, muxer, extradata)
            elif stream.index in self._stretched:
                target = audio_tempo.add_stream(output, stream, facts, muxer)
            elif encoded:
                continue
            elif facts.cover and muxer == "matroska":
                _attach(output, facts)
                continue
            else:
                target = output.add_stream_from_template(stream, opaque=True)
                if stream.type == "video" and stream.sample_aspect_ratio:
                    target.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio
            # MP4's muxer takes a picture for a cover only if it is nothing else.
            target.disposition = int(Disposition.attached_pic if facts.cover else facts.disposition)
            target.metadata.update(tags.of_stream(facts.tags, muxer, encoded=encoded))
            targets[stream.index] = target
        return targets

    def _video_stream(
        self, recording: Any, output: OutputContainer, muxer: str, extradata: bytes
    ) -> Any:
        coding, source = self._coding, recording.streams[self._video.stream.index]
        if self._video.stream.codec == coding.spec.format:
            # What the container says of the picture beside the codec comes along: HDR10, rotation.
            stream = output.add_stream_from_template(source, opaque=True)
        else:
            # PyAV sets up a stream for packets that are coded already only from another stream.
            # This one belongs to a container that is never written.
            with av.open(io.BytesIO(), "w", format=muxer) as scratch:
                template = scratch.add_stream(coding.spec.codec, rate=coding.rate)
                assert isinstance(template, VideoStream)
                stream = output.add_stream_from_template(template, opaque=True)
            stream.set_display_matrix(self._video.display_matrix)
        context = stream.codec_context
        told = coding.context()
        for name in ("width", "height", "pix_fmt", "sample_aspect_ratio", "framerate",
                     "colorspace", "color_primaries", "color_trc", "color_range"):  # fmt: skip
            value = getattr(told, name)
            if value is not None:
                setattr(context, name, value)
        context.extradata = extradata or None
        if muxer in ("mp4", "mov") and coding.spec.format in _TAGS:
            context.codec_tag = _TAGS[coding.spec.format]
        stream.time_base = coding.time_base
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
                for chapter in self._inventory.chapters
            ]
        )

    def _pictures(self, chunks: Iterable[FinishedChunk], stream: Any) -> "Iterator[Packet[Any]]":
        times = decoding_times([one for chunk in chunks for one in chunk.pictures])
        ends = _durations(
            sorted(one.pts for chunk in chunks for one in chunk.pictures),
            round(self._video.end * self._scale / self._coding.time_base),
        )
        at = iter(times)
        for chunk in chunks:
            for picture, payload in chunk.payloads():
                packet = Packet(payload)
                packet.stream, packet.time_base = stream, self._coding.time_base
                packet.pts, packet.dts = picture.pts, next(at)
                packet.duration = ends[picture.pts]
                packet.is_keyframe = picture.keyframe
                yield packet

    def _stretched_packets(self, targets: Mapping[int, Any]) -> "list[Iterator[Packet[Any]]]":
        speed, path = self._coding.retiming.speed, self._inventory.path
        return [
            audio_tempo.packets(path, facts, targets[facts.index], speed=speed)
            for facts in self._inventory.streams
            if facts.index in self._stretched
        ]

    def _covers(self, targets: Mapping[int, Any]) -> "list[Packet[Any]]":
        """Pictures that go with the recording, where they are streams; they have no time."""
        packets = []
        for index, copied in self._copied.items():
            if copied.facts.cover and index in targets:
                packet = Packet(copied.facts.attachment or b"")
                packet.stream, packet.time_base = targets[index], copied.facts.time_base
                packet.pts = packet.dts = 0
                packets.append(packet)
        return packets

    def _others(self, recording: Any, targets: Mapping[int, Any]) -> "Iterator[Packet[Any]]":
        wanted = [
            stream
            for stream in recording.streams
            if stream.index in targets and stream.index in self._copied
            if not self._copied[stream.index].facts.cover
        ]
        if not wanted:
            return
        packets = recording.demux(*wanted)
        taken = dict.fromkeys(self._copied, 0)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError):  # What is missing was said before.
                return
            if packet.size == 0:  # The end's mark.
                continue
            copied = self._copied[packet.stream_index]
            taken[packet.stream_index] += not packet.is_discard
            if taken[packet.stream_index] > copied.facts.packets:
                continue  # A part of a packet, where the recording was cut short.
            # What an edit list hides is copied: sound begins with samples that set its decoder up.
            if packet.pts is None and packet.dts is None:
                continue
            if packet.size == len(_EMPTY_TEXT) and bytes(packet) == _EMPTY_TEXT:
                continue
            base = copied.facts.time_base
            shift, scale = round(self._inventory.origin / base), copied.scale
            packet.pts = _moved(packet.pts, shift, scale)
            packet.dts = _moved(packet.dts, shift, scale)
            if scale != 1:
                packet.duration = round((packet.duration or 0) * scale)
            packet.time_base = base
            packet.stream = targets[packet.stream_index]
            yield packet


def _attach(output: OutputContainer, facts: StreamInfo) -> None:
    """A cover as Matroska keeps it."""
    kind = "png" if facts.codec == "png" else "jpeg"
    name = facts.tags.get("filename") or f"cover.{kind.replace('jpeg', 'jpg')}"
    mimetype = facts.tags.get("mimetype") or f"image/{kind}"
    output.add_attachment(name, mimetype, facts.attachment or b"")


def _leave(file: AtomicFile, output: OutputContainer, failed: object, *_: object) -> None:
    """End a file that cannot be written: its own end would fail too, and hide why."""
    if failed is not None:
        file.abandon()
        with contextlib.suppress(OSError, ValueError, av.error.FFmpegError):
            output.close()


def _moved(ticks: int | None, shift: int, scale: Fraction) -> int | None:
    return None if ticks is None else round((ticks - shift) * scale)


def decoding_times(pictures: Sequence[CodedPicture]) -> list[int]:
    """When each packet is to be decoded, in ticks: rising, and never after it is shown.

    Chunks come from encoders that know nothing of each other, so their own decoding times would
    overlap. Each packet is decoded at the time of the picture that is shown as many places before
    as the deepest reordering needs; the first ones as long before the beginning.
    """
    shown = sorted(picture.pts for picture in pictures)
    place = {pts: number for number, pts in enumerate(shown)}
    delay = max((number - place[one.pts] for number, one in enumerate(pictures)), default=0)
    step = (shown[-1] - shown[0]) // max(1, len(shown) - 1) if len(shown) > 1 else 1
    early = [shown[0] - max(1, step) * (delay - number) for number in range(delay)] if shown else []
    return [*early, *shown][: len(pictures)]


def _durations(shown: Sequence[int], end: int) -> dict[int, int]:
    ends = [*shown[1:], end]
    return {pts: max(1, after - pts) for pts, after in zip(shown, ends, strict=True)}


def _in_order(*streams: "Iterator[Packet[Any]]") -> "Iterator[Packet[Any]]":
    """Packets of several streams by their decoding times."""
    return heapq.merge(*streams, key=_seconds)


def _seconds(packet: "Packet[Any]") -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return (ticks or 0) * packet.time_base
