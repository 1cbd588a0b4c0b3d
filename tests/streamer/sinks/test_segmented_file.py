"""Numbered output files: never overwritten, rolled over, whole after a kill or a full disk."""

import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.core.clock import Clock
from streamer.core.errors import Cancelled
from streamer.core.image import Image
from streamer.sinks.output_files import next_output, output_parts, output_round
from streamer.sinks.segmented_file import SegmentedFileSink, SegmentRules
from tests.support.disks import fill, small_disk
from tests.support.frames import frame

ROOT = Path(__file__).resolve().parents[3]
START = datetime(2026, 8, 1, 14, 5, tzinfo=UTC)
SECOND = 1_000_000_000


class HandClock(Clock):
    def __init__(self):
        self.now_ns = 0

    def monotonic_ns(self):
        return self.now_ns

    def utc_at(self, monotonic_ns):
        return START + timedelta(seconds=monotonic_ns / SECOND)


def sink(path, *, clock=None, believed=True, **rules):
    rules = {"max_ns": None, "max_bytes": None} | rules
    return SegmentedFileSink(
        path, preset="ultrafast", rules=SegmentRules(**rules), clock=clock or HandClock(),
        clock_is_believed=lambda: believed,
    )  # fmt: skip


def frames(count, start=0):
    """Noise, which no encoder makes small."""
    rng = np.random.default_rng(start)
    for number in range(start, start + count):
        noise = rng.integers(0, 256, (96, 128, 3), np.uint8)
        yield replace(frame(number), image=Image.from_rgb(noise), arrived_ns=0)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def length(path):
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


def test_each_start_begins_a_new_file_and_none_is_overwritten(tmp_path):
    for count in (30, 10):  # Another process each time.
        sink(tmp_path / "north.mp4")(frames(count))
    found = names(tmp_path)
    assert found == [
        "north-0001_2026-08-01T14-05-00Z.mp4", "north-0002_2026-08-01T14-05-00Z.mp4",
    ]  # fmt: skip
    assert [length(tmp_path / name) for name in found] == [30, 10]


def test_a_file_that_is_read_once_gives_one_output_of_the_given_name(tmp_path):
    for count in (5, 6, 7):
        sink(tmp_path / "north.mp4", numbered=False)(frames(count))
    found = names(tmp_path)
    assert [name[:10] for name in found] == ["north-0002", "north-0003", "north.mp4"]
    assert [length(tmp_path / name) for name in found] == [6, 7, 5]


def test_a_file_ends_after_its_duration_and_no_frame_is_lost(tmp_path):
    sink(tmp_path / "north.mp4", max_ns=SECOND)(frames(60))
    found = names(tmp_path)
    assert [length(tmp_path / name) for name in found] == [25, 25, 10]


def test_a_file_ends_at_its_size(tmp_path):
    one = sink(tmp_path / "north.mp4", max_bytes=200_000)
    one(frames(100))
    assert len(names(tmp_path)) == one.state().files > 1
    assert sum(length(path) for path in tmp_path.iterdir()) == 100
    assert all(path.stat().st_size < 400_000 for path in tmp_path.iterdir())


def test_a_clock_that_is_not_believed_gives_no_time_to_the_name(tmp_path):
    sink(tmp_path / "north.mp4", believed=False)(frames(3))
    assert names(tmp_path) == ["north-0001.mp4"]


def test_a_camera_that_is_stopped_leaves_a_whole_file(tmp_path):
    def stopped():
        yield from frames(7)
        raise Cancelled

    with pytest.raises(Cancelled):
        sink(tmp_path / "north.mp4")(stopped())
    (name,) = names(tmp_path)
    assert name.endswith("Z.mp4")
    assert length(tmp_path / name) == 7


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from streamer.core.clock import SystemClock
from streamer.sinks.segmented_file import SegmentedFileSink, SegmentRules
from tests.support.frames import frame

def frames():
    for number in range(int(sys.argv[2])):
        yield replace(frame(number), pts_ns=number * 1_000_000_000 // int(sys.argv[3]))
    os.kill(os.getpid(), signal.SIGKILL)

rules = SegmentRules(max_ns=None, max_bytes=None)
SegmentedFileSink(Path(sys.argv[1]), preset="veryfast", rules=rules, clock=SystemClock())(frames())
"""


@pytest.mark.parametrize(("count", "fps"), [(130, 25), (20, 1)])
def test_after_a_kill_all_but_the_last_second_plays_and_the_next_start_completes_it(
    tmp_path, count, fps
):
    path = tmp_path / "north.mp4"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, path, str(count), str(fps)],
        cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    (part,) = output_parts(path)
    assert length(part) >= count - fps - 1
    sink(path)(frames(1))
    first, second = names(tmp_path)
    assert length(tmp_path / first) >= count - fps - 1
    assert second.startswith("north-0002")
    assert output_parts(path) == []


@pytest.mark.system
def test_a_full_disk_does_not_end_the_camera_and_it_goes_on_when_there_is_room(tmp_path):
    clock = HandClock()
    with small_disk(tmp_path / "disk", mib=4) as disk:
        one = sink(disk / "north.mp4", clock=clock)
        errors = []

        def course():
            yield from frames(40)
            ballast = fill(disk, leave=0)
            yield from frames(60, 40)
            errors.append(one.state())
            ballast.unlink()
            clock.now_ns += 11 * SECOND
            yield from frames(20, 100)

        one(course())
        (full,) = errors
        assert full.error.endswith("no space left on device")
        assert full.missed > 20
        assert one.state().error == ""
        one(frames(0))  # The next run completes what the full disk has torn.
        torn, whole = sorted(disk.iterdir())
        assert length(torn) >= 10
        assert length(whole) == 20


def test_a_pause_completes_the_file_and_counts_what_is_missed(tmp_path):
    clock = HandClock()
    one = sink(tmp_path / "north.mp4", clock=clock)

    def course():
        yield from frames(5)
        one.pause("the disk is almost full")
        yield from frames(5, 5)
        state = one.state()
        assert (state.error, state.missed) == ("the disk is almost full", 5)
        one.pause("")
        yield from frames(5, 10)

    one(course())
    assert [length(tmp_path / name) for name in names(tmp_path)] == [5, 5]


def test_retention_counts_the_files_by_their_numbers(tmp_path):
    path = tmp_path / "north.mp4"
    made = []
    for days in (9, -3000, None, 5):  # A clock in the future, then one that was not believed.
        one = next_output(path, None if days is None else START - timedelta(days=days))
        one.write_bytes(bytes(100))
        made.append(one)
    for stranger in ("north.mp4", "north-1.mp4", "north-0001.mkv", "south-0001.mp4"):
        (tmp_path / stranger).write_bytes(b"precious")
    part = tmp_path / "north-0009.mp4.part"
    part.write_bytes(b"being written")
    found = output_round(path, now=START)
    assert [item.key for item in found.items] == [*map(str, made), str(part)]
    assert [item.time for item in found.items[:4]] == [
        START - timedelta(days=9), *[START - timedelta(days=5)] * 3,
    ]  # fmt: skip
    assert [item.protected for item in found.items] == [False] * 4 + [True]
    assert found.free(250) <= 0
    assert [path.exists() for path in made] == [False, False, False, True]
    assert part.exists()
