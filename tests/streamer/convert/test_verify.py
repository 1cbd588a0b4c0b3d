"""What is kept passes: faithful copies into every container, good encodings, known differences."""

import itertools
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from streamer.convert.verify import Expectation, Report, verify
from streamer.core.errors import SourceRejected
from tests.support.corpus import RECORDINGS, Corpus
from tests.support.rework import Image, Recode, rework

UNFIT = {
    ".mp4": {
        "alpha.mov", "animation.mov", "prores.mov",  # No such video.
        "alpha.webm",  # What can be seen through stands beside the picture there.
        "everything.mkv",
    },
    ".mov": {
        "tracks.mkv", "everything.mkv",  # No Opus.
        "alpha.mov",  # PyAV forgets which ProRes it is.
        "gray.mkv", "rgb.mkv",  # No FFV1.
    },
    ".mkv": {
        "anamorphic.webm",  # PyAV cannot say in Matroska what shape a pixel has.
        "animation.mov", "alpha.mov",
    },
}  # fmt: skip
"""What cannot be copied there, and so cannot be compared either."""

TIMELESS = {"raw.h264"}
WHOLE = [
    one.file
    for one in RECORDINGS.values()
    if one.film and not one.slow and not one.broken and one.file not in TIMELESS
]
COPIES = [
    (file, suffix)
    for file, suffix in itertools.product(WHOLE, (".mkv", ".mp4", ".mov"))
    if file not in UNFIT[suffix] and file != "encrypted.mp4"
    if not (file.endswith(".webm") and suffix == ".mov")
]


def detail(report: Report, name: str) -> str:
    return next(one.detail for one in report.checks if one.name == name)


def faults(report: Report) -> dict[str, str]:
    return {one.name: one.detail for one in report.checks if not one.ok}


@pytest.mark.parametrize(("file", "suffix"), COPIES)
def test_a_faithful_copy_passes(file: str, suffix: str, recordings: Corpus, tmp_path: Path) -> None:
    copy = rework(recordings[file], tmp_path / f"copy{suffix}")
    report = verify(recordings[file], copy)
    assert not faults(report)
    assert report.expected.factor == 1
    assert report.frames_before == report.frames_after == RECORDINGS[file].frames


@pytest.mark.system
@pytest.mark.parametrize(
    ("file", "suffix"),
    [
        ("film.mp4", ".mkv"),
        ("plain.mkv", ".mp4"),
        ("vfr.mp4", ".mkv"),
        ("chapters.mkv", ".mp4"),
        ("subtitles.mkv", ".mkv"),
        ("hdr10.mp4", ".mkv"),
        ("late.mp4", ".mp4"),
        ("cover.mp4", ".mp4"),
    ],
)
def test_a_copy_by_the_ffmpeg_program_passes(
    file: str, suffix: str, recordings: Corpus, tmp_path: Path
) -> None:
    copy = tmp_path / f"copy{suffix}"
    command = ["ffmpeg", "-v", "error", "-i", recordings[file], "-map", "0", "-c", "copy", copy]
    subprocess.run(command, check=True)
    assert not faults(verify(recordings[file], copy))


CODECS = {
    ".mp4": ("libx264", {"preset": "veryfast", "crf": "20"}),
    ".mkv": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=error:pools=1:crf=22"}),
    ".webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "25", "b": "0"}),
}


CODED = [
    (file, suffix)
    for file, suffix in itertools.product(
        ["film.mp4", "vfr.mkv", "cuts.mp4", "anamorphic.mp4"], CODECS
    )
    if (file, suffix) != ("anamorphic.mp4", ".webm")  # As above: no shape of pixels.
]


@pytest.mark.parametrize(("file", "suffix"), CODED)
def test_a_good_encoding_passes(file: str, suffix: str, recordings: Corpus, tmp_path: Path) -> None:
    codec, options = CODECS[suffix]
    coded = rework(
        recordings[file],
        tmp_path / f"coded{suffix}",
        video=Recode(codec=codec, options=options),
        skip=lambda one: suffix == ".webm" and one.type == "audio",
    )
    assert not faults(verify(recordings[file], coded))


def times_over(factor: int, speed: Fraction = Fraction(1)) -> Callable[..., list[Image]]:
    """Each frame *factor* times."""

    def edit(pictures: list[Image]) -> list[Image]:
        last = 2 * pictures[-1].time - pictures[-2].time
        times = [*(one.time for one in pictures), last]
        return [
            replace(one, time=(one.time + (after - one.time) * Fraction(step, factor)) / speed)
            for one, after in zip(pictures, times[1:], strict=True)
            for step in range(factor)
        ]

    return edit


