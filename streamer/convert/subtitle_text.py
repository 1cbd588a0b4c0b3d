"""The text of subtitle packets, whatever the subtitle format."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av.error

TEXT_CODECS: Final = frozenset(
    {"ass", "ssa", "subrip", "srt", "webvtt", "mov_text", "text", "microdvd"}
)
"""FFmpeg's names of subtitle formats that hold text; the others hold bitmaps."""

_MARKUP: Final = re.compile(r"\{[^}]*\}|<[^>]*>")
"""Styling: braces in ASS, angle brackets in SRT and WebVTT."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle text with its start time."""

    start: Fraction
    """Seconds on the file's own clock."""

    text: str
    """Without styling; line breaks are replaced by spaces."""


def decode_cue(stream: Any, packet: Any) -> Cue | None:
    """Decode one subtitle packet; `None` if it holds no text or cannot be decoded."""
    try:
        text = " ".join(_plain_text(one) for one in stream.decode(packet)).strip()
    except av.error.FFmpegError:
        return None
    return Cue(packet.pts * packet.time_base, text) if text and packet.pts is not None else None


def _plain_text(subtitle: Any) -> str:
    dialogue = getattr(subtitle, "dialogue", b"")
    text = dialogue.decode(errors="replace") if isinstance(dialogue, bytes) else str(dialogue)
    plain = _MARKUP.sub("", text).replace("\\N", " ").replace("\\h", " ")
    return " ".join(plain.split())
