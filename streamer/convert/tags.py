"""Translates metadata tags between containers, and removes those that are no longer true."""

from collections.abc import Mapping
from typing import Final

from .verify.allowed_differences import LANGUAGE_ALIASES

_FILE_TAGS: Final = frozenset(
    {"encoder", "software", "major_brand", "minor_version", "compatible_brands"}
)
"""Tags about the file itself, which its muxer writes anew."""

_STATISTICS: Final = ("bps", "number_of_", "_statistics", "duration", "source_id", "vendor_id")
"""Prefixes of what muxers and their tools note about a stream that they wrote."""

_MP4: Final = frozenset(
    {"title", "artist", "album_artist", "album", "composer", "date", "comment", "genre",
     "copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network",
     "keywords", "episode_sort", "season_number", "media_type", "hd_video", "gapless_playback",
     "compilation", "track", "disc", "location", "creation_time"}
)  # fmt: skip
_MOV: Final = frozenset(
    {"title", "artist", "album", "date", "comment", "genre", "copyright", "location", "make",
     "model", "creation_time"}
)  # fmt: skip
_STANDARD: Final = {"mp4": _MP4, "mov": _MOV}
"""Tags of a recording that FFmpeg's muxers write to standard fields, which every player reads."""

_MOV_LANGUAGES: Final = {other: first for first, other in LANGUAGE_ALIASES.items()}


def recording_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of the output for the *tags* of a recording."""
    return {name: value for name, value in tags.items() if name.lower() not in _FILE_TAGS}


def needs_metadata_tags(tags: Mapping[str, str], muxer: str) -> bool:
    """Whether the muxer has no standard field for some of *tags*.

    With `use_metadata_tags` MP4 then stores all tags by name, which FFmpeg reads and other players
    ignore.
    """
    standard = _STANDARD.get(muxer)
    return standard is not None and any(
        name.lower() not in standard for name in recording_tags(tags)
    )


def stream_tags(tags: Mapping[str, str], muxer: str, *, encoded: bool) -> dict[str, str]:
    """Return the tags of an output stream.

    Args:
        tags: Tags of the input stream.
        muxer: FFmpeg's name of the output muxer.
        encoded: Whether the stream is re-encoded.
    """
    kept = {
        name: value
        for name, value in tags.items()
        if not name.lower().startswith(_STATISTICS) and not (encoded and name.lower() == "encoder")
    }
    if muxer in _STANDARD and "name" in kept:  # MP4's name of a track's title.
        kept.setdefault("title", kept.pop("name"))
    if muxer == "mov" and "language" in kept:  # MOV knows the bibliographic code only.
        kept["language"] = _MOV_LANGUAGES.get(kept["language"], kept["language"])
    return kept