def evenly(rate: int) -> Callable[..., list[Image]]:
    """The frame that is on, or comes within 2 ms, at a constant rate."""

    soon = Fraction(1, 500)

    def edit(pictures: list[Image]) -> list[Image]:
        end = 2 * pictures[-1].time - pictures[-2].time
        times = [Fraction(number, rate) for number in range(int(end * rate))]
        return [
            replace(next(one for one in reversed(pictures) if one.time <= time + soon), time=time)
            for time in times
        ]

    return edit


RETIMED = {
    "three times": ("plain.mkv", times_over(3), 75, Expectation(factor=Fraction(3))),
    "uneven, twice": ("vfr.mkv", times_over(2), None, Expectation(factor=Fraction(2))),
    "60 of 23.976": ("film.mp4", evenly(60), 60, Expectation(rate=Fraction(60))),
    "50 of an uneven rate": ("vfr.mp4", evenly(50), 50, Expectation(rate=Fraction(50))),
    "15 of 25": ("plain.mkv", evenly(15), 15, Expectation(rate=Fraction(15))),
    "a quarter of the speed": (
        "cuts.mp4",
        times_over(4, Fraction(1, 4)),
        25,
        Expectation(factor=Fraction(4), speed=Fraction(1, 4)),
    ),
    "half of the speed, later": (
        "late.mkv",
        times_over(2, Fraction(1, 2)),
        25,
        Expectation(factor=Fraction(2), speed=Fraction(1, 2)),
    ),
}


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("name", RETIMED)
def test_what_was_asked_for_passes_and_is_deduced_where_nobody_says(
    name: str, *, told: bool, recordings: Corpus, tmp_path: Path
) -> None:
    file, edit, per_second, asked = RETIMED[name]
    clock = Fraction(1, per_second) if per_second else Fraction(1, 180_000)
    made = rework(
        recordings[file],
        tmp_path / "made.mkv" if per_second else tmp_path / "made.mp4",
        video=Recode(edit=edit, clock=clock, rate=None if per_second else Fraction(30)),
    )
    report = verify(recordings[file], made, expected=asked if told else None)
    assert not faults(report)
    assert (report.expected, report.deduced) == (asked, not told)


@pytest.mark.xfail(
    reason="of an uneven film with B frames in MP4 the inventory takes the distance of two decoding"
    " times for how long the last frame is shown"
)
def test_how_long_the_last_frame_is_shown_is_known(recordings: Corpus, tmp_path: Path) -> None:
    source = recordings["vfr.mp4"]
    made = rework(
        source,
        tmp_path / "made.mp4",
        video=Recode(edit=times_over(2), clock=Fraction(1, 180_000), rate=Fraction(30)),
    )
    assert not faults(verify(source, made))


def test_frames_after_the_last_one_are_welcome_and_not_needed(
    recordings: Corpus, tmp_path: Path
) -> None:
    for last, number in ((None, 240), (-1, 239), (-2, 238)):
        made = rework(
            recordings["film.mp4"],
            tmp_path / f"{number}.mp4",
            video=Recode(edit=lambda all_, last=last: times_over(4)(all_)[:last]),
        )
        report = verify(recordings["film.mp4"], made, expected=Expectation(factor=Fraction(4)))
        assert report.frames_after == number
        assert "frames" not in report.failed()
        assert "new frames" not in report.failed()


KNOWN = [
    ("tracks.mp4", ".mov", "dispositions", "MOV has no place for comment"),
    ("tracks.mkv", ".mp4", "languages", "3 streams say theirs"),
    ("subtitles.mkv", ".mp4", "attachments", "MP4 holds none: left out: corpus.ttf"),
    ("subtitles.mkv", ".mp4", "streams", "MP4 holds no ass: subtitle stream 1 (ass, deu)"),
    ("cover.mp4", ".mov", "covers", "MOV holds none"),
    ("data.ts", ".mkv", "streams", "Matroska holds no klv: data stream 2 (klv) is left out"),
    ("film.mp4", ".mkv", "start", "all is 0.021000 s later, as Matroska begins at zero"),
    ("wrap.ts", ".mp4", "start", "all is 0.000022 s earlier, as MP4 rounds delays"),
    ("subtitles.mp4", ".mkv", "streams", "Matroska holds no mov_text"),
]


@pytest.mark.parametrize(("file", "suffix", "check", "words"), KNOWN)
def test_what_a_container_cannot_hold_is_said_and_passes(
    file: str, suffix: str, check: str, words: str, *, recordings: Corpus, tmp_path: Path
) -> None:
    report = verify(recordings[file], rework(recordings[file], tmp_path / f"copy{suffix}"))
    assert not faults(report)
    assert words in detail(report, check)


