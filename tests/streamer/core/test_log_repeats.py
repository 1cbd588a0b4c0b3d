"""The log holds nothing up: repeated lines are collapsed, a reader that stalls loses some."""

import json
import logging
import subprocess
import sys
import traceback
import weakref

import pytest
import structlog
from structlog.contextvars import bound_contextvars

from streamer.core import log
from streamer.core.log_repeats import RepeatedLines


def line(text="no frames", level=logging.WARNING, **fields):
    event = {"event": text, "level": "warning", **fields} if fields else text
    return logging.LogRecord("streamer.x", level, __file__, 1, event, None, None)


def written(limit, records):
    """What each (time, record) lets through: how many lines each one stands for, at its time."""
    out = []
    for now_s, record in records:
        out += [(now_s, getattr(each, "repeated", 1)) for each in limit.admit(record, now_s)]
    return out


def test_one_flapping_camera_logs_a_few_lines_an_hour():
    limit = RepeatedLines()
    flapping = [(s, line(camera="north", error=f"gone after {s}.5 s")) for s in range(3600)]
    out = written(limit, flapping)
    assert len(out) == 5 + 5
    assert sum(count for _, count in out) + sum(r.repeated for r in limit.flush()) == 3600


def test_another_camera_fault_or_level_is_another_line():
    limit = RepeatedLines()
    records = [
        line(camera=camera, error=f"{error} after {number} s", at=number)
        for number in range(9)
        for camera in ("cam1", "cam2")
        for error in ("refused", "no route")
    ]
    assert len(written(limit, [(0, record) for record in records])) == 4 * 5
    assert written(
        limit, [(1, line(level=logging.ERROR, camera="cam1", error="refused after 1 s"))]
    )


def test_a_line_of_a_library_belongs_to_the_camera_of_its_thread():
    limit = RepeatedLines()
    for camera in ("cam1", "cam2"):
        with bound_contextvars(camera=camera):
            assert len(written(limit, [(0, line(f"attempt {n}")) for n in range(9)])) == 5


@pytest.mark.parametrize(
    "record",
    [
        line(alarm_id="north-1"),
        line(event_id="north-1-0"),
        line(level=logging.CRITICAL, camera="north"),
    ],
)
def test_lines_about_alarms_are_all_written(record):
    limit = RepeatedLines()
    assert len(written(limit, [(0, record)] * 100)) == 100


def test_a_line_that_has_calmed_down_begins_anew():
    limit = RepeatedLines()
    assert len(written(limit, [(0, line())] * 6)) == 5
    assert written(limit, [(600, line("other"))]) == [(600, 1), (600, 1)], "one was held back"
    assert written(limit, [(1200, line("other"))]) == [(1200, 1)]
    assert len(written(limit, [(1201, line())] * 6)) == 5


def test_memory_is_bounded_and_nothing_uncounted():
    limit = RepeatedLines()
    names = ["".join(chr(97 + (n // 26**k) % 26) for k in range(3)) for n in range(5000)]
    out = written(limit, [(0, line(name)) for name in names for _ in range(7)])
    assert sum(count for _, count in out) + sum(r.repeated for r in limit.flush()) == 35_000
    assert len(limit._windows) <= 1000


@pytest.fixture
def _log_as_before():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.usefixtures("_log_as_before")
def test_the_program_says_how_often_a_line_was_repeated(capsys):
    log.set_up(level="info", style="json")
    capsys.readouterr()  # Counts of lines from before, in whatever form.
    with bound_contextvars(camera="north"):
        for number in range(20):
            structlog.get_logger("a").warning("no frames", attempts=number)
            logging.getLogger("library").warning("attempt %d failed", number)
    structlog.get_logger("a").error("alarm", alarm_id="north-1")
    log.set_up(level="info", style="json")
    lines = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    assert len(lines) == 5 + 5 + 1 + 2
    assert [(one["event"], one["repeated"]) for one in lines[-2:]] == [
        ("no frames", "15 times"),
        ("attempt 19 failed", "15 times"),
    ]
    assert all(one["camera"] == "north" for one in lines if one["event"] != "alarm")
    assert lines[0]["timestamp"].endswith("+00:00")


@pytest.mark.usefixtures("_log_as_before")
def test_everything_is_logged_on_request(capsys):
    log.set_up(level="debug", style="text")
    for _ in range(20):
        structlog.get_logger("a").warning("no frames", camera="north")
    assert capsys.readouterr().err.count("no frames") == 20


STALLED = """
import sys, structlog
from streamer.core import log
log.set_up(level="debug", style="json")
for number in range(500):
    structlog.get_logger("a").error("x" * 1000, number=number)
print("not held up", flush=True)
sys.stdin.readline()
structlog.get_logger("a").error("read again")
"""


def test_a_reader_of_standard_error_that_stalls_holds_nothing_up():
    process = subprocess.Popen(
        [sys.executable, "-c", STALLED],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "not held up\n"
    first = [process.stderr.readline() for _ in range(30)]
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdin.close()
    rest = process.stderr.readlines()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(20) == 0
    assert [json.loads(line)["number"] for line in first] == list(range(30))
    *_, notice, last = rest
    assert "lines were lost: standard error was not read" in notice
    assert 400 < int(notice.split()[0]) < 500
    assert json.loads(last)["event"] == "read again"


def test_a_line_that_waits_does_not_keep_what_the_failed_part_held():
    class Image:
        """Large, in the variables of a part that failed."""

    held = []

    def part():
        image = Image()
        held.append(weakref.ref(image))
        raise ValueError("a bug")

    def failure(n):
        try:
            part()
        except ValueError as error:
            return line(camera="north", exc_info=ExceptionGroup("failed", [error]), n=n)

    limit = RepeatedLines()
    for n in range(9):
        limit.admit(failure(n), 0)
    (summary,) = limit.flush()
    assert [image() is None for image in held] == [True] * 9
    error = summary.msg["exc_info"].exceptions[0]
    assert 'raise ValueError("a bug")' in "".join(traceback.format_exception(error))
