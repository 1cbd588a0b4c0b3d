"""A real process whose wall clock is changed while it records: nothing is deleted, times come out.

libfaketime changes the wall clock of the process and leaves its monotonic clocks alone, as a time
server or a broken battery does.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed"),
]

PROGRAM = """
import json, sys, time
from dataclasses import replace
from streamer.app import retention
from streamer.config import Config
from streamer.core.clock import CancelToken, SystemClock
from streamer.core.clock_guard import ClockGuard, read_clocks
from streamer.recording.recording_paths import RecordingNumbers
from streamer.recording.ring import PacketRing
from streamer.recording.segments import SegmentRecorder
from streamer.store.sqlite import SqliteEventStore
from tests.support.packets import real_packets

source = {"address": "rtsp://192.0.2.1/x"}
config = Config.model_validate({"data_dir": sys.argv[1], "cameras": {"north": {"source": source}}})
retention._ROUND_S, retention._ROUND_SHARE = 0, 1e9
clock = SystemClock()
guard = ClockGuard(
    config.clock_file, read=lambda: replace(read_clocks(), synchronised=False)
)
numbers = RecordingNumbers(config.recordings_folder)
service = retention.RetentionService(
    retention.retention_plan(config), store=SqliteEventStore(config.events_file), guard=guard,
    numbers=numbers, cameras=list, clock=clock,
)

def record():
    ring = PacketRing(max_ns=10**9, max_bytes=1 << 26)
    recorder = SegmentRecorder(
        ring, config.recordings_folder / "north", numbers=numbers, clock=clock,
        on_begin=guard.observe,
    )
    follow = ring.follow
    def fed(cancel):
        reader = follow(cancel)
        for packet in real_packets(frames=10):
            ring(replace(packet, arrived_ns=time.monotonic_ns()))
        ring.close()
        return reader
    ring.follow = fed
    recorder(CancelToken())

for line in sys.stdin:
    if line == "record\\n":
        record()
    service.step()
    print(json.dumps({one.kind: one.reason for one in service.conditions()}), flush=True)
"""


class Device:
    """The process, with a wall clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._setting = folder / "clock.rc"
        self.set("+0")
        environment = {
            "LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(self._setting),
            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "TZ": "UTC",
        }  # fmt: skip
        self._process: subprocess.Popen[str] | None = None
        self._environment = {**os.environ, **environment}

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, self.folder / "data"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=self._environment,
        )  # fmt: skip

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def set(self, setting: str) -> None:
        self._setting.write_text(f"{setting}\n")

    def do(self, command: str) -> dict[str, str]:
        """Run one command and one round of retention; return the conditions."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        while not (line := self._process.stdout.readline()).startswith("{"):
            assert line, "the process ended"
        found: dict[str, str] = json.loads(line)
        return found

    def days(self) -> list[str]:
        """The day of each recording, in the order in which they were made."""
        files = (self.folder / "data" / "recordings").rglob("*.mp4")
        return [path.parent.name for path in sorted(files, key=lambda one: one.stem[9:15])]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.kill()


def test_a_start_in_1970_then_the_time_then_2036_and_back_deletes_nothing(device: Device) -> None:
    device.set("@1970-01-01 00:00:20")
    device.start()
    assert device.do("record")["clock"].startswith("the clock is not set, it showed 1970-01-01")
    device.do("record")
    assert device.days() == ["1970-01-01"] * 2

    device.set("+0")
    assert device.do("record") == {}
    near = {(datetime.now(UTC) - timedelta(days=back)).date().isoformat() for back in (0, 1)}
    assert len(device.days()) == 3
    assert set(device.days()) <= near

    device.set("+10y")
    assert "clock" in device.do("record")
    assert "clock" in device.do("wait")
    assert len(device.days()) == 4

    device.kill()  # What is known of the clock survives the program.
    device.start()
    assert "clock" in device.do("wait")
    assert len(device.days()) == 4

    device.set("+0")
    assert device.do("wait") == {}
    assert len(device.days()) == 4
    assert set(device.days()) <= near


def test_a_leap_of_weeks_is_reported_and_deletes_nothing(device: Device) -> None:
    device.start()
    for _ in range(2):
        assert device.do("record") == {}
    device.set("+40d")
    assert "leapt by +40.0 days" in device.do("wait")["clock"]
    assert len(device.days()) == 2
