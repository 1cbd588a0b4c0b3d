"""Who gets a connection, under which name, and what becomes of clients that do nothing."""

import contextlib
import http.client
import socket
import threading
import time

import httpx
import numpy as np
import pytest

from streamer.core.errors import SinkError
from streamer.core.image import Image
from streamer.web.connections import ConnectionLimits
from streamer.web.server import WebServer

from .test_server import LIMIT_S, empty_status, part, serving, until

LOUD = np.random.default_rng(1).integers(0, 256, (270, 480, 3), np.uint8)
"""Noise: its JPEG is about 100 kB."""


def connect(web) -> socket.socket:
    return socket.create_connection(("127.0.0.1", web.port), timeout=LIMIT_S)


def ends(connection, *, within_s=LIMIT_S) -> bytes:
    """Read until the server closes the connection; what it has sent."""
    connection.settimeout(within_s)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


def get(port, *, host="127.0.0.1", path="/status", **headers) -> http.client.HTTPResponse:
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=LIMIT_S)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.text = answer.read().decode("latin-1")
        return answer


@contextlib.contextmanager
def filming(web):
    """A camera that delivers noise, so that streams carry much."""
    stop = threading.Event()
    web.show_image(Image.from_rgb(LOUD))

    def film():
        while not stop.wait(0.02):
            web.clock.step(0.02)
            web.show_image(Image.from_rgb(LOUD))

    thread = threading.Thread(target=film)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LIMIT_S)


def test_viewers_that_read_nothing_lose_their_places():
    limits = ConnectionLimits(stalled_s=0.6)
    with serving(limits=limits) as web, filming(web), contextlib.ExitStack() as opened:
        silent = [opened.enter_context(connect(web)) for _ in range(32)]
        for connection in silent:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /cameras/north.mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with web.watching() as refused:
            assert (refused.status, refused.read()) == (503, b"too many viewers\n")
        # The page needs no place, and its images come all the while.
        assert len(web.get("/frames").content) > 50_000

        def is_free() -> bool:
            with web.watching() as answer:
                return answer.status == 200 and bool(part(answer))

        until(is_free)
        assert all(len(ends(connection)) < 1_000_000 for connection in silent)


def test_a_slow_viewer_that_reads_on_keeps_its_place():
    with serving(limits=ConnectionLimits(stalled_s=0.8)) as web, filming(web), connect(web) as slow:
        slow.sendall(b"GET /cameras/north.mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received, until_s = 0, time.monotonic() + 1.5
        while time.monotonic() < until_s:
            received += len(slow.recv(16384))
            threading.Event().wait(0.02)
        assert received > 150_000


def test_a_viewer_too_many_is_refused_until_another_has_gone(web):
    web.show(100)
    with contextlib.ExitStack() as others:
        watched = [others.enter_context(web.watching()) for _ in range(32)]
        assert all(part(answer) for answer in watched)
        with web.watching() as refused:
            assert (refused.status, refused.read()) == (503, b"too many viewers\n")
        assert web.get("/cameras/north.jpg").status_code == 200

    def is_free() -> bool:
        with web.watching() as answer:
            return answer.status == 200

    until(is_free)
    until(lambda: not web.camera()._listeners)


def test_connections_are_limited_and_the_refusal_is_reported():
    with serving(limits=ConnectionLimits(per_address=3)) as web:
        with contextlib.ExitStack() as opened:
            held = [opened.enter_context(connect(web)) for _ in range(3)]
            with connect(web) as refused:
                answer = ends(refused)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert answer.endswith(b"\r\n\r\ntoo many connections\n")
            assert held
        until(lambda: get(web.port).status == 200)


@pytest.mark.parametrize(
    "sent", [b"", b"GET /sta", b"GET /status HTTP/1.1\r\nHost: localhost\r\nX-A: "]
)
def test_a_request_that_never_gets_whole_is_given_up(sent):
    with serving(limits=ConnectionLimits(request_s=0.3)) as web, connect(web) as slow:
        slow.sendall(sent)
        assert ends(slow, within_s=3) == b""


def test_a_second_request_that_never_gets_whole_is_given_up_too():
    with serving(limits=ConnectionLimits(request_s=0.3)) as web, connect(web) as slow:
        slow.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert slow.recv(4096).startswith(b"HTTP/1.1 200 ")
        slow.sendall(b"GET /status HTTP/1.1\r\nHo")
        assert ends(slow, within_s=3).count(b"HTTP/1.1 200") == 0


def test_an_idle_connection_is_closed():
    with serving(limits=ConnectionLimits(idle_s=1)) as web, connect(web) as idle:
        idle.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ends(idle, within_s=4).count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET http://[/ HTTP/1.0\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_at_once(web, sent):
    with connect(web) as odd:
        odd.sendall(sent)
        odd.shutdown(socket.SHUT_WR)
        assert ends(odd, within_s=3).split(b" ")[1] in (b"400", b"404")
    assert get(web.port).status == 200


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("127.0.0.1:{port}", 200), ("localhost:{port}", 200), ("LOCALHOST", 200), ("[::1]:80", 200),
        ("192.168.1.20:8090", 200), (socket.gethostname(), 200), ("cams.example.org", 200),
        ("evil.example.com:{port}", 400), ("127.0.0.1.evil.com", 400), ("", 400), ("[", 400),
        ("localhost.evil.com", 400),
    ],
)  # fmt: skip
def test_only_names_of_this_server_are_answered(name, status):
    with serving(allowed_hosts=["Cams.example.org"]) as web:
        answer = get(web.port, Host=name.format(port=web.port))
        assert answer.status == status
        if status == 400:
            assert answer.text.startswith("unknown host name: add it to preview.allowed_hosts")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "https://cams.example.org"}, 200),
        ({"Origin": "http://evil.example.com"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
    ],
)
def test_pages_of_other_sites_get_nothing(headers, status):
    with serving(allowed_hosts=["cams.example.org"]) as web:
        web.show(100)
        sent = {name: text.format(port=web.port) for name, text in headers.items()}
        for path in ("/status", "/cameras/north.jpg"):
            answer = get(web.port, path=path, Host=f"127.0.0.1:{web.port}", **sent)
            assert answer.status == status
            assert status == 200 or answer.text == "not for pages of another site\n"


