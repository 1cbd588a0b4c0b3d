"""The store on disks that are full, read-only or shared with other users."""

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from streamer.core.errors import StorageError
from streamer.store.reserve import DiskReserve
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import event
from tests.support.disks import fill, small_disk

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path):
    """A file system of 24 MiB."""
    with small_disk(tmp_path / "disk", mib=24) as folder:
        yield folder


def mode(path):
    return path.stat().st_mode & 0o777


def test_only_its_owner_may_read_the_store(tmp_path):
    path = tmp_path / "data" / "events.db"
    before = os.umask(0o022)
    try:
        with SqliteEventStore(path) as store:
            store.add(event())
            files = sorted(path.parent.iterdir())
            assert {file.name: oct(mode(file)) for file in files} == dict.fromkeys(
                ("events.db", "events.db-shm", "events.db-wal", "events.db.reserve"), "0o600"
            )
            assert mode(path.parent) == 0o700
    finally:
        os.umask(before)


def test_a_store_that_an_older_version_made_readable_by_everybody_is_closed_to_others(tmp_path):
    path = tmp_path / "events.db"
    SqliteEventStore(path).close()
    path.chmod(0o644)
    SqliteEventStore(path).close()
    assert mode(path) == 0o600


@pytest.mark.system
def test_events_and_outcomes_are_stored_on_a_full_disk_from_the_reserve(disk):
    with SqliteEventStore(disk / "events.db") as store:
        reserved = store._database.reserve.size
        assert reserved == 3 * MIB
        fill(disk)
        assert os.statvfs(disk).f_bavail == 0
        for number in range(40):
            store.add(event("a", number), channels=["siren"])
            store.outbox.confirm(store.outbox.claim("siren").number)
        assert 0 < store._database.reserve.size < reserved
    with SqliteEventStore(disk / "events.db") as store:
        assert len(list(store.events())) == 40


@pytest.mark.system
def test_without_a_reserve_a_full_disk_is_an_error_and_the_reserve_comes_back_with_room(disk):
    path = disk / "events.db"
    with SqliteEventStore(path) as store:
        while store._database.reserve.give_back():
            pass
        filler = fill(disk)
        with pytest.raises(StorageError, match="disk"):
            all(store.add(event("a", number)) for number in range(2000))
        filler.unlink()
        store.add(event("later"))
    with SqliteEventStore(path) as store:
        assert store._database.reserve.size == 3 * MIB
        assert store.event("later-0") is not None


def test_a_reserve_that_cannot_be_made_is_no_error(tmp_path):
    reserve = DiskReserve(tmp_path / "missing" / "reserve")
    reserve.refill()
    reserve.make_room()
    assert (reserve.size, reserve.give_back()) == (0, False)


# Reading.


def read(path):
    with SqliteEventStore.open_read_only(path) as store:
        with pytest.raises(StorageError, match="reading only"):
            store.add(event("b"))
        return [each.event.id for each in store.events()], len(store.outbox.pending())


def killed_copy(path: Path, target: Path) -> Path:
    """The files as a killed program leaves them: with a log, and without shared memory."""
    target.mkdir(parents=True, exist_ok=True)
    for suffix in ("", "-wal"):
        shutil.copyfile(path.with_name(path.name + suffix), target / (path.name + suffix))
    return target / path.name


@pytest.mark.system
@pytest.mark.parametrize("state", ["full", "read-only"])
@pytest.mark.parametrize("ended", ["closed", "killed", "running"])
def test_reading_works_on_a_full_and_on_a_read_only_disk(disk, tmp_path, state, ended):
    path = disk / "events.db" if ended != "killed" else tmp_path / "events.db"
    with SqliteEventStore(path) as store:
        store.add(event(), channels=["siren"])
        if ended == "killed":
            path = killed_copy(path, disk)
        if ended == "running":
            fill(disk)
            assert read(path) == (["north-1-0"], 1)
            return
    if state == "full":
        fill(disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert read(path) == (["north-1-0"], 1)


def test_a_reader_sees_what_the_running_program_stores(tmp_path):
    path = tmp_path / "events.db"
    with SqliteEventStore(path) as store, SqliteEventStore.open_read_only(path) as reader:
        store.add(event())
        assert reader.event("north-1-0") is not None


def test_reading_makes_no_store(tmp_path):
    with pytest.raises(StorageError, match="no such file"):
        SqliteEventStore.open_read_only(tmp_path / "events.db")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as made:
        made.execute("CREATE TABLE song (title TEXT)")
    made.close()
    with pytest.raises(StorageError, match="another program"):
        SqliteEventStore.open_read_only(other)
