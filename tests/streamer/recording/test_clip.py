"""Clips on disk: what is in them, where they play, and what happens when the disk or we die."""

import contextlib
import io
import itertools
import os
import shutil
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import av
import pytest

from streamer.core.atomic_file import AtomicFile
from streamer.core.clock import MediaClock
from streamer.core.errors import StorageError
from streamer.recording.clip import ClipFile, write_clip
from streamer.recording.recovery import recover_part
from streamer.recording.ring import PacketRing
from tests.support.packets import (
    SECOND,
    STEP,
    file_frame_digests,
    frame_digests,
    real_packets,
    shifted,
)

ROOT = Path(__file__).resolve().parents[3]
CLOCK = MediaClock(datetime(2026, 8, 1, 14, 5, tzinfo=UTC))


def boxes(data, inside=b""):
    """(kind, content) of the boxes in *data*."""
    found, at = [], 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if size < 8:
            break
        found.append((kind.decode(), data[at + 8 : at + size]))
        at += size
    return found


def inner(data, *kinds):
    for kind in kinds:
        data = dict(boxes(data))[kind]
    return data


def payloads_of(path):
    with av.open(str(path)) as file:
        return [bytes(one) for one in file.demux(video=0) if one.size]


def without_sets(packets):
    """As a session gives them whose description names no parameter sets."""
    stream = replace(packets[0].stream, extradata=b"")
    return [replace(one, stream=stream) for one in packets]


@pytest.mark.parametrize(
    ("encoder", "container", "b_frames", "tag"),
    [
        ("libx264", "mp4", 0, "avc1"),
        ("libx264", "mp4", 2, "avc1"),
        ("libx264", "mpegts", 0, "avc1"),
        ("libx264", "mpegts", 2, "avc1"),
        ("libx265", "mp4", 2, "hvc1"),
        ("libx265", "mpegts", 2, "hvc1"),
        ("mpeg4", "matroska", 2, "mp4v"),
        ("mpeg4", "mpegts", 0, "mp4v"),
        ("mjpeg", "matroska", 0, None),
        ("mpeg2video", "mpegts", 2, None),
    ],
)
def test_every_frame_comes_out_as_it_went_in_from_time_0(
    tmp_path, encoder, container, b_frames, tag
):
    packets = real_packets(
        encoder, container=container, b_frames=b_frames, frames=60, start_ns=7 * SECOND
    )
    info = write_clip(packets, tmp_path / "clip.mp4", clock=CLOCK)
    assert info.path == tmp_path / ("clip.mp4" if tag else "clip.mkv")
    found, times = file_frame_digests(info.path)
    if encoder == "mpeg4":  # FFmpeg does not always decode the same bytes to the same frames.
        assert payloads_of(info.path) == [one.payload for one in packets]
    else:
        assert found == frame_digests(packets)
    assert times == pytest.approx([number / 25 for number in range(60)], abs=0.001)
    assert (info.frames, info.complete, info.reason, info.retimed) == (60, True, "", 0)
    assert info.bytes == info.path.stat().st_size
    assert info.start_pts_ns == 7 * SECOND
    assert info.end_pts_ns == pytest.approx(7 * SECOND + 60 * STEP, abs=STEP / 2)
    assert info.start_utc == CLOCK.utc_at(packets[0].arrived_ns)
    assert list(tmp_path.iterdir()) == [info.path]
    if tag:
        with av.open(str(info.path)) as file:
            assert file.streams.video[0].codec_context.codec_tag == tag
            assert file.duration == pytest.approx(2_400_000, abs=45_000)


@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
def test_parameter_sets_are_found_in_front_of_the_key_frame(tmp_path, encoder):
    packets = without_sets(real_packets(encoder))
    info = write_clip(packets, tmp_path / "clip.mp4", clock=CLOCK)
    assert file_frame_digests(info.path)[0] == frame_digests(packets)


def lone_slices(packets):
    """Annex-B without the parameter sets that stand in front of key frames."""
    return [
        replace(one, payload=b"\0\0\0\1" + one.payload[4:])  # A single slice each: no list to walk.
        for one in without_sets(packets)
    ]


def test_a_key_frame_that_nothing_could_decode_begins_no_file(tmp_path):
    undecodable = lone_slices(real_packets(container="mp4", frames=25, gop=25)[1:])
    undecodable[0] = replace(undecodable[0], keyframe=True)
    fine = shifted(without_sets(real_packets()), SECOND)
    info = write_clip([*undecodable, *fine], tmp_path / "clip.mp4", clock=CLOCK)
    assert info.start_pts_ns == SECOND
    assert file_frame_digests(info.path)[0] == frame_digests(fine)
    with pytest.raises(StorageError, match="no decodable key frame came"):
        write_clip(undecodable, tmp_path / "clip.mp4")
    with pytest.raises(StorageError, match="the camera sent no parameter sets"):
        ClipFile(tmp_path / "clip.mp4", undecodable[0], clock=CLOCK)


