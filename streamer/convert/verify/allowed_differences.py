"""What a container cannot hold, or its muxer writes anew: the one table of differences that pass.

Whatever is not in here and differs is lost, and fails.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition

from .packets import Family

_ANY: Final[tuple[Family, ...]] = ("mp4", "mov", "matroska", "webm", "other")
_EBML: Final[tuple[Family, ...]] = ("matroska", "webm")
_ISO: Final[tuple[Family, ...]] = ("mp4", "mov")


Of = Literal["recording", "stream"]
"""What a tag may belong to."""


@dataclass(frozen=True, slots=True)
class Known:
    """A difference that loses nothing, or cannot be helped."""

    of: Of | Literal["both"]
    tag: str
    """In small letters; one that ends in `*` means all that begin so."""

    to: tuple[Family, ...]
    """Containers of the output in which it passes."""

    why: str


TAGS: Final = (
    Known("both", "encoder", _ANY, "names the program that wrote the file"),
    Known("recording", "software", _ANY, "AVI's name for the program that wrote the file"),
    Known("recording", "major_brand", _ANY, "MP4's own note on its form"),
    Known("recording", "minor_version", _ANY, "MP4's own note on its form"),
    Known("recording", "compatible_brands", _ANY, "MP4's own note on its form"),
    Known("recording", "location-*", _ISO, "MP4 repeats `location` in each language"),
    Known("stream", "language", _ANY, "compared by itself"),
    Known("stream", "title", _ANY, "compared by itself"),
    Known("stream", "name", _ANY, "MP4's word for a stream's title, compared by itself"),
    Known("stream", "handler_name", _ANY, "MP4 says which part of a player a track is for"),
    Known("stream", "vendor_id", _ANY, "MOV says which encoder it was"),
    Known("stream", "creation_time", _ANY, "MP4 repeats the recording's for each track"),
    Known("stream", "duration", _ANY, "Matroska's muxer measures it anew"),
    Known("stream", "bps*", _ANY, "statistics of a Matroska tool on what it wrote"),
    Known("stream", "number_of_*", _ANY, "statistics of a Matroska tool on what it wrote"),
    Known("stream", "_statistics_*", _ANY, "statistics of a Matroska tool on what it wrote"),
    Known("stream", "source_id*", _ANY, "where a Matroska tool took a track from"),
    Known("stream", "rotate", _ANY, "an old copy of the display matrix, which is compared"),
    Known("stream", "alpha_mode", _ANY, "transparency is compared by decoding"),
    Known("stream", "stereo_mode", _ISO, "MP4 keeps it as side data"),
    Known("stream", "filename", _ANY, "of an attachment, compared by itself"),
    Known("stream", "mimetype", _ANY, "of an attachment, compared by itself"),
    Known("stream", "variant_bitrate", _ANY, "a playlist's note on how it was sent"),
    Known("stream", "*", _ISO, "MP4 has no place for other tags of a track"),
)
"""The first that fits counts. Tags of a whole recording have a place everywhere: in MP4 and MOV
with `use_metadata_tags`, if not by a name of their own."""

HELD: Final[dict[Family, Disposition]] = {
    "mp4": Disposition.default | Disposition.dub | Disposition.comment | Disposition.forced,
    "mov": Disposition.default,
    "matroska": (
        Disposition.default | Disposition.dub | Disposition.original | Disposition.comment
        | Disposition.forced | Disposition.hearing_impaired | Disposition.visual_impaired
    ),
    "webm": Disposition.default | Disposition.forced,
    "other": Disposition(0),
}  # fmt: skip
"""Dispositions that a container has a place for, as FFmpeg 8 writes them."""

MARKED_BY_ITSELF: Final = Disposition.default
"""Muxers mark the first stream of a kind so if none of its kind is."""

_TWO_CODES: Final = (
    "alb/sqi arm/hye baq/eus bur/mya chi/zho cze/ces dut/nld fre/fra geo/kat ger/deu gre/ell "
    "ice/isl mac/mkd mao/mri may/msa per/fas rum/ron slo/slk tib/bod wel/cym"
)
SAME_LANGUAGE: Final = dict(pair.split("/") for pair in _TWO_CODES.split(" "))
"""ISO 639-2 has two codes for some languages. MOV knows the first, others use the second."""

CHAPTER_ENDS: Final = _EBML
"""Containers in which chapters have an end of their own; elsewhere the next one's begin is it."""

CHAPTER_TAGS: Final = _EBML
"""Containers in which chapters have more tags than their title."""

COVERS: Final[tuple[Family, ...]] = ("mp4", "matroska")
"""Containers that hold cover pictures, as FFmpeg writes them."""

NO_LAST: Final = _EBML
"""Containers that tell when a frame is shown, and not for how long: of an uneven rate nobody knows
when the last one ends."""

DELAY_CLOCK: Final[dict[Family, Fraction]] = {"mp4": Fraction(1, 1000), "mov": Fraction(1, 1000)}
"""Seconds to which MP4 rounds when a track begins, whatever its own clock: FFmpeg counts edit
lists so unless `movie_timescale` says otherwise."""


PICTURE_DATA: Final[dict[SideDataType, frozenset[str] | None]] = {
    SideDataType.SPHERICAL: None,
    SideDataType.A53_CC: frozenset({"h264", "hevc"}),
    SideDataType.STEREO3D: frozenset({"h264"}),
    SideDataType.AFD: frozenset(),
    SideDataType.ICC_PROFILE: frozenset(),
    SideDataType.DYNAMIC_HDR_PLUS: frozenset(),
    SideDataType.DOVI_METADATA: frozenset(),
    SideDataType.AMBIENT_VIEWING_ENVIRONMENT: frozenset(),
}
"""What decoders hand over beside a picture and players make use of, with the formats for which
FFmpeg's encoders write it; None where the container keeps it, whatever the format."""

BASE_TRANSFERS: Final = frozenset({16, 18})
"""PQ and HLG: pictures that are right, if plainer, without Dolby Vision's notes on them."""


def known(of: Of, tag: str, to: Family) -> Known | None:
    """The entry that lets a difference in *tag* pass in the output's container, if there is one."""
    for entry in TAGS:
        begins = entry.tag.endswith("*") and tag.startswith(entry.tag[:-1])
        if (begins or entry.tag == tag) and entry.of in (of, "both") and to in entry.to:
            return entry
    return None


def language(code: str | None) -> str:
    """One code for each language; `und` if none is said."""
    return SAME_LANGUAGE.get(code or "und", code or "und")
