"""Files as a player gets them: every one is decoded again."""

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.core.errors import SinkError
from streamer.core.image import Canvas, ColorTags, Image
from streamer.sinks.file import VideoFileSink
from tests.support.clips import images
from tests.support.frames import STEP_NS, frame

ROOT = Path(__file__).resolve().parents[3]
SECOND = 1_000_000_000


def flat(level, *, width=128, height=96):
    return Image.from_rgb(np.full((height, width, 3), level, np.uint8))


def shown(image, number=0, *, pts_ns=None):
    pts_ns = number * STEP_NS if pts_ns is None else pts_ns
    return replace(frame(number), image=image, pts_ns=pts_ns)


def clip(count, *, width=128, height=96):
    for number, image in enumerate(images(count, width=width, height=height)):
        yield shown(Image.from_rgb(image), number)


def decoded(path):
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


def luma(image):
    return image.to_ndarray()[: image.height, : image.width]


def gaps(times):
    return [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]


def test_every_frame_is_in_the_file_in_order_and_unchanged(tmp_path):
    sent = list(clip(60))
    VideoFileSink(tmp_path / "north.mp4")(iter(sent))
    came = decoded(tmp_path / "north.mp4")
    assert len(came) == 60
    for before, after in zip(sent, came, strict=True):
        wrong = np.abs(before.image.luma().astype(int) - luma(after))
        assert wrong.mean() < 4, f"frame {before.number}"


def test_the_file_is_h264_in_mp4_that_every_player_takes(tmp_path):
    VideoFileSink(tmp_path / "north.mp4")(clip(3))
    with av.open(str(tmp_path / "north.mp4")) as file:
        context = file.streams.video[0].codec_context
        assert "mp4" in file.format.name.split(",")
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.width, context.height) == (128, 96)


def test_frames_keep_their_distances_in_time(tmp_path):
    times = [7.0, 7.04, 7.1, 7.5, 7.533, 9.0, 9.001, 12.25]
    VideoFileSink(tmp_path / "north.mp4")(
        shown(flat(20 * number + 30), number, pts_ns=round(time * SECOND))
        for number, time in enumerate(times)
    )
    came = [image.time for image in decoded(tmp_path / "north.mp4")]
    assert gaps(came) == gaps(times)


def test_a_frame_that_is_not_later_than_the_last_one_is_skipped(tmp_path):
    levels_and_times = [(40, 0), (90, 0), (140, STEP_NS), (190, STEP_NS), (240, 2 * STEP_NS)]
    VideoFileSink(tmp_path / "north.mp4")(
        shown(flat(level), pts_ns=pts_ns) for level, pts_ns in levels_and_times
    )
    came = [round(float(luma(image).mean())) for image in decoded(tmp_path / "north.mp4")]
    wanted = [round(float(flat(level).luma().mean())) for level in (40, 140, 240)]
    assert came == pytest.approx(wanted, abs=3)


def test_a_frame_of_another_size_is_scaled_to_the_first_ones(tmp_path):
    sent = [flat(40), flat(120, width=320, height=180), flat(200, width=64, height=48)]
    VideoFileSink(tmp_path / "north.mp4")(shown(image, number) for number, image in enumerate(sent))
    came = decoded(tmp_path / "north.mp4")
    assert [(image.width, image.height) for image in came] == [(128, 96)] * 3
    wanted = [float(image.luma().mean()) for image in sent]
    assert [float(luma(image).mean()) for image in came] == pytest.approx(wanted, abs=3)


@pytest.mark.parametrize(
    ("width", "height", "stored"),
    [(129, 96, (128, 96)), (128, 97, (128, 96)), (129, 97, (128, 96)), (3, 3, (2, 2))],
)
def test_an_odd_size_becomes_the_even_one_below(tmp_path, width, height, stored):
    VideoFileSink(tmp_path / "north.mp4")(
        shown(flat(150, width=width, height=height), number) for number in range(4)
    )
    came = decoded(tmp_path / "north.mp4")
    assert [(image.width, image.height) for image in came] == [stored] * 4
    assert float(luma(came[0]).mean()) == pytest.approx(flat(150).luma().mean(), abs=3)


@pytest.mark.parametrize("full_range", [False, True])
def test_the_colours_mean_what_they_meant(tmp_path, full_range):
    canvas = Canvas.blank((96, 128), color=ColorTags(1, 1, 1, full_range))
    for plane, level in zip(canvas.planes, (200, 90, 160), strict=True):
        plane[:] = level
    image = canvas.image()
    VideoFileSink(tmp_path / "north.mp4")(shown(image, number) for number in range(3))
    came = Image(decoded(tmp_path / "north.mp4")[1])
    assert came.color == image.color
    assert np.abs(came.rgb().astype(int) - image.rgb()).max() < 6


