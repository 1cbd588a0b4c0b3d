"""Killed at any moment, no alarm is lost, and none is sent again that is known to have arrived."""

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.store import DeliveryState
from streamer.store.sqlite import SqliteEventStore
from tests.support.http_receiver import Answer, HttpReceiver

ROOT = Path(__file__).resolve().parents[3]
LIVES = 6
MOODS = [
    Answer.OK, Answer.OK, Answer.FAIL, Answer.OK, Answer.STALL, Answer.OK, Answer.CUT,
    Answer.OK, Answer.CUT_IN_HEADER, Answer.CUT_IN_BODY,
]  # fmt: skip


def program(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.support.outbox_program", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def confirmed_keys(path: Path) -> set[str]:
    with SqliteEventStore(path) as store:
        return {
            delivery.key
            for each in store.events()
            for delivery in store.outbox.of_event(each.event.id)
            if delivery.state is DeliveryState.CONFIRMED
        }


@pytest.mark.slow
def test_events_survive_kills_and_a_receiver_that_fails_stalls_and_dies(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    path = tmp_path / "events.db"
    rng = random.Random(0)
    added: list[str] = []
    settled: dict[str, int] = {}
    with HttpReceiver(itertools.cycle(MOODS)) as receiver:
        for life in range(LIVES):
            if life % 3 == 2:
                receiver.die()
            with program("work", path, receiver.url, life) as worker:
                lines = [worker.stdout.readline() for _ in range(1 + rng.randrange(8))]
                receiver.die()
                receiver.revive()
                with pytest.raises(subprocess.TimeoutExpired):
                    worker.wait(timeout=rng.uniform(0, 0.5))
                worker.kill()
                lines += worker.stdout.readlines()
            added += [line.split()[1] for line in lines if line.endswith("\n")]
            counts = receiver.counts()
            settled |= {key: counts[key] for key in confirmed_keys(path) - settled.keys()}
        with program("drain", path, receiver.url) as last:
            assert last.wait(timeout=60) == 0
        counts = receiver.counts()

    with SqliteEventStore(path) as store:
        recorded = {f"{each.event.id}:siren" for each in store.events()}
        assert store.outbox.pending() == []
    assert {f"{name}:siren" for name in added} <= recorded, "what was reported as on disk is"
    assert set(counts) == recorded, "everything on disk arrived, each under one key"
    assert settled, "some were confirmed before the end, or this proves nothing"
    again = {key for key, count in settled.items() if counts[key] != count}
    assert again == set(), "nothing that is recorded as acknowledged was sent again"


def test_at_every_point_between_recording_and_confirming_a_kill_loses_nothing(tmp_path):
    with program("crash", tmp_path) as lives:
        found = [json.loads(line) for line in lives.stdout]
    assert lives.returncode == 0
    assert found[-1]["completed"]
    for life in found:
        assert life["confirmed_in_the_end"], life
        assert life["recorded"] or not life["added"], life
        # Only between the acknowledgement and the note of it can there be a second delivery; it
        # carries the same key.
        expected = 2 if life["sent"] and not life["confirmed"] else 1
        assert life["sent_in_the_end"] == expected, life
    stages = {(life["recorded"], life["sent"], life["confirmed"]) for life in found}
    assert stages == {(False, 0, False), (True, 0, False), (True, 1, False), (True, 1, True)}
