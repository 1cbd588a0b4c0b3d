"""Copies a recording, faithfully or with one thing spoilt, as converters should and do."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.stream import Disposition

_ISO = (".mp4", ".mov")
_NO_TEXT = 2
"""Data of an MP4 subtitle that says nothing."""

_REWRITTEN = {"encoder", "major_brand", "minor_version", "compatible_brands"}


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, kw_only=True)
class TimedFrame:
    """A frame to be written."""

    time: Fraction
    """Seconds."""

    frame: av.VideoFrame


@dataclass(frozen=True, kw_only=True)
class Recode:
    """How the main video is re-encoded."""

    edit: Callable[[list[TimedFrame]], Iterable[TimedFrame]] = _same
    """From the frames of the input to those of the output."""

    codec: str = "libx264"
    pixel_format: str | None = None
    clock: Fraction | None = None
    """Time base, with a frame in each tick; the input's if not given."""

    rate: Fraction | None = None
    """Nominal, frames a second; by default that of `clock` or of the input."""

    options: Mapping[str, str] = field(default_factory=lambda: {"preset": "veryfast", "crf": "18"})
    setting: Callable[[Any], object] = _same
    """Last changes to the stream."""

    b_frames: int = 2


def rework(
    source: Path,
    target: Path,
    *,
    video: Recode | None = None,
    packet: Callable[[Any], Any] = _same,
    stream: Callable[[Any, Any], object] = lambda _target, _source: None,
    tags: Callable[[dict[str, str]], Mapping[str, str]] = _same,
    chapters: Callable[[list[Any]], list[Any]] = _same,
    skip: Callable[[Any], bool] = lambda _stream: False,
    options: Mapping[str, str] | None = None,
    cover: bool = True,
) -> Path:
    """Write *source* to *target*.

    Args:
        source: A recording.
        target: Its suffix chooses the container.
        video: How the main video is re-encoded; copied if not given.
        packet: Gives each copied packet back, changed, or None to leave it out.
        stream: Changes a stream of the output, given that of the input as well.
        tags: From the recording's tags to those written.
        chapters: From the recording's chapters to those written.
        skip: Whether to leave a stream out.
        options: Of the muxer.
        cover: Whether a cover frame stays one.
    """
    with (
        av.open(str(source)) as before,
        av.open(str(target), "w", container_options=dict(options or {})) as after,
    ):
        kept = {k: v for k, v in before.metadata.items() if k.lower() not in _REWRITTEN}
        after.metadata.update(tags(kept))
        targets: dict[int, Any] = {}
        main = next((one for one in before.streams.video if not _is_cover(one)), None)
        for one in before.streams:
            if skip(one) or _made_by_muxer(one):
                continue
            if one is main and video is not None:
                targets[one.index] = _encoder(after, one, video)
            else:
                made = _copy_of(one, after, target, before if cover else None)
                if made is None:
                    continue
                targets[one.index] = made
            _describe(targets[one.index], one, target)
            stream(targets[one.index], one)
        after.set_chapters(chapters(list(before.chapters())))
        after.start_encoding()
        encoded = []
        if main is not None and video is not None and main.index in targets:
            encoded = _encoded(source, main.index, targets.pop(main.index), video)
        for one in [*_sorted([*encoded, *_copied(before, targets, packet)])]:
            after.mux(one)
    return target


def _made_by_muxer(stream: Any) -> bool:
    """Chapters' names and time codes, which come back by themselves."""
    kinds = (av.stream.Discard.all, "timecode" in stream.metadata, stream.name == "klv")
    return stream.type == "data" and (stream.discard == kinds[0] or any(kinds[1:]))


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _copy_of(stream: Any, after: OutputContainer, target: Path, before: Any) -> Any:
    if stream.type == "attachment" and target.suffix != ".mkv":
        return None
    if stream.type == "attachment":
        after.add_attachment(stream.name, stream.mimetype, stream.data)
        return None
    if _is_cover(stream) and target.suffix == ".mkv" and before is not None:
        with av.open(before.name) as again:
            image = bytes(next(one for one in again.demux(again.streams[stream.index])))
        name = stream.metadata.get("filename", "cover.jpg")
        after.add_attachment(name, stream.metadata.get("mimetype", "image/jpeg"), image)
        return None
    try:
        copy = after.add_stream_from_template(stream, opaque=True)
    except ValueError:  # The container has no place for it.
        return None
    if stream.type == "video" and stream.sample_aspect_ratio:
        copy.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio
    return copy


def _describe(copy: Any, stream: Any, target: Path) -> None:
    tags = dict(stream.metadata)
    if target.suffix in _ISO and "name" in tags:
        tags["title"] = tags.pop("name")
    if target.suffix == ".mov" and tags.get("language") == "deu":
        tags["language"] = "ger"  # MOV knows no other code for it.
    copy.metadata.update(tags)
    copy.disposition = stream.disposition


def _encoder(after: OutputContainer, stream: Any, video: Recode) -> Any:
    rate = video.rate or (1 / video.clock if video.clock else stream.average_rate or 25)
    coder = after.add_stream(video.codec, rate=rate, options=dict(video.options))
    source = stream.codec_context
    coder.width, coder.height = source.width, source.height
    coder.pix_fmt = video.pixel_format or source.pix_fmt
    context = coder.codec_context
    context.time_base = video.clock or stream.time_base
    context.max_b_frames = video.b_frames
    context.thread_count = 1
    context.sample_aspect_ratio = stream.sample_aspect_ratio or 1
    for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
        setattr(context, name, getattr(source, name))
    video.setting(coder)
    return coder


def _encoded(source: Path, index: int, coder: Any, video: Recode) -> Iterator[Any]:
    with av.open(str(source)) as container:
        frames = [
            TimedFrame(time=frame.pts * frame.time_base, frame=frame)
            for frame in container.decode(container.streams[index])
        ]
    clock = coder.codec_context.time_base
    edited = list(video.edit(frames))
    before = edited[0].time - Fraction(1, 25)
    for place, timed in enumerate(edited):
        frame = timed.frame.reformat(format=coder.pix_fmt)
        frame.pict_type = 0
        frame.time_base, frame.pts = clock, round(timed.time / clock)
        ends = edited[place + 1 :] or [TimedFrame(time=2 * timed.time - before, frame=frame)]
        frame.duration = round((ends[0].time - timed.time) / clock)
        before = timed.time
        yield from coder.encode(frame)
    yield from coder.encode(None)


def _copied(
    before: InputContainer, targets: Mapping[int, Any], change: Callable[[Any], Any]
) -> Iterator[Any]:
    start = before.start_time if before.format.name == "mpegts" else 0
    for packet in before.demux():
        if packet.size == 0 or packet.stream_index not in targets:
            continue
        if packet.stream.name == "mov_text" and packet.size <= _NO_TEXT:
            continue
        if start:
            early = round(Fraction(start, av.time_base) / packet.time_base)
            packet.pts, packet.dts = packet.pts - early, packet.dts - early
        changed = change(packet)
        if changed is not None:
            changed.stream = targets[packet.stream_index]
            yield changed


def _sorted(packets: Sequence[Any]) -> list[Any]:
    """By decoding time; packets of a stream stay in their order."""
    return sorted(packets, key=lambda one: (one.dts or 0) * one.time_base)
