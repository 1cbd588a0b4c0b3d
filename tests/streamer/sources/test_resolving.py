"""Name servers that never answer, against the resolver of this machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

PROGRAM = """
import sys, threading, time
from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import Cancelled, SourceLost
from streamer.sources.options import VideoOptions
from streamer.sources.video import VideoSource

cancel = CancelToken()
timeout_s, stop_after_s, link_local = map(float, sys.argv[1:])
if stop_after_s:
    threading.Timer(stop_after_s, cancel.set).start()
options = VideoOptions(timeout_s=timeout_s, allow_link_local=bool(link_local))
source = VideoSource("rtsp://camera.example/1", clock=SystemClock(), live=True, options=options)
began = time.monotonic()
try:
    list(source(cancel))
except (Cancelled, SourceLost) as error:
    print(round(time.monotonic() - began, 2), type(error).__name__, error)
sys.stdout.flush()
"""


@pytest.fixture
def silent_resolver(tmp_path):
    """Runs `PROGRAM` where the only name server never answers; returns (seconds, error)."""
    if os.geteuid() != 0 or not Path("/usr/bin/unshare").exists():
        pytest.skip("needs root and unshare for a mount namespace")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.77", 53))
        config = tmp_path / "resolv.conf"
        config.write_text("nameserver 127.0.0.77\noptions timeout:20 attempts:2\n")
        script = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'

        def run(*arguments):
            command = ["unshare", "-m", "sh", "-c", script, "-", config, sys.executable]
            answer = subprocess.run(
                [*command, "-c", PROGRAM, *map(str, arguments)],
                capture_output=True, text=True, check=False, timeout=30,
            )  # fmt: skip
            assert answer.returncode == 0, answer.stderr
            seconds, _, error = answer.stdout.partition(" ")
            return float(seconds), error

        yield run


@pytest.mark.parametrize("link_local", [0, 1])
def test_a_stop_ends_the_wait_for_a_name_server_and_the_process_too(silent_resolver, link_local):
    seconds, error = silent_resolver(30, 0.5, link_local)
    assert 0.4 < seconds < 1.0
    assert error.startswith("Cancelled")


def test_a_name_that_is_not_resolved_ends_the_attempt_after_the_timeout(silent_resolver):
    seconds, error = silent_resolver(0.7, 0, 0)
    assert 0.6 < seconds < 1.2
    assert error.startswith("SourceLost")
    assert "not resolved within 0.7 s" in error
