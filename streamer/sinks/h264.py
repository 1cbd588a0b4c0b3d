"""Encoding of frames as one H.264 stream with their own timestamps and color tags."""

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from av.container import OutputContainer
from av.video.reformatter import ColorRange, VideoReformatter

from streamer.core.image import Image

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

TIME_BASE: Final = Fraction(1, 90_000)
"""The 90 kHz clock of MPEG: fine enough for every camera, accepted by all containers."""


class H264Encoder:
    """One H.264 stream in a container. Images of another size are scaled to the first one's size.

    Args:
        container: Open for writing.
        image: The first image; its size and color tags are those of the stream.
        preset: x264's preset.
        rate: Nominal frames per second, a hint for players.
        options: Further options of x264.
    """

    def __init__(
        self,
        container: OutputContainer,
        image: Image,
        *,
        preset: str,
        rate: Fraction,
        options: dict[str, str] | None = None,
    ) -> None:
        self._stream = container.add_stream("libx264", rate=rate)
        context = self._stream.codec_context
        # 4:2:0 has no half chroma samples: an odd last row or column is cropped.
        context.width, context.height = image.width & ~1, image.height & ~1
        context.pix_fmt = "yuv420p"
        context.time_base = self._stream.time_base = TIME_BASE
        context.options = {"preset": preset, **(options or {})}
        color = image.color
        context.colorspace, context.color_primaries = color.matrix, color.primaries
        context.color_trc = color.transfer
        context.color_range = int(ColorRange.JPEG if color.full_range else ColorRange.MPEG)
        self._reformatter = VideoReformatter()
        self._last_ticks = -1

    def encode(self, image: Image, pts_ns: int) -> "list[Packet[VideoStream]]":
        """Return the packets to mux; an image that is not later than the last one is skipped."""
        ticks = round(Fraction(pts_ns, 1_000_000_000) / TIME_BASE)
        if ticks <= self._last_ticks:
            return []
        self._last_ticks = ticks
        context = self._stream.codec_context
        # Another encoder may use the same image at this moment, and its timestamp is set here.
        frame = self._reformatter.reformat(
            image.canvas().image().video_frame(), context.width, context.height, "yuv420p"
        )
        frame.pts, frame.time_base = ticks, TIME_BASE
        return self._stream.encode(frame)

    def flush(self) -> "list[Packet[VideoStream]]":
        """Return the packets that the encoder still holds."""
        return self._stream.encode(None)
