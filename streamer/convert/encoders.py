"""Encoders by name, with three qualities for those who do not know encoders."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

import av.error
from av.codec import Codec

from streamer.core.errors import SinkError
from streamer.core.pixel_format import planar_layout

from .media_info import HighDynamicRange

Quality = Literal["draft", "good", "best"]

_COORDINATE: Final = 50_000
_LUMINANCE: Final = 10_000
"""Units of x265's master-display: 0.00002 of a coordinate and 0.0001 cd/m2."""


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """An encoder as people name it."""

    name: str
    codec: str
    """FFmpeg's name of it."""

    format: str
    """FFmpeg's name of what it writes."""

    containers: frozenset[str]
    """Suffixes of files that hold what it writes."""

    qualities: Mapping[Quality, Mapping[str, str]]
    """Options for each quality."""

    effort: str | None = "preset"
    """Name of the option that says how hard it works; `None` if it has none."""

    level: str | None = "crf"
    """Name of the option that says how much may be lost."""

    lossless: bool = False

    def formats(self) -> tuple[str, ...]:
        """Pixel formats it takes, FFmpeg's names."""
        return _formats(self.codec)

    def stored(self, planar: str) -> str | None:
        """The format in which it takes what is worked on as *planar*; `None` if it loses some."""
        if planar_layout(planar).alpha and self.format not in _TRANSPARENT:
            return None
        # Others take alpha too, and throw it away.
        forms = (planar, _PACKED.get(planar) if self.lossless else None)
        return next((form for form in forms if form is not None and form in self.formats()), None)

    @property
    def available(self) -> bool:
        """Whether FFmpeg was built with it. A card's encoder may still miss its card."""
        return bool(self.formats())


_TRANSPARENT: Final = frozenset({"ffv1", "prores"})
"""Formats that keep transparency in the picture itself. VP9 and HEVC put it beside, in a way of
their own for each container."""

_PACKED: Final = {"gbrp": "bgr0", "gbrap": "bgra"}
"""Formats that hold the same as a planar one."""


@functools.cache
def _formats(codec: str) -> tuple[str, ...]:
    try:
        return tuple(form.name for form in Codec(codec, "w").video_formats or ())
    except (ValueError, av.error.FFmpegError):
        return ()


_ALL: Final = frozenset({".mp4", ".mkv", ".mov"})
_WEB: Final = frozenset({".webm", ".mkv", ".mp4"})


def _nvenc(name: str, codec: str) -> EncoderSpec:
    return EncoderSpec(
        name=name,
        codec=f"{codec}_nvenc",
        format=codec,
        containers=_ALL if codec != "av1" else _WEB,
        qualities={
            "draft": {"preset": "p2", "rc": "vbr", "cq": "28"},
            "good": {"preset": "p5", "rc": "vbr", "cq": "21"},
            "best": {"preset": "p7", "rc": "vbr", "cq": "17", "tune": "hq"},
        },
        level="cq",
    )


_FFV1: Final = {"level": "3", "slicecrc": "1"}

ENCODERS: Final[Mapping[str, EncoderSpec]] = {
    spec.name: spec
    for spec in (
        EncoderSpec(
            "x264",
            "libx264",
            "h264",
            _ALL,
            {
                "draft": {"preset": "veryfast", "crf": "23"},
                "good": {"preset": "medium", "crf": "18"},
                "best": {"preset": "slow", "crf": "15"},
            },
        ),
        EncoderSpec(
            "x265",
            "libx265",
            "hevc",
            _ALL,
            {
                "draft": {"preset": "superfast", "crf": "25"},
                "good": {"preset": "medium", "crf": "19"},
                "best": {"preset": "slow", "crf": "16"},
            },
        ),
        EncoderSpec(
            "svt-av1",
            "libsvtav1",
            "av1",
            _WEB,
            {
                "draft": {"preset": "10", "crf": "35"},
                "good": {"preset": "7", "crf": "26"},
                "best": {"preset": "4", "crf": "20"},
            },
        ),
        EncoderSpec(
            "vp9",
            "libvpx-vp9",
            "vp9",
            _WEB,
            {
                "draft": {"deadline": "realtime", "cpu-used": "6", "crf": "34", "row-mt": "1"},
                "good": {"deadline": "good", "cpu-used": "3", "crf": "26", "row-mt": "1"},
                "best": {"deadline": "good", "cpu-used": "1", "crf": "20", "row-mt": "1"},
            },
            effort="cpu-used",
        ),
        EncoderSpec(
            "ffv1",
            "ffv1",
            "ffv1",
            frozenset({".mkv"}),
            {"draft": _FFV1, "good": _FFV1, "best": _FFV1},
            effort=None,
            level=None,
            lossless=True,
        ),
        EncoderSpec(
            "prores",
            "prores_ks",
            "prores",
            frozenset({".mov", ".mkv"}),
            {
                "draft": {"profile": "lt"},
                "good": {"profile": "standard"},
                "best": {"profile": "hq"},
            },
            effort=None,
            level=None,
        ),
        _nvenc("nvenc-h264", "h264"),
        _nvenc("nvenc-hevc", "hevc"),
        _nvenc("nvenc-av1", "av1"),
    )
}
"""Every encoder by its name here."""