def test_parameter_sets_before_the_key_frame_beat_stale_ones_of_the_session(tmp_path):
    other = real_packets(width=640, height=360)[0].stream.extradata
    packets = real_packets()
    stale = [replace(one, stream=replace(one.stream, extradata=other)) for one in packets]
    info = write_clip(stale, tmp_path / "clip.mp4", clock=CLOCK)
    with av.open(str(info.path)) as file:
        assert file.streams.video[0].codec_context.extradata != other
    assert file_frame_digests(info.path)[0] == frame_digests(packets)


def test_the_finished_file_is_an_ordinary_mp4_that_browsers_seek(tmp_path):
    packets = real_packets(b_frames=2, frames=60, start_ns=SECOND)
    path = write_clip(packets, tmp_path / "clip.mp4", clock=CLOCK).path
    data = path.read_bytes()
    assert [kind for kind, _ in boxes(data)] == ["ftyp", "free", "mdat", "moov"]
    table = inner(data, "moov", "trak", "mdia", "minf", "stbl")
    assert b"avc1" in inner(table, "stsd")
    assert b"avcC" in inner(table, "stsd")
    _, entries, first = struct.unpack(">III", inner(table, "stss")[:12])
    assert (entries, first) == (3, 1)  # Three key frames; the first frame is one.
    with av.open(str(path)) as file:
        assert file.metadata["creation_time"].startswith("2026-08-01T14:05:00")
        file.seek(2_000_000)
        assert next(file.decode(video=0)).time == 2.0


def test_a_clip_out_of_a_ring_covers_the_requested_time(tmp_path):
    ring = PacketRing(max_ns=10 * SECOND, max_bytes=1 << 24)
    for one in real_packets(frames=200, b_frames=2, gop=20):
        ring(one)
    info = write_clip(ring.clip(3 * SECOND, 5 * SECOND, timeout_s=1), tmp_path / "c.mp4")
    assert info.complete
    assert 2 * SECOND < info.start_pts_ns <= 3 * SECOND
    assert info.end_pts_ns >= 5 * SECOND
    found, times = file_frame_digests(info.path)
    assert len(found) == info.frames
    assert times[0] == 0


def test_a_clip_says_what_is_missing(tmp_path):
    ring = PacketRing(max_ns=10 * SECOND, max_bytes=1 << 24)
    for one in real_packets(start_ns=7 * SECOND):
        ring(one)
    reader = ring.clip(5 * SECOND, 20 * SECOND, timeout_s=0.01)
    info = write_clip(reader, tmp_path / "clip.mp4", clock=CLOCK)
    assert not info.complete
    assert info.reason == (
        "begins 2.0 s late: nothing older was kept; ends early: nothing came for 0.01 s"
    )
    assert ring.statistics().readers == 0


