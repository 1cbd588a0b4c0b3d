"""The sink of one chunk: encodes frames to packets with exact timestamps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
import av.error
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange

from streamer.core.errors import SinkError
from streamer.core.frame import Frame
from streamer.core.frame_schedule import FrameSchedule
from streamer.core.image import ColorTags
from streamer.core.pixel_format import Converter

from .encoders import EncoderSpec
from .journal import ChunkWriter, PacketEntry

if TYPE_CHECKING:
    from av.packet import Packet

_UNSPECIFIED: Final = 2
"""FFmpeg's number for unspecified color primaries, transfer and matrix."""


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """All settings of the video encoder; the same for every chunk, so that chunks can be joined."""

    spec: EncoderSpec
    options: Mapping[str, str]
    """FFmpeg's options of the encoder."""

    width: int
    height: int
    pixel_format: str
    sample_aspect_ratio: Fraction
    color: ColorTags
    schedule: FrameSchedule
    time_base: Fraction
    """Seconds per tick of the output."""

    rate: Fraction
    """Nominal frames per second of the output."""

    gop_size: int = field(default=250)
    """Maximum frames from key frame to key frame."""

    def context(self) -> VideoCodecContext:
        """Create an encoder with these settings; it is not open yet."""
        context = VideoCodecContext.create(self.spec.codec, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = self.width, self.height
        context.pix_fmt = self.pixel_format
        context.time_base = self.time_base
        context.framerate = self.rate
        if self.sample_aspect_ratio != 1:  # Square pixels are usually left unspecified.
            context.sample_aspect_ratio = self.sample_aspect_ratio
        context.gop_size = self.gop_size
        color = self.color
        context.colorspace, context.color_primaries = color.matrix, color.primaries
        context.color_trc = color.transfer
        unspecified = (color.matrix, color.primaries) == (_UNSPECIFIED, _UNSPECIFIED)
        if color.full_range or not unspecified or self.pixel_format.startswith("yuv"):
            context.color_range = int(ColorRange.JPEG if color.full_range else ColorRange.MPEG)
        context.flags |= Flags.global_header
        context.options = dict(self.options)
        return context


class ChunkEncoder:
    """Encodes the frames of a chunk into the journal. For one call, in one thread."""

    def __init__(self, settings: EncodeSettings, writer: ChunkWriter) -> None:
        self._settings = settings
        self._writer = writer
        self._last_ticks: int | None = None
        self.extradata = b""
        self.output_frames = 0
        self.synthetic = 0
        self.enhanced = 0

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Encode all frames.

        Raises:
            SinkError: The encoder fails, or two frames have the same time.
            StorageError: The packets cannot be written.
        """
        context = self._settings.context()
        convert = Converter(self._settings.pixel_format)
        try:
            for frame in frames:
                video_frame = convert(frame.image.video_frame())
                video_frame.pts = self._ticks(frame)
                video_frame.time_base = self._settings.time_base
                video_frame.pict_type = PictureType.NONE  # Not the type that was decoded.
                self._store(context.encode(video_frame))
                self.output_frames += 1
                self.synthetic += frame.synthetic
                self.enhanced += frame.enhanced
            self._store(context.encode(None))
        except av.error.FFmpegError as error:
            raise SinkError(self._reason(error)) from error
        self.extradata = bytes(context.extradata or b"")

    def _reason(self, error: av.error.FFmpegError) -> str:
        name = self._settings.spec.name
        if self._settings.spec.codec.endswith("nvenc"):
            return f"{name}: no NVIDIA GPU that can encode; choose another --encoder"
        return f"{name} rejects its options: {(error.strerror or str(error)).lower()}"

    def _ticks(self, frame: Frame) -> int:
        ticks = self._settings.schedule.ticks(frame.pts_ns, self._settings.time_base)
        if self._last_ticks is not None and ticks <= self._last_ticks:
            raise SinkError(f"two frames at {frame.pts_ns / 1e9:.6f} s")
        self._last_ticks = ticks
        return ticks

    def _store(self, packets: "list[Packet[Any]]") -> None:
        for packet in packets:
            if packet.pts is None:
                raise SinkError(f"{self._settings.spec.name} returned a packet without a timestamp")
            encoded = PacketEntry(packet.pts, packet.size, packet.is_keyframe)
            self._writer.add(encoded, bytes(packet))
