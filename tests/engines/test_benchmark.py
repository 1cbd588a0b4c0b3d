"""Timing in turns: every call is made as often."""

import threading

from engines.benchmark import CALLS, interleaved


def test_every_call_is_made_as_often_from_every_core():
    made = {"one": 0, "other": 0}
    lock = threading.Lock()

    def call(name):
        with lock:
            made[name] += 1

    taken = interleaved({name: lambda name=name: call(name) for name in made}, rounds=3)
    assert made["one"] == made["other"]
    assert made["one"] % (4 * CALLS) == 0
    assert all(ms > 0 for ms in taken.values())
