"""Video encoders by name, each with option presets for three qualities."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av.error
from av.codec import Codec

from streamer.config.convert import Quality
from streamer.core.errors import SinkError
from streamer.core.pixel_format import planar_layout

from .media_info import HdrMetadata

_COORDINATE: Final = 50_000
_LUMINANCE: Final = 10_000
"""Units per 1 of x265's master-display: 0.00002 of a coordinate and 0.0001 cd/m2."""


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """An encoder and what it can write."""

    name: str
    codec: str
    """FFmpeg's name of the encoder."""

    format: str
    """FFmpeg's name of the format that it writes."""

    containers: frozenset[str]
    """Suffixes of the containers that can store the format."""

    qualities: Mapping[Quality, Mapping[str, str]]
    """FFmpeg options for each quality."""

    preset_option: str | None = "preset"
    """FFmpeg option that sets the speed preset; `None` if the encoder has none."""

    crf_option: str | None = "crf"
    """FFmpeg option that sets the constant rate factor; `None` if the encoder has none."""

    lossless: bool = False

    def formats(self) -> tuple[str, ...]:
        """Return the pixel formats that it accepts, by FFmpeg's names."""
        return _formats(self.codec)

    def stored(self, planar: str) -> str | None:
        """Return the input format for frames of format *planar*; `None` if information is lost."""
        if planar_layout(planar).alpha and self.format not in _TRANSPARENT:
            return None
        # Other encoders accept alpha and discard it.
        candidates = (planar, _PACKED.get(planar) if self.lossless else None)
        return next((one for one in candidates if one is not None and one in self.formats()), None)

    @property
    def available(self) -> bool:
        """Whether FFmpeg was built with it. An NVENC encoder also needs a GPU."""
        return bool(self.formats())


_TRANSPARENT: Final = frozenset({"ffv1", "prores"})
"""Formats that store alpha in the frame itself. VP9 and HEVC store it in a second stream, in a
different way per container."""

_PACKED: Final = {"gbrp": "bgr0", "gbrap": "bgra"}
"""Packed formats that hold the same samples as a planar one."""


@functools.cache
def _formats(codec: str) -> tuple[str, ...]:
    try:
        return tuple(one.name for one in Codec(codec, "w").video_formats or ())
    except (ValueError, av.error.FFmpegError):
        return ()


_ALL: Final = frozenset({".mp4", ".mkv", ".mov"})
_WEB: Final = frozenset({".webm", ".mkv", ".mp4"})


def _qualities(draft: str, good: str, best: str) -> dict[Quality, dict[str, str]]:
    """Return the options for each quality, each given as words `name=value`."""
    options = ([one.split("=") for one in text.split()] for text in (draft, good, best))
    return {"draft": dict(next(options)), "good": dict(next(options)), "best": dict(next(options))}


def _nvenc(codec: str, name: str, containers: frozenset[str]) -> EncoderSpec:
    qualities = _qualities(
        "preset=p2 rc=vbr cq=28", "preset=p5 rc=vbr cq=21", "preset=p7 rc=vbr cq=17 tune=hq"
    )
    return EncoderSpec(name, f"{codec}_nvenc", codec, containers, qualities, crf_option="cq")


_X264: Final = _qualities("preset=veryfast crf=23", "preset=medium crf=18", "preset=slow crf=15")
_X265: Final = _qualities("preset=superfast crf=25", "preset=medium crf=19", "preset=slow crf=16")
_SVT_AV1: Final = _qualities("preset=10 crf=35", "preset=7 crf=26", "preset=4 crf=20")
_VP9: Final = _qualities(
    "deadline=realtime cpu-used=6 crf=34 row-mt=1",
    "deadline=good cpu-used=3 crf=26 row-mt=1",
    "deadline=good cpu-used=1 crf=20 row-mt=1",
)
_FFV1: Final = _qualities(*["level=3 slicecrc=1"] * 3)
_PRORES: Final = _qualities("profile=lt", "profile=standard", "profile=hq")

