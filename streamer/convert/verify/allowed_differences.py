"""Differences that pass: what a container cannot store, or what its muxer writes anew.

Any difference that is not listed here fails a check.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition

from .containers import Family

_ALL: Final[tuple[Family, ...]] = ("mp4", "mov", "matroska", "webm", "other")
_EBML: Final[tuple[Family, ...]] = ("matroska", "webm")
_ISO: Final[tuple[Family, ...]] = ("mp4", "mov")


TagOwner = Literal["recording", "stream"]
"""What a tag belongs to."""


@dataclass(frozen=True, slots=True)
class AllowedDifference:
    """A tag whose difference loses nothing, or cannot be avoided."""

    owner: TagOwner | Literal["both"]
    tag: str
    """Name in lower case; a final `*` matches any suffix."""

    containers: tuple[Family, ...]
    """Output containers in which the difference passes."""

    reason: str


TAGS: Final = (
    AllowedDifference("both", "encoder", _ALL, "names the program that wrote the file"),
    AllowedDifference("recording", "software", _ALL, "AVI's name of the program that wrote it"),
    AllowedDifference("recording", "major_brand", _ALL, "MP4's description of its own format"),
    AllowedDifference("recording", "minor_version", _ALL, "MP4's description of its own format"),
    AllowedDifference("recording", "compatible_brands", _ALL, "MP4's description of its format"),
    AllowedDifference("recording", "location-*", _ISO, "MP4 repeats `location` per language"),
    AllowedDifference("stream", "language", _ALL, "compared by its own check"),
    AllowedDifference("stream", "title", _ALL, "compared by its own check"),
    AllowedDifference("stream", "name", _ALL, "MP4's name of a stream's title, compared as such"),
    AllowedDifference("stream", "handler_name", _ALL, "MP4's handler of a track"),
    AllowedDifference("stream", "vendor_id", _ALL, "MOV's identifier of the encoder"),
    AllowedDifference("stream", "creation_time", _ALL, "MP4 repeats the recording's per track"),
    AllowedDifference("stream", "duration", _ALL, "Matroska's muxer measures it"),
    AllowedDifference("stream", "bps*", _ALL, "statistics written by a Matroska tool"),
    AllowedDifference("stream", "number_of_*", _ALL, "statistics written by a Matroska tool"),
    AllowedDifference("stream", "_statistics_*", _ALL, "statistics written by a Matroska tool"),
    AllowedDifference("stream", "source_id*", _ALL, "a Matroska tool's origin of a track"),
    AllowedDifference(
        "stream", "rotate", _ALL, "old copy of the display matrix, which is compared"
    ),
    AllowedDifference("stream", "alpha_mode", _ALL, "alpha is compared by decoding"),
    AllowedDifference("stream", "stereo_mode", _ISO, "MP4 stores it as side data"),
    AllowedDifference("stream", "filename", _ALL, "of an attachment, compared by its own check"),
    AllowedDifference("stream", "mimetype", _ALL, "of an attachment, compared by its own check"),
    AllowedDifference("stream", "variant_bitrate", _ALL, "bit rate in an HLS playlist"),
    AllowedDifference("stream", "*", _ISO, "MP4 cannot store other tags of a track"),
)
"""The first match counts. Every container can store the tags of a recording: MP4 and MOV with
`use_metadata_tags` where they have no standard field."""

SUPPORTED_DISPOSITIONS: Final[dict[Family, Disposition]] = {
    "mp4": Disposition.default | Disposition.dub | Disposition.comment | Disposition.forced,
    "mov": Disposition.default,
    "matroska": (
        Disposition.default | Disposition.dub | Disposition.original | Disposition.comment
        | Disposition.forced | Disposition.hearing_impaired | Disposition.visual_impaired
    ),
    "webm": Disposition.default | Disposition.forced,
    "other": Disposition(0),
}  # fmt: skip
"""Dispositions that a container can store, as FFmpeg 8 writes them."""

AUTOMATIC_DISPOSITION: Final = Disposition.default
"""Muxers set it on the first stream of a kind if no stream of that kind has it."""

_TWO_CODES: Final = (
    "alb/sqi arm/hye baq/eus bur/mya chi/zho cze/ces dut/nld fre/fra geo/kat ger/deu gre/ell "
    "ice/isl mac/mkd mao/mri may/msa per/fas rum/ron slo/slk tib/bod wel/cym"
)
LANGUAGE_ALIASES: Final = dict(pair.split("/") for pair in _TWO_CODES.split(" "))
"""Terminological code for each bibliographic one (ISO 639-2). MOV stores the latter, other
containers the former."""

CHAPTER_ENDS: Final = _EBML
"""Containers that store the end of a chapter; elsewhere it is the beginning of the next."""

CHAPTER_TAGS: Final = _EBML
"""Containers that store more tags of a chapter than its title."""

COVER_ART: Final[tuple[Family, ...]] = ("mp4", "matroska")
"""Containers that store cover art, as FFmpeg writes them."""

NO_LAST_DURATION: Final = _EBML
"""Containers that store no duration of a frame: with a variable frame rate the duration of the last
frame is unknown."""

OFFSET_RESOLUTION: Final[dict[Family, Fraction]] = {
    "mp4": Fraction(1, 1000),
    "mov": Fraction(1, 1000),
}
"""Resolution in seconds of a track's start offset: FFmpeg writes edit lists in milliseconds unless
`movie_timescale` is set."""


FRAME_SIDE_DATA: Final[dict[SideDataType, frozenset[str] | None]] = {
    SideDataType.SPHERICAL: None,
    SideDataType.A53_CC: frozenset({"h264", "hevc"}),
    SideDataType.STEREO3D: frozenset({"h264"}),
    SideDataType.AFD: frozenset(),
    SideDataType.ICC_PROFILE: frozenset(),
    SideDataType.DYNAMIC_HDR_PLUS: frozenset(),
    SideDataType.DOVI_METADATA: frozenset(),
    SideDataType.AMBIENT_VIEWING_ENVIRONMENT: frozenset(),
}
"""Side data of frames that players use, with the formats for which FFmpeg's encoders write it;
`None` where the container stores it whatever the format."""

BASE_LAYER_TRANSFERS: Final = frozenset({16, 18})
"""PQ and HLG: transfer characteristics displayed correctly without Dolby Vision metadata."""


def find_allowed(owner: TagOwner, tag: str, container: Family) -> AllowedDifference | None:
    """Return the entry that allows *tag* to differ in an output container, if there is one."""
    for entry in TAGS:
        prefix = entry.tag.endswith("*") and tag.startswith(entry.tag[:-1])
        matches = prefix or entry.tag == tag
        if matches and entry.owner in (owner, "both") and container in entry.containers:
            return entry
    return None


def normalized_language(code: str | None) -> str:
    """Return one code per language; `und` if none is stored."""
    return LANGUAGE_ALIASES.get(code or "und", code or "und")
