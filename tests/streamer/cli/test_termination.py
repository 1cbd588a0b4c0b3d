"""Signals end a real process within its limit, whatever its threads are doing."""

import signal
import subprocess
import sys
import time

import pytest

from streamer.cli import termination
from streamer.cli.exit_codes import Exit

LIMIT_S = 20

START = """
import ctypes, signal, sys, threading, time
from streamer import cli
from streamer.cli import termination

def ready():
    print("ready", flush=True)

def command(work):
    cli._app = lambda wanted: lambda **_: work()
    sys.exit(cli.main(["x"]))
"""

WAITING = "command(lambda: (ready(), threading.Event().wait()))"
BLOCKED_THREAD = """
threading.Thread(target=lambda: threading.Event().wait(), name="north/source").start()
command(lambda: (ready(), threading.Event().wait()))
"""
BLOCKED_MAIN = """
mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
def work():
    with termination.current().on_signal(lambda: None):
        ready()
        lock(mutex)
        lock(mutex)
command(work)
"""
NOTHING_RUNS = """
held = ctypes.PyDLL(None).sleep  # Unlike CDLL, it keeps the interpreter's lock.
def work():
    with termination.current().on_signal(lambda: held(60)):
        ready()
        threading.Event().wait()
command(work)
"""
FINISHING = """
def work():
    first, second = threading.Event(), threading.Event()
    with termination.current().on_signal(first.set, second.set):
        ready()
        first.wait()
        print("finishing", flush=True)
        if "twice" in sys.argv:
            second.wait()
            print("stopping", flush=True)
command(work)
"""


class Program:
    """A process that runs a command; it is killed at the end of the block."""

    def __init__(self, code, *arguments, limits=(0.4, 0.2), before=()):
        code = f"{START}\ntermination.LIMIT_S, termination.SECOND_LIMIT_S = {limits}\n{code}"
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self):
        self.heard("ready")
        return self

    def heard(self, word):
        assert self.process.stdout.readline().strip() == word

    def send(self, number):
        self.process.send_signal(number)

    def ended(self):
        """Exit code and standard error."""
        _, errors = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, errors

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_interrupts_a_command(number, code):
    with Program(WAITING) as program:
        program.send(number)
        assert program.ended() == (code, "")


def test_a_thread_that_does_not_end_is_named_and_left_at_the_limit():
    with Program(BLOCKED_THREAD) as program:
        program.send(signal.SIGTERM)
        code, errors = program.ended()
    assert code == Exit.FORCED
    assert errors.startswith("streamer: ended by force after SIGTERM: did not end: ")
    assert "north/source (threading.py:" in errors


def test_a_main_thread_in_a_call_that_nothing_interrupts_is_left_too():
    with Program(BLOCKED_MAIN) as program:
        program.send(signal.SIGHUP)
        code, errors = program.ended()
    assert code == Exit.FORCED
    assert "MainThread" in errors


def test_the_kernel_ends_a_process_in_which_nothing_can_run():
    with Program(NOTHING_RUNS) as program:
        program.send(signal.SIGTERM)
        assert program.ended() == (-signal.SIGALRM, "")


def test_a_second_signal_shortens_the_limit_and_a_third_ends_at_once():
    with Program(BLOCKED_THREAD, limits=(3600, 0.2)) as program:
        program.send(signal.SIGTERM)
        time.sleep(0.05)  # Two pending signals of one kind would be one.
        program.send(signal.SIGTERM)
        assert program.ended()[0] == Exit.FORCED
    with Program(BLOCKED_THREAD, limits=(3600, 3600)) as program:
        for _ in range(3):
            program.send(signal.SIGTERM)
            time.sleep(0.05)
        assert program.ended()[0] == Exit.FORCED


def test_a_command_may_finish_after_the_first_signal_and_stop_after_the_second():
    with Program(FINISHING) as program:
        program.send(signal.SIGTERM)
        program.heard("finishing")
        assert program.ended() == (0, "")
    with Program(FINISHING, "twice", limits=(3600, 60)) as program:
        program.send(signal.SIGINT)
        program.heard("finishing")
        program.send(signal.SIGTERM)
        program.heard("stopping")
        assert program.ended() == (0, "")


def test_nohup_is_respected():
    with Program(WAITING, before=["nohup"]) as program:
        program.send(signal.SIGHUP)
        program.send(signal.SIGTERM)
        assert program.ended()[0] == 143


def test_the_limits_leave_time_before_a_container_is_killed():
    assert termination.LIMIT_S < 5
    assert termination.SECOND_LIMIT_S < termination.LIMIT_S
