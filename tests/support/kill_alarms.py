"""Kills the program at random moments around alarms, and counts what was lost or sent again.

`python -m tests.support.kill_alarms --kills 200` prints the figures as JSON and fails if an alarm
was lost or one that is recorded as acknowledged was sent again. The program is the real one:
pipelines, evidence, store, delivery to a real HTTP receiver; only its network is a fake that sees
smoke here and there. In a third of its lives the disk is full, from the start or from some moment.
"""

import argparse
import contextlib
import json
import logging
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote

import numpy as np
import structlog

from streamer.store.sqlite import SqliteEventStore
from tests.support.disks import fill, small_disk
from tests.support.http_receiver import HttpReceiver
from tests.support.stored import confirmed_keys

ROOT = Path(__file__).resolve().parents[2]
DISK_MIB = 64
LONGEST_S = 30
"""Longest wait for an alarm of a life, and for the last deliveries."""


# The program that is killed. Lives are forked from one process: imports take a second each.


class WanderingSmoke:
    """A smoke network that sees smoke in one of four places, or in none, for half a second each."""

    name, digest, backend, input_size = "m", "d", "b", (48, 80)
    threshold, low_threshold, concurrency = 0.5, 0.4, 1

    def __init__(self, seed: int) -> None:
        from engines.engine import EngineState

        self.state = EngineState("cpu")
        self.rng = random.Random(seed)
        self.until_s = 0.0
        self.place: int | None = None

    def __call__(self, image, background=None, *, dark=False):
        if time.monotonic() > self.until_s:
            self.until_s = time.monotonic() + 0.5
            self.place = self.rng.choice([0, 1, 2, 3, None])
        probability = np.full((48, 80), 0.01, np.float32)
        if self.place is not None:
            x = 4 + 19 * self.place
            probability[16:28, x : x + 9] = 0.97
        return probability


def live(config_file: str, seed: int, *, smoke: bool) -> None:
    """Run the program until it is killed; without smoke until the outbox is empty."""
    from streamer.app.models import Models
    from streamer.app.program import open_program
    from streamer.config import load

    def say(event):
        os.write(1, f"event {event.id}\n".encode())

    network = WanderingSmoke(seed)
    if not smoke:
        network.until_s = float("inf")
    config = load(Path(config_file)).config
    with open_program(config, models=Models(network), on_event=say) as program:
        if not smoke:
            program.supervisor.add_service("drain", lambda cancel: end_when_empty(program, cancel))
        program.supervisor.run()


def end_when_empty(program, cancel) -> None:
    while True:
        status = program.status()
        idle = all(one.alarm == "idle" for one in status.cameras)
        if idle and not any(one.waiting for one in status.outbox):
            program.supervisor.finish()
            return
        cancel.sleep(0.05)


def fork_lives() -> None:
    """Fork a life for each line "CONFIG SEED SMOKE" of standard input."""
    import streamer.app.program
    import streamer.notify.webhook  # noqa: F401  each life would import it anew

    # Logs would be cut off by a kill, in the middle of a line of standard output.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for line in sys.stdin:
        config, seed, smoke = line.split()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                live(config, int(seed), smoke=smoke == "smoke")
                status = 0
            finally:
                os._exit(status)
        print(f"life {child}", flush=True)  # noqa: T201  what the parent reads
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(f"\nended {status}", flush=True)  # noqa: T201  as above


# The parent that kills it.


@dataclass
class Figures:
    """What came of it."""

    kills: int = 0
    full_disk: int = 0
    events: int = 0
    acknowledged: int = 0
    """Deliveries whose acknowledgement was recorded before the kill."""

    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    """Sent again although the store had the confirmation."""

    repeated_in_the_window: int = 0
    """Acknowledged, and killed before that was on disk: sent again with the same key."""

    slowest_s: float = 0.0
    """Longest wait for an event."""


def station(folder: Path, data: Path, url: str) -> Path:
    path = folder / "station.yaml"
    path.write_text(
        f"data_dir: {data}\npreview: {{enabled: false}}\n"
        f"notify: {{ops: {{kind: webhook, url: '{url}', timeout_s: 2}}}}\n"
        "cameras:\n  north:\n    source: {address: 'pattern:', live: always}\n"
        "    detect: {fps: 20, low_light: false, zoom_verification: false}\n"
        "    alarm: {confirm_window_s: 0.1, clear_after_s: 0.2, cooldown_s: 1,"
        " update_every_s: 0.2, min_score_without_background: 0.4}\n"
    )
    return path