def test_what_was_shown_to_others_is_left_as_it_was(tmp_path):
    shared = list(clip(5))
    before = [one.image.luma().copy() for one in shared]
    VideoFileSink(tmp_path / "a.mp4")(iter(shared))
    VideoFileSink(tmp_path / "b.mp4")(iter(shared))
    assert all(
        np.array_equal(one.image.luma(), luma_before)
        for one, luma_before in zip(shared, before, strict=True)
    )
    assert len(decoded(tmp_path / "a.mp4")) == len(decoded(tmp_path / "b.mp4")) == 5


def test_without_a_frame_no_file_is_made(tmp_path):
    VideoFileSink(tmp_path / "new" / "north.mp4")(iter(()))
    assert list(tmp_path.iterdir()) == []


def test_the_name_is_taken_only_when_the_file_is_whole(tmp_path):
    seen = []

    def watched():
        for one in clip(3):
            yield one
            seen.append((tmp_path / "north.mp4").exists())

    VideoFileSink(tmp_path / "north.mp4")(watched())
    assert seen == [False, False, False]
    assert [path.name for path in tmp_path.iterdir()] == ["north.mp4"]


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "north.mp4"
    VideoFileSink(path)(clip(2))
    old = path.read_bytes()

    def watched():
        yield from clip(3)
        assert path.read_bytes() == old
        yield from ()

    VideoFileSink(path)(watched())
    assert len(decoded(path)) == 3


def test_missing_folders_are_made(tmp_path):
    VideoFileSink(tmp_path / "2026" / "08" / "north.mp4")(clip(1))
    assert len(decoded(tmp_path / "2026" / "08" / "north.mp4")) == 1


def test_when_the_frames_break_off_what_came_stays_and_plays(tmp_path):
    def breaking():
        yield from clip(100)
        raise OverflowError("the stage before failed")

    with pytest.raises(OverflowError, match="the stage before failed"):
        VideoFileSink(tmp_path / "north.mp4")(breaking())
    assert [path.name for path in tmp_path.iterdir()] == ["north.mp4.part"]
    assert decoded(tmp_path / "north.mp4.part")


def test_a_folder_that_cannot_be_made_is_reported_with_the_path(tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    path = tmp_path / "taken" / "north.mp4"
    with pytest.raises(SinkError, match="cannot be written") as caught:
        VideoFileSink(path)(clip(2))
    assert str(path) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_reported(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with pytest.raises(SinkError, match="permission denied"):
        VideoFileSink(folder / "north.mp4")(clip(2))


def test_a_full_disk_is_reported_and_leaves_an_older_file_alone(tmp_path):
    path = tmp_path / "north.mp4"
    VideoFileSink(path)(clip(2))
    (tmp_path / "north.mp4.part").symlink_to("/dev/full")
    with pytest.raises(SinkError, match=r"north\.mp4 cannot be written: no space left on device"):
        VideoFileSink(path)(clip(30))
    assert len(decoded(path)) == 2


def test_a_name_that_is_a_folder_is_reported_and_what_was_written_stays(tmp_path):
    (tmp_path / "north.mp4").mkdir()
    with pytest.raises(SinkError, match="is a directory"):
        VideoFileSink(tmp_path / "north.mp4")(clip(3))
    assert len(decoded(tmp_path / "north.mp4.part")) == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from streamer.sinks.file import VideoFileSink
from tests.support.frames import frame

def frames():
    for number in range(130):
        yield frame(number)
    os.kill(os.getpid(), signal.SIGKILL)

VideoFileSink(Path(sys.argv[1]))(frames())
"""


def test_after_a_kill_the_part_plays_but_for_its_last_second(tmp_path):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "out.mp4"], cwd=ROOT, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    with av.open(str(tmp_path / "out.mp4.part")) as part:
        assert sum(1 for _ in part.decode(video=0)) >= 130 - 26


def test_the_first_frame_is_at_the_beginning(tmp_path):
    frames = [shown(flat(90), pts_ns=at * SECOND) for at in (7, 17, 27)]
    VideoFileSink(tmp_path / "out.mp4")(iter(frames))
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert [image.time for image in file.decode(video=0)] == [0, 10, 20]
