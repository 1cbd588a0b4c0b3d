"""Publishing to real receivers, through the publisher's own process."""

import contextlib
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.core.clock import CancelToken
from streamer.core.errors import Cancelled, SinkError
from streamer.core.image import Canvas, ColorTags, Image
from streamer.sinks.frame_pipe import read_frame, write_frame
from streamer.sinks.publish import PublishSettings, PublishSink
from tests.support.frames import frame
from tests.support.rtsp_server import free_port

LIMIT_S = 30
PASSWORD = "wa:tch1"


def shown(level, number=0, *, width=128, height=96, arrived_ns=None):
    image = Image.from_rgb(np.full((height, width, 3), level, np.uint8))
    return replace(frame(number, arrived_ns=arrived_ns), image=image)


def settings(url, *, rate=25.0, stale_after_s=LIMIT_S):
    return PublishSettings("north", url, "the server", rate, "ultrafast", stale_after_s)


def publishers(program=None):
    """Publishers of a program, by default of this process, by process id.

    Their values are their arguments, which all users can read.
    """
    found = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            arguments = (folder / "cmdline").read_bytes().decode()
            if (
                int(parent) == (program or os.getpid())
                and "streamer.sinks.publish_process" in arguments
            ):
                found[int(folder.name)] = arguments
    return found


class Publishing:
    """The sink in a thread of its own; new frames come until `end`, then nothing more."""

    def __init__(self, wanted):
        self.sink = PublishSink(wanted)
        self.level, self.size = 200, (96, 128)
        self.given = 0
        self.error = None
        self.silent, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self.sink,))

    def _run(self, sink):
        try:
            sink(self._frames())
        except (SinkError, Cancelled) as error:
            self.error = error

    def _frames(self):
        while not self._ended.wait(0.02):
            if not self.silent.is_set():
                height, width = self.size
                yield shown(self.level, self.given, width=width, height=height)
                self.given += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()


def until(true):
    tick = threading.Event()
    for _ in range(LIMIT_S * 50):
        if true():
            return
        tick.wait(0.02)
    raise AssertionError(f"still not true after {LIMIT_S} s")


def receiver(url):
    """Listens until the publisher comes."""
    limits = {"listen_timeout": str(LIMIT_S), "timeout": str(LIMIT_S * 1_000_000)}
    if url.startswith("rtsp"):
        return av.open(url, options={"rtsp_flags": "listen", **limits})
    return av.open(url, options={**limits, "listen": "1", "listen_timeout": str(LIMIT_S * 1000)})


