"""The program status: the state of a camera, and the problems that people should see."""

import json
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from streamer.core.frame import AlarmState
from streamer.core.latency import LatencyQuantiles
from streamer.core.link import LinkStatistics
from streamer.health import program_status as module
from streamer.health import snapshot
from streamer.health.disk import DiskStatus
from streamer.health.program_status import (
    CameraState,
    CameraStatus,
    EngineStatus,
    OutboxStatus,
    ProgramStatus,
    ServiceStatus,
)
from streamer.health.reports import (
    CameraReport,
    Condition,
    ErrorReport,
    TaskPhase,
    TaskReport,
)
from streamer.health.snapshot import program_status
from streamer.notify import ChannelStatus
from streamer.recording.ring import RingStatistics
from streamer.recording.segments import RecorderState
from streamer.store import Backlog
from tests.support.stepping import START, StepClock

SECOND = 1_000_000_000
NOW_S = 1000
CRASH = ErrorReport("disk gone (in thread north/file)", "Traceback ...\nSinkError: disk gone", 0)


def report(**changed) -> CameraReport:
    known = {
        "camera": "north",
        "stale_after_s": 4.0,
        "frames": 100,
        "fps": 1.0,
        "last_frame_ns": (NOW_S - 1) * SECOND,
        "alarm": AlarmState.IDLE,
        "size": (720, 1280),
    }
    return CameraReport(**{**known, **changed})


def task(**changed) -> TaskReport:
    known = {"name": "north", "phase": TaskPhase.RUNNING, "since_ns": 10 * SECOND}
    return TaskReport(**{**known, **changed})


def status(camera=None, its_task=None, **more) -> ProgramStatus:
    clock = StepClock()
    clock.step(NOW_S)
    return program_status(
        clock=clock,
        version="1.2",
        started_ns=0,
        cameras=[camera or report()],
        tasks={"north": its_task or task()},
        **more,
    )


@pytest.mark.parametrize(
    ("camera", "its_task", "state", "since_s", "reason"),
    [
        ({}, {}, "live", 10, ""),
        ({"connection_since_ns": 500 * SECOND}, {}, "live", 500, ""),
        ({"last_frame_ns": None}, {"since_ns": 990 * SECOND}, "starting", 990, ""),
        (
            {"last_frame_ns": None}, {"since_ns": 900 * SECOND},
            "stale", 900, "no frame since the start",
        ),
        ({"last_frame_ns": 990 * SECOND}, {}, "stale", 990, "no frames arrive"),
        (
            {"last_frame_ns": 990 * SECOND, "fault": "no route",
             "connection_since_ns": 991 * SECOND},
            {}, "reconnecting", 991, "no route",
        ),
        (
            {},
            {"phase": TaskPhase.BACKOFF, "since_ns": 999 * SECOND, "failing_since_ns": 50 * SECOND,
             "last_error": CRASH},
            "restarting", 50, CRASH.message,
        ),
        (
            {"last_frame_ns": 998 * SECOND},
            {"since_ns": 999 * SECOND, "failing_since_ns": 50 * SECOND, "last_error": CRASH},
            "restarting", 50, CRASH.message,
        ),
        (
            {},
            {"since_ns": 990 * SECOND, "failing_since_ns": 50 * SECOND, "last_error": CRASH},
            "unstable", 50, CRASH.message,
        ),
        ({}, {"last_error": CRASH, "restarts": 1}, "live", 10, ""),
        (
            {"overload": Condition("overload", "0.3 of 1 inferences a second", 700 * SECOND)}, {},
            "overloaded", 700, "0.3 of 1 inferences a second",
        ),
        (
            {"overload": Condition("overload", "busy", 0), "last_frame_ns": 990 * SECOND}, {},
            "stale", 990, "no frames arrive",
        ),
        (
            {}, {"phase": TaskPhase.FAILED, "since_ns": 70 * SECOND, "last_error": CRASH},
            "failed", 70, CRASH.message,
        ),
        ({"fault": "ended"}, {"phase": TaskPhase.ENDED, "since_ns": 80 * SECOND}, "ended", 80, ""),
    ],
)  # fmt: skip
def test_a_camera_has_one_state_with_its_beginning_and_its_reason(
    camera, its_task, state, since_s, reason
):
    (found,) = status(report(**camera), task(**its_task)).cameras
    assert (found.state.value, found.reason) == (state, reason)
    assert found.since_utc == START + timedelta(seconds=since_s)