def test_captions_that_a_codec_cannot_hold_are_said_to_be_gone(
    recordings: Corpus, tmp_path: Path
) -> None:
    source = recordings["captions.mp4"]
    coded = rework(source, tmp_path / "coded.mkv", video=Recode(codec="ffv1", options={}))
    report = verify(source, coded)
    assert not faults(report)
    assert detail(report, "side data") == (
        "a53_cc is gone from frame 0, frame 1, frame 2, as no encoder here writes it"
    )
    kept = verify(source, rework(source, tmp_path / "coded.mp4", video=Recode()))
    assert (faults(kept), detail(kept, "side data")) == ({}, "a53_cc")


def test_a_stream_left_out_on_purpose_passes(recordings: Corpus, tmp_path: Path) -> None:
    copy = rework(recordings["tracks.mkv"], tmp_path / "copy.mkv", skip=lambda one: one.index == 2)
    asked = Expectation(dropped_streams=(2,))
    report = verify(recordings["tracks.mkv"], copy, expected=asked)
    assert not faults(report)
    assert "left out as asked: 2" in detail(report, "streams")


def test_changed_pictures_pass_where_that_was_asked_for(recordings: Corpus, tmp_path: Path) -> None:
    def brighter(pictures: list[Image]) -> list[Image]:
        return [
            replace(
                one,
                frame=one.frame.from_ndarray(
                    (255 - (255 - one.frame.to_ndarray(format="rgb24")) // 2), format="rgb24"
                ),
            )
            for one in pictures
        ]

    made = rework(recordings["plain.mkv"], tmp_path / "made.mkv", video=Recode(edit=brighter))
    assert set(faults(verify(recordings["plain.mkv"], made))) == {"pictures"}
    asked = Expectation(altered=True)
    assert not faults(verify(recordings["plain.mkv"], made, expected=asked))


def test_another_pixel_format_passes_where_it_was_asked_for(
    recordings: Corpus, tmp_path: Path
) -> None:
    source = recordings["full-chroma.mp4"]
    made = rework(source, tmp_path / "made.mp4", video=Recode(pixel_format="yuv420p"))
    asked = Expectation(pixel_format="yuv420p", video_codec="h264")
    assert not faults(verify(source, made, expected=asked))
    other = verify(source, made, expected=replace(asked, pixel_format="yuv422p"))
    assert faults(other) == {"depth": "yuv420p, not yuv422p as asked"}


@pytest.mark.parametrize("file", ["cut.mkv", "cut.ts"])
def test_of_a_broken_recording_what_is_there_must_be_kept(
    file: str, recordings: Corpus, tmp_path: Path
) -> None:
    copy = rework(recordings[file], tmp_path / "copy.mkv")
    assert not faults(verify(recordings[file], copy))


def test_sound_alone_can_be_compared(recordings: Corpus, tmp_path: Path) -> None:
    copy = rework(recordings["sound.m4a"], tmp_path / "copy.mp4")
    report = verify(recordings["sound.m4a"], copy)
    assert not faults(report)
    assert (report.frames_before, report.frames_after) == (0, 0)


@pytest.mark.parametrize("file", ["text.mp4", "no-index.mp4", "missing.mp4"])
def test_what_cannot_be_read_is_an_error(file: str, recordings: Corpus) -> None:
    path = recordings[file] if file in RECORDINGS else Path(file)
    for pair in ((path, recordings["plain.mkv"]), (recordings["plain.mkv"], path)):
        with pytest.raises(SourceRejected):
            verify(*pair)


def test_a_conversion_without_a_frame_is_an_error(recordings: Corpus) -> None:
    with pytest.raises(SourceRejected, match="no frame is in it"):
        verify(recordings["plain.mkv"], recordings["zero.mp4"])


@pytest.mark.slow
def test_two_hours_take_seconds_and_a_drift_of_one_frame_is_seen(
    recordings: Corpus, tmp_path: Path
) -> None:
    source = recordings["two-hours.mp4"]
    report = verify(source, source)
    assert not faults(report)
    assert not report.thorough
    assert "in 8 places" in detail(report, "pictures")

    def drift(packet: object) -> object:
        if packet.stream_index == 1:  # type: ignore[attr-defined]
            packet.pts += packet.pts * 40 // 7_200_000  # type: ignore[attr-defined]
            packet.dts = packet.pts  # type: ignore[attr-defined]
        return packet

    drifted = verify(source, rework(source, tmp_path / "drifted.mp4", packet=drift))
    assert set(faults(drifted)) == {"packets", "in step"}
