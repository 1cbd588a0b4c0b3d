"""What a recording's tags are called in another container, and which are no longer true."""

from collections.abc import Mapping
from typing import Final

from .verify.allowed_differences import SAME_LANGUAGE

_REWRITTEN: Final = frozenset(
    {"encoder", "software", "major_brand", "minor_version", "compatible_brands"}
)
"""Tags of a recording that its muxer writes anew: they speak of the file itself."""

_STATISTICS: Final = ("bps", "number_of_", "_statistics", "duration", "source_id", "vendor_id")
"""Beginnings of what muxers and their tools note about a stream that they wrote."""

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
_NAMED: Final = {"mp4": _MP4, "mov": _MOV}
"""Tags of a recording that FFmpeg's muxers have a place for, whatever the player."""

_CODES: Final = {other: first for first, other in SAME_LANGUAGE.items()}


def of_recording(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that a conversion of the recording has."""
    return {name: value for name, value in tags.items() if name.lower() not in _REWRITTEN}


def has_others(tags: Mapping[str, str], muxer: str) -> bool:
    """Whether the muxer has no place of its own for some of *tags*.

    MP4 then keeps all of them by their names, where FFmpeg finds them and other players do not.
    """
    named = _NAMED.get(muxer)
    return named is not None and any(name.lower() not in named for name in of_recording(tags))


def of_stream(tags: Mapping[str, str], muxer: str, *, encoded: bool) -> dict[str, str]:
    """The tags of a stream of the conversion.

    Args:
        tags: Of the recording's stream.
        muxer: FFmpeg's name of it.
        encoded: Whether the stream is encoded anew.
    """
    kept = {
        name: value
        for name, value in tags.items()
        if not name.lower().startswith(_STATISTICS) and not (encoded and name.lower() == "encoder")
    }
    if muxer in _NAMED and "name" in kept:  # MP4's demuxer and muxer call a track's title so.
        kept.setdefault("title", kept.pop("name"))
    if muxer == "mov" and "language" in kept:  # It knows the older of two codes only.
        kept["language"] = _CODES.get(kept["language"], kept["language"])
    return kept
