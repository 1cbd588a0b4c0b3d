"""Conversions of every kind of recording through the command line, each proven by `verify`."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import pytest

from streamer.cli import main
from streamer.convert.inspection import inspect
from tests.support.corpus import RECORDINGS, Corpus, named, recordings

__all__ = ["recordings"]

pytestmark = pytest.mark.slow

REFUSED = {
    "alpha.mov": (1, "its frames are yuva444p12le, which prores cannot store in .mov"),
    "alpha.webm": (4, "stores alpha in a second stream"),
    "animation.mov": (1, "its frames are gbrap, which prores cannot store in .mov"),
    "anamorphic.webm": (1, "its pixels are not square, which cannot be stored for vp9 in .webm"),
    "data.ts": (1, "data stream 2 (klv): .mkv does not support this kind of data"),
    "encrypted.mp4": (4, "is encrypted"),
    "interlaced.mp4": (4, "is interlaced; --deinterlace"),
    "no-index.mp4": (4, "its index is missing because it was cut short"),
    "audio.m4a": (4, "has no video"),
    "text.mp4": (4, "not a recording"),
    "zero.mkv": (4, "ends before its first frame"),
    "zero.mp4": (4, "has a video stream without frames"),
}
"""What is refused, with which exit code, and in which words."""

CUT_SHORT = ("cut.mkv", "cut.ts")

SLOW_MOTION = ("--speed", "1/4")


def converted(source: Path, output: Path, *options: str) -> list[dict[str, Any]]:
    """What `convert --json` says; proven, or the test fails."""
    done = run(source, output, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def run(*arguments: "str | Path") -> "subprocess.CompletedProcess[str]":
    source, output, *options = map(str, arguments)
    return subprocess.run(
        [sys.executable, "-m", "streamer.cli", "--json", "convert", source, "-o", output,
         "--quality", "draft", "--device", "cpu", *options],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


def outcome(records: list[dict[str, Any]]) -> dict[str, Any]:
    return next(one for one in records if one["kind"] == "converted")


def suffix(name: str) -> str:
    own = Path(name).suffix
    return own if own in (".mp4", ".mov", ".webm") else ".mkv"


GOOD = [one for name, one in RECORDINGS.items() if name not in REFUSED and name not in CUT_SHORT]


@pytest.mark.parametrize("recording", named(GOOD))
def test_every_kind_of_recording_is_doubled_and_proven(
    recording: Any, recordings: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"out{suffix(recording.file)}"
    arguments = [str(recordings[recording.file]), "-o", str(output), "--factor", "2"]
    status = main(["--json", "convert", *arguments, "--quality", "draft", "--device", "cpu"])
    printed = capsys.readouterr()
    assert status == 0, printed.out + printed.err
    done = outcome([json.loads(line) for line in printed.out.splitlines()])
    assert done["output_frames"] == 2 * done["input_frames"]
    assert all(check["ok"] for check in done["checks"])


@pytest.mark.parametrize("name", REFUSED)
def test_an_unsupported_conversion_is_refused_in_one_line(
    name: str, recordings: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, words = REFUSED[name]
    output = tmp_path / f"out{suffix(name)}"
    source = recordings[name]
    assert main(["convert", str(source), "-o", str(output), "--device", "cpu"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", CUT_SHORT)
def test_a_recording_that_was_cut_short_is_converted_to_its_end_and_says_so(
    name: str, recordings: Corpus, tmp_path: Path
) -> None:
    done = run(recordings[name], tmp_path / "out.mkv", "--factor", "2")
    assert done.returncode == 6
    assert "the recording is incomplete" in done.stderr
    result = outcome([json.loads(line) for line in done.stdout.splitlines()])
    assert not result["complete"]
    assert result["input_frames"] == len(inspect(recordings[name]).video.times)  # type: ignore[union-attr]


def test_slow_motion_keeps_the_rate_and_stretches_audio(recordings: Corpus, tmp_path: Path) -> None:
    source, output = recordings["film.mp4"], tmp_path / "slow.mp4"
    done = outcome(converted(source, output, *SLOW_MOTION, "--audio", "stretch"))
    assert done["output_frames"] == 4 * done["input_frames"]
    before, after = inspect(source), inspect(output)
    assert before.video is not None
    assert after.video is not None
    assert after.video.end == before.video.end * 4
    assert after.video.rate == before.video.rate
    audio, slow = before.other_streams()[0], after.other_streams()[0]
    assert audio.end is not None
    assert slow.end is not None
    assert abs(float(slow.end - 4 * audio.end)) < 0.25


def test_a_constant_rate_is_exact(recordings: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "constant.mp4"
    converted(recordings["vfr.mp4"], output, "--fps", "60000/1001")
    video = inspect(output).video
    assert video is not None
    steps = {
        int(b - a) * video.time_base for a, b in zip(video.times, video.times[1:], strict=False)
    }
    assert steps == {Fraction(1001, 60_000)}


@pytest.mark.parametrize("encoder", ["x264", "x265", "svt-av1", "vp9", "ffv1", "prores"])
def test_each_encoder_is_selected_by_name(encoder: str, recordings: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    fitting = ["--pixel-format", "yuv422p10le"] if encoder == "prores" else []
    converted(recordings["plain.mkv"], output, "--encoder", encoder, *fitting)
    video = inspect(output).video
    assert video is not None
    formats = {"x264": "h264", "x265": "hevc", "svt-av1": "av1"}
    assert video.stream.codec == formats.get(encoder, encoder)


def test_interlaced_recordings_are_deinterlaced_on_request(
    recordings: Corpus, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    done = outcome(converted(recordings["interlaced.mp4"], output, "--deinterlace"))
    video = inspect(output).video
    assert video is not None
    assert not video.interlaced
    assert done["output_frames"] == done["input_frames"]


def test_many_files_are_converted_once_and_summed_up(recordings: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for name, to in (("film.mp4", "a.mp4"), ("plain.mkv", "deep/b.mkv"), ("text.mp4", "c.mp4")):
        (folder / to).write_bytes(recordings[name].read_bytes())
    first = run(folder, tmp_path / "out")
    records = [json.loads(line) for line in first.stdout.splitlines()]
    assert first.returncode == 4
    assert records[-1] == {
        "kind": "summary", "converted": 2, "skipped": 0, "incomplete": 0, "failed": 1,
    }  # fmt: skip
    made = (tmp_path / "out").rglob("*.m*")
    assert sorted(str(one.relative_to(tmp_path / "out")) for one in made) == ["a.mp4", "deep/b.mkv"]
    again = [json.loads(line) for line in run(folder, tmp_path / "out").stdout.splitlines()]
    assert again[-1]["skipped"] == 2


def test_a_dry_run_writes_nothing_and_says_what_would_happen(
    recordings: Corpus, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    plan = converted(recordings["everything.mp4"], output, "--factor", "3", "--dry-run")[-1]
    assert plan["kind"] == "plan"
    assert plan["output_frames"] == 3 * plan["input_frames"] == 180
    assert plan["seconds"] > 0  # Of a recording that is shorter than the estimate converts, too.
    assert (
        converted(recordings["one.mp4"], output, "--factor", "2", "--dry-run")[-1]["output_frames"]
        == 2
    )
    assert plan["left_out"] == [
        {"stream": 5, "reason": "it holds the chapter titles, which are preserved as chapters"}
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_preview_shows_frames_before_and_after(recordings: Corpus, tmp_path: Path) -> None:
    strip = tmp_path / "strip.png"
    converted(
        recordings["film.mp4"], tmp_path / "out.mp4", "--factor", "2", "--preview", str(strip),
        "--dry-run",
    )  # fmt: skip
    image = cv2.imread(str(strip))
    assert image is not None
    assert image.shape[0] > 3 * image.shape[1] / 4


FFPROBE_DIFFERENCES = {
    "everything.mkv": {
        "format.bit_rate", "format.filename", "format.size", "streams.0.avg_frame_rate",
        "streams.0.extradata_size", "streams.0.level", "streams.0.r_frame_rate",
        "streams.1.tags.DURATION",
    },
    "everything.mp4": {
        *(f"chapters.{number}.{what}" for number in range(3) for what in ("end", "start")),
        *(f"chapters.{number}.time_base" for number in range(3)),
        "format.duration", "streams.2.duration", "streams.2.duration_ts",
        "streams.5.duration_ts", "streams.5.time_base", "streams.6.duration",
        "streams.6.duration_ts",
        "format.bit_rate", "format.filename", "format.size", "streams.0.avg_frame_rate",
        "streams.0.bit_rate", "streams.0.duration_ts", "streams.0.extradata_size",
        "streams.0.level", "streams.0.nb_frames", "streams.0.r_frame_rate", "streams.0.time_base",
        "streams.4.extradata_size",
    },
    "hdr10.mp4": {
        "format.bit_rate", "format.filename", "format.size", "streams.0.avg_frame_rate",
        "streams.0.bit_rate", "streams.0.codec_tag", "streams.0.codec_tag_string",
        "streams.0.coded_height", "streams.0.duration_ts", "streams.0.extradata_size",
        "streams.0.has_b_frames", "streams.0.level", "streams.0.nb_frames",
        "streams.0.r_frame_rate", "streams.0.time_base",
    },
    "phone.mp4": {
        "format.bit_rate", "format.filename", "format.size", "streams.0.avg_frame_rate",
        "streams.0.bit_rate", "streams.0.duration_ts", "streams.0.extradata_size",
        "streams.0.has_b_frames", "streams.0.level", "streams.0.nb_frames",
        "streams.0.r_frame_rate", "streams.0.time_base",
    },
}  # fmt: skip
"""All that `ffprobe` says otherwise of a doubled recording: there are twice as many frames, encoded
anew. MP4 counts delays and chapters by a finer clock than a millisecond, HEVC in it becomes `hvc1`,
which more players take, and FFmpeg writes the description of its subtitles once more."""


@pytest.mark.system
@pytest.mark.parametrize("name", FFPROBE_DIFFERENCES)
def test_ffprobe_sees_no_other_difference(name: str, recordings: Corpus, tmp_path: Path) -> None:
    output = tmp_path / f"out{suffix(name)}"
    converted(recordings[name], output, "--factor", "2")
    before, after = probed(recordings[name]), probed(output)
    differing = {key for key in before | after if before.get(key) != after.get(key)}
    assert differing <= FFPROBE_DIFFERENCES[name], differing - FFPROBE_DIFFERENCES[name]


def probed(path: Path) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-show_format", "-show_streams", "-show_chapters",
               "-of", "json", path]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(flat(json.loads(result)))


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            yield from flat(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


@pytest.mark.slow
def test_two_hours_do_not_drift(recordings: Corpus, tmp_path: Path) -> None:
    source, output = recordings["two-hours.mp4"], tmp_path / "out.mp4"
    # At half the speed and without new frames: as many times are changed as by a factor of two,
    # in a minute rather than in six.
    done = outcome(
        converted(source, output, "--speed", "1/2", "--factor", "1", "--audio", "stretch")
    )
    before, after = inspect(source).video, inspect(output).video
    assert before is not None
    assert after is not None
    assert after.end == 2 * before.end
    assert int(after.times[-1]) * after.time_base == 2 * int(before.times[-1]) * before.time_base
    assert done["output_frames"] == len(before.times)


def test_invalid_options_are_reported_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("--fps", "fast"): r"--fps: expected a number above 0",
        ("--speed", "0"): r"--speed: expected a number above 0",
        ("--factor", "0"): r"--factor: expected a whole number from 1 to 64",
        ("--encoder", "x266"): r"--encoder: expected one of x264",
    }
    for options, words in cases.items():
        assert main(["convert", "a.mp4", "-o", "b.mp4", *options]) == 3
        assert re.search(words, capsys.readouterr().err)
