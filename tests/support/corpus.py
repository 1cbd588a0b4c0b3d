"""Recordings of every kind that people have, made on the spot, with what is true of each.

`RECORDINGS` is the list. A test asks the fixture `recordings` for a file by name; each is made
once in a run. What the frames show is in `corpus_frames`, how files are written in
`corpus_writing`, and those that are wrong on purpose in `corpus_special`.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from . import corpus_frames, corpus_special
from .corpus_writing import (
    DEFAULT,
    FONT,
    Attachment,
    Audio,
    Chapter,
    Cover,
    Data,
    Subtitles,
    Track,
    Video,
    jpeg,
    write,
)

MILLISECOND: Final = Fraction(1, 1000)
_MOV: Final = Fraction(1, 90000)
_CLOCKS: Final = {".mkv": MILLISECOND, ".webm": MILLISECOND, ".ts": _MOV}
"""What times are rounded to; other containers here keep them as they are."""

_KINDS: Final = {
    Video: "video", Audio: "audio", Subtitles: "subtitle", Data: "data", Cover: "video",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A file, how it is made, and what is true of it."""

    file: str
    about: str
    make: Callable[[Path], object]
    video: Video | None = None
    """Its main video, if it has one that can be read."""

    kinds: tuple[str, ...] = ()
    """Of its streams, in order, as FFmpeg lists them."""

    shift: Fraction = Fraction(0)
    """Seconds added to all times by its container."""

    frames: int | None = None
    """Frames that can be had; None where that is up to the reader, as in a cut file."""

    incomplete: bool = False
    """Whether it is not a whole recording."""

    slow: bool = False
    program: bool = False
    """Whether the ffmpeg program is needed to make it."""

    @property
    def times(self) -> tuple[Fraction, ...]:
        """Presentation time of each frame in seconds, as the container keeps it."""
        if self.video is None:
            return ()
        clock = _CLOCKS.get(Path(self.file).suffix)
        exact = (time + self.shift for time in self.video.times)
        return tuple(exact) if clock is None else tuple(_on(clock, time) for time in exact)

    @property
    def numbers(self) -> tuple[int, ...]:
        """What each frame shows."""
        return tuple(map(self.video.shown, range(len(self.video.times)))) if self.video else ()


