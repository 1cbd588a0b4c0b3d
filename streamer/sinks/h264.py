"""Frames into an H.264 stream with the times and colours that they came with."""

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from av.container import OutputContainer
from av.video.reformatter import ColorRange, VideoReformatter

from streamer.core.image import Image

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

TIME_BASE: Final = Fraction(1, 90_000)
"""The clock of MPEG: fine enough for every camera, and every container and protocol takes it."""


class H264Encoder:
    """One H.264 stream in a container. Pictures of another size are scaled to the first one's.

    Args:
        container: Open for writing.
        picture: The first picture: its size and colours are the stream's.
        preset: x264's name for how hard it works.
        rate: Nominal frames a second, for players that want one.
        options: Further options of x264.
    """

    def __init__(
        self,
        container: OutputContainer,
        picture: Image,
        *,
        preset: str,
        rate: Fraction,
        options: dict[str, str] | None = None,
    ) -> None:
        self._stream = container.add_stream("libx264", rate=rate)
        context = self._stream.codec_context
        # 4:2:0 has no half chroma samples: an odd last row or column is cut off.
        context.width, context.height = picture.width & ~1, picture.height & ~1
        context.pix_fmt = "yuv420p"
        context.time_base = self._stream.time_base = TIME_BASE
        context.options = {"preset": preset, **(options or {})}
        color = picture.color
        context.colorspace, context.color_primaries = color.matrix, color.primaries
        context.color_trc = color.transfer
        context.color_range = int(ColorRange.JPEG if color.full_range else ColorRange.MPEG)
        self._reformatter = VideoReformatter()
        self._last_ticks = -1

    def encode(self, picture: Image, pts_ns: int) -> "list[Packet[VideoStream]]":
        """Packets to be muxed; a picture whose time is not after the last one's is left out."""
        ticks = round(Fraction(pts_ns, 1_000_000_000) / TIME_BASE)
        if ticks <= self._last_ticks:
            return []
        self._last_ticks = ticks
        context = self._stream.codec_context
        # A shared picture may be at another encoder at this moment, and a time is set on it here.
        frame = self._reformatter.reformat(
            picture.canvas().image().video_frame(), context.width, context.height, "yuv420p"
        )
        frame.pts, frame.time_base = ticks, TIME_BASE
        return self._stream.encode(frame)

    def flush(self) -> "list[Packet[VideoStream]]":
        """What the encoder still holds."""
        return self._stream.encode(None)
