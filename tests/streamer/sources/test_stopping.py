"""Timeouts and stops of sources, against real sockets that answer late or never."""

import socket
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import Cancelled, SourceFault, SourceLost
from streamer.sources.options import VideoOptions
from streamer.sources.reconnect import ReconnectingSource
from streamer.sources.video import VideoSource
from tests.support.clips import video_clip
from tests.support.http_camera import HttpCamera, pieces
from tests.support.odd_rtsp_camera import OddRtspCamera

STOP_LIMIT_S = 1.0
"""FFmpeg asks ten times a second whether to go on; the rest is for a busy machine."""


def camera(url, *, timeout_s=30.0, **options):
    options = VideoOptions(timeout_s=timeout_s, transport="tcp", **options)
    return VideoSource(url, clock=SystemClock(), live=True, options=options)


@contextmanager
def silent_server():
    """An address that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def wait_for(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it never came so far"
        time.sleep(0.01)


def connecting(port):
    """Connections to *port* of this machine that are not answered yet."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    syn_sent = [line.split() for line in lines if line.split()[3] == "02"]
    return sum(fields[2].endswith(f":{port:04X}") for fields in syn_sent)


def seconds_to_stop(source, reached):
    """Run *source* in a thread, set its token once *reached* returns, and measure its end."""
    cancel = CancelToken()
    ended = []

    def run():
        try:
            ended.append(list(source(cancel)))
        except (Cancelled, SourceLost) as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        reached()
    finally:
        began = time.monotonic()
        cancel.set()
        thread.join(20)
    assert not thread.is_alive()
    assert not isinstance(ended[0], SourceLost), "a stop is no failure"
    return time.monotonic() - began


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtsps", "https", "rtmp"])
def test_a_stop_ends_an_attempt_to_open_a_server_that_never_answers(scheme):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = camera(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/cam")

        def reached():
            client, _ = listener.accept()
            clients.append(client)

        clients = []
        assert seconds_to_stop(source, reached) < STOP_LIMIT_S
        for client in clients:
            client.close()


def test_a_stop_ends_an_attempt_to_connect_to_a_host_that_drops_packets():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        # A full backlog: the kernel answers no further connection.
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        source = camera(f"rtsp://127.0.0.1:{port}/cam")
        assert seconds_to_stop(source, lambda: wait_for(lambda: connecting(port) > 3)) < (
            STOP_LIMIT_S
        )
        for other in others:
            other.close()


def test_a_stop_ends_a_pending_description(elementary):
    with OddRtspCamera(elementary, describe_after_s=None) as server:
        assert seconds_to_stop(camera(server.url), server.described.wait) < STOP_LIMIT_S


def test_a_stop_ends_the_wait_for_a_camera_that_fell_silent(elementary):
    with OddRtspCamera(elementary, silent_after=20) as server:

        def reached():
            wait_for(lambda: server.sent == 20)

        assert seconds_to_stop(camera(server.url), reached) < STOP_LIMIT_S


def test_a_stop_ends_the_wait_for_an_http_stream_that_fell_silent(tmp_path):
    data = video_clip(tmp_path / "clip.ts").read_bytes()
    with HttpCamera() as server:
        server.bodies["/live.ts"] = pieces(data, silent_after=len(data))
        source = camera(server.url + "/live.ts")

        def reached():
            wait_for(lambda: server.requests)

        assert seconds_to_stop(source, reached) < STOP_LIMIT_S


def test_a_stop_ends_a_reconnecting_source_in_the_middle_of_an_attempt(elementary):
    with OddRtspCamera(elementary, describe_after_s=None) as server:
        source = ReconnectingSource(camera(server.url), clock=SystemClock())
        assert seconds_to_stop(source, server.described.wait) < STOP_LIMIT_S


def test_a_camera_that_describes_itself_late_but_within_the_timeout_is_opened(elementary):
    with (
        OddRtspCamera(elementary, describe_after_s=1.4) as server,
        closing(camera(server.url, timeout_s=2.0)(CancelToken())) as frames,
    ):
        assert next(frames).image.size == (180, 320)


@pytest.mark.parametrize("timeout_s", [0.6, 1.5])
def test_a_description_that_never_comes_ends_the_attempt_after_the_timeout(elementary, timeout_s):
    began = time.monotonic()
    with (
        OddRtspCamera(elementary, describe_after_s=None) as server,
        pytest.raises(SourceLost) as caught,
    ):
        next(camera(server.url, timeout_s=timeout_s)(CancelToken()))
    assert timeout_s <= time.monotonic() - began < timeout_s + 0.5
    assert caught.value.fault is SourceFault.STALLED
    assert f"{timeout_s:g} s" in str(caught.value)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_the_whole_of_opening_takes_the_timeout_at_most(scheme):
    began = time.monotonic()
    with silent_server() as address, pytest.raises(SourceLost) as caught:
        next(camera(f"{scheme}://{address}/cam", timeout_s=0.6)(CancelToken()))
    assert 0.6 <= time.monotonic() - began < 1.1
    assert caught.value.fault is SourceFault.STALLED


def test_a_stream_that_falls_silent_is_given_up_after_the_timeout(elementary):
    with (
        OddRtspCamera(elementary, silent_after=10) as server,
        closing(camera(server.url, timeout_s=0.8)(CancelToken())) as frames,
    ):
        arrived = []
        with pytest.raises(SourceLost) as caught:
            arrived.extend(frame.arrived_ns for frame in frames)
    silent_s = (time.monotonic_ns() - arrived[-1]) / 1e9
    assert 0.7 <= silent_s < 1.4
    assert caught.value.fault is SourceFault.STALLED
    assert "0.8 s" in str(caught.value)
