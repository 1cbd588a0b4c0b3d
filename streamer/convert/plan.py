"""What a conversion will do, decided before anything is done; or why it is refused, in one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

from streamer.core.errors import SinkError, SourceFault, SourceRejected
from streamer.core.frame_schedule import NS, FrameSchedule
from streamer.core.image import ColorTags
from streamer.core.pixel_format import PixelLayout, planar_equivalent, planar_layout

from .chunk_sink import EncodeSettings
from .chunk_source import DecodeOptions
from .chunks import Chunk, nanoseconds, plan_chunks
from .encoders import (
    ENCODERS,
    EncoderSpec,
    Quality,
    default_encoder,
    holds_dynamic_range,
    options,
)
from .media_info import MediaInfo, StreamInfo, VideoInfo, open_recording
from .mux import MUXERS, CopiedStream, unsupported_reason

_WARM_UP_NS: Final = 2 * NS
"""Enhancement looks back this long: its filters and curves have settled by then."""

_LARGEST: Final = 16_384
"""Pixels of a side: what encoders and players end at."""


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What a user asks for."""

    factor: int | None = None
    """Pictures for each one; `None` for as many as keep the rate at another speed, else one."""

    rate: Fraction | None = None
    """Constant pictures a second of the conversion, in place of a factor."""

    speed: Fraction = Fraction(1)
    enhance: bool = False
    overlay: bool = False
    encoder: str | None = None
    quality: Quality = "good"
    effort: str | None = None
    level: float | None = None
    pixel_format: str | None = None
    deinterlace: bool = False
    audio: Literal["copy", "stretch", "drop"] | None = None
    """`None` copies, and leaves sound out at another speed."""

    leave_out: tuple[int, ...] = ()
    """Streams that are not wanted, by their number."""

    cuts: bool = True
    repeats: Literal["across", "keep"] = "across"
    hwaccel: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What will be done."""

    inventory: MediaInfo
    output: Path
    asked: ConvertOptions
    retiming: FrameSchedule
    coding: EncodeSettings
    form: PixelLayout
    decoding: DecodeOptions
    chunks: tuple[Chunk, ...]
    copied: tuple[CopiedStream, ...]
    stretched: tuple[int, ...]
    """Audio streams that are made longer or shorter."""

    left_out: tuple[tuple[int, str], ...]
    """Streams that are not kept, each with why."""

    notes: tuple[str, ...]
    """What a person should know."""

    @property
    def video(self) -> VideoInfo:
        """The main video."""
        assert self.inventory.video is not None
        return self.inventory.video

    @property
    def lead_ns(self) -> int:
        """Time before a chunk that its stages must have seen."""
        return _WARM_UP_NS if self.asked.enhance else 0

    @property
    def pictures(self) -> int:
        """How many the conversion will show."""
        if self.retiming.rate is None:
            return len(self.video.times) * self.retiming.factor
        length = self.video.end - self.video.begin
        return round(length * self.retiming.rate)


def plan(inventory: MediaInfo, output: Path, asked: ConvertOptions) -> Plan:
    """Decide everything.

    Raises:
        SourceRejected: The recording cannot be converted as asked.
        SinkError: The output or its encoder cannot be as asked.
    """
    video = _convertible(inventory, asked)
    suffix = output.suffix.lower()
    if suffix not in MUXERS:
        known = ", ".join(MUXERS)
        raise SinkError(f"{output}: what is written is told by the name; it may end in {known}")
    pixel_format = _pixel_format(inventory, asked)
    spec = _encoder(inventory, suffix, pixel_format, asked)
    retiming = _retiming(video, asked)
    kept, left_out, stretched = _streams(inventory, suffix, asked)
    color = video.color
    coding = EncodeSettings(
        spec=spec,
        options=options(
            spec, asked.quality, effort=asked.effort, level=asked.level,
            dynamic_range=video.dynamic_range if _says_something(video) else None,
            pixel_format=pixel_format,
        ),
        width=video.width,
        height=video.height,
        pixel_format=spec.stored(pixel_format) or pixel_format,
        aspect=video.aspect,
        color=ColorTags(color.matrix, color.primaries, color.transfer, color.full_range),
        retiming=retiming,
        time_base=retiming.time_base(video.time_base),
        rate=retiming.output_rate(video.rate),
    )  # fmt: skip
    return Plan(
        inventory=inventory,
        output=output,
        asked=asked,
        retiming=retiming,
        coding=coding,
        form=planar_layout(pixel_format),
        decoding=DecodeOptions(
            pixel_format, deinterlace=asked.deinterlace and video.interlaced, hwaccel=asked.hwaccel
        ),
        chunks=plan_chunks(video),
        copied=kept,
        stretched=stretched,
        left_out=left_out,
        notes=tuple(_notes(inventory, video, asked)),
    )


def _refused(
    inventory: MediaInfo, why: str, fault: SourceFault = SourceFault.UNKNOWN_CODEC
) -> SourceRejected:
    return SourceRejected(f"{inventory.path}: {why}", fault=fault)


def _convertible(inventory: MediaInfo, asked: ConvertOptions) -> VideoInfo:
    video = inventory.video
    if inventory.encrypted:
        raise _refused(inventory, "is encrypted; it must be decrypted first")
    if video is None:
        kinds = {stream.kind for stream in inventory.streams if not stream.cover}
        declared = "video" in kinds
        why = "has a video stream without a single picture" if declared else "has no video"
        raise _refused(inventory, why, SourceFault.NO_VIDEO)
    if not video.pixel_format:
        raise _refused(inventory, f"no picture of its {video.stream.codec} video can be decoded")
    if max(video.width, video.height) > _LARGEST:
        raise _refused(inventory, f"pictures of {video.width}x{video.height} are too large")
    if video.stream.tags.get("alpha_mode") == "1" and not asked.pixel_format:
        raise _refused(
            inventory,
            "has transparency beside its pictures, which cannot be kept; "
            "--pixel-format yuv420p does without",
        )
    if video.interlaced and not asked.deinterlace:
        raise _refused(
            inventory,
            "is interlaced, each picture holds two moments; --deinterlace makes one of them",
        )
    return video


def _pixel_format(inventory: MediaInfo, asked: ConvertOptions) -> str:
    """What pictures are decoded to, worked on and encoded from."""
    video = inventory.video
    assert video is not None
    wanted = asked.pixel_format or planar_equivalent(video.pixel_format)
    try:
        form = planar_layout(wanted)
    except ValueError as error:
        advice = "" if asked.pixel_format else "; --pixel-format yuv420p converts it"
        raise _refused(inventory, f"{error}{advice}") from error
    if (asked.enhance or asked.overlay) and wanted not in ("yuv420p", "yuvj420p"):
        what = "--enhance" if asked.enhance else "--overlay"
        raise SinkError(
            f"{inventory.path}: {what} works on 8-bit 4:2:0 and this is {wanted}; "
            "add --pixel-format yuv420p to lose the rest"
        )
    return form.name


def _encoder(
    inventory: MediaInfo, suffix: str, pixel_format: str, asked: ConvertOptions
) -> EncoderSpec:
    video = inventory.video
    assert video is not None
    name = asked.encoder or default_encoder(suffix, pixel_format)
    spec = ENCODERS.get(name)
    if spec is None:
        raise SinkError(f"no encoder is called {name!r}; there are: {', '.join(ENCODERS)}")
    if not spec.available:
        raise SinkError(f"{name} is not part of this FFmpeg; choose another --encoder")
    if suffix not in spec.containers and suffix != ".m4v":
        fitting = ", ".join(one.name for one in ENCODERS.values() if suffix in one.containers)
        raise SinkError(f"{suffix} does not hold what {name} writes; it holds {fitting}")
    if spec.stored(pixel_format) is None:
        able = ", ".join(
            one.name for one in ENCODERS.values()
            if one.stored(pixel_format) and suffix in one.containers
        )  # fmt: skip
        raise SinkError(
            f"{inventory.path}: its pictures are {pixel_format}, which {name} cannot store in "
            f"{suffix}; choose --encoder {able or 'ffv1 and a name in .mkv'}, "
            "or lose something with --pixel-format yuv420p"
        )
    _check_size(inventory, spec, pixel_format)
    if video.aspect != 1 and spec.format in ("vp9", "av1") and suffix in (".mkv", ".webm"):
        raise SinkError(
            f"{inventory.path}: its pixels are not square, which {spec.name} in {suffix} cannot "
            "say here; choose a name in .mp4, or --encoder x264 or x265"
        )
    if _says_something(video) and not holds_dynamic_range(spec):
        raise SinkError(
            f"{inventory.path}: is HDR10, and {name} cannot say so; "
            "choose --encoder x265 or svt-av1"
        )
    return spec


def _check_size(inventory: MediaInfo, spec: EncoderSpec, pixel_format: str) -> None:
    video = inventory.video
    assert video is not None
    halved_down, halved_right = planar_layout(pixel_format).log2_chroma
    odd = (halved_right and video.width % 2) or (halved_down and video.height % 2)
    if odd and spec.format in ("h264", "hevc", "av1"):
        raise SinkError(
            f"{inventory.path}: is {video.width}x{video.height}, and {spec.name} stores "
            f"{pixel_format} in even sizes only; choose --encoder vp9 or ffv1, or "
            "--pixel-format yuv444p"
        )


def _says_something(video: VideoInfo) -> bool:
    return video.dynamic_range.mastering is not None or video.dynamic_range.light is not None


def _retiming(video: VideoInfo, asked: ConvertOptions) -> FrameSchedule:
    if asked.factor is not None and asked.rate is not None:
        raise SinkError("give either a factor or a rate, not both")
    factor = asked.factor
    if factor is None:
        slower = 1 / asked.speed
        factor = max(1, round(slower)) if asked.rate is None else 1
    try:
        return FrameSchedule(
            factor=factor,
            rate=asked.rate / asked.speed if asked.rate else None,
            speed=asked.speed,
            origin_ns=nanoseconds(int(video.times[0]), video.time_base),
        )
    except ValueError as error:
        raise SinkError(str(error)) from error


def _streams(
    inventory: MediaInfo, suffix: str, asked: ConvertOptions
) -> tuple[tuple[CopiedStream, ...], tuple[tuple[int, str], ...], tuple[int, ...]]:
    """What is copied, what is left out and why, and what sound is stretched."""
    wrong = set(asked.leave_out) - {one.index for one in inventory.others()}
    if wrong:
        raise SinkError(f"{inventory.path}: has no stream {min(wrong)} that could be left out")
    kept: list[CopiedStream] = []
    out: list[tuple[int, str]] = []
    stretched: list[int] = []
    cannot: list[str] = []
    with open_recording(inventory.path) as recording:
        for facts in inventory.others():
            unwanted = _unwanted(inventory, facts, asked)
            if unwanted is not None:
                out.append((facts.index, unwanted))
            elif facts.kind == "audio" and asked.audio == "stretch" and asked.speed != 1:
                stretched.append(facts.index)
            elif (why := unsupported_reason(recording.streams[facts.index], suffix)) is not None:
                cannot.append(f"{facts}: {why}")
            else:
                whole = facts.cover or facts.kind == "audio"
                kept.append(CopiedStream(facts, Fraction(1) if whole else 1 / asked.speed))
    if cannot:
        raise SinkError(
            f"{inventory.path}: {'; '.join(cannot)}. A name in .mkv holds the most; "
            "--leave-out NUMBER does without"
        )
    return tuple(kept), tuple(out), tuple(stretched)


def _unwanted(inventory: MediaInfo, facts: StreamInfo, asked: ConvertOptions) -> str | None:
    """Why a stream is not kept as a stream; `None` if it is."""
    if facts.index in asked.leave_out:
        return "as asked"
    if facts.kind == "audio" and asked.audio == "drop":
        return "as asked"
    if facts.kind == "audio" and asked.audio is None and asked.speed != 1:
        return "sound at another speed; --audio stretch keeps it"
    if facts.kind == "data" and not facts.packets and inventory.chapters:
        return "it holds the chapters' names, which are kept as chapters"
    if facts.kind == "data" and "timecode" in facts.tags:
        return "it holds the timecode, which is kept as a tag of the video"
    return None


def _notes(inventory: MediaInfo, video: VideoInfo, asked: ConvertOptions) -> Sequence[str]:
    notes = []
    if inventory.broken is not None:
        notes.append(
            f"the recording is not whole ({inventory.broken}): all that is there is converted"
        )
    if asked.overlay and video.display_matrix is not None:
        notes.append("players turn the picture, and with it what is drawn on it")
    if video.timestamp_quality == "guessed":
        notes.append(f"no times are stored: taken as {float(video.rate):g} pictures a second")
    return notes