def default_encoder(suffix: str, pixel_format: str) -> str:
    """What suits a container and a pixel format when nobody chose."""
    if suffix == ".webm":
        return "vp9"
    if pixel_format in _formats("libx264") and not pixel_format.endswith("10le"):
        return "x264"
    if ENCODERS["x265"].stored(pixel_format):
        return "x265"
    return {".mov": "prores", ".mkv": "ffv1"}.get(suffix, "x264")


def options(
    spec: EncoderSpec,
    quality: Quality,
    *,
    effort: str | None = None,
    level: float | None = None,
    dynamic_range: HighDynamicRange | None = None,
    pixel_format: str = "",
    threads: int = 0,
) -> dict[str, str]:
    """FFmpeg's options for an encoder.

    Args:
        spec: The encoder.
        quality: Where nothing else is said.
        effort: How hard it works, in the encoder's own words.
        level: How much may be lost, in the encoder's own numbers.
        dynamic_range: What displays must know.
        pixel_format: Of the pictures.
        threads: 0 for as many as it likes.

    Raises:
        SinkError: The encoder has no such setting.
    """
    chosen = dict(spec.qualities[quality])
    for value, name, what in ((effort, spec.effort, "effort"), (level, spec.level, "crf")):
        if value is not None and name is None:
            raise SinkError(f"{spec.name} has no --{what}")
        if value is not None and name is not None:
            chosen[name] = f"{value:g}" if isinstance(value, float) else str(value)
    if threads:
        chosen["threads"] = str(threads)
    if spec.codec == "prores_ks" and "444" in pixel_format:
        # The other profiles are of 4:2:2: they would take transparency, and leave it out.
        chosen["profile"] = "4444xq" if quality == "best" else "4444"
    if spec.codec == "libx265":
        chosen["a53cc"] = "1"  # Closed captions, which x264 writes by itself.
        chosen["x265-params"] = _x265(dynamic_range, threads)
    elif spec.codec == "libx264" and dynamic_range is not None:
        chosen["x264-params"] = _x264(dynamic_range)
    elif spec.codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # Errors only: it writes on standard error.
        chosen["svtav1-params"] = _svt(dynamic_range, threads)
    return {name: value for name, value in chosen.items() if value}


def _x265(hdr: HighDynamicRange | None, threads: int) -> str:
    said = ["log-level=error"]
    if threads:
        said.append(f"pools={threads}")
    if hdr is not None and hdr.mastering is not None:
        said += ["hdr10=1", "repeat-headers=1", f"master-display={_primaries(hdr.mastering)}"]
    if hdr is not None and hdr.light is not None:
        said.append(f"max-cll={hdr.light[0]},{hdr.light[1]}")
    return ":".join(said)


def _x264(hdr: HighDynamicRange) -> str:
    said = []
    if hdr.mastering is not None:
        said.append(f"mastering-display={_primaries(hdr.mastering)}")
    if hdr.light is not None:
        said.append(f"cll={hdr.light[0]},{hdr.light[1]}")
    return ":".join(said)


def _primaries(mastering: tuple[Fraction, ...]) -> str:
    """Green, blue, red, white and luminance, in x265's and x264's units."""
    x = [round(value * _COORDINATE) for value in mastering[:8]]
    darkest, brightest = (round(value * _LUMINANCE) for value in mastering[8:])
    return (
        f"G({x[2]},{x[3]})B({x[4]},{x[5]})R({x[0]},{x[1]})WP({x[6]},{x[7]})L({brightest},{darkest})"
    )


def _svt(hdr: HighDynamicRange | None, threads: int) -> str:
    said = [f"lp={threads}"] if threads else []
    if hdr is not None and hdr.mastering is not None:
        x = [f"{float(value):.5f}" for value in hdr.mastering]
        said.append(
            f"mastering-display=G({x[2]},{x[3]})B({x[4]},{x[5]})R({x[0]},{x[1]})"
            f"WP({x[6]},{x[7]})L({x[9]},{x[8]})"
        )
    if hdr is not None and hdr.light is not None:
        said.append(f"content-light={hdr.light[0]},{hdr.light[1]}")
    return ":".join(said)


def holds_dynamic_range(spec: EncoderSpec) -> bool:
    """Whether what displays must know of HDR10 can be written by this encoder."""
    return spec.codec in ("libx264", "libx265", "libsvtav1")
