"""Free space, its levels, and a folder that is not there yet."""

from types import SimpleNamespace

import pytest

from streamer.health import disk
from streamer.health.disk import DiskLevel, disk_status

GB = 10**9


@pytest.mark.parametrize(
    ("space", "state", "reason"),
    [
        ((100 * GB, 1000 * GB), "ok", ""),
        ((2 * GB, 1000 * GB), "ok", ""),
        ((1.9 * GB, 1000 * GB), "low", "only 1.9 GB are free for {folder}"),
        ((0.9 * GB, 1000 * GB), "critical", "only 0.9 GB are free for {folder}"),
        ((0.05 * GB, 1000 * GB), "full", "only 50.0 MB are free for {folder}"),
        ((0.5 * GB, 4 * GB), "ok", ""),  # A tenth of a small disk is enough.
        ((0.3 * GB, 4 * GB), "low", "only 0.3 GB are free for {folder}"),
    ],
)
def test_little_space_is_a_state_with_its_reason(tmp_path, monkeypatch, space, state, reason):
    free, total = map(int, space)
    usage = SimpleNamespace(free=free, total=total)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage)
    found = disk_status(tmp_path)
    assert (found.state, found.reason) == (state, reason.format(folder=tmp_path))
    assert (found.free_bytes, found.total_bytes) == (free, total)
    assert (found.missing_bytes > 0) == (state != "ok")


def test_where_nothing_must_be_free_only_a_full_disk_is_a_problem(tmp_path, monkeypatch):
    for free, state in ((10**8, DiskLevel.OK), (10**6, DiskLevel.FULL)):
        usage = SimpleNamespace(free=free, total=100 * GB)
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda path, usage=usage: usage)
        assert disk_status(tmp_path, min_free_bytes=0).state is state


def test_a_folder_that_is_not_there_yet_is_measured_and_not_made(tmp_path):
    folder = tmp_path / "a" / "b"
    assert disk_status(folder).total_bytes == disk_status(tmp_path).total_bytes
    assert not folder.parent.exists()


def test_a_disk_that_cannot_be_measured_is_reported(tmp_path, monkeypatch):
    def refuse(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk.shutil, "disk_usage", refuse)
    found = disk_status(tmp_path)
    assert (found.state, found.free_bytes) == ("unknown", None)
    assert found.reason == f"{tmp_path} cannot be measured: input/output error"
