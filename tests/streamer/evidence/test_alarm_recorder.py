"""Event, evidence and clip: in which order, and what a bad disk, a stop or a kill does."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from structlog.testing import capture_logs

from streamer.core.clock import CancelToken, MediaClock
from streamer.core.errors import StorageError
from streamer.core.frame import SegmentationResult
from streamer.evidence.alarm_recorder import AlarmRecorder
from streamer.evidence.clip_writer import ClipSpan, ClipWriter
from streamer.evidence.manifest import verify
from streamer.evidence.writer import EvidenceWriter, Provenance
from streamer.notify import RetryPolicy
from streamer.notify.delivery_worker import DeliveryWorker, Outcome
from streamer.recording.ring import PacketRing
from streamer.store.sqlite import SqliteEventStore
from tests.support import deliveries
from tests.support.frames import frame
from tests.support.packets import SECOND, STEP, file_frame_digests, frame_digests, real_packets

ROOT = Path(__file__).resolve().parents[3]
START = datetime(2026, 8, 1, 14, 5, tzinfo=UTC)
PROVENANCE = Provenance("streamer 0.2.0", "smoke", "ab" * 32, "openvino", 0.5, "cd" * 32)
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
    clips: ClipWriter

    def record(self, *events):
        for what in events:
            self.recorder.record(what, SEEN)

    def write_clips(self):
        self.clips.close()
        self.clips.run(CancelToken())


def parts_in(root, store, *, ring=None, on_event=lambda what: None, clock=None):
    """A recorder with clips from 2 s before an event to 1 s after it."""
    evidence = EvidenceWriter(root, provenance=lambda: PROVENANCE, draw=lambda drawn: drawn.image)
    clips = ClipWriter(
        evidence,
        ring=ring,
        span=ClipSpan(pre_roll_ns=2 * SECOND, post_roll_ns=SECOND),
        clock=clock or MediaClock(START),
    )
    recorder = AlarmRecorder(
        evidence=evidence, clips=clips, store=store, channels=["siren"], on_event=on_event
    )
    return Parts(recorder, clips)


@pytest.fixture
def store(tmp_path):
    with SqliteEventStore(tmp_path / "events.db") as opened:
        yield opened


@pytest.fixture
def root(tmp_path):
    return tmp_path / "evidence"


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


def test_a_subscriber_finds_all_but_the_clip_on_disk(store, root):
    reported = []

    def read(what):
        with SqliteEventStore(store.path) as other:  # As another process sees it.
            recorded = other.event(what.id)
            waiting = [each.channel for each in other.outbox.of_event(what.id)]
        reported.append((recorded.event, recorded.evidence, recorded.image, waiting))
        assert sealed(recorded.evidence) == SEALED
        assert verify(recorded.evidence) == []

    ring = ring_of(real_packets(frames=130))  # To 5.2 s: the post-roll has not come.
    parts_in(root, store, ring=ring, on_event=read).record(event())
    folder = folder_in(root)
    assert reported == [(event(), folder, folder / "overlay-0.jpg", ["siren"])]
    assert [what.image for what in delivered(store)] == [folder / "overlay-0.jpg"]


def test_an_event_that_cannot_be_stored_is_reported_to_nobody(root):
    def add(*_, **__):
        raise StorageError("the disk is full")

    reported = []
    parts = parts_in(root, SimpleNamespace(add=add), on_event=reported.append)
    with pytest.raises(StorageError, match="the disk is full"):
        parts.record(event())
    assert reported == []


def test_a_replay_without_a_store_keeps_evidence_and_reports(root):
    reported = []
    parts_in(root, None, on_event=reported.append).record(event())
    assert (reported, verify(folder_in(root))) == ([event()], [])


def test_updated_and_cleared_go_into_the_folder_of_what_was_raised_and_make_no_clip(store, root):
    ring = ring_of(real_packets(frames=200))
    parts = parts_in(root, store, ring=ring)
    for what in (event(), event(sequence=1), event(sequence=2, kind="cleared")):
        parts.record(what)
    assert ring.statistics().readers == 0  # Its end has come; no other was requested.
    parts.write_clips()
    folder = folder_in(root)
    found = list(store.events())
    assert [each.event.kind.value for each in found] == ["raised", "updated", "cleared"]
    assert [each.image for each in found] == [folder / f"overlay-{n}.jpg" for n in range(3)]
    assert {each.evidence for each in found} == {folder}
    later = [name.replace("0", number) for name in SEALED for number in "12"]
    assert sealed(folder) == sorted([*SEALED, *later, "clip.json", "clip.mp4"])
    assert verify(folder) == []
    assert [what.event.id for what in delivered(store)] == ["north-1-0", "north-1-1", "north-1-2"]


# The clip.


def test_the_clip_holds_pre_roll_and_post_roll_even_if_the_ring_has_gone_on(store, root):
    packets = real_packets(frames=400)
    ring = ring_of(packets[:130], max_ns=3 * SECOND)
    parts = parts_in(root, store, ring=ring)
    parts.record(event())
    for one in packets[130:]:
        ring(one)
    parts.write_clips()
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


def test_a_clip_that_the_camera_or_the_ring_cut_short_says_so(store, root):
    ring = ring_of(real_packets(frames=30, start_ns=4 * SECOND))
    parts = parts_in(root, store, ring=ring)
    parts.record(event())
    ring.close()
    with capture_logs() as logs:
        parts.write_clips()
    facts = json.loads((folder_in(root) / "clip.json").read_text())
    why = "begins 1.0 s late: nothing older was kept; ends early: the camera was stopped"
    assert (facts["complete"], facts["reason"], facts["frames"]) == (False, why, 30)
    assert [(line["event"], line["reason"]) for line in logs] == [("clip is incomplete", why)]
    assert "clip.mp4" in sealed(folder_in(root))


def test_a_stop_keeps_what_has_come_of_the_clip_that_is_being_written(store, root):
    cancel = CancelToken()

    class Clock(MediaClock):
        def utc_at(self, monotonic_ns):
            cancel.set()  # A file that begins reads its time.
            return super().utc_at(monotonic_ns)

    ring = ring_of(real_packets(frames=130))
    parts = parts_in(root, store, ring=ring, clock=Clock(START))
    parts.record(event())
    parts.clips.run(cancel)
    facts = json.loads((folder_in(root) / "clip.json").read_text())
    assert facts["reason"] == "ends early: the camera was stopped"
    assert (facts["complete"], facts["frames"]) == (False, 55)
    assert verify(folder_in(root)) == []


# Disks that are full or in the way.


def no_room_for(path):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.part").symlink_to("/dev/full")


@pytest.mark.parametrize("name", ["still-0.jpg", "event-0.json", "manifest.json", "a file"])
def test_evidence_that_cannot_be_written_holds_no_event_back_and_is_logged(store, root, name):
    if name == "a file":
        root.write_text("in the way")
    else:
        no_room_for(folder_in(root) / name)
    reported = []
    ring = ring_of(real_packets(frames=200))
    parts = parts_in(root, store, ring=ring, on_event=reported.append)
    with capture_logs() as logs:
        parts.record(event())
    assert reported == [event()]
    recorded = store.event("north-1-0")
    assert (recorded.event, recorded.evidence, recorded.image) == (event(), None, None)
    assert [what.event.id for what in delivered(store)] == ["north-1-0"]
    logged = [(line["log_level"], line["event"], line["alarm"]) for line in logs]
    assert logged == [("error", "no evidence", "north-1"), ("warning", "raised", "north-1")]
    reason = "not a directory" if name == "a file" else "the disk is full"
    assert logs[0]["error"] == f"cannot write {folder_in(root)}: {reason}"


@pytest.mark.parametrize("name", ["clip.mp4", "clip.json"])
def test_a_clip_that_cannot_be_written_is_logged_and_the_next_one_is(store, root, name):
    parts = parts_in(root, store, ring=ring_of(real_packets(frames=200)))
    parts.record(event())
    parts.record(event("north-2"))
    no_room_for(folder_in(root) / name)
    with capture_logs() as logs:
        parts.write_clips()
    assert [(line["event"], line["folder"]) for line in logs] == [("no clip", str(folder_in(root)))]
    assert "the disk is full" in logs[0]["error"]
    assert sealed(folder_in(root)) == SEALED
    assert sealed(folder_in(root, "north-2")) == sorted([*SEALED, "clip.json", "clip.mp4"])


# Killed.

KILLED = """
import itertools, os, signal, sqlite3, sys
from streamer.core.clock import CancelToken
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
    with SqliteEventStore(home / "events.db") as store:
        parts = parts_in(home, store, ring=ring_of(PACKETS), on_event=note)
        parts.record(event())
        parts.write_clips()

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


