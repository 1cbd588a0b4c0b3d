"""The words of a subtitle stream, whatever form they are in."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error

from streamer.convert.media_info import open_recording

_MARKUP = re.compile(r"\{[^}]*\}|<[^>]*>")
"""Styling: braces in ASS, angles in SRT and WebVTT."""


@dataclass(frozen=True, slots=True)
class Text:
    """Words that are shown together."""

    begin: Fraction
    """Seconds since the recording begins, by its own clock."""

    words: str
    """Without styling; line breaks are blanks."""


def texts(path: Path, index: int) -> list[Text]:
    """What stream *index* of the recording at *path* says; nothing of what cannot be read.

    Raises:
        SourceError: It is not there, or nothing FFmpeg can read.
    """
    found: list[Text] = []
    with open_recording(path) as container:
        stream: Any = container.streams[index]
        try:
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                words = " ".join(_words(one) for one in stream.decode(packet))
                if words.strip():
                    found.append(Text(packet.pts * packet.time_base, words.strip()))
        except av.error.FFmpegError:
            return found
    return found


def _words(subtitle: Any) -> str:
    dialogue = getattr(subtitle, "dialogue", b"")
    text = dialogue.decode(errors="replace") if isinstance(dialogue, bytes) else str(dialogue)
    plain = _MARKUP.sub("", text).replace("\\N", " ").replace("\\h", " ")
    return " ".join(plain.split())
