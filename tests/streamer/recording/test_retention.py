"""Retention: what goes, in which order, and what is never touched."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.recording.recording_paths import recording_path
from streamer.recording.retention import Reason, Retention, free_bytes

NOW = datetime(2026, 8, 10, 12, tzinfo=UTC)
HOUR = 3600
DAY = 24 * HOUR


def record(folder, *, age_s, size=1000, suffix=".mp4"):
    path = recording_path(folder, NOW - timedelta(seconds=age_s), suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def everything(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Disk:
    """A disk of its own for a folder: full by its files and by what others put there."""

    def __init__(self, folder, *, total, others=0):
        self.folder, self.total, self.others = folder, total, others

    def __call__(self, folder):
        assert folder == self.folder
        return self.total - self.others - sum(p.stat().st_size for p in everything(self.folder))


def plenty(folder):
    return 1 << 50


def retention(folder, *, max_age_s=None, max_bytes=None, min_free_bytes=0, free=plenty):
    return Retention(
        folder,
        max_age_s=max_age_s,
        max_bytes=max_bytes,
        min_free_bytes=min_free_bytes,
        measure_free=free,
    )


def test_what_is_too_old_goes_and_empty_days_with_it(tmp_path):
    old = [record(tmp_path / "north", age_s=3 * DAY + hours * HOUR) for hours in (0, 1, 40)]
    young = record(tmp_path / "north", age_s=DAY)
    report = retention(tmp_path, max_age_s=2 * DAY).enforce(NOW)
    assert [gone.path for gone in report.deleted] == old[::-1]
    assert {gone.reason for gone in report.deleted} == {Reason.AGE}
    assert (report.kept_files, report.kept_bytes) == (1, 1000)
    assert all(gone.reason is not Reason.FREE_SPACE for gone in report.deleted)
    assert [path.name for path in (tmp_path / "north").iterdir()] == [young.parent.name]
    assert "deleted 3 recordings" in report.describe()


def test_above_the_size_the_oldest_of_all_cameras_go_first(tmp_path):
    paths = [
        record(tmp_path / camera, age_s=age * HOUR)
        for age, camera in ((5, "north"), (4, "south"), (3, "north"), (2, "south"), (1, "west"))
    ]
    report = retention(tmp_path, max_bytes=3000).enforce(NOW)
    assert [gone.path for gone in report.deleted] == paths[:2]
    assert everything(tmp_path) == sorted(paths[2:])
    assert report.deleted[0].reason is Reason.SIZE


def test_before_the_disk_is_full_the_oldest_go_beyond_the_normal_rule(tmp_path):
    paths = [record(tmp_path, age_s=hours * HOUR) for hours in (5, 4, 3, 2, 1)]
    disk = Disk(tmp_path, total=10_000, others=3_500)
    report = retention(tmp_path, max_age_s=DAY, min_free_bytes=3000, free=disk).enforce(NOW)
    assert [gone.path for gone in report.deleted] == paths[:2]
    assert {gone.reason for gone in report.deleted} == {Reason.FREE_SPACE}
    assert report.free_bytes == 3_500
    assert not report.must_pause


def test_when_deleting_everything_is_not_enough_recording_must_pause(tmp_path):
    record(tmp_path, age_s=HOUR)
    evidence = tmp_path / "evidence" / "north-1" / "clip.mp4"
    evidence.parent.mkdir(parents=True)
    evidence.write_bytes(bytes(500))
    disk = Disk(tmp_path, total=10_000, others=9_000)
    rule = retention(tmp_path, min_free_bytes=2000, free=disk)
    report = rule.enforce(NOW)
    assert report.must_pause
    assert "recording must pause" in report.describe()
    assert everything(tmp_path) == [evidence]
    disk.others = 0
    assert not rule.enforce(NOW).must_pause


def test_where_deleting_frees_nothing_a_round_takes_no_more_than_is_missing(tmp_path):
    paths = [record(tmp_path, age_s=hours * HOUR) for hours in range(20, 0, -1)]
    report = retention(tmp_path, min_free_bytes=5000, free=lambda _: 2500).enforce(NOW)
    assert [gone.path for gone in report.deleted] == paths[:3]
    assert report.must_pause


def test_evidence_parts_links_and_strangers_are_never_touched(tmp_path):
    day = tmp_path / "north" / "2020-01-01"
    keep = [
        tmp_path / "evidence" / "2020-01-01" / "north-120000" / "clip.mp4",
        tmp_path / "events.sqlite",
        day / "12-00-00.mp4.part",
        day / "clip.mp4",
        day / "notes.txt",
        day / "99-00-00.mp4",
        tmp_path / "north" / "12-00-00.mp4",
    ]
    for path in keep:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    target = record(outside, age_s=100 * DAY)
    (tmp_path / "linked").symlink_to(outside)
    record(tmp_path / "north", age_s=100 * DAY)
    rule = retention(tmp_path, max_age_s=1, max_bytes=1, min_free_bytes=1, free=lambda _: 0)
    report = rule.enforce(NOW)
    assert len(report.deleted) == 1
    assert target.exists()
    assert set(keep) <= set(everything(tmp_path))
    assert report.kept_bytes == len("precious")  # The part counts.


def test_a_recording_that_cannot_be_deleted_is_reported_and_does_not_stop_the_others(
    tmp_path, monkeypatch
):
    stuck = record(tmp_path, age_s=3 * DAY)
    free = record(tmp_path, age_s=2 * DAY)
    unlink = Retention.enforce.__globals__["os"].unlink

    def refusing(path):
        if str(path) == str(stuck):
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path)

    monkeypatch.setattr("os.unlink", refusing)
    report = retention(tmp_path, max_age_s=DAY).enforce(NOW)
    assert [gone.path for gone in report.deleted] == [free]
    assert report.failed == (f"{stuck}: Permission denied",)
    assert (report.kept_files, report.kept_bytes) == (1, 1000)
    assert "1 could not be deleted" in report.describe()


def test_a_disk_on_which_nothing_can_be_deleted_ends_the_round_early(tmp_path, monkeypatch):
    for hours in range(100):
        record(tmp_path, age_s=hours * HOUR)

    def refusing(path):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("os.unlink", refusing)
    report = retention(tmp_path, max_age_s=1, max_bytes=1).enforce(NOW)
    assert len(report.failed) == 20
    assert report.kept_files == 100


def test_a_recording_that_somebody_else_deleted_is_no_failure(tmp_path, monkeypatch):
    record(tmp_path, age_s=3 * DAY)

    def gone(path):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr("os.unlink", gone)
    report = retention(tmp_path, max_age_s=DAY).enforce(NOW)
    assert (report.deleted, report.failed, report.kept_files) == ((), (), 0)


def test_a_folder_that_is_not_there_yet_has_nothing_to_keep(tmp_path):
    rule = Retention(tmp_path / "a" / "b", max_age_s=1, max_bytes=1, min_free_bytes=1)
    report = rule.enforce(NOW)
    assert (report.kept_files, report.failed, report.describe()) == (0, (), "")
    assert report.free_bytes > 0
    assert free_bytes(tmp_path / "a" / "b") > 0


def test_yesterdays_empty_folder_stays_for_a_recorder_that_has_just_made_it(tmp_path):
    for age in (0, 1, 3):
        (tmp_path / (NOW - timedelta(days=age)).date().isoformat()).mkdir()
    retention(tmp_path).enforce(NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2026-08-09", "2026-08-10"]


@given(
    st.lists(st.tuples(st.integers(0, 10 * DAY), st.integers(0, 5000)), max_size=15),
    st.none() | st.integers(1, 10 * DAY),
    st.none() | st.integers(1, 40_000),
    st.tuples(st.integers(0, 40_000), st.integers(0, 40_000)),
)
def test_the_oldest_go_no_more_than_needed_and_the_rules_hold_afterwards(
    tmp_path_factory, recordings, max_age_s, max_bytes, space
):
    min_free, others = space
    folder = tmp_path_factory.mktemp("recordings")
    for age_s, size in recordings:
        record(folder, age_s=age_s, size=size)
    disk = Disk(folder, total=60_000, others=others)
    before = {path: path.stat().st_size for path in everything(folder)}
    report = retention(
        folder, max_age_s=max_age_s, max_bytes=max_bytes, min_free_bytes=min_free, free=disk
    ).enforce(NOW)

    left = everything(folder)
    gone = [one.path for one in report.deleted]
    assert set(gone) | set(left) == set(before)
    assert not set(gone) & set(left)
    age = {path: path.parent.name + path.stem[:8] for path in before}
    assert all(age[one] <= age[other] for one in gone for other in left)
    total = sum(before[path] for path in left)
    assert (report.kept_files, report.kept_bytes) == (len(left), total)
    if max_bytes is not None:
        assert total <= max_bytes
    assert report.free_bytes == disk(folder)
    assert report.must_pause == (report.free_bytes < min_free)
    assert not report.must_pause or not left
    for one in report.deleted[-1:]:  # The last one was needed.
        if one.reason is Reason.SIZE:
            assert total + one.bytes > max_bytes
        if one.reason is Reason.FREE_SPACE:
            assert report.free_bytes - one.bytes < min_free


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_age_s": 0}, "max_age_s must be positive, got 0"),
        ({"max_bytes": 0}, "max_bytes must be positive, got 0"),
        ({"min_free_bytes": -1}, "min_free_bytes must not be negative, got -1"),
    ],
)
def test_impossible_limits_are_refused(tmp_path, limits, message):
    with pytest.raises(ValueError, match=message):
        retention(tmp_path, **limits)
