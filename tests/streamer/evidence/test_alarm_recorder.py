"""Event, evidence and clip: in which order, and what a bad disk, a stop or a kill does."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from structlog.testing import capture_logs

from streamer.core.clock import MediaClock
from streamer.core.errors import StorageError
from streamer.core.frame import SegmentationResult
from streamer.evidence.alarm_recorder import AlarmRecorder
from streamer.evidence.clip_writer import ClipSpan, ClipWriter
from streamer.evidence.disk_worker import DiskWorker
from streamer.evidence.manifest import verify
from streamer.evidence.writer import EvidenceWriter, Provenance
from streamer.notify import RetryPolicy
from streamer.notify.delivery_worker import DeliveryWorker, Outcome
from streamer.recording.ring import PacketRing
from streamer.store import EvidenceState
from streamer.store.sqlite import SqliteEventStore
from tests.support import deliveries
from tests.support.frames import frame
from tests.support.packets import SECOND, STEP, file_frame_digests, frame_digests, real_packets

ROOT = Path(__file__).resolve().parents[3]
START = datetime(2026, 8, 1, 14, 5, tzinfo=UTC)
PROVENANCE = Provenance("streamer 0.2.0", "smoke", "ab" * 32, "openvino", {}, {}, "cd" * 32)
SEEN = replace(
    frame(125), segmentation=SegmentationResult(np.full((4, 6), 0.5, np.float32), 125 * STEP)
)
SEALED = ["event-0.json", "mask-0.png", "overlay-0.jpg", "still-0.jpg"]


def event(alarm="north-1", sequence=0, **more):
    return replace(deliveries.event(alarm, sequence, **more), pts_ns=(5 + sequence) * SECOND)


def ring_of(packets=(), *, max_ns=10 * SECOND):
    ring = PacketRing(max_ns=max_ns, max_bytes=1 << 24)
    for one in packets:
        ring(one)
    return ring


@dataclass(frozen=True)
class Parts:
    recorder: AlarmRecorder
    clips: ClipWriter | None
    workers: tuple[DiskWorker, DiskWorker]

    def record(self, *events):
        for what in events:
            self.recorder.record(what, SEEN)

    def finish(self, timeout_s=None):
        for worker in self.workers:
            worker.finish(timeout_s=timeout_s)


@contextmanager
def parts_in(root, store, *, ring=None, on_event=lambda what: None, clock=None, **more):
    """A recorder with clips from 2 s before an event to 1 s after it."""
    evidence = EvidenceWriter(root, provenance=lambda _: PROVENANCE, draw=lambda drawn: drawn.image)
    stills, clip_worker = DiskWorker("stills"), DiskWorker("clips")
    clips = ring and ClipWriter(
        evidence,
        ring=ring,
        span=ClipSpan(pre_roll_ns=2 * SECOND, post_roll_ns=SECOND),
        clock=clock or MediaClock(START),
        worker=clip_worker,
        **more,
    )
    recorder = AlarmRecorder(
        evidence=evidence, clips=clips, worker=stills, store=store, channels=["siren"],
        on_event=on_event,
    )  # fmt: skip
    parts = Parts(recorder, clips, (stills, clip_worker))
    try:
        yield parts
    finally:
        if ring is not None:
            ring.close()
        parts.finish()


@pytest.fixture
def store(tmp_path):
    with SqliteEventStore(tmp_path / "events.db") as opened:
        yield opened


@pytest.fixture
def root(tmp_path):
    return tmp_path / "evidence"


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def folder_in(root, alarm="north-1"):
    return root / "north" / alarm


def sealed(folder):
    return sorted(json.loads((folder / "manifest.json").read_text())["files"])


def delivered(store):
    siren = deliveries.ScriptedChannel()
    worker = DeliveryWorker(siren, store.outbox, retry=RetryPolicy(), on_confirmed=lambda *_: None)
    while worker.step() is not Outcome.IDLE:
        pass
    return siren.tried


def test_an_event_is_on_disk_before_anything_of_its_evidence(store, root):
    reported = []

    def read(what):
        with SqliteEventStore(store.path) as other:  # As another process sees it.
            recorded = other.event(what.id)
            waiting = [each.channel for each in other.outbox.of_event(what.id)]
        reported.append((recorded.event, recorded.evidence, recorded.evidence_state, waiting))
        assert not root.exists()

    folder = folder_in(root)
    with parts_in(root, store, on_event=read) as parts:
        parts.record(event())
        parts.finish()
        assert reported == [(event(), folder, EvidenceState.PENDING, ["siren"])]
        found = store.event("north-1-0")
        assert (found.evidence_state, found.evidence_reason) == (EvidenceState.WRITTEN, "")
        assert sealed(folder) == SEALED
        assert verify(folder) == []
        assert [what.image for what in delivered(store)] == [folder / "overlay-0.jpg"]


def test_a_disk_that_hangs_delays_neither_the_event_nor_its_notification(store, root):
    folder = folder_in(root)
    folder.mkdir(parents=True)
    os.mkfifo(folder / "overlay-0.jpg.part")  # Opening it for writing waits for a reader.
    with parts_in(root, store) as parts:
        try:
            parts.record(event())
            assert store.event("north-1-0").evidence_state is EvidenceState.PENDING
            notified = []
            wait_until(lambda: notified or notified.extend(delivered(store)))
            assert [(each.key, each.image) for each in notified] == [("north-1-0:siren", None)]
            assert store.event("north-1-0").evidence_state is EvidenceState.PENDING
            count, oldest_s = parts.workers[0].pending()
            assert (count, oldest_s >= 0.9) == (1, True), "for a second it waited for its image"
            assert not parts.workers[0].finish(timeout_s=0.01), "the end does not wait for it"
        finally:
            (folder / "overlay-0.jpg.part").read_bytes()


def test_an_event_that_cannot_be_stored_is_reported_to_nobody(root):
    def add(*_, **__):
        raise StorageError("the disk is full")

    reported = []
    with parts_in(root, SimpleNamespace(add=add), on_event=reported.append) as parts:
        with pytest.raises(StorageError, match="the disk is full"):
            parts.record(event())
        assert reported == []


def test_a_replay_without_a_store_keeps_evidence_and_reports(root):
    reported = []
    with parts_in(root, None, on_event=reported.append) as parts:
        parts.record(event())
        parts.finish()
    assert (reported, verify(folder_in(root))) == ([event()], [])


def test_updated_and_cleared_go_into_the_folder_of_what_was_raised_and_make_no_clip(store, root):
    ring = ring_of(real_packets(frames=200))
    folder = folder_in(root)
    with parts_in(root, store, ring=ring) as parts:
        for what in (event(), event(sequence=1), event(sequence=2, kind="cleared")):
            parts.record(what)
        parts.finish()
        assert ring.statistics().readers == 0
    found = list(store.events())
    assert [each.event.kind.value for each in found] == ["raised", "updated", "cleared"]
    assert [each.image for each in found] == [folder / f"overlay-{n}.jpg" for n in range(3)]
    assert {each.evidence for each in found} == {folder}
    assert {each.evidence_state for each in found} == {EvidenceState.WRITTEN}
    later = [name.replace("0", number) for name in SEALED for number in "12"]
    assert sealed(folder) == sorted([*SEALED, *later, "clip.json", "clip.mp4"])
    assert verify(folder) == []
    assert [what.id for what in delivered(store)] == ["north-1-0", "north-1-1", "north-1-2"]


# The clip.


def test_the_clip_holds_pre_roll_and_post_roll_even_if_the_ring_has_gone_on(store, root):
    packets = real_packets(frames=400)
    ring = ring_of(packets[:130], max_ns=3 * SECOND)
    with parts_in(root, store, ring=ring) as parts:
        parts.record(event())
        wait_until(lambda: store.event("north-1-0").image)
        assert store.event("north-1-0").evidence_state is EvidenceState.PENDING
        for one in packets[130:]:
            ring(one)
        parts.finish()
    folder = folder_in(root)
    facts = json.loads((folder / "clip.json").read_text())
    assert facts == {
        "files": ["clip.mp4"], "frames": 76, "complete": True, "reason": "",
        "start_pts_ns": 3 * SECOND, "end_pts_ns": 6 * SECOND + STEP,
        "start_utc": "2026-08-01T14:05:03.000+00:00",
    }  # fmt: skip
    assert file_frame_digests(folder / "clip.mp4")[0] == frame_digests(packets[75:151])
    assert sealed(folder) == sorted([*SEALED, "clip.json", "clip.mp4"])
    assert verify(folder) == []
    assert store.event("north-1-0").evidence_state is EvidenceState.WRITTEN


def test_a_restart_of_the_pipeline_leaves_a_clip_alone_that_is_being_written(store, root):
    packets = real_packets(frames=200)
    ring = ring_of(packets[:130])
    with parts_in(root, store, ring=ring) as parts:
        parts.record(event())
        wait_until(lambda: list(folder_in(root).glob("clip*.part")))
        parts.recorder.recover("north")
        wait_until(lambda: store.event("north-1-0").image and not parts.workers[0].pending()[0])
        assert store.event("north-1-0").evidence_state is EvidenceState.PENDING
        for one in packets[130:]:
            ring(one)
        parts.finish()
    assert json.loads((folder_in(root) / "clip.json").read_text())["complete"]
    assert store.event("north-1-0").evidence_state is EvidenceState.WRITTEN
    assert verify(folder_in(root)) == []


def test_a_clip_that_the_camera_or_the_ring_cut_short_says_so(store, root):
    ring = ring_of(real_packets(frames=30, start_ns=4 * SECOND))
    with parts_in(root, store, ring=ring) as parts:
        parts.record(event())
        ring.close()
        parts.finish()
    facts = json.loads((folder_in(root) / "clip.json").read_text())
    why = "begins 1.0 s late: nothing older was kept; ends early: the camera was stopped"
    assert (facts["complete"], facts["reason"], facts["frames"]) == (False, why, 30)
    recorded = store.event("north-1-0")
    assert recorded.evidence_state is EvidenceState.DEGRADED
    assert recorded.evidence_reason == f"clip {why}"
    assert "clip.mp4" in sealed(folder_in(root))


def test_an_alarm_of_the_last_frames_of_a_file_has_a_clip_of_what_there_is(store, root):
    ring = ring_of(real_packets(frames=130))
    ring.end_readers()  # The file has ended before its last frames were inferred.
    with parts_in(root, store, ring=ring) as parts:
        parts.record(event())
        parts.finish()
    facts = json.loads((folder_in(root) / "clip.json").read_text())
    assert (facts["frames"], facts["complete"]) == (55, False)
    assert store.event("north-1-0").evidence_state is EvidenceState.DEGRADED


def test_while_clips_are_paused_the_event_says_why_it_has_none(store, root):
    ring = ring_of(real_packets(frames=200))
    with parts_in(root, store, ring=ring, paused=lambda: "the disk is nearly full") as parts:
        parts.record(event())
        parts.finish()
    recorded = store.event("north-1-0")
    assert recorded.evidence_state is EvidenceState.DEGRADED
    assert recorded.evidence_reason == "no clip: the disk is nearly full"
    assert sealed(folder_in(root)) == SEALED


# Disks that are full or in the way.


def no_room_for(path):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.part").symlink_to("/dev/full")


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("still-0.jpg", EvidenceState.DEGRADED),
        ("overlay-0.jpg", EvidenceState.DEGRADED),
        ("manifest.json", EvidenceState.DEGRADED),
        ("a file", EvidenceState.FAILED),
    ],
)
def test_evidence_that_cannot_be_written_holds_no_event_back_and_is_reported(
    store, root, name, state
):
    if name == "a file":
        root.write_text("in the way")
    else:
        no_room_for(folder_in(root) / name)
    reported = []
    with capture_logs() as logs, parts_in(root, store, on_event=reported.append) as parts:
        parts.record(event())
        parts.finish()
        assert parts.recorder.failure[0]
    assert reported == [event()]
    recorded = store.event("north-1-0")
    reason = "not a directory" if name == "a file" else "the disk is full"
    assert (recorded.event, recorded.evidence_state) == (event(), state)
    assert reason in recorded.evidence_reason
    assert (recorded.image is None) == (name in ("a file", "overlay-0.jpg"))
    (notified,) = delivered(store)
    assert notified.payload["evidence"]["state"] == state.value
    logged = [(line["log_level"], line["event"], line["alarm"]) for line in logs]
    assert logged == [
        ("warning", "raised", "north-1"), ("error", "evidence is not complete", "north-1")
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["clip.mp4", "clip.json"])
def test_a_clip_that_cannot_be_written_is_reported_and_the_next_one_is_written(store, root, name):
    no_room_for(folder_in(root) / name)
    with parts_in(root, store, ring=ring_of(real_packets(frames=200))) as parts:
        parts.record(event(), event("north-2"))
        parts.finish()
    recorded = store.event("north-1-0")
    assert recorded.evidence_state is EvidenceState.DEGRADED
    assert recorded.evidence_reason.startswith("no clip: cannot write ")
    assert set(SEALED) <= set(sealed(folder_in(root)))
    assert sealed(folder_in(root, "north-2")) == sorted([*SEALED, "clip.json", "clip.mp4"])
    assert store.event("north-2-0").evidence_state is EvidenceState.WRITTEN


# Killed.

KILLED = """
import itertools, os, signal, sqlite3, sys
from tests.streamer.evidence.test_alarm_recorder import *

