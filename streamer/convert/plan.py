"""Plans a conversion before anything is written, or refuses it with a one-line reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from streamer.config.convert import ConvertOptions
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
    default_encoder,
    encoder_options,
    writes_hdr_metadata,
)
from .inspection import open_recording
from .media_info import MediaInfo, StreamInfo, VideoInfo
from .mux import MUXERS, CopiedStream, unsupported_reason

_WARM_UP_NS: Final = 2 * NS
"""Media time before a chunk that enhancement processes too: its filters have settled by then."""

_MAX_SIDE: Final = 16_384
"""Maximum width and height in pixels of common encoders and players."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a conversion will do."""

    media: MediaInfo
    """The recording."""

    output: Path
    options: ConvertOptions
    schedule: FrameSchedule
    encoding: EncodeSettings
    layout: PixelLayout
    """Layout of the planes that the stages receive."""

    decoding: DecodeOptions
    chunks: tuple[Chunk, ...]
    copied: tuple[CopiedStream, ...]
    stretched: tuple[int, ...]
    """Numbers of the audio streams that are re-encoded at another speed."""

    left_out: tuple[tuple[int, str], ...]
    """Numbers of the streams that are not in the output, each with the reason."""

    notes: tuple[str, ...]
    """Notes for the user."""

    @property
    def video(self) -> VideoInfo:
        """The main video."""
        assert self.media.video is not None
        return self.media.video

    @property
    def lead_ns(self) -> int:
        """Media time before a chunk that its stages process too."""
        return _WARM_UP_NS if self.options.enhance else 0

    @property
    def output_frames(self) -> int:
        """Number of frames in the output."""
        if self.schedule.rate is None:
            return len(self.video.times) * self.schedule.factor
        length = self.video.end - self.video.begin
        return round(length * self.schedule.rate)


def plan(media: MediaInfo, output: Path, options: ConvertOptions) -> Plan:
    """Plan the conversion of a recording.

    Raises:
        SourceRejected: The recording cannot be converted with these options.
        SinkError: The output or its encoder does not support these options.
    """
    video = _convertible_video(media, options)
    suffix = output.suffix.lower()
    if suffix not in MUXERS:
        raise SinkError(f"{output}: unknown container; the name must end in {', '.join(MUXERS)}")
    pixel_format = _pixel_format(media, video, options)
    spec = _encoder(media, video, suffix, pixel_format, options)
    schedule = _schedule(video, options)
    copied, left_out, stretched = _streams(media, suffix, options)
    color = video.color
    encoding = EncodeSettings(
        spec=spec,
        options=encoder_options(
            spec, options.quality, preset=options.preset, crf=options.crf,
            hdr=video.hdr if video.hdr.is_present else None, pixel_format=pixel_format,
        ),
        width=video.width,
        height=video.height,
        pixel_format=spec.stored(pixel_format) or pixel_format,
        sample_aspect_ratio=video.sample_aspect_ratio,
        color=ColorTags(color.matrix, color.primaries, color.transfer, color.full_range),
        schedule=schedule,
        time_base=schedule.time_base(video.time_base),
        rate=schedule.output_rate(video.rate),
    )  # fmt: skip
    return Plan(
        media=media,
        output=output,
        options=options,
        schedule=schedule,
        encoding=encoding,
        layout=planar_layout(pixel_format),
        decoding=DecodeOptions(
            pixel_format,
            deinterlace=options.deinterlace and video.interlaced,
            hwaccel=options.hwaccel,
        ),
        chunks=plan_chunks(video),
        copied=copied,
        stretched=stretched,
        left_out=left_out,
        notes=tuple(_notes(media, video, options)),
    )


def _refusal(
    media: MediaInfo, reason: str, fault: SourceFault = SourceFault.UNKNOWN_CODEC
) -> SourceRejected:
    return SourceRejected(f"{media.path}: {reason}", fault=fault)


def _convertible_video(media: MediaInfo, options: ConvertOptions) -> VideoInfo:
    video = media.video
    if media.encrypted:
        raise _refusal(media, "is encrypted; decrypt it first")
    if video is None:
        kinds = {stream.kind for stream in media.streams if not stream.is_cover}
        reason = "has a video stream without frames" if "video" in kinds else "has no video"
        raise _refusal(media, reason, SourceFault.NO_VIDEO)
    if not video.pixel_format:
        raise _refusal(media, f"no frame of its {video.stream.codec} video can be decoded")
    if max(video.width, video.height) > _MAX_SIDE:
        raise _refusal(media, f"frames of {video.width}x{video.height} are too large")
    if video.stream.tags.get("alpha_mode") == "1" and not options.pixel_format:
        raise _refusal(
            media,
            "stores alpha in a second stream, which cannot be preserved; "
            "--pixel-format yuv420p converts without it",
        )
    if video.interlaced and not options.deinterlace:
        raise _refusal(media, "is interlaced; --deinterlace makes progressive frames of it")
    return video


def _pixel_format(media: MediaInfo, video: VideoInfo, options: ConvertOptions) -> str:
    """Return the format to which frames are decoded and from which they are encoded."""
    name = options.pixel_format or planar_equivalent(video.pixel_format)
    try:
        planar = planar_layout(name)
    except ValueError as error:
        advice = "" if options.pixel_format else "; --pixel-format yuv420p converts it"
        raise _refusal(media, f"{error}{advice}") from error
    if options.enhance and planar.rgb:
        raise SinkError(
            f"{media.path}: --enhance works on luma, and this is {name}; "
            "add --pixel-format yuv444p to convert with loss"
        )
    return planar.name


