"""The sink of one chunk: pictures into coded packets, each with its exact time."""

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
from .journal import ChunkWriter, CodedPicture

if TYPE_CHECKING:
    from av.packet import Packet

_NOT_SAID: Final = 2
"""FFmpeg's number for colours that nobody named."""


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """Everything that an encoder is told; the same for each chunk, so that they fit together."""

    spec: EncoderSpec
    options: Mapping[str, str]
    width: int
    height: int
    pixel_format: str
    aspect: Fraction
    color: ColorTags
    retiming: FrameSchedule
    time_base: Fraction
    """Seconds a tick of the conversion."""

    rate: Fraction
    """Nominal pictures a second of the conversion."""

    gop: int = field(default=250)
    """Pictures from key frame to key frame at most."""

    def context(self) -> VideoCodecContext:
        """An encoder, not open yet."""
        context = VideoCodecContext.create(self.spec.codec, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = self.width, self.height
        context.pix_fmt = self.pixel_format
        context.time_base = self.time_base
        context.framerate = self.rate
        if self.aspect != 1:  # Square is what nothing said means, and most say nothing.
            context.sample_aspect_ratio = self.aspect
        context.gop_size = self.gop
        color = self.color
        context.colorspace, context.color_primaries = color.matrix, color.primaries
        context.color_trc = color.transfer
        said = color.full_range or (color.matrix, color.primaries) != (_NOT_SAID, _NOT_SAID)
        if said or self.pixel_format.startswith("yuv"):
            context.color_range = int(ColorRange.JPEG if color.full_range else ColorRange.MPEG)
        context.flags |= Flags.global_header
        context.options = dict(self.options)
        return context


class ChunkEncoder:
    """Encodes a chunk's frames into the journal. One call; belongs to one thread.

    Args:
        coding: What the encoder is told.
        writer: Takes the packets.
    """

    def __init__(self, coding: EncodeSettings, writer: ChunkWriter) -> None:
        self._coding = coding
        self._writer = writer
        self._last_ticks: int | None = None
        self.extradata = b""
        self.shown = 0
        self.synthetic = 0
        self.enhanced = 0

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Encode all frames.

        Raises:
            SinkError: The encoder refuses, or two pictures have one time.
            StorageError: The disk does not take it.
        """
        context = self._coding.context()
        planarize = Converter(self._coding.pixel_format)
        try:
            for frame in frames:
                picture = planarize(frame.image.video_frame())
                picture.pts, picture.time_base = self._ticks(frame), self._coding.time_base
                picture.pict_type = PictureType.NONE  # The encoder decides, not the decoder.
                self._store(context.encode(picture))
                self.shown += 1
                self.synthetic += frame.synthetic
                self.enhanced += frame.enhanced
            self._store(context.encode(None))
        except av.error.FFmpegError as error:
            raise SinkError(self._refusal(error)) from error
        self.extradata = bytes(context.extradata or b"")

    def _refusal(self, error: av.error.FFmpegError) -> str:
        name = self._coding.spec.name
        if self._coding.spec.codec.endswith("nvenc"):
            return f"{name} finds no NVIDIA card that encodes; choose another --encoder"
        return f"{name} refuses its options: {(error.strerror or str(error)).lower()}"

    def _ticks(self, frame: Frame) -> int:
        ticks = self._coding.retiming.ticks(frame.pts_ns, self._coding.time_base)
        if self._last_ticks is not None and ticks <= self._last_ticks:
            raise SinkError(f"two pictures at {frame.pts_ns / 1e9:.6f} s")
        self._last_ticks = ticks
        return ticks

    def _store(self, packets: "list[Packet[Any]]") -> None:
        for packet in packets:
            if packet.pts is None:
                raise SinkError(f"{self._coding.spec.name} gave a packet without a time")
            coded = CodedPicture(packet.pts, packet.size, packet.is_keyframe)
            self._writer.add(coded, bytes(packet))
