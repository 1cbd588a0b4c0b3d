"""The program with alarms that an earlier run left active, and on disks that are full."""

import json

import numpy as np
import pytest

from streamer.app.models import Models
from streamer.app.program import open_program
from streamer.config import load
from streamer.store import EvidenceState
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import event
from tests.support.disks import fill, hanging_disk, small_disk
from tests.support.http_receiver import HttpReceiver

from .test_program import Network, camera, running, until


class SmokeNetwork(Network):
    """A network that sees smoke in one place while `smoke` is set."""

    def __init__(self, *, smoke=True):
        self.smoke = smoke

    def __call__(self, image, background=None, *, dark=False):
        probability = np.full((image.shape[0] // 2, image.shape[1] // 2), 0.01, np.float32)
        if self.smoke:
            height, width = probability.shape
            probability[height // 3 : height // 2, width // 3 : width // 2] = 0.97
        return probability


def configured(folder, data, *, url=None, cameras="north"):
    path = folder / "station.yaml"
    notify = f"notify: {{ops: {{kind: webhook, url: '{url}'}}}}\n" if url else ""
    path.write_text(
        f"data_dir: {data}\n{notify}"
        "defaults:\n"
        "  detect: {fps: 10, low_light: false, zoom_verification: false}\n"
        "  alarm: {confirm_window_s: 0.3, clear_after_s: 0.5, min_score_without_background: 0.4}\n"
        "cameras:\n"
        + "".join(
            f"  {name}: {{source: {{address: 'pattern:', live: always}}}}\n"
            for name in cameras.split()
        )
    )
    return load(path).config


def conditions(program, kind):
    return [one.reason for one in program.status().conditions if one.condition == kind]


def stored(path):
    with SqliteEventStore.open_read_only(path) as store:
        return list(store.events())


def test_an_alarm_that_was_active_is_active_from_the_start_and_cleared_when_that_was_observed(
    tmp_path,
):
    config = configured(tmp_path, tmp_path / "data")
    with SqliteEventStore(config.events_file) as store:
        store.add(event("north-1"))
        store.add(event("gone-1", camera="gone"))
    with open_program(config, models=Models(Network())) as program:
        assert camera(program, "north").alarm == "alarm", "before any frame has come"
        (reason,) = conditions(program, "open_alarm")
        assert reason.startswith("alarm gone-1 was never cleared, and its camera is not watched")
        assert any("gone-1" in line for line in program.status().problems)
    with running(config, models=Models(Network())) as (program, _):
        until(lambda: camera(program, "north").alarm == "idle", what="cleared")
        assert conditions(program, "open_alarm") == [reason]
    cleared = stored(config.events_file)[-1].event
    assert (cleared.alarm_id, cleared.kind.value, cleared.sequence) == ("north-1", "cleared", 1)
    assert cleared.reason.startswith("nothing seen for ")


def test_an_alarm_that_was_active_is_updated_and_not_raised_again(tmp_path):
    config = configured(tmp_path, tmp_path / "data")
    with running(config, models=Models(SmokeNetwork())) as (program, _):
        until(lambda: camera(program, "north").alarm == "alarm", what="raised")
    with running(config, models=Models(SmokeNetwork())) as (program, _):
        before = camera(program, "north").frames
        until(lambda: camera(program, "north").frames > before + 20, what="two seconds")
        assert camera(program, "north").alarm == "alarm"
    assert [one.event.kind.value for one in stored(config.events_file)] == ["raised"]


@pytest.mark.system
def test_a_data_folder_that_hangs_from_the_start_keeps_no_alarm_from_being_raised_and_notified(
    tmp_path, monkeypatch
):
    for wait in ("data_folder._LOCK_S", "data_folder._RECOVER_S", "detector_builder._READ_S"):
        monkeypatch.setattr(f"streamer.app.{wait}", 0.2)
    monkeypatch.setattr("streamer.store.buffered._OPEN_WAIT_S", 0.2)
    with HttpReceiver() as receiver, hanging_disk(tmp_path / "disk") as disk:
        config = configured(tmp_path, disk / "data", url=receiver.url)
        with running(config, models=Models(SmokeNetwork())) as (program, _):
            receiver.wait_for(lambda: any(b'"raised"' in one.body for one in receiver.requests))
            until(lambda: conditions(program, "store"), what="the status says it")
            assert camera(program, "north").state.value == "live"
            assert camera(program, "north").alarm == "alarm"


@pytest.mark.system
def test_on_a_disk_without_any_room_smoke_is_notified_and_the_status_says_so(tmp_path):
    with HttpReceiver() as receiver, small_disk(tmp_path / "disk", mib=16) as disk:
        config = configured(tmp_path, disk / "data", url=receiver.url)
        network = SmokeNetwork(smoke=False)
        with running(config, models=Models(network)) as (program, _):
            until(lambda: camera(program, "north").frames, what="frames")
            program._store.call(lambda store: list(iter(store._database.reserve.give_back, False)))
            filler = fill(disk)
            while not fails_to_store(program):  # What is free within the file is used up first.
                fill(disk)
            network.smoke = True
            receiver.wait_for(lambda: any(b"raised" in one.body for one in receiver.requests))
            (raised,) = [one for one in receiver.requests if b'"kind": "raised"' in one.body]
            assert b'"stored": false' in raised.body
            until(lambda: conditions(program, "store"), what="the status says it")
            assert camera(program, "north").state.value == "live"
            assert camera(program, "north").alarm == "alarm"
            assert camera(program, "north").restarts == 0
            filler.unlink()
            until(lambda: not conditions(program, "store"), what="stored")
        found = [one for one in stored(config.events_file) if one.event.camera == "north"]
        assert found[0].event.id == json.loads(event_of(raised))["id"]
        keys = receiver.counts()
        assert keys[raised.key] == 1
        assert found[0].evidence_state in (EvidenceState.FAILED, EvidenceState.DEGRADED)


def fails_to_store(program):
    """Store one more event of another camera; return whether that failed."""
    fails_to_store.count = getattr(fails_to_store, "count", 0) + 1
    return not program._store.add(event(f"filler-{fails_to_store.count}", camera="filler"))


def event_of(request):
    """The JSON of a notification, which may be one part of several."""
    if request.headers["content-type"] == "application/json":
        return request.body
    return request.body.split(b"\r\n\r\n")[1].split(b"\r\n--")[0]
