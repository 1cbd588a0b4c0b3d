"""Complete conversions with a network that only blends, each verified."""

import random
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from streamer.app.conversion import Networks, convert, make_plan
from streamer.config.convert import ConvertOptions
from streamer.convert.inspection import inspect
from tests.support.blend import Blend
from tests.support.clips import video_clip
from tests.support.corpus import RECORDINGS, recordings

__all__ = ["recordings"]

pytestmark = pytest.mark.slow

FORMATS = {"ts": "mpegts", "mp4": "mp4", "mkv": "matroska"}


def converted(source, output, *, jobs=1, **options):
    """Return the result of a verified conversion."""
    planned = make_plan(source, output, ConvertOptions(quality="draft", **options))
    done = convert(planned, Networks(Blend()), jobs=jobs, report=lambda _: None)
    assert [(one.name, one.detail) for one in done.report.checks if not one.ok] == []
    return done


def damaged(path, hits, *, seed):
    """Overwrite 16 bytes in *hits* places, neither near the beginning nor near the end."""
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(hits):
        at = rng.randrange(5_000, len(data) - 8_000)
        data[at : at + 16] = rng.randbytes(16)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("hits", [1, 5, 20])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_damaged_recording_is_kept_in_time_and_its_gaps_are_filled(tmp_path, suffix, hits):
    clip = video_clip(
        tmp_path / f"clip.{suffix}", frames=300, options={"crf": "12"},
        container_format=FORMATS[suffix],
    )  # fmt: skip
    times = inspect(clip).video.times
    damaged(clip, hits, seed=hits)
    media = inspect(clip)
    done = converted(clip, tmp_path / "out.mkv", factor=2)
    assert done.counts.input_frames + done.counts.damaged == len(media.video.times)
    assert done.counts.output_frames == 2 * len(media.video.times)
    made = inspect(tmp_path / "out.mkv").video
    assert abs(made.end - (int(times[-1]) + 1) * media.video.time_base) < Fraction(1, 10)


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_audio_of_a_recording_that_was_cut_short_is_copied_to_its_last_whole_packet(
    tmp_path, recordings, suffix
):
    done = converted(recordings[f"cut{suffix}"], tmp_path / "out.mkv", factor=2)
    before, after = inspect(recordings[f"cut{suffix}"]), inspect(tmp_path / "out.mkv")
    assert done.plan.media.truncation
    (audio,), (copied,) = before.other_streams(), after.other_streams()
    assert len(copied.times) == len(audio.times) > 10


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("clock", ["25", "50", "90000"])
def test_a_recording_with_a_time_base_of_whole_frames_is_verified(tmp_path, clock, factor):
    clip = video_clip(tmp_path / "in.mp4", frames=60, mux={"video_track_timescale": clock})
    done = converted(clip, tmp_path / "out.mp4", factor=factor)
    assert done.counts.output_frames == 60 * factor


def test_a_variable_frame_rate_becomes_constant(tmp_path):
    random_ms = np.random.default_rng(3).integers(5, 120, 300)
    times = [0.5, *(0.5 + np.cumsum(random_ms) / 1000)]
    clip = video_clip(tmp_path / "in.mkv", frames=301, times=times)
    converted(clip, tmp_path / "out.mp4", fps=30)
    with av.open(str(tmp_path / "out.mp4")) as file:
        found = [frame.pts * frame.time_base for frame in file.decode(video=0)]
    first = found[0]
    assert first == Fraction(1, 2)
    assert found == [first + Fraction(number, 30) for number in range(len(found))]
    assert abs(found[-1] - Fraction(times[-1])) < Fraction(1, 5)


def test_scene_changes_are_distinguished_from_motion(tmp_path, recordings):
    assert (
        converted(recordings["cuts.mp4"], tmp_path / "out.mp4", factor=2).counts.scene_changes == 3
    )


@pytest.mark.parametrize("options", [{}, {"scene_change": False}, {"duplicates": "keep"}])
def test_duplicates_are_counted_whether_interpolated_or_kept(tmp_path, recordings, options):
    shown = RECORDINGS["repeats.mp4"].numbers
    there = sum(one == other for one, other in pairwise(shown))
    counts = converted(recordings["repeats.mp4"], tmp_path / "out.mp4", factor=2, **options).counts
    assert (counts.scene_changes, there) == (0, 15)
    assert there - 1 <= counts.duplicates <= there


def test_chunks_side_by_side_make_the_same_file(tmp_path):
    # x264 reads beyond the last line of a frame whose chroma is no multiple of 64 pixels wide,
    # and makes some bytes of what it finds there.
    clip = video_clip(tmp_path / "in.mp4", frames=800, gop=50, b_frames=2, width=256, height=96)
    for jobs in (1, 3):
        converted(clip, tmp_path / f"out{jobs}.mp4", jobs=jobs, factor=2)
    assert (tmp_path / "out1.mp4").read_bytes() == (tmp_path / "out3.mp4").read_bytes()
