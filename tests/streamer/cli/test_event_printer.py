"""Whoever reads the events, slowly or not at all, holds up no alarm and ends no camera."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, sys, threading
from datetime import UTC, datetime
from streamer.alarm.event import Event, EventKind
from streamer.cli import output
from streamer.cli.event_printer import EventPrinter
from streamer.core import log
from streamer.core.clock import CancelToken

log.set_up(level="info", style="json")
output.current().json = True
printer, cancel = EventPrinter(), CancelToken()
thread = threading.Thread(target=printer.run, args=(cancel,))
thread.start()
for number in range(int(sys.argv[1])):
    printer(Event(
        f"north-{number}", 0, EventKind.RAISED, "north", pts_ns=0, utc=datetime.now(UTC),
        onset_ns=0, reason="x" * 200, score=0.9, regions=(),
    ))
os.write(2, b"all were taken\\n")
if sys.argv[2] == "end":
    cancel.set()
    thread.join(20)
    os.write(2, b"ended\\n")
os._exit(0)
"""


def printing(count, then, **streams):
    return subprocess.Popen(
        [sys.executable, "-c", CODE, str(count), then], stderr=subprocess.PIPE, text=True, **streams
    )


def test_all_events_are_printed_before_the_end():
    process = printing(300, "end", stdout=subprocess.PIPE)
    shown, _ = process.communicate(timeout=30)
    ids = [json.loads(line)["alarm_id"] for line in shown.splitlines()]
    assert ids == [f"north-{number}" for number in range(300)]


def test_a_reader_that_stalls_holds_up_nothing_and_its_loss_is_logged():
    process = printing(3000, "leave", stdout=subprocess.PIPE)  # Nobody reads the pipe.
    errors = process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(30) == 0
    *warnings, last = errors.splitlines()
    assert last == "all were taken"
    assert "standard output is not read" in warnings[0]
    assert len(warnings) < 10, "the same line is not repeated for each event"


@pytest.mark.parametrize("gone", ["reader", "disk"])
def test_when_nothing_can_be_printed_one_line_says_so_and_the_program_goes_on(gone):
    if gone == "disk":
        with Path("/dev/full").open("w") as full:
            process = printing(50, "end", stdout=full)
    else:
        reading, writing = os.pipe()
        os.close(reading)
        process = printing(50, "end", stdout=writing)
        os.close(writing)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = errors.splitlines()
    assert sum("events are not printed any more" in line for line in lines) == 1
    assert {"all were taken", "ended"} <= set(lines)