def _on(clock: Fraction, time: Fraction) -> Fraction:
    """*time* on the grid of *clock*, a half rounded up as FFmpeg does."""
    return ((time / clock + Fraction(1, 2)) // 1) * clock


def steady(count: int, rate: Fraction | int, *, start: Fraction = Fraction(0)) -> list[Fraction]:
    """Times of *count* frames at a constant rate."""
    return [start + Fraction(number) / rate for number in range(count)]


def uneven(count: int, clock: Fraction) -> list[Fraction]:
    """Times that come as a telephone writes them: mostly thirtieths, late ones, one long pause."""
    gaps = [33, 33, 34, 33, 67, 17, 33, 50, 33, 33, 400 if count > 20 else 33, 41]
    times = [Fraction(0)]
    for number in range(count - 1):
        times.append(times[-1] + Fraction(gaps[(number + 3) % len(gaps)], 1000))
    return [(time / clock + Fraction(1, 2)) // 1 * clock for time in times]


def _at(rate: Fraction, count: int = 60, **more: Any) -> Video:
    return Video(times=steady(count, rate), clock=1 / rate, **more)


P25, P24, P30, P60 = Fraction(25), *(Fraction(top, 1001) for top in (24000, 30000, 60000))
"""Frames per second."""

_ENGLISH = {"language": "eng", "title": "Original"}
_FRENCH = {"language": "fra"}
_GERMAN = {"language": "deu", "title": "Synchronfassung"}
_COMMENTARY = {"language": "eng", "title": "Commentary"}
_COMMENT = int(Disposition.comment)
_TAGS = {"title": "Corpus", "artist": "Nobody", "date": "2019-04-01", "comment": "It's only a test"}
_CHAPTERS = (Chapter(0, 900, "Départ"), Chapter(900, 1500, "Middle"), Chapter(1500, 2400, "End"))
COVER = Attachment("cover.jpg", "image/jpeg", jpeg())
_HDR_X265 = (
    "hdr10=1:repeat-headers=1:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
)
_BT709 = (1, 1, 1, 1)
_BT601_FULL = (5, 6, 5, 2)
_HDR10 = {
    "codec": "libx265",
    "pixel_format": "yuv420p10le",
    "color": (9, 16, 9, 1),  # BT.2020, PQ, not constant luminance, limited.
    "x265": _HDR_X265,
}
_OPEN_X264 = {"x264-params": "open-gop=1:bframes=3:b-adapt=0"}
_OPEN_X265 = "open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12"
_INTERLACED = {"flags": "+ilme+ildct", "x264-params": "tff=1"}


def _three(delay: Fraction, third: str) -> tuple[Audio, Audio, Audio]:
    """Return two audio tracks that begin with the video, and one *delay* seconds later."""
    return (
        Audio(seconds=2.4, tags=_ENGLISH, layout="stereo"),
        Audio(seconds=2.4, tags=_GERMAN, codec="ac3", disposition=0, pitch=400, bit_rate=96000),
        Audio(
            seconds=1.9,
            start=delay,
            tags=_COMMENTARY,
            codec=third,
            disposition=_COMMENT,
            pitch=500,
        ),
    )


def _alpha(place: int, number: int) -> NDArray[np.uint8]:
    image = corpus_frames.frame_image(number, width=160, height=120)
    ramp = np.tile(np.linspace(255, 128, 160, dtype=np.uint8), (120, 1))
    return np.dstack([image, np.roll(ramp, place, axis=1)])


def _large(place: int, number: int) -> NDArray[np.uint8]:
    small = corpus_frames.frame_image(number, width=480, height=270)
    return np.repeat(np.repeat(small, 16, axis=0), 16, axis=1)


def _whole(
    file: str,
    about: str,
    *tracks: Track,
    slow: bool = False,
    shift: Fraction = Fraction(0),
    **more: Any,
) -> Recording:
    """A recording with nothing wrong; *more* as for `write`."""
    video = next((track for track in tracks if isinstance(track, Video)), None)
    attachments: Iterable[Attachment] = more.get("attachments", ())
    kinds = [_KINDS[type(track)] for track in tracks]
    # FFmpeg shows cover art as a video stream and the chapters of an MP4 as a data stream.
    kinds += ["video" if one.kind.startswith("image/") else "attachment" for one in attachments]
    if more.get("chapters") and file.endswith((".mp4", ".mov")):
        kinds.insert(len(kinds) - sum(isinstance(track, Cover) for track in tracks), "data")
    if video and "timecode" in video.tags:
        kinds.append("data")
    frames = len(video.times) if video else 0
    return Recording(
        file=file,
        about=about,
        make=lambda path: write(path, *tracks, **more),
        video=video,
        kinds=tuple(kinds),
        frames=frames,
        shift=shift,
        slow=slow,
    )


_LATER = Fraction(7, 5)
"""Seconds at which the frames of a recording with an offset begin."""

_SCENES = Video(times=steady(60, P25), clock=1 / P25, cuts=(17, 18, 40), width=320, height=180)
_REPEATS = [n - n // 5 for n in range(48)] + [38] * 6 + list(range(39, 45))
"""Every fifth frame comes twice, as in a film converted to video (telecine); then one is held."""

_PLAIN = _at(P25, color=_BT709)
_TINY = {"width": 64, "height": 48}

_MP2 = Audio(codec="mp2", bit_rate=64000)
_BOTH = ("video", "audio")
_BEFORE_WRAP = {"output_ts_offset": str(2**33 / 90000 - 1)}
"""A second before the clock of a transport stream begins anew."""


def _cut(*tracks: Track, keep: float) -> Callable[[Path], Path]:
    return corpus_special.cut_short(lambda path: write(path, *tracks), keep=keep)


def _incomplete(
    file: str,
    about: str,
    make: Callable[[Path], Path],
    kinds: tuple[str, ...] = (),
    *,
    frames: int | None = None,
) -> Recording:
    return Recording(file=file, about=about, make=make, kinds=kinds, frames=frames, incomplete=True)


_ALL: Final = (
    _whole("film.mp4", "23.976 a second", _at(P24, b_frames=2), Audio(seconds=2.5)),
    _whole("film.mkv", "23.976 a second, rounded to milliseconds", _at(P24), Audio(seconds=2.5)),
    _whole("ntsc.mp4", "29.97 a second", _at(P30, color=(6, 6, 6, 1)), Audio(seconds=2)),
    Recording(
        file="captions.mp4",
        about="closed captions",
        make=lambda path: corpus_special.with_captions(write(path, _at(P30, b_frames=2))),
        video=_at(P30),
        kinds=("video",),
        frames=60,
    ),
    _whole("fast.mp4", "59.94 a second", _at(P60, 120, b_frames=2, color=_BT709)),
    _whole("fast.mkv", "59.94 a second, rounded to milliseconds", _at(P60, 120)),
    _whole("plain.mkv", "25 a second, the simplest there is", _PLAIN, Audio(seconds=2.4)),
    _whole("vfr.mp4", "an uneven rate", Video(times=uneven(60, _MOV), clock=_MOV, b_frames=2)),
    _whole("vfr.mkv", "an uneven rate", Video(times=uneven(60, MILLISECOND), clock=MILLISECOND)),
    _whole("hdr10.mkv", "10 bit, BT.2020, PQ, in the stream", _at(P24, 48, **_HDR10)),
    Recording(
        file="hdr10.mp4",
        about="10 bit, BT.2020, PQ; its brightness in the container too",
        make=lambda path: corpus_special.with_brightness(
            write(path, _at(P24, 48, **_HDR10), Audio())
        ),
        video=_at(P24, 48, **_HDR10),
        kinds=("video", "audio"),
        frames=48,
    ),
    _whole("anamorphic.mp4", "pixels of 16:15", _at(P25, aspect=Fraction(16, 15))),
    Recording(
        file="anamorphic.webm",
        about="pixels of 16:15 that only the container knows",
        make=lambda path: corpus_special.with_aspect(
            write(path, _at(P25, codec="libvpx-vp9")), "64:45"
        ),
        video=_at(P25),
        kinds=("video",),
        frames=60,
        program=True,
    ),
    _whole("phone.mp4", "rotated for display", _at(P30, rotated=90, color=_BT601_FULL), Audio()),
    _whole("tracks.mkv", "three audio streams", _PLAIN, *_three(Fraction(1, 2), "libopus")),
    _whole("tracks.mp4", "three audio streams", _PLAIN, *_three(Fraction(1, 2), "aac")),
    _whole(
        "subtitles.mkv",
        "subtitles in two forms with a font",
        _PLAIN,
        Subtitles(codec="ass", tags=_GERMAN, disposition=int(Disposition.forced)),
        Subtitles(codec="subrip", tags={"language": "fra"}),
        attachments=(FONT,),
    ),
    _whole(
        "subtitles.mp4", "subtitles", _PLAIN, Subtitles(codec="mov_text", tags={"language": "fra"})
    ),
    _whole("chapters.mkv", "chapters and tags", _PLAIN, chapters=_CHAPTERS, tags=_TAGS),
    _whole("chapters.mp4", "chapters and tags", _PLAIN, chapters=_CHAPTERS, tags=_TAGS),
    _whole("cover.mkv", "cover art", _PLAIN, Audio(), attachments=(COVER,)),
    _whole("cover.mp4", "cover art", _PLAIN, Audio(), Cover()),
    _whole(
        "everything.mkv",
        "all that Matroska holds",
        _at(P24, b_frames=3, color=_BT709, aspect=Fraction(16, 15)),
        *_three(Fraction(3, 10), "libopus"),
        Subtitles(codec="ass", tags=_GERMAN),
        Subtitles(codec="subrip", tags={"language": "fra"}, disposition=DEFAULT),
        attachments=(FONT, COVER),
        chapters=_CHAPTERS,
        tags=_TAGS,
    ),
    _whole(
        "everything.mp4",
        "all that MP4 holds",
        _at(P24, b_frames=3, color=_BT709, aspect=Fraction(16, 15), rotated=180),
        *_three(Fraction(3, 10), "aac"),
        Subtitles(codec="mov_text", tags={"language": "fra"}),
        Cover(),
        chapters=_CHAPTERS,
        tags=_TAGS,
    ),
    _whole(
        "late.mkv",
        "video begins after the audio",
        Video(times=steady(50, P25, start=_LATER), clock=1 / P25),
        Audio(seconds=3.4),
    ),
    _whole(
        "late.mp4",
        "video begins after the audio",
        Video(times=steady(50, P25, start=_LATER), clock=1 / P25, b_frames=2),
        Audio(seconds=3.4),
    ),
    _whole("early.mp4", "audio begins after the video", _PLAIN, Audio(start=Fraction(3, 8))),
    _whole("b-frames.mp4", "B frames", _at(P25, b_frames=3, options={"x264-params": "b-adapt=0"})),
    _whole("open-gop.mkv", "open GOP", _at(P25, gop=12, options=_OPEN_X264)),
    _whole(
        "open-gop.mp4",
        "open GOP, HEVC",
        _at(P25, gop=12, b_frames=3, codec="libx265", x265=_OPEN_X265),
    ),
    Recording(
        file="two-hours.mp4",
        about="two hours, to see times drift",
        make=corpus_special.two_hours,
        video=Video(times=steady(corpus_special.TWO_HOURS, P24), clock=1 / P24, gop=240, **_TINY),
        kinds=("video", "audio"),
        frames=corpus_special.TWO_HOURS,
        slow=True,
    ),
    _whole(
        "timecode.mov",
        "a time code as a stream of data",
        replace(_PLAIN, tags={"timecode": "10:00:00:00"}),
        Audio(),
    ),
    _whole(
        "data.ts",
        "a stream of data (KLV), all times later by the audio delay",
        _PLAIN,
        _MP2,
        Data(
            codec="klv", payloads=[(Fraction(n, 5), b"\x06\x0e+4" + bytes([n])) for n in range(9)]
        ),
        shift=Fraction(902, 90000),
    ),
    _whole("vp9.webm", "VP9 and Opus", _at(P30, codec="libvpx-vp9"), Audio(codec="libopus")),
    _whole(
        "prores.mov",
        "4:2:2, 10 bit, PCM audio",
        _at(P25, 30, codec="prores_ks", pixel_format="yuv422p10le", color=_BT709),
        Audio(codec="pcm_s16le", layout="stereo", seconds=1.2),
    ),
    _whole(
        "alpha.mov",
        "ProRes 4444 that can be seen through",
        _at(P25, 30, codec="prores_ks", pixel_format="yuva444p10le", draw=_alpha),
    ),
    _whole(
        "alpha.webm",
        "VP9 that can be seen through",
        _at(P25, 30, codec="libvpx-vp9", pixel_format="yuva420p", draw=_alpha),
    ),
    _whole(
        "animation.mov",
        "QuickTime Animation that can be seen through",
        _at(P25, 30, codec="qtrle", pixel_format="argb", draw=_alpha),
    ),
    _whole("gray.mkv", "no colour", _at(P25, codec="ffv1", pixel_format="gray")),
    _whole("gray.mp4", "no colour; decoders make one up", _at(P25, pixel_format="gray")),
    _whole("full-chroma.mp4", "4:4:4", _at(P25, pixel_format="yuv444p", color=_BT709)),
    _whole("half-chroma.mp4", "4:2:2", _at(P25, pixel_format="yuv422p")),
    _whole("rgb.mkv", "RGB, 10 bit", _at(P25, 30, codec="ffv1", pixel_format="gbrp10le")),
    _whole("rgb.mp4", "RGB in H.264", _at(P25, 30, codec="libx264rgb", pixel_format="rgb24")),
    _whole(
        "interlaced.mp4",
        "two fields per frame",
        _at(P25, options=_INTERLACED, interlaced=True, width=180, height=144),
    ),
    _whole("odd.webm", "an odd size", _at(P25, 30, codec="libvpx-vp9", width=321, height=241)),
    _whole(
        "odd.mp4", "an odd size, 4:4:4", _at(P25, pixel_format="yuv444p", width=321, height=241)
    ),
    _whole("one.mp4", "one frame", _at(P25, 1)),
    _whole("one.mkv", "one frame", _at(P25, 1)),
    _whole(
        "large.mp4",
        "one frame of 8K",
        _at(P25, 1, width=7680, height=4320, draw=_large, options={"preset": "ultrafast"}),
        slow=True,
    ),
    _whole("cuts.mp4", "cuts, two of them neighbours", _SCENES),
    _whole("repeats.mp4", "repeated frames", _at(P30, len(_REPEATS), numbers=_REPEATS)),
    _whole("no-suffix", "a name that says nothing", _PLAIN, Audio(), container="mp4"),
    Recording(
        file="wrap.ts",
        about="its clock of 33 bits begins anew in the middle",
        make=lambda path: write(path, _PLAIN, _MP2, options=_BEFORE_WRAP),
        video=_PLAIN,
        kinds=("video", "audio"),
        frames=60,
        shift=-Fraction(1),
    ),
    Recording(
        file="raw.h264",
        about="no container and so no times",
        make=lambda path: write(path, _at(P25, b_frames=2)),
        video=_at(P25, b_frames=2),
        kinds=("video",),
        frames=60,
    ),
    _whole(
        "old.avi",
        "times of decoding only",
        _at(P25, codec="mpeg4", b_frames=2),
        _MP2,
    ),
    _whole(
        "encrypted.mp4",
        "nobody here has its key",
        _at(P25),
        options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": corpus_special.KEY,
            "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
        },
    ),
    _whole("audio.m4a", "audio only", Audio()),
    _incomplete("zero.mp4", "no frame at all", corpus_special.header_only, ("video",), frames=0),
    _incomplete("zero.mkv", "no frame at all", corpus_special.header_only, frames=0),
    _incomplete("no-index.mp4", "cut short, so without its index", _cut(_PLAIN, Audio(), keep=0.7)),
    _incomplete("cut.mkv", "cut short in a packet", _cut(_PLAIN, Audio(), keep=0.7), _BOTH),
    _incomplete("cut.ts", "cut short in a packet", _cut(_PLAIN, _MP2, keep=0.7003), _BOTH),
    _incomplete("text.mp4", "no recording", corpus_special.no_recording, frames=0),
)

RECORDINGS: Final = {recording.file: recording for recording in _ALL}
"""Every kind of recording by the name of its file."""


LONG: Final = "two-hours.mp4"
"""Taken only if requested."""


class Corpus:
    """Makes recordings when they are first requested, and keeps them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, file: str) -> Path:
        """The recording of that name, ready to be read; not to be written to."""
        path = self._folder / file
        if RECORDINGS[file].program and shutil.which("ffmpeg") is None:
            pytest.skip("the ffmpeg program is not installed")
        if file == LONG and "STREAMER_LONG" not in os.environ:
            pytest.skip("two hours take minutes: STREAMER_LONG=1 makes them")
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            # Made under its own name, for that chooses the container, but in another folder: one
            # that could not be finished is not taken for one that was.
            making = self._folder / "making"
            making.mkdir(exist_ok=True)
            RECORDINGS[file].make(making / file)
            (making / file).replace(path)
        return path


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Every recording by name: `recordings["vfr.mp4"]` is its path."""
    return Corpus(tmp_path_factory.getbasetemp() / "corpus")


def named(recordings: Iterable[Recording]) -> list[Any]:
    """Parameters of a test, one for each recording, marked where one takes long to make."""
    return [
        pytest.param(
            one,
            id=one.file,
            marks=[pytest.mark.slow] * one.slow + [pytest.mark.system] * one.program,
        )
        for one in recordings
    ]
