"""The event store: what is added is there, once, and can be found again."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.alarm.event import Event, EventKind
from streamer.core.errors import StorageError
from streamer.core.frame import Detection
from streamer.store import EventRefused
from streamer.store.sqlite import SqliteEventStore
from streamer.store.sqlite.database import Database
from streamer.store.sqlite.migrations import APPLICATION_ID, MIGRATIONS
from streamer.store.sqlite.rows import event_columns, from_us, to_us
from tests.support.deliveries import START, HandClock, event

SHARE = st.floats(0, 1)
POINT = st.tuples(SHARE, SHARE)
REGIONS = st.builds(
    Detection, box=st.tuples(SHARE, SHARE, SHARE, SHARE), centroid=POINT, ground_point=POINT,
    area=SHARE, confidence=SHARE, peak=SHARE,
)  # fmt: skip
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
EVENTS = st.builds(
    Event, alarm_id=TEXT, sequence=st.integers(0, 10**6), kind=st.sampled_from(EventKind),
    camera=TEXT, pts_ns=st.integers(0, 2**62), utc=st.datetimes(timezones=st.just(UTC)),
    onset_ns=st.integers(0, 2**62), reason=TEXT, score=SHARE, regions=st.lists(REGIONS).map(tuple),
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "events.db"


@pytest.fixture
def store(path):
    with SqliteEventStore(path, clock=HandClock()) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with SqliteEventStore(tmp_path_factory.mktemp("shared") / "events.db") as opened:
        yield opened


@given(what=EVENTS, evidence=st.none() | st.just(Path("/evidence/north-1")))
def test_an_event_comes_back_as_it_was(shared, what, evidence):
    what = replace(what, alarm_id=f"{what.alarm_id}/{len(list(shared.events()))}")
    assert shared.add(what, evidence=evidence)
    found = shared.event(what.id)
    assert (found.event, found.evidence) == (what, evidence)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_kept_to_the_microsecond(moment):
    assert from_us(to_us(moment)) == moment


def test_numbers_of_numpy_do_not_lose_an_event(store):
    region = replace(event().regions[0], confidence=np.float32(0.5))
    what = replace(event(), score=np.float32(0.75), pts_ns=np.int64(7), regions=(region,))
    store.add(what)
    found = store.event(what.id).event
    assert (found.score, found.pts_ns, found.regions[0].confidence) == (0.75, 7, 0.5)


def test_an_event_and_its_deliveries_survive_the_program(path):
    with SqliteEventStore(path) as store:
        store.add(event(), channels=["siren", "mail"])
    with SqliteEventStore(path) as store:
        assert [each.event for each in store.events()] == [event()]
        assert [each.channel for each in store.outbox.pending()] == ["siren", "mail"]


def test_adding_an_event_again_changes_nothing(store):
    assert store.add(event(), channels=["siren"])
    assert not store.add(event(), channels=["siren", "mail"])
    assert [each.channel for each in store.outbox.pending()] == ["siren"]


def test_another_event_under_the_same_id_is_an_error(store):
    store.add(event())
    with pytest.raises(StorageError, match="another event was recorded as 'north-1-0'"):
        store.add(replace(event(), reason="something else"))


def test_a_channel_named_twice_is_notified_once(store):
    store.add(event(), channels=["siren", "siren"])
    assert len(store.outbox.pending()) == 1


def test_an_event_that_cannot_be_stored_leaves_nothing_behind(store):
    bad = {"sequence": -1}, {"score": float("nan")}, {"pts_ns": 2**64}, {"reason": "\ud800"}
    for values in bad:
        with pytest.raises(EventRefused, match=r"event 'north-1-.*' cannot be stored: "):
            store.add(replace(event(), **values), channels=["siren"])
    store.add(event())
    assert [each.event for each in store.events()] == [event()]
    assert store.outbox.pending() == []


@pytest.fixture
def filled(store):
    for number in range(12):
        camera = "south" if number % 3 else "north"
        store.add(event("a", number, camera=camera, kind="raised" if number % 2 else "updated"))
    return store


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, range(12)),
        ({"newest_first": True}, range(11, -1, -1)),
        ({"limit": 3}, range(3)),
        ({"limit": 3, "newest_first": True}, [11, 10, 9]),
        ({"limit": 0}, []),
        ({"camera": "north"}, [0, 3, 6, 9]),
        ({"kind": EventKind.RAISED}, [1, 3, 5, 7, 9, 11]),
        ({"since": START + timedelta(seconds=9)}, [9, 10, 11]),
        ({"camera": "north", "kind": EventKind.RAISED, "limit": 1}, [3]),
    ],
)
@pytest.mark.parametrize("page", [1, 4, 500])
def test_events_are_found_by_camera_kind_and_time(filled, monkeypatch, wanted, numbers, page):
    monkeypatch.setattr("streamer.store.sqlite.event_store._PAGE", page)
    assert [each.event.sequence for each in filled.events(**wanted)] == list(numbers)


def test_an_export_does_not_hold_up_an_alarm(filled, monkeypatch):
    monkeypatch.setattr("streamer.store.sqlite.event_store._PAGE", 2)
    found = filled.events()
    next(found)
    filled.add(event("late"))
    assert [each.event.alarm_id for each in found][-1] == "late"


def test_alarms_that_were_never_cleared_are_known(store):
    store.add(event("over"))
    store.add(event("open"))
    store.add(event("over", 1, kind="cleared"))
    store.add(event("open", 1))
    assert [each.event.id for each in store.open_alarms()] == ["open-1"]


def test_an_event_tells_scripts_where_its_evidence_is(store):
    store.add(event(), evidence=Path("evidence"))
    shown = store.event("north-1-0").as_json()
    assert shown["evidence"] == str(Path("evidence").absolute())
    assert shown["kind"] == "raised"


# Paths of evidence.


def paths(store):
    found = store.event("north-1-0")
    return found.evidence, found.image


def test_a_data_folder_that_is_moved_keeps_its_evidence(tmp_path):
    old, new = tmp_path / "old", tmp_path / "disk" / "new"
    with SqliteEventStore(old / "events.sqlite") as store:
        folder = old / "evidence" / "north" / "north-1"
        store.add(event(), evidence=folder, image=folder / "overlay-0.jpg")
        assert paths(store) == (folder, folder / "overlay-0.jpg")
    new.parent.mkdir()
    old.rename(new)
    with SqliteEventStore(new / "events.sqlite") as store:
        folder = new / "evidence" / "north" / "north-1"
        assert paths(store) == (folder, folder / "overlay-0.jpg")


def test_a_path_below_a_data_folder_that_is_given_relatively_is_stored_relatively(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with SqliteEventStore(Path("data/events.sqlite")) as store:
        store.add(event(), evidence=tmp_path / "data" / "evidence" / "a")
        assert store._database.read("SELECT evidence FROM event")[0][0] == "evidence/a"
        assert paths(store) == (tmp_path / "data" / "evidence" / "a", None)


def test_evidence_elsewhere_keeps_its_absolute_path(store, tmp_path):
    store.add(event(), evidence=tmp_path / "new-disk" / "a")
    assert paths(store) == (tmp_path / "new-disk" / "a", None)


# Older versions.


def store_of_version_1(path, **columns):
    """Make a store as version 0.1 of the program made it, with one event and one delivery."""
    path.parent.mkdir(parents=True)
    region = """[{"box": [0.4, 0.4, 0.5, 0.6], "centroid": [0.45, 0.5], "base": [0.41, 0.52],
                  "area": 0.01, "mean": 0.7, "peak": 0.9, "motion": null}]"""
    values = {
        "number": 1, "id": "north-1-0", "alarm_id": "north-1", "sequence": 0, "kind": "raised",
        "camera": "north", "pts_ns": 1_500_000_000, "utc_us": to_us(START), "onset_ns": 0,
        "why": event().reason, "score": 0.87, "regions": region, "evidence": None, "picture": None,
        "added_us": to_us(START),
    } | columns  # fmt: skip
    with sqlite3.connect(path) as older:
        older.execute("PRAGMA journal_mode = WAL")
        for statement in MIGRATIONS[0]:
            older.execute(statement)
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        older.execute(f"INSERT INTO event ({names}) VALUES ({marks})", values)
        older.execute(
            "INSERT INTO delivery"
            " VALUES (1, 1, 'north-1', 'siren', 'waiting', 3, 7000000, ?, ?, ?)",
            (to_us(START), to_us(START), "no answer"),
        )
        older.execute("PRAGMA user_version = 1")
        older.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    older.close()


def test_a_store_of_version_1_is_read_with_its_deliveries(path):
    store_of_version_1(path)
    with SqliteEventStore(path) as store:
        assert [each.event for each in store.events()] == [event()]
        assert not store.add(event()), "it is the same event"
        (delivery,) = store.outbox.pending()
        assert (delivery.attempts, delivery.backoff_total) == (3, timedelta(seconds=7))
        assert delivery.error == "no answer"


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("{data}/evidence/north/north-1", "evidence/north/north-1"),
        ("{real}/evidence/north/north-1", "evidence/north/north-1"),
        ("/elsewhere/evidence/north-1", "/elsewhere/evidence/north-1"),
        ("{data}-2/evidence/north-1", "{data}-2/evidence/north-1"),
        (None, None),
    ],
)
def test_absolute_paths_of_version_1_below_the_data_folder_become_relative(tmp_path, stored, read):
    real, data = tmp_path / "real", tmp_path / "100% data_'s"
    old = stored and stored.format(data=data, real=real)
    store_of_version_1(real / "events.sqlite", evidence=old, picture=old and f"{old}/overlay-0.jpg")
    data.symlink_to(real)
    new = read and read.format(data=data)
    with SqliteEventStore(data / "events.sqlite") as store:
        row = store._database.read("SELECT evidence, image FROM event")[0]
        assert tuple(row) == (new, new and f"{new}/overlay-0.jpg")
        assert paths(store)[0] == (new and data / new)


def test_times_of_recording_come_from_the_clock(store):
    store.add(event())
    assert store.event("north-1-0").added == START


# Bad files.


def refused(path: Path, **how: bool) -> str:
    with pytest.raises(StorageError) as caught:
        SqliteEventStore(path, **how)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_missing_store_is_made_only_where_that_is_wanted(path):
    assert "no such file" in refused(path, create=False)
    assert not path.parent.exists()


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no database at all, and as long as one" * 100)
    before = path.read_bytes()
    assert "move it aside" in refused(path)
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE song (title TEXT)")
    other.close()
    before = path.read_bytes()
    assert "another program" in refused(path)
    assert path.read_bytes() == before


def test_a_store_of_a_newer_version_is_left_alone(path):
    SqliteEventStore(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    assert "newer version" in refused(path)


def test_damage_is_seen_at_the_start(path):
    with SqliteEventStore(path) as store:
        for number in range(200):
            store.add(event("a", number))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    assert "damaged" in refused(path)


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path):
    assert "check that it is a file" in refused(tmp_path)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert "folder cannot be made" in refused(tmp_path / "file" / "events.db")


def test_a_store_that_cannot_be_written_is_refused_at_the_start(path, monkeypatch):
    SqliteEventStore(path).close()
    connect = sqlite3.connect

    def read_only(file, **settings):
        return connect(f"file:{file}?mode=ro", **{**settings, "uri": True})

    monkeypatch.setattr(sqlite3, "connect", read_only)
    assert "read-only" in refused(path)


def test_a_full_disk_is_an_error_and_nothing_recorded_is_lost(store):
    store.add(event())
    database = store._database
    database.read("PRAGMA max_page_count = 1")  # As many as there are now: none can be added.
    with pytest.raises(StorageError, match="disk is full: free some space"):
        all(store.add(event("a", number)) for number in range(1000))
    database.read("PRAGMA max_page_count = 100000")
    store.add(event("later"))
    kept = [each.event.id for each in store.events()]
    assert (kept[0], kept[-1]) == ("north-1-0", "later-0")


def test_a_store_that_another_program_locks_is_an_error(path, monkeypatch):
    monkeypatch.setattr("streamer.store.sqlite.database._BUSY_S", 0.01)
    locked = pytest.raises(StorageError, match="another program holds its lock")
    with (
        SqliteEventStore(path) as store,
        SqliteEventStore(path) as other,
        other._database.transaction(),
        locked,
    ):
        store.add(event())


def test_an_older_sqlite_is_refused(path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(StorageError, match="too old"):
        SqliteEventStore(path)


def test_a_store_is_written_through_to_the_disk(store):
    settings = {
        name: store._database.read(f"PRAGMA {name}")[0][0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_failed_step_of_the_schema_leaves_the_old_version(path, monkeypatch):
    SqliteEventStore(path).close()
    module = "streamer.store.sqlite.database.MIGRATIONS"
    done = [("never run again",)] * len(MIGRATIONS)
    step = ("CREATE TABLE more (number INTEGER) STRICT", "CREATE TABLE more (number INTEGER)")
    monkeypatch.setattr(module, (*done, step))
    with pytest.raises(StorageError):
        SqliteEventStore(path)
    monkeypatch.setattr(module, (*done, step[:1]))
    with SqliteEventStore(path) as store:
        assert store._database.read("PRAGMA user_version")[0][0] == len(MIGRATIONS) + 1
        assert store._database.read("SELECT * FROM more") == []


def test_programs_that_start_at_once_make_one_store(path):
    program = (
        "import sys; from pathlib import Path; from streamer.store.sqlite import SqliteEventStore;"
        "from tests.support.deliveries import event;"
        "store = SqliteEventStore(Path(sys.argv[1]));"
        "[store.add(event(sys.argv[2], number), channels=['siren']) for number in range(20)];"
        "store.close()"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, path, name]) for name in ("a", "b", "c")
    ]
    assert [each.wait(timeout=60) for each in started] == [0, 0, 0]
    with SqliteEventStore(path) as store:
        assert len(list(store.events())) == 60


def test_threads_add_side_by_side(store):
    def add(alarm):
        return [store.add(event(alarm, number), channels=["siren"]) for number in range(20)]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(added) for added in pool.map(add, "abcd"))
    assert len(list(store.events())) == len(store.outbox.pending()) == 80


def test_columns_of_an_event_hold_no_time_of_recording():
    assert "added_us" not in event_columns(event())


def test_a_closed_store_may_be_closed_again(path):
    store = SqliteEventStore(path)
    store.close()
    store.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        store.add(event())


def test_a_fault_of_the_program_is_not_called_a_fault_of_the_disk(path):
    database = Database(path, create=True)
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        database.read("SELECT 1")


def test_dates_before_1970_are_kept(store):
    what = replace(event(), utc=datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
    store.add(what)
    assert store.event(what.id).event == what
