"""Retention of the whole program: one order for all cameras, real disks, clocks that leap."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from streamer.app import retention
from streamer.app.event_retention import EventLimits, expire_events
from streamer.app.retention import RetentionService, retention_plan
from streamer.config import Config
from streamer.core.clock_guard import ClockGuard, ClockReading
from streamer.recording.expiry import Limits
from streamer.recording.recording_paths import RecordingNumbers, recording_path
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import event
from tests.support.disks import fill, hanging_disk, small_disk

NOW = datetime(2026, 8, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NS = 1_000_000_000


class Clock:
    """A wall clock that leaps and a monotonic clock that does not."""

    def __init__(self):
        self.elapsed_s, self.wrong = 0, timedelta(0)

    def monotonic_ns(self):
        return self.elapsed_s * NS

    def utc_at(self, monotonic_ns):
        return NOW + timedelta(seconds=monotonic_ns / NS) + self.wrong

    def reading(self):
        wall = self.utc_at(self.monotonic_ns())
        wall_ns = (wall - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
        return ClockReading(wall_ns, self.monotonic_ns(), "boot", synchronised=False)


class Camera:
    def __init__(self, output_path=None):
        self.paused = self.output_paused = ""
        self.output_path = output_path

    def pause_storage(self, reason):
        self.paused = reason

    def pause_output(self, reason):
        self.output_paused = reason


def configured(folder, cameras=None, **more):
    base = {"address": "rtsp://192.0.2.1/x"}
    cameras = {"north": {}, "south": {}} if cameras is None else cameras
    return Config.model_validate(
        {
            "data_dir": str(folder),
            "cameras": {name: {"source": base, **each} for name, each in cameras.items()},
            **more,
        }
    )


class Setup:
    """A retention service over a folder, with all that a test wants to move."""

    def __init__(self, folder, cameras=None, **more):
        self.config = configured(folder, cameras, **more)
        self.clock = Clock()
        self.store = SqliteEventStore(self.config.events_file, clock=self.clock)
        self.numbers = RecordingNumbers(self.config.recordings_folder)
        self.guard = ClockGuard(self.config.clock_file, read=self.clock.reading)
        self.camera = Camera()
        self.service = RetentionService(
            retention_plan(self.config), store=self.store, guard=self.guard, numbers=self.numbers,
            cameras=lambda: [self.camera], clock=self.clock,
        )  # fmt: skip

    def record(self, camera, *, age=timedelta(0), size=1000):
        number = self.numbers.take()
        self.guard.observe(number)
        start = self.clock.utc_at(self.clock.monotonic_ns()) - age
        path = recording_path(self.config.recordings_folder / camera, start, ".mp4", number=number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
        return path

    def step(self, *, after_s=60):
        self.clock.elapsed_s += after_s
        self.service.step()

    def left(self):
        return sorted(self.config.recordings_folder.rglob("*.mp4"))

    def conditions(self):
        return {one.kind: one.reason for one in self.service.conditions()}


@pytest.fixture
def setup(tmp_path):
    made = []

    def make(cameras=None, *, folder=tmp_path, **more):
        made.append(Setup(folder / "data", cameras, **more))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


@pytest.mark.system
def test_a_full_disk_costs_the_oldest_recordings_of_all_cameras_alike(setup, tmp_path):
    with small_disk(tmp_path / "disk", mib=20) as disk:
        it = setup({"first": {}, "second": {}, "gone": {}}, folder=disk)
        cameras = ["second", "first", "gone", "first", "second", "first"]
        paths = [it.record(name, size=2_000_000) for name in cameras]
        ballast = fill(disk, leave=1_000_000)  # A tenth of the disk, 2.1 MB, must be free.
        it.step()
        assert it.left() == sorted(paths[1:])
        assert it.service.disk().state == "ok"
        assert not it.camera.paused
        ballast.unlink()
        it.store.close()


@pytest.mark.system
def test_recordings_on_a_disk_of_their_own_are_deleted_for_its_space_only(setup, tmp_path):
    with (
        small_disk(tmp_path / "data", mib=20),
        small_disk(tmp_path / "big", mib=20) as big,
    ):
        it = setup()
        it.config.recordings_folder.symlink_to(big, target_is_directory=True)
        paths = [it.record("north", size=2_000_000) for _ in range(3)]
        ballast = fill(tmp_path / "data", leave=1_000_000)
        it.step()
        assert sorted(big.rglob("*.mp4")) == [big / "north" / p.parent.name / p.name for p in paths]
        ballast.unlink()
        fill(big, leave=1_000_000)
        it.step()
        assert len(list(big.rglob("*.mp4"))) == len(paths) - 1
        assert not paths[0].exists()
        it.store.close()


@pytest.mark.system
def test_when_nothing_can_be_deleted_recording_pauses_and_goes_on_when_there_is_room(
    setup, tmp_path
):
    with small_disk(tmp_path / "disk", mib=20) as disk:
        it = setup(folder=disk)  # Nobody records; the guard of free space is there all the same.
        ballast = fill(disk, leave=500_000)
        it.step()
        assert it.service.disk().state == "critical"
        assert it.camera.paused.startswith("paused: only 0.5 MB are free for")
        assert it.conditions()["recording"] == it.camera.paused
        ballast.unlink()
        it.step(after_s=5)
        assert it.service.disk().state == "ok"
        assert (it.camera.paused, it.conditions()) == ("", {})
        it.store.close()


@pytest.mark.system
def test_recordings_go_before_output_files_and_evidence_stays(setup, tmp_path):
    with small_disk(tmp_path / "disk", mib=30) as disk:
        output = disk / "out" / "north.mp4"
        it = setup({"north": {"outputs": {"file": {"path": str(output)}}}}, folder=disk)
        recording = it.record("north", size=1_000_000)
        output.parent.mkdir()
        outputs = [output.with_name(f"north-000{n}.mp4") for n in (1, 2)]
        for path in outputs:
            path.write_bytes(bytes(1_500_000))
        evidence = it.config.evidence_folder / "north" / "a" / "clip.mp4"
        evidence.parent.mkdir(parents=True)
        evidence.write_bytes(bytes(1_000_000))
        fill(disk, leave=1_500_000)  # 3.1 MB must be free.
        it.step()
        assert not recording.exists()
        assert [path.exists() for path in outputs] == [False, True]
        assert evidence.exists()
        it.store.close()


def test_each_camera_has_its_own_limits_and_those_of_all_bound_the_sum(setup):
    it = setup(
        {
            "north": {"record": {"max_age_days": 30}},
            "south": {"enabled": False, "record": {"max_age_days": 2}},
        },
        defaults={"record": {"max_age_days": 4}},
    )
    for age in (20, 10, 5, 3, 1):
        for camera in ("north", "south", "removed long ago"):
            it.record(camera, age=age * DAY)
    it.step()
    ages = {}
    for path in it.left():
        ages.setdefault(path.parent.parent.name, []).append(path.parent.name)
    assert ages == {
        "north": ["2026-07-21", "2026-07-31", "2026-08-05", "2026-08-07", "2026-08-09"],
        "south": ["2026-08-09"],
        "removed long ago": ["2026-08-07", "2026-08-09"],
    }


def test_the_limits_of_all_recordings_count_too(setup):
    it = setup(retention={"recordings": {"max_age_days": 2, "max_gb": 3.5e-6}})
    paths = [it.record(c, age=a * DAY) for a, c in ((3, "north"), (1, "south"), (0.9, "north"))]
    paths += [it.record(c, age=a * DAY) for a, c in ((0.8, "south"), (0.5, "north"))]
    it.step()
    assert it.left() == sorted(paths[2:])


def test_a_clock_that_leaps_deletes_nothing_and_says_so(setup):
    it = setup()
    paths = [it.record("north", age=age * DAY) for age in (5, 3, 1)]
    it.step()
    it.clock.wrong = 3653 * DAY
    for _ in range(3):
        it.step()
    assert it.left() == sorted(paths)
    assert it.conditions()["clock"].startswith("the clock leapt by +3653.0 days to 2036-08-10")
    it.clock.wrong = timedelta(0)
    it.step()
    assert it.conditions() == {}
    assert it.left() == sorted(paths)


def test_while_the_clock_is_not_believed_size_still_counts(setup):
    it = setup({"north": {"record": {"max_gb": 2.5e-6}}})
    it.clock.wrong = datetime(1970, 1, 1, tzinfo=UTC) - NOW
    paths = [it.record("north") for _ in range(4)]
    it.step()
    assert it.left() == sorted(paths[2:])
    assert it.conditions()["clock"].startswith("the clock is not set")


def test_what_was_recorded_before_the_clock_was_set_gets_its_true_time_and_lives(setup):
    it = setup()
    it.clock.wrong = datetime(1970, 1, 1, tzinfo=UTC) - NOW
    for _ in range(3):
        it.record("north")
        it.clock.elapsed_s += 60
    it.step()
    assert {path.parent.name for path in it.left()} == {"1970-01-01"}
    it.clock.wrong = timedelta(0)
    it.record("north")
    it.step()
    assert [path.stem for path in it.left()] == [
        "12-00-00_000001c", "12-01-00_000002c", "12-02-00_000003c", "12-04-00_000004",
    ]  # fmt: skip
    assert {path.parent.name for path in it.left()} == {"2026-08-10"}
    assert it.conditions() == {}
    it.clock.elapsed_s += 8 * 86_400
    it.step()
    assert it.left() == []


def test_the_guard_of_free_space_is_the_largest_of_all_keys():
    config = configured(
        "/d",
        {
            "a": {"record": {"enabled": True, "min_free_gb": 9}},
            "b": {"record": {"enabled": False, "min_free_gb": 50}},
        },
        retention={"min_free_gb": 3},
    )
    assert retention_plan(config).min_free_bytes == 9 * 10**9


NO_LIMITS = EventLimits(events=Limits(), evidence=Limits())


def alarm(it, name, *, days_ago, cleared=True, channels=(), size=1000):
    """An alarm with evidence, recorded *days_ago*."""
    it.clock.wrong = -days_ago * DAY
    folder = it.config.evidence_folder / "north" / name
    folder.mkdir(parents=True)
    (folder / "still-0.jpg").write_bytes(bytes(size))
    for sequence, kind in enumerate(["raised", *(["cleared"] if cleared else [])]):
        what = event(name, sequence, kind=kind)
        it.store.add(what, evidence=folder, channels=channels)
    it.clock.wrong = timedelta(0)
    return folder


@pytest.mark.system
def test_a_share_of_outputs_that_hangs_holds_up_no_other_disk(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(retention, "_ANSWER_S", 0.2)
    with hanging_disk(tmp_path / "share") as share:
        it = setup({"north": {"outputs": {"file": {"path": str(share / "north.mp4")}}}})
        old, young = it.record("north", age=900 * DAY), it.record("north")
        it.step()
        assert it.left() == [young], old
        assert it.service.disk().free_bytes
        assert it.conditions() == {"output": f"the disk of {share} does not answer"}
        (before,) = it.service.conditions()
        it.step()
        assert it.service.conditions() == [before]
    it.step()
    assert it.conditions() == {}


@pytest.mark.system
def test_recordings_on_a_disk_of_their_own_that_hangs_hold_up_no_other_disk(setup, monkeypatch):
    monkeypatch.setattr(retention, "_ANSWER_S", 0.2)
    it = setup()
    it.step()
    with hanging_disk(it.config.recordings_folder) as share:
        it.step()
        assert it.conditions() == {"recording": f"the disk of {share} does not answer"}
        assert it.service.disk().free_bytes
    it.step()
    assert it.conditions() == {}


def expire(it, *, believed=True, **limits):
    return expire_events(
        it.store.retention, it.config.evidence_folder, limits=replace(NO_LIMITS, **limits),
        now=it.clock.utc_at(it.clock.monotonic_ns()), believed=believed,
    )  # fmt: skip


def stored(it):
    return list(dict.fromkeys(each.event.alarm_id for each in it.store.events()))


def test_old_alarms_go_with_their_evidence_but_for_open_held_and_unsent_ones(setup):
    it = setup()
    folders = {
        "old": alarm(it, "old", days_ago=50),
        "open": alarm(it, "open", days_ago=49, cleared=False),
        "held": alarm(it, "held", days_ago=48),
        "unsent": alarm(it, "unsent", days_ago=47, channels=["siren"]),
        "young": alarm(it, "young", days_ago=3),
    }
    it.store.retention.hold("held", "court")
    for kind in ("evidence", "events"):
        expire(it, **{kind: Limits(max_age=10 * DAY, max_bytes=1)})
    assert stored(it) == ["open", "held", "unsent"]
    assert [name for name, folder in folders.items() if folder.exists()] == [
        "open", "held", "unsent",
    ]  # fmt: skip


def test_evidence_goes_by_its_own_limits_and_the_events_say_so(setup):
    it = setup()
    old, young = alarm(it, "old", days_ago=50), alarm(it, "young", days_ago=3)
    assert expire(it, evidence=Limits(max_age=10 * DAY)) == "deleted the evidence of 1 alarms"
    assert (old.exists(), young.exists()) == (False, True)
    assert stored(it) == ["old", "young"]
    gone = it.store.event("old-0")
    assert gone.evidence_deleted == NOW


def test_the_oldest_evidence_goes_first_by_size(setup):
    it = setup()
    folders = [alarm(it, f"a{n}", days_ago=9 - n, size=1000) for n in range(4)]
    expire(it, evidence=Limits(max_bytes=2500))
    assert [folder.exists() for folder in folders] == [False, False, True, True]


def test_a_clock_that_is_not_believed_deletes_no_event_by_age(setup):
    it = setup()
    alarm(it, "a", days_ago=50)
    assert expire(it, believed=False, events=Limits(max_age=DAY), evidence=Limits(DAY)) == ""
    assert stored(it) == ["a"]


def test_an_alarm_of_1970_lives_as_long_as_the_next_one(setup):
    it = setup()
    alarm(it, "early", days_ago=20_000)
    alarm(it, "next", days_ago=3)
    expire(it, events=Limits(max_age=10 * DAY))
    assert stored(it) == ["early", "next"]


@pytest.mark.parametrize("agreed", [True, False])
def test_a_deletion_that_was_killed_is_completed_or_undone(setup, agreed):
    it = setup()
    folder = alarm(it, "a", days_ago=3)
    aside = folder.rename(folder.with_name("a.expired"))
    if agreed:
        it.store.retention.forget_evidence("a")
    expire(it)
    assert not aside.exists()
    assert folder.exists() is not agreed


def test_evidence_outside_the_folder_is_never_deleted(setup, tmp_path):
    it = setup()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for sequence, kind in enumerate(["raised", "cleared"]):
        it.store.add(event("a", sequence, kind=kind), evidence=elsewhere)
    it.clock.elapsed_s = 400 * 86_400
    expire(it, events=Limits(max_age=DAY))
    assert stored(it) == []
    assert elsewhere.exists()
