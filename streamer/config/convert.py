"""The options of a conversion: keys of the `convert` section, and options of `streamer convert`.

The one model that configuration, command line, plan, assembly and verification share. The parts in
`streamer.convert` import it as a value type; it is the only module of the configuration that they
may import.
"""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from .values import Ratio, Section

Quality = Literal["draft", "good", "best"]
"""Levels of encoding quality."""


class ConvertOptions(Section):
    """What a conversion does to a recording."""

    factor: Annotated[int, Field(ge=1, le=64)] | None = None
    """Output frames per input frame. null: as many as keep the frame rate when `speed` is below 1,
    otherwise 1."""

    fps: Ratio | None = None
    """Constant frame rate of the output, such as 60 or 60000/1001. Excludes `factor`."""

    speed: Ratio = Fraction(1)
    """Playback speed: 0.25 or 1/4 is slow motion."""

    enhance: bool = False
    """Apply the low-light filter to dark frames."""

    overlay: bool = False
    """Detect smoke and draw the detections on the frames."""

    encoder: (
        Literal[
            "x264", "x265", "svt-av1", "vp9", "ffv1", "prores",
            "nvenc-h264", "nvenc-hevc", "nvenc-av1",
        ]
        | None
    ) = None  # fmt: skip
    """Video encoder. null: the default for the container and the pixel format."""

    quality: Quality = "good"
    """Defaults of `preset` and `crf`."""

    preset: str | None = None
    """The encoder's own speed preset, such as `slow` for x264 or `6` for svt-av1."""

    crf: Annotated[float, Field(ge=0, le=255)] | None = None
    """Constant rate factor on the encoder's own scale; higher loses more."""

    pixel_format: str | None = None
    """FFmpeg's name of the output pixel format, such as yuv420p. null: bit depth and chroma
    subsampling are kept."""

    deinterlace: bool = False
    """Deinterlace. Interlaced recordings are refused without it."""

    audio: Literal["copy", "stretch", "drop"] | None = None
    """`stretch` re-encodes audio at the new speed with its pitch kept. null: `copy` at speed 1,
    `drop` at another speed."""

    leave_out: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Numbers of input streams that are not copied."""

    scene_change: bool = True
    """Detect scene changes and never interpolate across one."""

    duplicates: Literal["interpolate", "keep"] = "interpolate"
    """Replace up to three duplicate frames in a row by interpolated motion, or keep them."""

    hwaccel: str | None = None
    """FFmpeg's name of a hardware decoder, such as cuda. null: the CPU decodes."""

    jobs: Annotated[int, Field(ge=0, le=64)] = 0
    """Chunks converted in parallel. 0: one per two CPU cores."""

    @property
    def resolved_factor(self) -> int:
        """Output frames per input frame, with null resolved; 1 where `fps` decides instead."""
        if self.fps is not None:
            return 1
        return max(1, round(1 / self.speed)) if self.factor is None else self.factor

    @property
    def interpolates(self) -> bool:
        """Whether the output has frames between those of the input."""
        return self.fps is not None or self.resolved_factor > 1