class Lives:
    """The process that forks lives, and what they print."""

    def __init__(self, config: Path) -> None:
        self._config = config
        command = [sys.executable, "-m", "tests.support.kill_alarms", "--fork"]
        self._forker = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "NO_PROXY": "*"}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="lines of the lives")
        self._reader.start()
        self.events: list[str] = []
        """Ids of the events that the lives reported, in all of them."""

        self.slowest_s = 0.0
        self.child = 0

    def begin(self, *, seed: int, smoke: bool) -> None:
        assert self._forker.stdin is not None
        order = f"{self._config} {seed} {'smoke' if smoke else 'clear'}\n"
        self._forker.stdin.write(order)
        self._forker.stdin.flush()
        word, number = self._line().split()
        assert word == "life"
        self.child = int(number)

    def wait_for_events(self, number: int) -> None:
        """Read lines until so many more events came."""
        for _ in range(number):
            began = time.monotonic()
            word, event_id = self._line().split()
            assert word == "event", f"the program ended by itself: {word} {event_id}"
            self.events.append(event_id)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def wait_for_end(self) -> None:
        while (line := self._line().split())[0] != "ended":
            self.events.append(line[1])
        self.child = 0

    def kill(self) -> None:
        os.kill(self.child, signal.SIGKILL)
        self.wait_for_end()

    def _line(self) -> str:
        try:
            return self._lines.get(timeout=LONGEST_S)
        except queue.Empty:
            raise AssertionError(f"nothing came for {LONGEST_S} s") from None

    def _read(self) -> None:
        assert self._forker.stdout is not None
        for line in self._forker.stdout:
            if line.endswith("\n") and len(line.split()) == 2:
                self._lines.put(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        if self.child:  # Not known to have ended.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGKILL)
        self._forker.stdin.close()
        self._forker.wait()
        self._reader.join()
        self._forker.stdout.close()


def arrivals(receiver: HttpReceiver) -> Counter[str]:
    """How often each key arrived."""
    return Counter({unquote(key): count for key, count in receiver.counts().items()})


def kill_alarms(kills: int, *, seed: int, folder: Path, disk: Path) -> Figures:
    """Kill so many lives and return the figures."""
    rng, figures = random.Random(seed), Figures()
    store_file = disk / "data" / "events.sqlite"
    settled: dict[str, int] = {}
    with HttpReceiver() as receiver, Lives(station(folder, disk / "data", receiver.url)) as lives:
        for number in range(kills):
            full = number % 3 == 2
            filler = fill(disk) if full and rng.random() < 0.5 else None
            lives.begin(seed=rng.randrange(1 << 30), smoke=True)
            lives.wait_for_events(1)
            if full and filler is None:
                filler = fill(disk)
            lives.wait_for_events(rng.randrange(3))
            time.sleep(
                rng.choice([0, rng.uniform(0, 0.03), rng.uniform(0, 0.5), rng.uniform(0, 2)])
            )
            lives.kill()
            figures.kills += 1
            figures.full_disk += full
            if filler is not None:
                filler.unlink()
            counts = arrivals(receiver)
            new = confirmed_keys(store_file) - settled.keys()
            settled |= {key: counts[key] for key in new}
        lives.begin(seed=0, smoke=False)
        lives.wait_for_end()
        counts = arrivals(receiver)
    with SqliteEventStore.open_read_only(store_file) as store:
        stored = {each.event.id for each in store.events()}
        assert store.outbox.pending() == []
    figures.acknowledged = len(settled)
    figures.events, figures.slowest_s = len(stored), round(lives.slowest_s, 2)
    arrived = {key.removesuffix(":ops") for key in counts}
    figures.lost = sorted((set(lives.events) | stored) - (arrived & stored))
    figures.repeated = sorted(key for key, count in settled.items() if counts[key] != count)
    figures.repeated_in_the_window = sum(count - 1 for count in counts.values())
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fork", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fork:
        fork_lives()
        return 0
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with small_disk(folder / "disk", mib=DISK_MIB) as disk:
            figures = kill_alarms(arguments.kills, seed=arguments.seed, folder=folder, disk=disk)
    print(json.dumps(asdict(figures), indent=1))  # noqa: T201  the figures
    return 1 if figures.lost or figures.repeated else 0


if __name__ == "__main__":
    sys.exit(main())