@pytest.mark.parametrize(
    ("host", "reached", "shown"),
    [
        ("::1", ["::1"], "[::1]"),
        ("::", ["::1", "127.0.0.1"], "[::]"),
        ("0.0.0.0", ["127.0.0.1"], "0.0.0.0"),
        ("localhost", ["127.0.0.1", "::1"], "localhost"),
    ],
)
def test_it_listens_on_any_kind_of_address(host, reached, shown):
    with serving(host=host) as web:
        assert web.server.url == f"http://{shown}:{web.port}/"
        for address in reached:
            assert get(web.port, host=address).status == 200


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", r"\[::1\]"), ("localhost", "localhost")]
)
def test_a_port_in_use_is_reported_at_once(host, shown):
    with serving(host=host) as web:  # noqa: SIM117  the match needs the port
        with pytest.raises(
            SinkError, match=f"preview: cannot listen on {shown}:{web.port}: address"
        ):
            WebServer(host, web.port, token=None, status=empty_status, cameras=dict)
    with pytest.raises(SinkError, match=r"cannot listen on no\.such\.invalid:1: "):
        WebServer("no.such.invalid", 1, token=None, status=empty_status, cameras=dict)


def test_closing_ends_every_connection_soon_and_a_second_time_does_nothing():
    with serving() as web, contextlib.ExitStack() as opened:
        web.show(100)
        web.show(100, name="south")
        paths = ["/cameras/north.mjpeg"] * 3 + ["/cameras/south.mjpeg"]
        watched = [opened.enter_context(web.watching(path)) for path in paths]
        half, silent = opened.enter_context(connect(web)), opened.enter_context(connect(web))
        half.sendall(b"GET / HT")
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.sendall(b"GET /cameras/north.mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert all(part(answer) for answer in watched)
        began = time.monotonic()
        web.stop.set()
        web.thread.join(LIMIT_S)
        assert time.monotonic() - began < 0.5
        assert ends(half) == b""
        web.server.close()
        with pytest.raises(httpx.ConnectError):
            web.get("/")


def test_it_serves_again_after_it_ended():
    with serving() as web:
        web.stop.set()
        web.thread.join(LIMIT_S)
        web.restart()

        def answers() -> bool:
            with contextlib.suppress(ConnectionRefusedError):
                return get(web.port).status == 200
            return False

        until(answers)
