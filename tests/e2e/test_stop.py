"""`watch` ends within five seconds of a signal, whatever its cameras and receivers are doing."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

import av
import pytest

from streamer.cli.exit_codes import Exit
from tests.support.rtsp_server import free_port

from .conftest import STREAMER

pytestmark = pytest.mark.slow

START_LIMIT_S = 90
LIMIT_S = 5.0
"""Containers are killed after 10 s; half of that is promised."""

CONFIG = """
data_dir: {folder}/data
preview: {{port: {preview}}}
defaults: {{source: {{timeout_s: 60}}}}
cameras:
  connecting: {{source: {{address: "rtsp://127.0.0.1:{full}/x"}}}}
  describing: {{source: {{address: "rtsp://127.0.0.1:{silent}/x"}}}}
  stream: {{source: {{address: "http://127.0.0.1:{silent}/x.ts"}}}}
  refused: {{source: {{address: "rtsp://127.0.0.1:{closed}/x"}}}}
  snapshot: {{source: {{address: "http://127.0.0.1:{silent}/snap.jpg"}}}}
  pattern:
    source: {{address: "pattern:"}}
    outputs:
      file: {{path: {folder}/pattern.mp4}}
      publish: {{url: "rtsp://127.0.0.1:{silent}/out"}}
{more}
notify:
  home: {{kind: mqtt, host: 127.0.0.1, port: {silent}}}
  hook: {{kind: webhook, url: "http://127.0.0.1:{silent}/hook"}}
"""


@contextlib.contextmanager
def silent_server():
    """Accepts connections and never answers."""
    connections = []

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connections.append(server.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in connections:
        connection.close()


@contextlib.contextmanager
def full_server():
    """Its queue of connections is full: the kernel answers no further one."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        with contextlib.ExitStack() as opened:
            for _ in range(4):
                client = opened.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(server.getsockname())
            yield server.getsockname()[1]


@contextlib.contextmanager
def watching(folder, more=""):
    """The program, once a frame of the pattern is in its file."""
    with silent_server() as silent, full_server() as full:
        config = folder / "watch.yaml"
        config.write_text(
            CONFIG.format(
                folder=folder, silent=silent, full=full, closed=free_port(), preview=free_port(),
                more=more,
            )
        )  # fmt: skip
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*STREAMER, "watch", str(config)], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            until(process, folder, lambda: any(folder.glob("pattern*")))
            yield process
        finally:
            process.kill()
            process.wait()


def until(process, folder, happened):
    ends = time.monotonic() + START_LIMIT_S
    while not happened():
        assert process.poll() is None, (folder / "log").read_text()[-3000:]
        assert time.monotonic() < ends, (folder / "log").read_text()[-3000:]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)


def ended(process, *numbers):
    """The exit code, and the seconds from the first signal to the end."""
    began = time.monotonic()
    for number in numbers:
        process.send_signal(number)
    code = process.wait(30)
    return code, time.monotonic() - began


@pytest.mark.parametrize(
    "numbers",
    [[signal.SIGTERM], [signal.SIGHUP, signal.SIGINT]],
    ids=["once", "twice"],
)
def test_it_ends_in_time_with_sources_and_receivers_that_do_not_answer(tmp_path, numbers):
    with watching(tmp_path) as process:
        code, seconds = ended(process, *numbers)
    log = (tmp_path / "log").read_text()
    assert seconds < LIMIT_S, log
    # On a busy machine, a second after the second signal may be too little for a regular end.
    assert code == 0 or (len(numbers) > 1 and code == Exit.FORCED), log
    (written,) = tmp_path.glob("pattern*.mp4*")
    if len(numbers) == 1:
        assert written.suffix == ".mp4", log
    with av.open(str(written)) as video:
        assert next(video.decode(video=0))


def test_a_camera_that_nothing_can_interrupt_is_named_and_left(tmp_path):
    os.mkfifo(tmp_path / "hung.mp4")  # As a file on a share that hangs: opening it never returns.
    more = f'  hung: {{source: {{address: "{tmp_path}/hung.mp4"}}}}'
    with watching(tmp_path, more) as process:
        code, seconds = ended(process, signal.SIGTERM)
    log = (tmp_path / "log").read_text()
    assert seconds < LIMIT_S, log
    assert code == Exit.FORCED, log
    assert "hung/source" in log
    assert not list(tmp_path.glob("*.part")), "outputs are finished although it is left"