@pytest.mark.parametrize(
    ("state", "healthy"), [(s, s.value in ("starting", "live", "ended")) for s in CameraState]
)
def test_every_state_that_needs_a_person_is_a_problem(state, healthy, monkeypatch):
    monkeypatch.setattr(snapshot, "_state", lambda *_: (state, 0, "because"))
    expected = () if healthy else (f"camera north: {state.value}: because",)
    assert status().problems == expected


def test_a_part_that_crashes_in_a_loop_is_a_problem_with_its_number_of_failures():
    loop = {"failures_last_hour": 12, "failing_since_ns": 50 * SECOND, "last_error": CRASH}
    whole = status(its_task=task(**loop), services=[task(name="delivery", **loop)])
    assert (whole.cameras[0].state, whole.services[0].state.value) == (
        CameraState.UNSTABLE, "backoff",
    )  # fmt: skip
    assert whole.services[0].since_utc == START + timedelta(seconds=50)
    assert whole.problems == (
        f"camera north: unstable: {CRASH.message} (failed 12 times in the last hour)",
        f"service delivery: failed: {CRASH.message} (failed 12 times in the last hour)",
    )


def test_the_last_error_stays_after_the_camera_has_recovered():
    (found,) = status(its_task=task(last_error=CRASH, restarts=7)).cameras
    assert (found.state, found.restarts) == (CameraState.LIVE, 7)
    assert (found.last_error, found.last_traceback) == (CRASH.message, CRASH.traceback)
    assert found.last_error_utc == START


def link(name, **counts) -> LinkStatistics:
    zero = {"depth": 0, "received": 0, "delivered": 0, "dropped_full": 0, "dropped_late": 0,
            "discarded": 0}  # fmt: skip
    age = LatencyQuantiles(1, 5.0, 8.0, 9.99, 12.0)
    return LinkStatistics(name=name, age=age, **{**zero, **counts})


