"""One program per data folder, and what a killed one left there."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streamer.app import data_folder
from streamer.app.data_folder import own_data_folder
from streamer.cli import main
from streamer.cli.exit_codes import Exit
from streamer.config import Config
from streamer.core.errors import StorageError
from streamer.evidence.manifest import seal, verify
from streamer.recording.clip import ClipFile
from tests.support.packets import real_packets

ROOT = Path(__file__).resolve().parents[3]


def configured(folder):
    source = {"address": "rtsp://192.0.2.1/x"}
    return Config.model_validate(
        {"data_dir": str(folder), "cameras": {"north": {"source": source}}}
    )


HOLDER = """
import sys
from streamer.app.data_folder import own_data_folder
from tests.streamer.app.test_data_folder import configured
with own_data_folder(configured(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_only_the_owner_may_read_a_new_data_folder(tmp_path):
    with own_data_folder(configured(tmp_path / "new" / "data")):
        assert (tmp_path / "new" / "data").stat().st_mode & 0o777 == 0o700


def test_a_second_program_is_refused_and_hears_who_is_there(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "data"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    try:
        assert first.stdout.readline() == b"ready\n"
        with pytest.raises(StorageError) as refused, own_data_folder(configured(tmp_path / "data")):
            pass
        text = str(refused.value)
        assert text.startswith(f"data folder {tmp_path / 'data'} is in use by another program")
        assert f"(pid {first.pid} on " in text
    finally:
        first.kill()  # The lock ends with the process, however that ends.
        first.communicate()
    with own_data_folder(configured(tmp_path / "data")):
        pass


def test_a_second_watch_ends_with_one_line(tmp_path, capsys):
    config = tmp_path / "station.yaml"
    config.write_text(
        f"data_dir: {tmp_path / 'data'}\ncameras: {{north: {{source: {{address: 'pattern:'}}}}}}\n"
    )
    with own_data_folder(configured(tmp_path / "data")):
        assert main(["watch", str(config)]) == Exit.FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"streamer: data folder {tmp_path / 'data'} is in use by another program"
    )


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="cannot be made: not a directory"),
        own_data_folder(configured(tmp_path / "file" / "data")),
    ):
        pass


def clip_part(path, *, frames=50):
    """The part of a clip whose writer was killed."""
    packets = real_packets(frames=frames, gop=25)
    file = ClipFile(path, packets[0], clock=Still())
    for packet in packets[1:]:
        file.add(packet)
    file.abandon()
    return path.with_name(path.name + ".part")


class Still:
    def utc_at(self, monotonic_ns):
        del monotonic_ns
        return datetime(2026, 8, 1, tzinfo=UTC)


def test_a_start_completes_clips_and_recordings_and_removes_torn_stills(tmp_path):
    config = configured(tmp_path / "data")
    alarm = config.evidence_folder / "north" / "a"
    alarm.mkdir(parents=True)
    (alarm / "still-0.jpg").write_bytes(b"a still")
    seal(alarm)
    (alarm / "still-1.jpg.part").write_bytes(b"half a st")
    (alarm / "clip.json.part").write_bytes(b'{"files"')
    clip_part(alarm / "clip.mp4")
    gone = config.recordings_folder / "removed camera" / "2026-08-01"
    clip_part(gone / "14-05-00_000001.mp4")
    (gone / "14-06-00_000002.mp4.part").write_bytes(b"killed before the first frame")
    with own_data_folder(config):
        assert sorted(path.name for path in alarm.iterdir()) == [
            "clip.json", "clip.mp4", "manifest.json", "still-0.jpg",
        ]  # fmt: skip
        assert [path.name for path in gone.iterdir()] == ["14-05-00_000001.mp4"]
    assert verify(alarm) == []
    facts = json.loads((alarm / "clip.json").read_text())
    assert facts == {
        "complete": False,
        "files": ["clip.mp4"],
        "reason": "the program ended while it was written",
    }


def test_whole_evidence_is_not_touched(tmp_path):
    config = configured(tmp_path / "data")
    alarm = config.evidence_folder / "north" / "a"
    alarm.mkdir(parents=True)
    (alarm / "still-0.jpg").write_bytes(b"a still")
    seal(alarm)
    before = (alarm / "manifest.json").stat().st_mtime_ns
    with own_data_folder(config):
        assert (alarm / "manifest.json").stat().st_mtime_ns == before


def test_a_disk_that_hangs_does_not_keep_the_program_from_starting(tmp_path, monkeypatch):
    """Opening the lock file waits for ever, as on a dead network share."""
    monkeypatch.setattr(data_folder, "_LOCK_S", 0.2)
    config = configured(tmp_path / "data")
    config.recordings_folder.mkdir(parents=True)
    part = clip_part(config.recordings_folder / "north" / "2026-08-01" / "14-05-00_000001.mp4")
    os.mkfifo(config.clock_file)  # Reading it waits for a writer.
    with own_data_folder(config) as guard:
        assert guard.observe(1).reason == ""
        # When the disk is back, files that cameras write by then are left alone.
        with config.clock_file.open("w"):
            pass
    assert part.exists()