def brightness(image):
    luma = image.to_ndarray()[: image.height, : image.width]
    return float(luma[: image.height // 4].mean())


def received(source):
    for number, image in enumerate(source.decode(video=0)):
        assert number < 500, "the expected frame did not come"
        yield image


def address(scheme="tcp", login=""):
    return f"{scheme}://{login}127.0.0.1:{free_port()}" + ("/north" if scheme == "rtsp" else "")


@pytest.mark.parametrize("scheme", ["rtsp", "tcp"])
def test_frames_arrive_and_the_publisher_exits_with_the_sink(scheme):
    url = address(scheme)
    with Publishing(settings(url)) as publishing, receiver(url) as source:
        came = received(source)
        first = [next(came) for _ in range(10)]
        assert len(publishers()) == 1
        publishing.level = 90
        assert next(one for one in came if brightness(one) < 120)
    assert {(one.width, one.height) for one in first} == {(128, 96)}
    assert all(brightness(one) == pytest.approx(188, abs=6) for one in first)
    assert publishing.error is None
    assert publishers() == {}


def test_the_frame_rate_is_constant_while_no_new_frame_comes():
    url = address()
    with Publishing(settings(url, rate=20)) as publishing, receiver(url) as source:
        came = received(source)
        next(came)
        publishing.silent.set()
        times = [next(came).time for _ in range(20)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # A machine that is busy may miss a frame, but the grid stays.
    assert all(gap > 0.04 and gap * 20 == pytest.approx(round(gap * 20), abs=0.01) for gap in gaps)


def test_a_stale_frame_is_replaced_by_a_card_until_a_new_one_comes():
    url = address()
    with Publishing(settings(url, stale_after_s=1.0)) as publishing, receiver(url) as source:
        came = received(source)
        assert next(one for one in came if brightness(one) > 180)
        publishing.silent.set()
        card = next(one for one in came if brightness(one) < 60)
        publishing.silent.clear()
        assert next(one for one in came if brightness(one) > 180)
    assert (card.width, card.height) == (128, 96)


def test_a_frame_of_another_size_is_scaled_to_the_first_ones():
    url = address()
    with Publishing(settings(url)) as publishing, receiver(url) as source:
        came = received(source)
        next(came)
        publishing.size, publishing.level = (65, 99), 90
        other = next(one for one in came if brightness(one) < 120)
    assert (other.width, other.height) == (128, 96)


def test_a_receiver_that_is_away_is_reported_without_its_password_and_found_again(capfd):
    url, log = address("rtsp", f"fire:{PASSWORD}@"), []

    def logged(words):
        log.append(capfd.readouterr().err)
        return words in "".join(log)

    with Publishing(settings(url)) as publishing:
        until(lambda: logged("not published"))
        given = publishing.given
        until(lambda: publishing.given > given + 20)  # More than a pipe holds.
        (command,) = publishers().values()
        with receiver(url) as source:
            assert next(received(source))
    logged("")
    text = "".join(log)
    assert "to='the server'" in text
    assert "Connection refused" in text
    assert PASSWORD not in command + text
    assert publishing.error is None


def test_a_link_local_receiver_is_not_connected_to(capfd):
    log = []

    def logged(words):
        log.append(capfd.readouterr().err)
        return words in "".join(log)

    with Publishing(settings("rtsp://169.254.169.254:554/x")) as publishing:
        until(lambda: logged("network.allow_link_local"))
    assert publishing.error is None


def test_closing_does_not_wait_for_a_receiver_that_never_comes():
    with Publishing(settings(address("rtsp"))) as publishing:
        until(lambda: publishing.given > 5)
    assert publishing.error is None
    assert publishers() == {}


def test_a_publisher_that_dies_is_an_error_of_the_sink():
    with Publishing(settings(address())) as publishing:
        until(publishers)
        os.kill(*publishers(), signal.SIGKILL)
        until(lambda: publishing.error is not None)
    assert str(publishing.error) == "north: the publisher ended with status -9"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_all_processes_of_the_service_does_not_end_the_publisher(number):
    url = address()
    with Publishing(settings(url)) as publishing, receiver(url) as source:
        came = received(source)
        next(came)
        (publisher,) = publishers()
        assert os.getsid(publisher) == publisher
        os.kill(publisher, number)
        publishing.level = 90
        assert next(one for one in came if brightness(one) < 120)
        assert list(publishers()) == [publisher]
    assert publishing.error is None


@contextlib.contextmanager
def server_that_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/north", server


def test_a_stop_does_not_wait_for_a_server_that_does_not_answer():
    cancel = CancelToken()
    with server_that_does_not_answer() as (url, server):
        publishing = Publishing(settings(url))
        publishing.sink.abort_on(cancel)
        with publishing:
            connection, _ = server.accept()
            with connection:
                (publisher,) = publishers()
                cancel.set()
                until(lambda: not Path(f"/proc/{publisher}").exists() or publishing.error)
    assert publishers() == {}
    with pytest.raises(Cancelled):
        publishing.sink(iter([shown(200)]))  # It is not started again.


KILLED = """
import itertools, sys, time
from streamer.sinks.publish import PublishSettings, PublishSink
from tests.streamer.sinks.test_publish import settings, shown
PublishSink(settings(sys.argv[1]))(shown(200, number) for number in itertools.count())
"""


def test_a_publisher_that_waits_for_its_server_dies_with_the_program():
    with server_that_does_not_answer() as (url, server):
        program = subprocess.Popen([sys.executable, "-c", KILLED, url])
        connection, _ = server.accept()
        with connection:
            (publisher,) = publishers(program.pid)
            program.kill()
            program.wait(LIMIT_S)
            until(lambda: _state(publisher) in ("Z", ""))


def _state(process):
    """The state of a process, such as Z for one that has ended; empty where there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def test_when_the_camera_fails_the_publisher_ends_too():
    def failing():
        yield shown(200)
        raise OSError("camera gone")

    with pytest.raises(OSError, match="camera gone"):
        PublishSink(settings(address()))(failing())
    assert publishers() == {}


@pytest.mark.parametrize("sent", [0, 1000, 20_000])
def test_the_publisher_ends_by_itself_when_the_program_was_killed(sent):
    pipe = io.BytesIO()
    for number in range(2):
        write_frame(pipe, shown(200, number))
    settled = json.dumps(asdict(settings(address()))).encode() + b"\n"
    ended = subprocess.run(
        [sys.executable, "-m", "streamer.sinks.publish_process", str(os.getpid())],
        input=settled + pipe.getvalue()[:sent], capture_output=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, b"")
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize("size", [(96, 128), (97, 129), (1, 1)])
@pytest.mark.parametrize("full_range", [False, True])
def test_a_frame_is_the_same_after_the_pipe(size, full_range):
    canvas = Canvas.blank(size, color=ColorTags(1, 1, 1, full_range))
    for plane in canvas.planes:
        plane[:] = np.random.default_rng(plane.size).integers(0, 256, plane.shape)
    image, pipe = canvas.image(), io.BytesIO()
    write_frame(pipe, replace(frame(0, arrived_ns=7), image=image))
    write_frame(pipe, shown(90, arrived_ns=2**62))
    pipe.seek(0)
    first, second = read_frame(pipe), read_frame(pipe)
    assert (first.arrived_ns, second.arrived_ns) == (7, 2**62)
    assert (first.image.size, first.image.color) == (size, image.color)
    assert np.array_equal(first.image.rgb(), image.rgb())
    assert second.image.size == (96, 128)
    assert read_frame(pipe) is None


def test_a_truncated_frame_in_the_pipe_is_none():
    pipe = io.BytesIO()
    write_frame(pipe, shown(200, width=8, height=8))
    whole = pipe.getvalue()
    assert read_frame(io.BytesIO(whole)) is not None
    assert all(read_frame(io.BytesIO(whole[:size])) is None for size in range(len(whole)))