def live(home, kill_at):
    ticks = itertools.count()
    fsync, pwrite, connect = os.fsync, os.pwrite, sqlite3.connect

    def tick(*_):
        if next(ticks) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def traced(*where, **how):
        connection = connect(*where, **how)
        connection.set_trace_callback(tick)
        return connection

    sqlite3.connect, os.fsync = traced, lambda handle: (tick(), fsync(handle))
    os.pwrite = lambda *what: (tick(), pwrite(*what))[1]
    note = lambda what: (home / "reported").touch()
    with (
        SqliteEventStore(home / "events.db") as store,
        parts_in(home, store, ring=ring_of(PACKETS), on_event=note) as parts,
    ):
        parts.record(event())

PACKETS = real_packets(frames=200)
for point in itertools.count():
    (home := Path(sys.argv[1]) / str(point)).mkdir()
    if not (child := os.fork()):
        live(home, point)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != -signal.SIGKILL:
        sys.exit(status)
"""


def test_wherever_a_kill_comes_the_event_is_stored_first_and_no_half_file_has_its_name(tmp_path):
    program = [sys.executable, "-c", KILLED, tmp_path]
    subprocess.run(program, capture_output=True, timeout=60, cwd=ROOT, check=True)
    ends = set()
    for home in tmp_path.iterdir():
        folder = folder_in(home)
        with SqliteEventStore(home / "events.db") as store:
            recorded = store.event("north-1-0") is not None
            clip = (folder / "clip.mp4").exists()
            still = (folder / "still-0.jpg").exists()
            reported = (home / "reported").exists()
            ends.add((recorded, reported, still, clip))
            assert recorded or not (reported or still or clip)
            if not recorded:
                continue
            assert [each.channel for each in store.outbox.of_event("north-1-0")] == ["siren"]
            if clip:
                assert len(file_frame_digests(folder / "clip.mp4")[0]) == 76
            state = store.event("north-1-0").evidence_state
            with parts_in(home, store, ring=ring_of()) as next_life:
                next_life.recorder.recover("north")
                next_life.finish()
            recovered = store.event("north-1-0")
            if state is EvidenceState.PENDING:
                assert recovered.evidence_state in (EvidenceState.DEGRADED, EvidenceState.FAILED)
                assert recovered.evidence_reason == (
                    "the program ended before all of it was written"
                )
            else:
                assert recovered.evidence_state is EvidenceState.WRITTEN
            if recovered.evidence_state is not EvidenceState.FAILED:
                assert verify(folder) == []
            assert not list(folder.glob("clip*.part")), "a clip that was cut off is kept as it is"
            assert [what.id for what in delivered(store)] == ["north-1-0"]
    assert {(0, 0, 0, 0), (1, 1, 0, 0), (1, 1, 1, 1)} <= ends
