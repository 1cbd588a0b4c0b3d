"""Retention of recordings: what goes, in which order, and what is never touched."""

import itertools
from datetime import UTC, datetime, timedelta

from streamer.core.clock_guard import Correction
from streamer.recording.expiry import Limits, Reason
from streamer.recording.recording_paths import recording_path
from streamer.recording.retention import Recordings

NOW = datetime(2026, 8, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def record(folder, *, age, number, size=1000, suffix=".mp4"):
    path = recording_path(folder, NOW - age, suffix, number=number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def everything(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def gone(done):
    return [one.path for one in done.deleted]


def apply(folder, *, max_age=None, max_bytes=None, now=NOW, **more):
    done = Recordings(folder).round(now=now, **more)
    done.apply(total=Limits(max_age, max_bytes), now=now)
    Recordings(folder).remove_empty_days(now)
    return done


def test_what_is_too_old_goes_and_empty_days_with_it(tmp_path):
    ages = (3 * DAY + 40 * HOUR, 3 * DAY + HOUR, 3 * DAY)
    old = [record(tmp_path / "north", age=age, number=n) for n, age in enumerate(ages, 1)]
    young = record(tmp_path / "north", age=DAY, number=9)
    done = apply(tmp_path, max_age=2 * DAY)
    assert gone(done) == old
    assert {one.reason for one in done.deleted} == {Reason.AGE}
    assert (done.kept_files, done.kept_bytes) == (1, 1000)
    assert [path.name for path in (tmp_path / "north").iterdir()] == [young.parent.name]
    assert "deleted 3 recordings" in done.describe()


def test_space_is_made_by_the_oldest_of_all_cameras_whatever_their_order(tmp_path):
    paths = [
        record(tmp_path / camera, age=age * HOUR, number=6 - age)
        for age, camera in ((5, "north"), (4, "south"), (3, "north"), (2, "south"), (1, "west"))
    ]
    done = Recordings(tmp_path).round(now=NOW)
    assert done.free(2500) <= 0
    assert gone(done) == paths[:3]
    assert everything(tmp_path) == sorted(paths[3:])


def test_the_sequence_gives_the_order_not_the_clock(tmp_path):
    first = record(tmp_path / "north", age=-3650 * DAY, number=1)  # Named in 2036.
    second = record(tmp_path / "south", age=20_000 * DAY, number=2)  # Named in 1971.
    third = record(tmp_path / "north", age=HOUR, number=3)
    done = apply(tmp_path, max_bytes=2500)
    assert gone(done) == [first]
    assert everything(tmp_path) == sorted([second, third])


def test_a_file_with_an_impossible_time_lives_as_long_as_the_next_one(tmp_path):
    early = record(tmp_path / "north", age=20_000 * DAY, number=1)
    late = record(tmp_path / "north", age=-3650 * DAY, number=2)
    good = record(tmp_path / "north", age=6 * DAY, number=3)
    assert gone(apply(tmp_path, max_age=7 * DAY)) == []
    assert gone(apply(tmp_path, max_age=5 * DAY)) == [early, late, good]


def test_a_file_whose_time_is_not_known_is_not_too_old(tmp_path):
    record(tmp_path / "north", age=60 * DAY, number=1)
    assert gone(apply(tmp_path, max_age=7 * DAY, is_known=lambda number: number != 1)) == []


def test_recordings_of_earlier_versions_without_a_number_are_the_oldest(tmp_path):
    new = record(tmp_path / "north", age=2 * HOUR, number=1)
    old = new.with_name("23-59-00.mp4")
    old.write_bytes(bytes(1000))
    assert gone(apply(tmp_path, max_bytes=1500)) == [old]


def test_a_round_frees_no_more_than_is_missing(tmp_path):
    paths = [record(tmp_path, age=(21 - n) * HOUR, number=n) for n in range(1, 21)]
    done = Recordings(tmp_path).round(now=NOW)
    assert done.free(2500) == -500
    assert gone(done) == paths[:3]
    assert {one.reason for one in done.deleted} == {Reason.FREE_SPACE}


def test_what_was_deleted_by_age_is_not_deleted_again_for_space(tmp_path):
    record(tmp_path, age=3 * DAY, number=1)
    young = record(tmp_path, age=HOUR, number=2)
    done = Recordings(tmp_path).round(now=NOW)
    done.apply(total=Limits(max_age=DAY), now=NOW)
    assert done.free(1) == -999
    assert gone(done)[1:] == [young]
    assert done.free(1) == 1


def test_a_round_ends_between_two_files_when_the_program_does(tmp_path):
    for number in range(1, 6):
        record(tmp_path, age=3 * DAY, number=number)
    stops = itertools.chain([False, False], itertools.repeat(True))
    assert len(gone(apply(tmp_path, max_age=DAY, stop=lambda: next(stops)))) == 2


def test_evidence_parts_links_and_strangers_are_never_touched(tmp_path):
    day = tmp_path / "north" / "2025-01-01"
    keep = [
        day / "12-00-00_000004.mp4.part",
        day / "clip.mp4",
        day / "notes.txt",
        day / "99-00-00.mp4",
        tmp_path / "north" / "12-00-00.mp4",
    ]
    for path in keep:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    target = record(outside, age=100 * DAY, number=1)
    (tmp_path / "linked").symlink_to(outside)
    record(tmp_path / "north", age=100 * DAY, number=2)
    done = Recordings(tmp_path).round(now=NOW)
    done.apply(total=Limits(max_age=HOUR, max_bytes=1), now=NOW)
    done.free(1 << 40)
    assert len(done.deleted) == 1
    assert target.exists()
    assert set(keep) <= set(everything(tmp_path))
    assert done.kept_bytes == len("precious")  # The part counts.


def test_a_recording_that_cannot_be_deleted_is_reported_and_does_not_stop_the_others(
    tmp_path, monkeypatch
):
    stuck = record(tmp_path, age=3 * DAY, number=1)
    free = record(tmp_path, age=2 * DAY, number=2)
    unlink = Recordings.round.__globals__["os"].unlink

    def refusing(path):
        if str(path) == str(stuck):
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path)

    monkeypatch.setattr("os.unlink", refusing)
    done = apply(tmp_path, max_age=DAY)
    assert gone(done) == [free]
    assert done.failed == [f"{stuck}: Permission denied"]
    assert (done.kept_files, done.kept_bytes) == (1, 1000)
    assert "1 could not be deleted" in done.describe()


def test_a_disk_on_which_nothing_can_be_deleted_ends_the_round_early(tmp_path, monkeypatch):
    for number in range(1, 101):
        record(tmp_path, age=DAY * 2, number=number)

    def refusing(path):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("os.unlink", refusing)
    done = apply(tmp_path, max_age=HOUR, max_bytes=1)
    assert len(done.failed) == 20
    assert done.kept_files == 100


def test_a_recording_that_somebody_else_deleted_is_no_failure(tmp_path, monkeypatch):
    record(tmp_path, age=3 * DAY, number=1)

    def missing(path):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr("os.unlink", missing)
    done = apply(tmp_path, max_age=DAY)
    assert (done.deleted, done.failed, done.kept_files) == ([], [], 0)


def test_a_folder_that_is_not_there_yet_has_nothing_to_keep(tmp_path):
    done = apply(tmp_path / "a" / "b", max_age=HOUR)
    assert (done.kept_files, done.failed, done.describe()) == (0, [], "")


def test_empty_folders_of_days_around_today_stay_for_a_recorder_that_has_just_made_one(tmp_path):
    for age in (-3650, -1, 0, 1, 3, 20_000):
        (tmp_path / (NOW - age * DAY).date().isoformat()).mkdir()
    Recordings(tmp_path).remove_empty_days(NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "2026-08-09", "2026-08-10", "2026-08-11",
    ]  # fmt: skip


def test_recordings_of_a_wrong_clock_get_their_true_times_once(tmp_path):
    before = record(tmp_path / "north", age=2 * HOUR, number=1)
    for camera, number in (("north", 2), ("south", 3)):
        record(tmp_path / camera, age=3650 * DAY + HOUR, number=number, size=number)
    after = record(tmp_path / "north", age=timedelta(0), number=4)
    correction = Correction(2, 4, 3650 * DAY)
    for _ in range(2):
        assert Recordings(tmp_path).correct(correction)
    day = NOW.date().isoformat()
    fixed = [
        tmp_path / c / day / f"11-00-00_00000{n}c.mp4" for c, n in (("north", 2), ("south", 3))
    ]
    assert everything(tmp_path) == sorted([before, *fixed, after])
    assert [path.stat().st_size for path in fixed] == [2, 3]


def test_a_recording_that_is_being_written_is_corrected_when_it_is_complete(tmp_path):
    path = record(tmp_path / "north", age=3650 * DAY, number=2)
    part = path.rename(path.with_name(path.name + ".part"))
    correction = Correction(2, 3, 3650 * DAY)
    assert not Recordings(tmp_path).correct(correction)
    part.rename(path)
    assert Recordings(tmp_path).correct(correction)
    assert everything(tmp_path) == [tmp_path / "north" / "2026-08-10" / "12-00-00_000002c.mp4"]


def test_a_recording_that_cannot_get_its_true_time_does_not_hold_up_the_others(tmp_path):
    paths = [
        record(tmp_path / camera, age=3650 * DAY, number=number)
        for number, camera in enumerate(["north", "south"], start=2)
    ]
    (tmp_path / "north" / "2026-08-10").write_text("no folder can be made here")
    correction = Correction(2, 4, 3650 * DAY)
    assert not Recordings(tmp_path).correct(correction)
    assert paths[0].exists()
    assert not paths[1].exists()
    (tmp_path / "north" / "2026-08-10").unlink()
    assert Recordings(tmp_path).correct(correction)
    assert not paths[0].exists()