def test_drops_are_counted_by_reason_over_all_links():
    links = (
        link("north/detect", received=10, delivered=5, dropped_full=2, dropped_late=3),
        link("north/status", received=5, delivered=1, dropped_full=3, discarded=1),
    )
    (found,) = status(report(links=links)).cameras
    assert (found.dropped_full, found.dropped_late, found.discarded) == (5, 3, 1)
    assert [(one.link, one.delivered, one.p99_age_ms) for one in found.links] == [
        ("detect", 5, 10.0), ("status", 1, 10.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("recorder", "shown"),
    [
        (None, ("off", "", 0)),
        (RecorderState(None, "", 0, 0, 0), ("waiting", "", 0)),
        (RecorderState(Path("a.mp4"), "", 3, 9, 2), ("recording", "", 2)),
        (RecorderState(None, "disk full", 3, 9, 5), ("stopped", "disk full", 5)),
    ],
)
def test_the_recorder_says_what_it_does_and_what_it_missed(recorder, shown):
    whole = status(report(recorder=recorder))
    (found,) = whole.cameras
    assert (found.recorder, found.recorder_reason, found.recorder_missed) == shown
    stopped = ("camera north: nothing is recorded: disk full",)
    assert whole.problems == (stopped if shown[0] == "stopped" else ())


def test_the_ring_says_what_it_holds_and_what_readers_lost():
    ring = RingStatistics(
        packets=25, bytes=1000, span_ns=2 * SECOND, received=40, evicted=10, discarded=5, readers=1,
        lost=3,
    )  # fmt: skip
    (found,) = status(report(ring=ring)).cameras
    assert (found.ring_packets, found.ring_bytes, found.ring_seconds) == (25, 1000, 2.0)
    assert (found.ring_discarded, found.ring_lost) == (5, 3)


def test_channels_that_fail_or_hold_deliveries_are_problems():
    whole = status(
        channels=[
            ChannelStatus("ops", last_error="HTTP 500", failed=3, confirmed=1),
            ChannelStatus("home"),
            ChannelStatus("mail", blocked="another process delivers for this channel"),
        ],
        backlog={"ops": Backlog(waiting=2, dead=1, oldest=START), "old": Backlog(1, 0, START)},
    )
    assert [(one.channel, one.reason, one.waiting, one.dead_letters) for one in whole.outbox] == [
        ("ops", "HTTP 500", 2, 1),
        ("home", "", 0, 0),
        ("mail", "another process delivers for this channel", 0, 0),
        ("old", "not in the configuration", 1, 0),
    ]
    assert whole.problems == (
        "channel ops: HTTP 500",
        "channel ops: 1 dead letter waits for a decision: see `deliveries`",
        "channel mail: another process delivers for this channel",
        "channel old: not in the configuration",
    )


def test_a_condition_is_a_problem_with_its_beginning():
    whole = status(
        report(conditions=(Condition("evidence", "disk full", 900 * SECOND),)),
        conditions=[Condition("clock", "not set", 10 * SECOND)],
    )
    assert whole.problems == ("clock: not set", "camera north: evidence: disk full")
    assert [(one.condition, one.camera, one.since_utc) for one in whole.conditions] == [
        ("clock", None, START + timedelta(seconds=10)),
        ("evidence", "north", START + timedelta(seconds=900)),
    ]


def test_frames_dropped_before_the_links_are_counted_by_their_reason():
    (found,) = status(report(dropped={"behind": 2})).cameras
    assert found.dropped == {"full": 0, "late": 0, "discarded": 0, "behind": 2}


def test_services_engines_outbox_and_disk_that_fail_are_problems():
    whole = status(
        services=[
            TaskReport(name="delivery", phase=TaskPhase.BACKOFF, since_ns=0, last_error=CRASH),
            TaskReport(name="web", phase=TaskPhase.RUNNING, since_ns=0, restarts=1,
                       last_error=CRASH),
        ],
        engines=[
            EngineStatus(engine="smoke", backend="b", device="cpu", degraded=True,
                         reason="no driver", building=None),
            EngineStatus(engine="lowlight", backend="b", device="cpu", degraded=False, reason="",
                         building=0.5),
        ],
        outbox_error="database locked",
        disk=DiskStatus(path="/data", state="low", reason="only 2.0 GB are free for /data",
                        free_bytes=2, total_bytes=3),
    )  # fmt: skip
    assert whole.problems == (
        f"service delivery: failed: {CRASH.message}",
        "engine smoke: runs on cpu: no driver",
        "outbox: database locked",
        "disk: only 2.0 GB are free for /data",
    )
    assert [(one.service, one.restarts) for one in whole.services] == [("delivery", 0), ("web", 1)]


def json_keys(kind) -> set[str]:
    return {field.name for field in fields(kind) if field.metadata.get("json", True)}


def test_as_json_it_is_flat_and_its_keys_are_the_field_names():
    whole = status(
        its_task=task(last_error=CRASH), services=[task(name="delivery")],
        channels=[ChannelStatus("ops")],
    )  # fmt: skip
    found = json.loads(json.dumps(whole.as_json()))
    assert set(found) == json_keys(ProgramStatus)
    assert set(found["cameras"][0]) == json_keys(CameraStatus)
    assert found["utc"] == "2026-01-01T00:16:40.000+00:00"
    assert found["cameras"][0]["state"] == "live"
    nested = [key for key, value in found["cameras"][0].items() if isinstance(value, list | dict)]
    assert nested == ["links"]


def test_the_readme_documents_every_key():
    text = (Path(module.__file__).parent / "README.md").read_text()
    kinds = (ProgramStatus, CameraStatus, ServiceStatus, EngineStatus, OutboxStatus, DiskStatus,
             module.LinkStatus, module.ConditionStatus)  # fmt: skip
    missing = [key for kind in kinds for key in json_keys(kind) if f"`{key}`" not in text]
    assert not missing


def test_the_entry_for_channels_has_neither_traceback_nor_figures_that_change_all_the_time():
    entry = status(its_task=task(last_error=CRASH)).cameras[0].summary()
    assert entry["state"] == "live"
    assert entry["last_error"] == CRASH.message
    assert not {"last_traceback", "frames", "fps", "age_s", "last_frame_utc"} & set(entry)
    assert json.dumps(entry)