def _encoder(
    media: MediaInfo, video: VideoInfo, suffix: str, pixel_format: str, options: ConvertOptions
) -> EncoderSpec:
    name = options.encoder or default_encoder(suffix, pixel_format)
    spec = ENCODERS[name]
    if not spec.available:
        raise SinkError(f"this FFmpeg was built without {name}; choose another --encoder")
    if suffix not in spec.containers and suffix != ".m4v":
        supported = ", ".join(one.name for one in ENCODERS.values() if suffix in one.containers)
        raise SinkError(f"{suffix} cannot store the output of {name}; it supports {supported}")
    if spec.stored(pixel_format) is None:
        able = ", ".join(
            one.name for one in ENCODERS.values()
            if one.stored(pixel_format) and suffix in one.containers
        )  # fmt: skip
        raise SinkError(
            f"{media.path}: its frames are {pixel_format}, which {name} cannot store in "
            f"{suffix}; choose --encoder {able or 'ffv1 and a name in .mkv'}, "
            "or convert with loss by --pixel-format yuv420p"
        )
    _check_size(media, video, spec, pixel_format)
    square = video.sample_aspect_ratio == 1
    if not square and spec.format in ("vp9", "av1") and suffix in (".mkv", ".webm"):
        raise SinkError(
            f"{media.path}: its pixels are not square, which cannot be stored for {spec.name} in "
            f"{suffix}; choose a name in .mp4, or --encoder x264 or x265"
        )
    if video.hdr.is_present and not writes_hdr_metadata(spec):
        raise SinkError(
            f"{media.path}: is HDR10, and {name} cannot write HDR10 metadata; "
            "choose --encoder x265 or svt-av1"
        )
    return spec


def _check_size(media: MediaInfo, video: VideoInfo, spec: EncoderSpec, pixel_format: str) -> None:
    log2_vertical, log2_horizontal = planar_layout(pixel_format).log2_chroma
    odd = (log2_vertical and video.width % 2) or (log2_horizontal and video.height % 2)
    if odd and spec.format in ("h264", "hevc", "av1"):
        raise SinkError(
            f"{media.path}: is {video.width}x{video.height}, and {spec.name} stores "
            f"{pixel_format} in even sizes only; choose --encoder vp9 or ffv1, or "
            "--pixel-format yuv444p"
        )


def _schedule(video: VideoInfo, options: ConvertOptions) -> FrameSchedule:
    if options.factor is not None and options.fps is not None:
        raise SinkError("give either a factor or a frame rate, not both")
    return FrameSchedule(
        factor=options.resolved_factor,
        rate=options.fps / options.speed if options.fps else None,
        speed=options.speed,
        origin_ns=nanoseconds(int(video.times[0]), video.time_base),
    )


def _streams(
    media: MediaInfo, suffix: str, options: ConvertOptions
) -> tuple[tuple[CopiedStream, ...], tuple[tuple[int, str], ...], tuple[int, ...]]:
    """Return the streams to copy, those to leave out with reasons, and the audio to stretch."""
    others = media.other_streams()
    unknown = set(options.leave_out) - {one.index for one in others}
    if unknown:
        raise SinkError(f"{media.path}: has no stream {min(unknown)} that could be left out")
    copied: list[CopiedStream] = []
    left_out: list[tuple[int, str]] = []
    stretched: list[int] = []
    unsupported: list[str] = []
    with open_recording(media.path) as recording:
        for info in others:
            reason = _reason_to_leave_out(media, info, options)
            if reason is not None:
                left_out.append((info.index, reason))
            elif info.kind == "audio" and options.audio == "stretch" and options.speed != 1:
                stretched.append(info.index)
            elif (why := unsupported_reason(recording.streams[info.index], suffix)) is not None:
                unsupported.append(f"{info}: {why}")
            else:
                keeps_time = info.is_cover or info.kind == "audio"
                copied.append(CopiedStream(info, Fraction(1) if keeps_time else 1 / options.speed))
    if unsupported:
        raise SinkError(
            f"{media.path}: {'; '.join(unsupported)}. .mkv supports the most kinds of streams; "
            "--leave-out NUMBER converts without one"
        )
    return tuple(copied), tuple(left_out), tuple(stretched)


def _reason_to_leave_out(media: MediaInfo, info: StreamInfo, options: ConvertOptions) -> str | None:
    """Return why a stream is not in the output as a stream; `None` if it is."""
    if info.index in options.leave_out:
        return "as requested"
    if info.kind == "audio" and options.audio == "drop":
        return "as requested"
    if info.kind == "audio" and options.audio is None and options.speed != 1:
        return "audio at another speed; --audio stretch keeps it"
    if info.kind == "data" and not len(info.packets) and media.chapters:
        return "it holds the chapter titles, which are preserved as chapters"
    if info.kind == "data" and "timecode" in info.tags:
        return "it holds the timecode, which is preserved as a tag of the video"
    return None


def _notes(media: MediaInfo, video: VideoInfo, options: ConvertOptions) -> Sequence[str]:
    notes = []
    if media.truncation is not None:
        notes.append(
            f"the recording is incomplete ({media.truncation}): all that is there is converted"
        )
    if options.overlay and video.display_matrix is not None:
        notes.append("players rotate the frame, and the overlay with it")
    if video.timestamp_quality == "inferred":
        notes.append(f"no timestamps are stored: assuming {float(video.rate):g} fps")
    return notes
