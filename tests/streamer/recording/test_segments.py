"""Continuous recording: cuts, names, silence, killed recorders, disks that refuse."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from streamer.core.clock import CancelToken, MediaClock
from streamer.recording.recording_paths import (
    RecordingNumbers,
    corrected_path,
    parse_recording,
    recording_path,
)
from streamer.recording.ring import PacketRing
from streamer.recording.segments import SegmentRecorder
from tests.support.disks import fill, small_disk
from tests.support.packets import (
    SECOND,
    STEP,
    file_frame_digests,
    frame_digests,
    real_packets,
    shifted,
)

ROOT = Path(__file__).resolve().parents[3]
START = datetime(2026, 8, 1, 23, 59, 57, tzinfo=UTC)


class FedRing(PacketRing):
    """Gives its follower all packets at once, then closes."""

    def __init__(self, packets, *, max_bytes=1 << 26):
        super().__init__(max_ns=SECOND, max_bytes=max_bytes)
        self._feeding = packets

    def follow(self, cancel):
        reader = super().follow(cancel)
        for one in self._feeding:
            self(one)
        self.close()
        return reader


@contextlib.contextmanager
def running(recorder, ring):
    """The recorder in a thread of its own, following *ring*."""
    cancel = CancelToken()
    thread = threading.Thread(target=recorder, args=(cancel,))
    thread.start()
    try:
        until(lambda: ring.statistics().readers == 1)
        yield
    finally:
        cancel.set()
        thread.join(10)
    assert not thread.is_alive()


def until(true, timeout_s=10):
    tick = threading.Event()
    for _ in range(int(timeout_s / 0.002)):
        if true():
            return
        tick.wait(0.002)
    raise AssertionError(f"still not true after {timeout_s} s")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def clock():
    return MediaClock(START)


def test_files_are_cut_at_key_frames_and_together_hold_every_frame_once(tmp_path):
    packets = real_packets(frames=240, gop=20, b_frames=2)
    recorder = SegmentRecorder(FedRing(packets), tmp_path, segment_s=3, clock=clock())
    recorder(CancelToken())
    names = [
        "2026-08-01/23-59-56_000001.mp4",
        "2026-08-02/00-00-00_000002.mp4",
        "2026-08-02/00-00-03_000003.mp4",
    ]
    assert files(tmp_path) == names
    found = [digest for name in names for digest in file_frame_digests(tmp_path / name)[0]]
    assert found == frame_digests(packets)
    state = recorder.state()
    assert (state.files, state.missed, state.recording, state.error) == (3, 0, None, "")
    assert state.bytes == sum((tmp_path / name).stat().st_size for name in names)


def test_a_camera_that_changes_its_size_starts_a_new_file_even_in_the_same_second(tmp_path):
    packets = [*real_packets(frames=5), *shifted(real_packets(width=640, height=360), 5 * STEP)]
    recorder = SegmentRecorder(FedRing(packets), tmp_path, clock=clock())
    recorder(CancelToken())
    assert files(tmp_path) == ["2026-08-01/23-59-57_000001.mp4", "2026-08-01/23-59-57_000002.mp4"]
    assert recorder.state().files == 2


def test_stop_ends_the_file_and_what_is_recorded_is_whole(tmp_path):
    ring = PacketRing(max_ns=SECOND, max_bytes=1 << 26)
    recorder = SegmentRecorder(ring, tmp_path, clock=clock())
    packets = real_packets()
    with running(recorder, ring):
        for one in packets:
            ring(one)
        until(lambda: recorder.state().recording is not None)
        assert files(tmp_path) == ["2026-08-01/23-59-57_000001.mp4.part"]
    found, _ = file_frame_digests(tmp_path / "2026-08-01/23-59-57_000001.mp4")
    assert found == frame_digests(packets)[: len(found)]
    assert found


def test_a_silent_camera_ends_the_file_and_the_next_key_frame_starts_another(tmp_path):
    ring = PacketRing(max_ns=SECOND, max_bytes=1 << 26)
    recorder = SegmentRecorder(ring, tmp_path, segment_s=0.05, clock=clock())
    packets = real_packets(frames=75)
    with running(recorder, ring):
        for one in packets[:20]:
            ring(one)
        until(lambda: recorder.state().files == 1)
        for one in packets[20:]:
            ring(one)
        until(lambda: recorder.state().files == 3)
    assert recorder.state().missed == 5
    assert files(tmp_path) == [
        "2026-08-01/23-59-57_000001.mp4",
        "2026-08-01/23-59-58_000002.mp4",
        "2026-08-01/23-59-59_000003.mp4",
    ]


def test_recording_can_pause_and_go_on(tmp_path):
    ring = PacketRing(max_ns=SECOND, max_bytes=1 << 26)
    recorder = SegmentRecorder(ring, tmp_path, clock=clock())
    packets = real_packets(frames=100)
    with running(recorder, ring):
        for one in packets[:25]:
            ring(one)
        until(lambda: recorder.state().recording is not None)
        recorder.pause("the disk is almost full")
        for one in packets[25:75]:
            ring(one)
        until(lambda: recorder.state().files == 1)
        until(lambda: recorder.state().missed >= 50)
        assert recorder.state().error == "the disk is almost full"
        recorder.resume()
        for one in packets[75:]:
            ring(one)
        until(lambda: recorder.state().recording is not None)
        assert recorder.state().error == ""
    assert recorder.state().files == 2


def test_a_full_disk_stops_recording_but_not_the_worker_which_goes_on_when_there_is_room(
    tmp_path, monkeypatch
):
    ring = PacketRing(max_ns=SECOND, max_bytes=1 << 26)
    time = clock()
    recorder = SegmentRecorder(ring, tmp_path, clock=time)
    packets = real_packets(frames=200)
    pwrite, is_full = os.pwrite, threading.Event()

    def limited(handle, data, position):
        if is_full.is_set():
            raise OSError(28, "No space left on device")
        return pwrite(handle, data, position)

    monkeypatch.setattr(os, "pwrite", limited)
    with running(recorder, ring):
        for one in packets[:60]:
            ring(one)
        part = tmp_path / "2026-08-01/23-59-57_000001.mp4.part"
        until(lambda: part.exists() and part.stat().st_size > 10_000)
        is_full.set()
        for one in packets[60:100]:
            ring(one)
        until(lambda: "the disk is full" in recorder.state().error)
        # What was written became an ordinary file at once.
        until(lambda: files(tmp_path) == ["2026-08-01/23-59-57_000001.mp4"])
        is_full.clear()
        for one in packets[100:150]:  # Too soon to try again.
            ring(one)
        until(lambda: recorder.state().missed >= 70)
        assert recorder.state().recording is None
        time.advance_to(60 * SECOND)
        for one in packets[150:]:
            ring(one)
        until(lambda: recorder.state().recording is not None)
        assert recorder.state().error == ""
    assert len(files(tmp_path)) == 2
    assert len(file_frame_digests(tmp_path / "2026-08-01/23-59-57_000001.mp4")[0]) >= 25


@pytest.mark.system
def test_a_disk_that_is_really_full_pauses_the_recorder_until_there_is_room(tmp_path):
    ring = PacketRing(max_ns=SECOND, max_bytes=1 << 26)
    time = clock()
    packets = real_packets(frames=200)
    with small_disk(tmp_path / "disk", mib=2) as disk:
        recorder = SegmentRecorder(ring, disk / "north", clock=time)
        with running(recorder, ring):
            for one in packets[:60]:
                ring(one)
            until(lambda: recorder.state().recording is not None)
            ballast = fill(disk, leave=0)
            for one in packets[60:100]:
                ring(one)
            until(lambda: "the disk is full" in recorder.state().error)
            ballast.unlink()
            time.advance_to(60 * SECOND)
            for one in packets[100:]:
                ring(one)
            until(lambda: recorder.state().recording is not None)
            assert recorder.state().error == ""
        found = files(disk)
        assert [name.endswith(".mp4") for name in found] == [True, True]
        assert len(file_frame_digests(disk / found[1])[0]) >= 75


def test_a_folder_that_cannot_be_made_is_trouble_not_a_crash(tmp_path):
    (tmp_path / "north").write_text("in the way")
    recorder = SegmentRecorder(FedRing(real_packets()), tmp_path / "north", clock=clock())
    recorder(CancelToken())
    state = recorder.state()
    assert state.error.startswith("cannot write")
    assert state.missed == 50


def test_what_a_slow_disk_missed_is_counted(tmp_path):
    packets = real_packets(frames=100)
    ring = FedRing(packets, max_bytes=sum(len(one.payload) + 300 for one in packets[:50]))
    recorder = SegmentRecorder(ring, tmp_path, clock=clock())
    recorder(CancelToken())
    assert recorder.state().missed == ring.statistics().lost == 50


RECORDER = """
import sys, threading
from datetime import datetime, UTC
from pathlib import Path
from streamer.core import log
from streamer.core.clock import CancelToken, MediaClock
from streamer.recording.ring import PacketRing
from streamer.recording.segments import SegmentRecorder
from tests.support.packets import real_packets, shifted, STEP