def test_no_key_frame_makes_no_clip_and_says_so(tmp_path):
    reader = PacketRing(max_ns=SECOND, max_bytes=1000).clip(0, SECOND, timeout_s=0.01)
    with pytest.raises(StorageError, match=r"no clip .*no key frame came.*nothing came for 0.01"):
        write_clip(reader, tmp_path / "clip.mp4")
    with pytest.raises(StorageError, match="no decodable key frame came"):
        write_clip(real_packets()[1:10], tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_camera_that_changes_its_size_goes_on_in_a_second_file(tmp_path):
    small = real_packets(frames=30)
    large = shifted(real_packets(width=640, height=360), 30 * STEP)
    # Switched in mid-group: what comes before the first key frame of the new size is of no use.
    info = write_clip([*small, *large[5:]], tmp_path / "clip.mp4", clock=CLOCK)
    assert [path.name for path in info.files] == ["clip.mp4", "clip-2.mp4"]
    assert file_frame_digests(info.files[0])[0] == frame_digests(small)
    assert file_frame_digests(info.files[1])[0] == frame_digests(large[25:])
    assert info.complete
    assert info.continued[0].start_pts_ns == 55 * STEP
    assert file_frame_digests(info.files[1])[1][0] == 0


def test_frames_that_reference_packets_before_the_clip_are_skipped(tmp_path):
    packets = list(real_packets(b_frames=2))
    leading = replace(packets[1], pts_ns=packets[0].pts_ns - STEP, keyframe=False)
    info = write_clip([packets[0], leading, *packets[1:]], tmp_path / "clip.mp4", clock=CLOCK)
    assert info.frames == len(packets)
    assert file_frame_digests(info.path)[1][0] == 0


def test_timestamps_that_do_not_increase_are_fixed_and_counted(tmp_path):
    packets = list(real_packets())
    packets[10] = replace(packets[10], pts_ns=packets[9].pts_ns, dts_ns=packets[9].dts_ns)
    packets[20] = replace(packets[20], pts_ns=packets[20].dts_ns - STEP // 2)
    info = write_clip(packets, tmp_path / "clip.mp4", clock=CLOCK)
    assert info.retimed == 2
    found, times = file_frame_digests(info.path)
    assert found == frame_digests(packets)
    assert times == sorted(set(times))


def test_a_rate_that_changes_is_kept_as_it_came(tmp_path):
    packets = [
        replace(one, pts_ns=number * number * STEP, dts_ns=number * number * STEP, duration_ns=0)
        for number, one in enumerate(real_packets())
    ]
    info = write_clip(packets, tmp_path / "clip.mp4", clock=CLOCK)
    _, times = file_frame_digests(info.path)
    assert times == pytest.approx([number * number / 25 for number in range(50)], abs=1e-4)


def test_an_older_clip_of_the_same_name_is_replaced_only_by_a_whole_one(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")

    def broken():
        yield from real_packets()[:30]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_clip(broken(), path)
    assert path.read_bytes() == b"old"
    assert write_clip(real_packets(), path).bytes == path.stat().st_size


def test_a_file_starts_with_a_key_frame(tmp_path):
    with pytest.raises(ValueError, match="key frame"):
        ClipFile(tmp_path / "clip.mp4", real_packets()[1], clock=CLOCK)


# Killed, at any write.


class Killed(AtomicFile):
    """Writes only the first *allowed* times, and of the next a half, as a kill would have it."""

    allowed = 0

    def write(self, data):
        self.allowed -= 1
        if self.allowed < 0:
            if self.allowed == -1 and len(data) > 8:  # So short a write is never torn.
                super().write(bytes(data)[: len(data) // 2])
            self.abandon()
            return len(data)
        return super().write(data)


@pytest.mark.parametrize("allowed", range(9))
def test_whatever_write_a_kill_interrupts_the_rest_plays_and_can_be_recovered(
    tmp_path, monkeypatch, allowed
):
    packets = real_packets(frames=100, b_frames=2)
    monkeypatch.setattr("streamer.recording.clip.AtomicFile", Killed)
    monkeypatch.setattr(Killed, "allowed", allowed)
    monkeypatch.setattr(Killed, "publish", lambda self: None)
    write_clip(packets, tmp_path / "clip.mp4", clock=CLOCK)
    part, path = tmp_path / "clip.mp4.part", tmp_path / "clip.mp4"

    # The header and each second make a write; then come the index and the switch to it.
    seconds = max(0, min(allowed - 2, 4))
    if seconds:
        assert len(decoded(part)) >= seconds * 25 - 3  # Less what waits to be put in order.
    assert recover_part(part, path) == bool(seconds)
    assert not part.exists()
    if seconds:
        found, times = file_frame_digests(path)
        assert found == frame_digests(packets)[: len(found)]
        assert len(found) >= seconds * 25 - 3
        assert times[0] == 0


def decoded(path):
    """The frames of a file that may be torn at its end."""
    found = []
    with av.open(str(path)) as file, contextlib.suppress(av.InvalidDataError):
        found.extend(frame.pts for frame in file.decode(video=0))
    return found


WRITER = """
import itertools, sys
from pathlib import Path
from streamer.recording.clip import write_clip
from tests.support.packets import real_packets, shifted, STEP

def endless():
    packets = real_packets({encoder!r}, container={container!r}, frames=50)
    for turn in itertools.count():
        yield from shifted(packets, turn * 50 * STEP)
        print(turn, flush=True)

write_clip(endless(), Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("encoder", "container", "name"),
    [("libx264", "mpegts", "clip.mp4"), ("mjpeg", "matroska", "clip.mkv")],
)
def test_a_killed_process_leaves_a_part_that_plays(tmp_path, encoder, container, name):
    path = tmp_path / name
    code = WRITER.format(encoder=encoder, container=container)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=ROOT
    ) as writer:
        turns = [writer.stdout.readline() for _ in range(3)]
        writer.send_signal(signal.SIGKILL)
    assert turns[-1] == b"2\n"
    part = tmp_path / f"{name}.part"
    assert not path.exists()
    assert len(decoded(part)) >= 150 - 26  # The second in hand is lost.
    assert recover_part(part, path)
    assert len(file_frame_digests(path)[0]) >= 150 - 26


# Disks that are full, read-only or in the way.

LIMITED = """
import resource, sys
from pathlib import Path
from streamer.core.errors import StorageError
from streamer.recording.clip import write_clip
from tests.support.packets import real_packets

packets = real_packets(frames=200)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    write_clip(packets, Path(sys.argv[1]))
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 10, 500, 20_000, 60_000])
def test_a_file_that_may_not_grow_is_an_error_of_one_line_and_what_is_there_plays(tmp_path, limit):
    path = tmp_path / "clip.mp4"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIMITED, str(path), str(limit)],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=True,
    )  # fmt: skip
    assert done.stdout == f"cannot write {path}: the file may not grow any further\n"
    assert done.stderr == ""
    part = tmp_path / "clip.mp4.part"
    assert part.stat().st_size <= limit
    assert recover_part(part, path) == (limit >= 20_000)
    if limit >= 20_000:
        assert len(file_frame_digests(path)[0]) >= 25


SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from streamer.core.errors import StorageError
from streamer.recording.clip import write_clip
from streamer.recording.recovery import recover_part
from tests.support.packets import file_frame_digests, real_packets

disk = Path(sys.argv[1])
for name in ("full.mp4", "closed.mp4"):
    try:
        write_clip(real_packets(frames=200), disk / name)
    except StorageError as error:
        print(error)
    part = disk / f"{name}.part"
    if part.exists() and recover_part(part, disk / name):
        print(len(file_frame_digests(disk / name)[0]) >= 25)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
"""


def test_a_real_disk_that_is_full_or_read_only_is_an_error_of_one_line(tmp_path):
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    own_disk = [unshare, "--map-root-user", "--mount", "sh", "-ec"]
    mount = 'mount -t tmpfs -o size=48k none "$0"; '
    allowed = subprocess.run([*own_disk, mount, str(tmp_path)], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip("no disk of its own may be mounted here")
    program = [sys.executable, "-c", SMALL_DISK, str(tmp_path)]
    done = subprocess.run(
        [*own_disk, mount + 'exec "$@"', str(tmp_path), *program],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        f"cannot write {tmp_path}/full.mp4: the disk is full",
        "True",
        f"cannot write {tmp_path}/closed.mp4: the disk is read-only",
    ]


@pytest.mark.parametrize("encoder", ["libx264", "mjpeg"])
@pytest.mark.parametrize("fails_at", [0, 1, 2, 3])
def test_a_full_disk_is_an_error_of_one_line_and_what_is_written_plays(
    tmp_path, monkeypatch, encoder, fails_at
):
    calls = itertools.count()
    pwrite = os.pwrite

    def full(handle, data, position):
        if next(calls) >= fails_at:
            raise OSError(28, "No space left on device")
        return pwrite(handle, bytes(data), position)

    monkeypatch.setattr(os, "pwrite", full)
    container = "matroska" if encoder == "mjpeg" else "mpegts"
    with pytest.raises(StorageError, match=r"^cannot write .*clip.*: the disk is full$"):
        write_clip(real_packets(encoder, container=container, frames=200), tmp_path / "clip.mp4")
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]


def test_a_nearly_full_disk_takes_a_write_in_pieces(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda h, data, at: pwrite(h, bytes(data[:1000]), at))
    packets = real_packets()
    info = write_clip(packets, tmp_path / "clip.mp4", clock=CLOCK)
    assert file_frame_digests(info.path)[0] == frame_digests(packets)


def test_a_path_that_cannot_be_made_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"^cannot write .*clip\.mp4: "):
        write_clip(real_packets(), tmp_path / "file" / "clip.mp4")


def test_a_codec_that_nothing_can_hold_is_an_error_of_one_line(tmp_path):
    packets = real_packets()
    odd = [replace(one, stream=replace(one.stream, codec="nonsense")) for one in packets]
    with pytest.raises(StorageError, match=r"^cannot write .*nonsense"):
        write_clip(odd, tmp_path / "clip.mp4")


def test_damaged_packets_are_written_as_they_came(tmp_path):
    packets = list(real_packets(frames=75))
    packets[30] = replace(packets[30], payload=b"\x00\x00\x00\x01\x41damaged")
    packets[40] = replace(packets[40], payload=b"no start code at all")
    info = write_clip(packets, tmp_path / "clip.mp4", clock=CLOCK)
    assert info.complete
    with av.open(io.BytesIO(info.path.read_bytes())) as file:
        assert sum(1 for one in file.demux(video=0) if one.size) >= 73
