"""How recordings are converted: what `streamer convert` may be told, in a file or as options."""

from typing import Annotated, Literal

from pydantic import Field

from .values import Ratio, Section


class ConvertSettings(Section):
    """How `streamer convert` converts; every key is an option of it, too."""

    factor: Annotated[int, Field(ge=1, le=64)] | None = None
    """Pictures for each one of the recording; null for as many as keep the rate at another speed,
    else one."""

    fps: Ratio | None = None
    """Constant pictures a second, such as 60 or 60000/1001, in place of a factor."""

    speed: Ratio = "1"
    """How fast the recording runs: 0.25 or 1/4 is slow motion."""

    enhance: bool = False
    """Make what is dark visible."""

    overlay: bool = False
    """Draw the smoke that is seen."""

    encoder: (
        Literal[
            "x264", "x265", "svt-av1", "vp9", "ffv1", "prores",
            "nvenc-h264", "nvenc-hevc", "nvenc-av1",
        ]
        | None
    ) = None  # fmt: skip
    """null takes what suits the container and the pictures."""

    quality: Literal["draft", "good", "best"] = "good"
    """For those who do not know encoders; `preset` and `crf` win over it."""

    preset: str | None = None
    """How hard the encoder works, in its own words."""

    crf: Annotated[float, Field(ge=0, le=255)] | None = None
    """How much the encoder may lose, in its own numbers."""

    pixel_format: str | None = None
    """What pictures are converted to, such as yuv420p; null keeps depth and chroma as they are."""

    deinterlace: bool = False
    """Make whole pictures of fields; without it interlaced recordings are refused."""

    audio: Literal["copy", "stretch", "drop"] | None = None
    """null copies sound, and at another speed leaves it out; `stretch` encodes it anew."""

    cuts: bool = True
    """Never mix the pictures on both sides of a cut."""

    repeats: Literal["across", "keep"] = "across"
    """Fill up to three repeated pictures in a row with motion, or keep them."""

    hwaccel: str | None = None
    """What decodes, FFmpeg's name such as cuda; null is the processor."""

    jobs: Annotated[int, Field(ge=0, le=64)] = 0
    """Pieces that are converted side by side; 0 for one for every two cores."""
