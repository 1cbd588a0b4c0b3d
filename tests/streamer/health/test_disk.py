"""Free space, and a folder that is not there yet."""

from types import SimpleNamespace

import pytest

from streamer.health import disk
from streamer.health.disk import disk_status


@pytest.mark.parametrize(
    ("free", "state", "reason"),
    [
        (10**11, "ok", ""),
        (2 * 10**9, "low", "only 2.0 GB are free for {folder}"),
        (10**8, "full", "only 0.1 GB are free for {folder}"),
    ],
)
def test_little_space_is_a_state_with_its_reason(tmp_path, monkeypatch, free, state, reason):
    usage = SimpleNamespace(free=free, total=10**12)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage)
    found = disk_status(tmp_path)
    assert (found.state, found.reason) == (state, reason.format(folder=tmp_path))
    assert (found.free_bytes, found.total_bytes) == (free, 10**12)


def test_a_folder_that_is_not_there_yet_is_measured_and_not_made(tmp_path):
    folder = tmp_path / "a" / "b"
    assert disk_status(folder).free_bytes == disk_status(tmp_path).free_bytes
    assert not folder.parent.exists()


def test_a_disk_that_cannot_be_measured_is_reported(tmp_path, monkeypatch):
    def refuse(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk.shutil, "disk_usage", refuse)
    found = disk_status(tmp_path)
    assert (found.state, found.free_bytes) == ("unknown", None)
    assert found.reason == f"{tmp_path} cannot be measured: input/output error"
