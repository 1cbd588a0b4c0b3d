"""Timing in turns: every call is made as often."""

import threading

from engines.timing import CALLS, in_turns


def test_every_call_is_made_as_often_from_every_core():
    made = {"one": 0, "other": 0}
    lock = threading.Lock()

    def call(name):
        with lock:
            made[name] += 1

    taken = in_turns({name: lambda name=name: call(name) for name in made}, rounds=3)
    assert made["one"] == made["other"]
    assert made["one"] % (4 * CALLS) == 0
    assert all(ms > 0 for ms in taken.values())