log.set_up(level="error", style="text")  # Its lines must not fall between ours.
ring = PacketRing(max_ns=10**9, max_bytes=1 << 26)
clock = MediaClock(datetime(2026, 8, 1, 14, tzinfo=UTC))
recorder = SegmentRecorder(ring, Path(sys.argv[1]), segment_s=4, clock=clock)
threading.Thread(target=recorder, args=(CancelToken(),)).start()
while not ring.statistics().readers:
    pass
for turn in range(7):  # Of two seconds each; every two of them make a file.
    for one in shifted(real_packets(), turn * 50 * STEP):
        ring(one)
while recorder.state().files < 3 or recorder.state().recording is None:
    pass
part = recorder.state().recording.with_suffix(".mp4.part")
while part.stat().st_size < 9_000:  # A second.
    pass
print("recording", flush=True)
threading.Event().wait(60)
"""


def test_a_killed_recorder_loses_a_second_and_the_next_one_makes_its_file_whole(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", RECORDER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == b"recording\n"
        process.send_signal(signal.SIGKILL)
    left = files(tmp_path)
    assert [name for name in left if name.endswith(".part")]
    worthless = tmp_path / "2026-08-01" / "13-00-00.mp4.part"
    worthless.write_bytes(b"killed before the first frame")

    SegmentRecorder(FedRing([]), tmp_path)(CancelToken())
    assert files(tmp_path) == sorted({name.removesuffix(".part") for name in left})
    total = sum(len(file_frame_digests(tmp_path / name)[0]) for name in files(tmp_path))
    assert total >= 6 * 50 - 26


def test_names_have_the_begin_and_the_number_of_a_recording(tmp_path):
    when = datetime(2026, 8, 1, 14, 5, 9, 999_999, tzinfo=UTC)
    path = recording_path(tmp_path, when, ".mp4", number=42)
    assert path == tmp_path / "2026-08-01" / "14-05-09_000042.mp4"
    began = when.replace(microsecond=0)
    assert parse_recording("2026-08-01", path.name) == (began, 42, False, False)
    new = corrected_path(path, when + timedelta(days=20_000))
    assert new == tmp_path / "2081-05-04" / "14-05-09_000042c.mp4"
    assert parse_recording("2081-05-04", f"{new.name}.part")[1:] == (42, True, True)


@pytest.mark.parametrize("name", ["14-05-09.mp4", "14-05-09-2.mkv", "14-05-09.mp4.part"])
def test_names_of_earlier_versions_are_recordings_without_a_number(name):
    found = parse_recording("2026-08-01", name)
    assert (found.start, found.number) == (datetime(2026, 8, 1, 14, 5, 9, tzinfo=UTC), 0)


def test_numbers_go_on_over_all_cameras_and_programs(tmp_path):
    for camera, name in (("north", "14-05-09_000007.mp4"), ("south", "14-05-09_000011.mkv.part")):
        (tmp_path / camera / "2026-08-01").mkdir(parents=True)
        (tmp_path / camera / "2026-08-01" / name).touch()
    numbers = RecordingNumbers(tmp_path)
    assert (numbers.peek(), numbers.take(), numbers.take()) == (12, 12, 13)
    assert RecordingNumbers(tmp_path, at_least=10).take() == 12
    assert RecordingNumbers(tmp_path, at_least=100).take() == 100


@pytest.mark.parametrize(
    ("day", "name"),
    [
        ("2026-08-01", "clip.mp4"),
        ("2026-08-01", "14-05-09.json"),
        ("2026-08-01", "14-05-09.mp4.tmp"),
        ("2026-08-01", "25-00-00.mp4"),
        ("2026-13-01", "14-05-09.mp4"),
        ("north", "14-05-09.mp4"),
        ("2026-08-01", "north-14-05-09.mp4"),
    ],
)
def test_other_names_are_no_recordings(day, name):
    assert parse_recording(day, name) is None


def test_a_segment_without_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match="segment_s must be positive, got 0"):
        SegmentRecorder(FedRing([]), tmp_path, segment_s=0)