def test_wherever_a_kill_comes_a_reported_event_is_stored_and_no_half_file_has_its_name(tmp_path):
    program = [sys.executable, "-c", KILLED, tmp_path]
    subprocess.run(program, capture_output=True, timeout=60, cwd=ROOT, check=True)
    ends = set()
    for home in tmp_path.iterdir():
        folder = folder_in(home)
        with SqliteEventStore(home / "events.db") as store:
            recorded = store.event("north-1-0") is not None
            clip = (folder / "clip.mp4").exists()
            ends.add(
                (recorded, (home / "reported").exists(), clip)
            )  # In the order of their coming.
            if recorded:
                assert verify(folder) == []
                assert [each.channel for each in store.outbox.of_event("north-1-0")] == ["siren"]
            if clip:
                assert len(file_frame_digests(folder / "clip.mp4")[0]) == 76
            next_life = parts_in(home, store)
            next_life.clips.recover(folder)
            assert not list(folder.glob("clip*.part")), "a clip that was cut off is kept as it is"
            clip = (folder / "clip.mp4").exists()
            next_life.record(event())  # It sees the smoke too.
            assert [what.event for what in delivered(store)] == [event()]
        assert verify(folder) == []
        assert set(sealed(folder)) - {"clip.json"} == {*SEALED, *(["clip.mp4"] if clip else [])}
    assert {(0, 0, 0), (1, 1, 0), (1, 1, 1)} == ends - {(1, 0, 0)}
