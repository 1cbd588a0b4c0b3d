"""The program opens no connection and resolves no name that its configuration does not ask for."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clips import video_clip
from tests.support.rtsp_server import free_port

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]

CONFIG = """\
data_dir: data
preview: {{port: {page}}}
notify: {{chat: {{kind: apprise, url: "json://127.0.0.1:{server}/x"}}}}
cameras:
  a:
    source: {{address: clip.mkv, realtime: false}}
    outputs: {{publish: {{url: "rtsp://127.0.0.1:{server}/x"}}}}
"""

# Datagrams with an address of their own; others follow a `connect`.
LEAVING = re.compile(r"\bconnect\(|\bsend(?:to|msg|mmsg)\(.*sin6?_addr")
THIS_MACHINE = re.compile(r"AF_UNIX|AF_NETLINK")


def calls_to_others(folder: Path, *arguments: str) -> list[str]:
    """Run a command and return its system calls that leave the machine, of name resolution too."""
    page, server = free_port(), free_port()
    (folder / "fire.yaml").write_text(CONFIG.format(page=page, server=server))
    video_clip(folder / "clip.mkv", frames=30)
    log = folder / "calls"
    # The environment of a service, not of a test run: telemetry is silent in test runs by itself.
    environment = {
        "HOME": str(folder), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    tracer = ["strace", "-f", "-qq", "-e", "trace=network", "-e", "signal=none", "-o", str(log)]
    program = [sys.executable, "-m", "streamer.cli", *arguments]
    done = subprocess.run([*tracer, *program], cwd=folder, env=environment, timeout=60, check=False,
                          capture_output=True, text=True)  # fmt: skip
    # `doctor` finds that nothing listens.
    assert done.returncode == (arguments[0] == "doctor"), done.stdout + done.stderr
    lines = log.read_text().splitlines()
    # The two ports of the configuration; nothing listens on them.
    configured = re.compile(
        rf"htons\((?:{page}|{server})\), sin_addr=inet_addr\(\"127\.0\.0\.1\"\)"
    )
    return [
        line for line in lines
        if LEAVING.search(line) and not THIS_MACHINE.search(line) and not configured.search(line)
    ]  # fmt: skip


def test_the_trace_shows_a_name_resolution(tmp_path):
    script = "import socket; socket.getaddrinfo('other.example', 80)"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=network", sys.executable, "-c", script],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    calls = done.stderr.splitlines()
    assert [call for call in calls if LEAVING.search(call) and not THIS_MACHINE.search(call)]


@pytest.mark.parametrize(
    "arguments",
    [
        # Opens the network in OpenVINO and in ONNX Runtime, and compares them.
        ["doctor", "--config", "fire.yaml"],
        ["watch", "fire.yaml"],
        ["replay", "clip.mkv"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_nothing_leaves_the_machine_that_was_not_configured(tmp_path, arguments):
    assert calls_to_others(tmp_path, *arguments) == []
    assert not list(tmp_path.rglob("onnxruntime.db")), "no identifier is stored"