ENCODERS: Final[Mapping[str, EncoderSpec]] = {
    spec.name: spec
    for spec in (
        EncoderSpec("x264", "libx264", "h264", _ALL, _X264),
        EncoderSpec("x265", "libx265", "hevc", _ALL, _X265),
        EncoderSpec("svt-av1", "libsvtav1", "av1", _WEB, _SVT_AV1),
        EncoderSpec("vp9", "libvpx-vp9", "vp9", _WEB, _VP9, preset_option="cpu-used"),
        EncoderSpec("ffv1", "ffv1", "ffv1", frozenset({".mkv"}), _FFV1,
                    preset_option=None, crf_option=None, lossless=True),
        EncoderSpec("prores", "prores_ks", "prores", frozenset({".mov", ".mkv"}), _PRORES,
                    preset_option=None, crf_option=None),
        _nvenc("h264", "nvenc-h264", _ALL),
        _nvenc("hevc", "nvenc-hevc", _ALL),
        _nvenc("av1", "nvenc-av1", _WEB),
    )
}  # fmt: skip
"""All encoders by name."""


def default_encoder(suffix: str, pixel_format: str) -> str:
    """Return the default encoder for a container suffix and a pixel format."""
    if suffix == ".webm":
        return "vp9"
    if pixel_format in _formats("libx264") and not pixel_format.endswith("10le"):
        return "x264"
    if ENCODERS["x265"].stored(pixel_format):
        return "x265"
    return {".mov": "prores", ".mkv": "ffv1"}.get(suffix, "x264")


def encoder_options(
    spec: EncoderSpec,
    quality: Quality,
    *,
    preset: str | None = None,
    crf: float | None = None,
    hdr: HdrMetadata | None = None,
    pixel_format: str = "",
) -> dict[str, str]:
    """Return FFmpeg's options for an encoder.

    Args:
        spec: The encoder.
        quality: Selects the defaults of `preset` and `crf`.
        preset: Speed preset, in the encoder's own terms.
        crf: Constant rate factor, on the encoder's own scale.
        hdr: HDR10 metadata to write.
        pixel_format: Pixel format of the frames.

    Raises:
        SinkError: The encoder has no such option.
    """
    chosen = dict(spec.qualities[quality])
    for value, name, what in (
        (preset, spec.preset_option, "preset"),
        (crf, spec.crf_option, "crf"),
    ):
        if value is not None and name is None:
            raise SinkError(f"{spec.name} has no --{what}")
        if value is not None and name is not None:
            chosen[name] = f"{value:g}" if isinstance(value, float) else str(value)
    if spec.codec == "prores_ks" and "444" in pixel_format:
        # The other profiles are 4:2:2, and would accept alpha and discard it.
        chosen["profile"] = "4444xq" if quality == "best" else "4444"
    if spec.codec == "libx265":
        chosen["a53cc"] = "1"  # Write closed captions, as x264 does by default.
    if spec.codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # Errors only: it logs to standard error.
    if spec.codec in _HDR_OPTIONS:
        option, display, light = _HDR_OPTIONS[spec.codec]
        params = ["log-level=error"] if spec.codec == "libx265" else []
        if hdr is not None and hdr.mastering_display is not None:
            params += ["hdr10=1", "repeat-headers=1"] if spec.codec == "libx265" else []
            params.append(f"{display}={_master_display(spec.codec, hdr.mastering_display)}")
        if hdr is not None and hdr.content_light_level is not None:
            params.append(f"{light}={hdr.content_light_level[0]},{hdr.content_light_level[1]}")
        chosen[option] = ":".join(params)
    return {name: value for name, value in chosen.items() if value}


_HDR_OPTIONS: Final = {
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libx265": ("x265-params", "master-display", "max-cll"),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
}
"""FFmpeg option of the encoder's own parameters, and its names of the HDR10 metadata."""


def _master_display(codec: str, mastering: tuple[Fraction, ...]) -> str:
    """Format primaries, white point and luminance: whole units, for SVT-AV1 decimal fractions."""
    if codec == "libsvtav1":
        x = [f"{float(value):.5f}" for value in mastering]
    else:
        units = [_COORDINATE] * 8 + [_LUMINANCE] * 2
        x = [str(round(value * unit)) for value, unit in zip(mastering, units, strict=True)]
    return f"G({x[2]},{x[3]})B({x[4]},{x[5]})R({x[0]},{x[1]})WP({x[6]},{x[7]})L({x[9]},{x[8]})"


def writes_hdr_metadata(spec: EncoderSpec) -> bool:
    """Whether this encoder can write HDR10 metadata."""
    return spec.codec in _HDR_OPTIONS
