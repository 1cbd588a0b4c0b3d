"""The web server as browsers and scripts meet it: over a real connection."""

import contextlib
import html
import http.client
import re
import socket
import threading
from dataclasses import replace
from urllib.parse import urlencode

import av
import httpx
import numpy as np
import pytest

from streamer.core.clock import CancelToken
from streamer.core.errors import SinkError
from streamer.core.image import Image
from streamer.health.program_status import ProgramStatus
from streamer.health.snapshot import program_status
from streamer.sinks.mjpeg import MjpegSink
from streamer.web.server import WebServer
from tests.support.frames import frame
from tests.support.stepping import StepClock

LIMIT_S = 20
TOKEN = "t&k/n+ 1"


def empty_status() -> ProgramStatus:
    return program_status(version="1.2", started_ns=0, cameras=[], tasks={}, clock=StepClock())


class Web:
    """A server on a free port, with cameras whose time the test moves."""

    def __init__(self, *, token=None, status=empty_status):
        self.clock, self.stop, self.reason = StepClock(), CancelToken(), ""
        self.cameras: dict[str, MjpegSink] = {}
        self.server = WebServer(
            "127.0.0.1", 0, token=token, status=status, cameras=lambda: self.cameras
        )
        self.port = int(self.server.url.rstrip("/").rpartition(":")[2])

    def camera(self, name="north"):
        if name not in self.cameras:
            self.cameras[name] = MjpegSink(
                name, clock=self.clock, stale_after_s=1.0, reason=lambda: self.reason
            )
        return self.cameras[name]

    def show(self, level, name="north"):
        image = Image.from_rgb(np.full((96, 128, 3), level, np.uint8))
        self.camera(name)([replace(frame(0, arrived_ns=self.clock.now_ns), image=image)])

    def get(self, path, **headers):
        with httpx.Client(timeout=LIMIT_S, trust_env=False) as client:
            return client.get(f"http://127.0.0.1:{self.port}{path}", headers=headers)

    @contextlib.contextmanager
    def watching(self, path="/cameras/north.mjpeg"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            with connection.getresponse() as answer:
                yield answer


@contextlib.contextmanager
def serving(**wanted):
    web = Web(**wanted)
    thread = threading.Thread(target=web.server.serve, args=(web.stop,))
    thread.start()
    try:
        yield web
    finally:
        web.stop.set()
        with contextlib.suppress(OSError):  # A knock, so that it need not wait for its next poll.
            socket.create_connection(("127.0.0.1", web.port)).close()
        thread.join(LIMIT_S)
        assert not thread.is_alive()


@pytest.fixture
def web():
    with serving() as running:
        running.camera()
        yield running


def part(answer):
    """The next frame of a stream: its JPEG, checked to be framed as browsers expect."""
    assert answer.readline() == b"--frame\r\n"
    assert answer.readline() == b"Content-Type: image/jpeg\r\n"
    name, _, length = answer.readline().partition(b": ")
    assert (name, answer.readline()) == (b"Content-Length", b"\r\n")
    jpeg = answer.read(int(length))
    assert answer.readline() == b"\r\n"
    return jpeg


def brightness(jpeg):
    """Of the upper quarter, where a card has no letters; and the size."""
    (image,) = av.CodecContext.create("mjpeg", "r").decode(av.Packet(jpeg))
    grey = image.to_ndarray(format="gray")
    return round(float(grey[: image.height // 4].mean())), (image.height, image.width)


def parts_until(answer, true):
    """Read on until a part is as wanted: while nothing is new, the same one comes again."""
    assert any(true(brightness(part(answer))[0]) for _ in range(50))


def images_of(page):
    found = re.findall(r'<img src="([^"]*)" alt="([^"]*)">', page)
    return [(html.unescape(address), html.unescape(name)) for address, name in found]


def test_a_still_is_the_newest_frame(web):
    web.show(90)
    web.show(200)
    answer = web.get("/cameras/north.jpg")
    level, size = brightness(answer.content)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["cache-control"] == "no-store"
    assert size == (96, 128)
    assert level == pytest.approx(200, abs=4)


def test_a_stream_gives_each_new_frame_as_a_part(web):
    web.show(60)
    with web.watching() as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        for level in (60, 130, 220):
            web.show(level)
            parts_until(answer, lambda seen, level=level: abs(seen - level) < 5)


def test_two_viewers_see_the_same(web):
    web.show(150)
    with web.watching() as one, web.watching() as other:
        assert part(one) == part(other)


def test_a_camera_that_never_came_shows_a_card_with_the_reason():
    with serving() as web:
        web.camera()
        cards = []
        for web.reason in ("", "wrong password", ""):
            cards.append(web.get("/cameras/north.jpg").content)
    assert cards[0] == cards[2] != cards[1]
    assert brightness(cards[0]) == (pytest.approx(28, abs=2), (360, 640))


def test_an_old_frame_is_never_given_as_live(web):
    web.show(200)
    with web.watching() as answer:
        assert brightness(part(answer))[0] > 190
        web.clock.step(1.0)
        assert brightness(web.get("/cameras/north.jpg").content)[0] > 190
        web.clock.step(0.01)
        assert brightness(web.get("/cameras/north.jpg").content)[0] < 60
        with web.watching() as late:
            assert brightness(part(late))[0] < 60
        parts_until(answer, lambda seen: seen < 60)
        web.show(180)
        parts_until(answer, lambda seen: seen > 170)


def test_the_page_shows_every_camera_and_fetches_nothing_from_elsewhere(web):
    web.camera("south 2/b")
    answer = web.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert [name for _, name in images_of(answer.text)] == ["north", "south 2/b"]
    assert "//" not in answer.text.replace("</", "")
    for address, _ in images_of(answer.text):
        assert web.get("/" + address.replace(".mjpeg", ".jpg")).status_code == 200


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a\"b'c", "größer & kälter"])
def test_a_camera_name_is_only_ever_text(web, name):
    web.camera(name)
    page = web.get("/").text
    address, shown = images_of(page)[1]
    assert shown == name
    assert page.count("<script>") == 1
    assert web.get("/" + address.replace(".mjpeg", ".jpg")).status_code == 200


def test_an_unknown_path_is_not_found(web):
    for path in ("south.jpg", "north.png", "north", "", "../../etc/passwd", "%2e%2e%2fnorth.jpg"):
        answer = web.get(f"/cameras/{path}")
        assert (answer.status_code, answer.text) == (404, "no such camera\n"), path


def test_the_status_is_that_of_the_moment():
    versions = iter("12")

    def status():
        return program_status(
            version=next(versions), started_ns=0, cameras=[], tasks={}, clock=StepClock()
        )

    with serving(status=status) as web:
        assert [web.get("/status").json()["version"] for _ in range(2)] == ["1", "2"]


def test_the_metrics_are_those_of_the_status(web):
    answer = web.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'streamer_info{version="1.2"} 1.0' in answer.text.splitlines()
    assert "streamer_problems 0.0" in answer.text.splitlines()


def test_a_port_in_use_is_reported_at_once(web):
    with pytest.raises(SinkError, match=f"cannot listen on 127.0.0.1:{web.port}: address"):
        WebServer("127.0.0.1", web.port, token=None, status=empty_status, cameras=dict)


def test_with_a_token_nothing_is_shown_without_it():
    with serving(token=TOKEN) as web:
        web.show(200)
        for path in (
            "/",
            "/status",
            "/metrics",
            "/cameras/north.jpg",
            "/cameras/north.mjpeg",
            "/x",
        ):
            for tried in ("", "?token=", "?token=wrong", "?token=%FF", "?Token=t"):
                answer = web.get(path + tried)
                assert (answer.status_code, answer.text) == (401, "token missing or wrong\n")
            for header in ("", "Bearer", "Bearer wrong", "Bearer " + TOKEN + "x"):
                assert web.get(path, Authorization=header).status_code == 401


def test_the_token_opens_as_query_or_header_and_is_never_logged(capfd):
    with serving(token=TOKEN) as web:
        web.show(200)
        query = "?" + urlencode({"token": TOKEN})
        assert web.get("/status", Authorization=f"Bearer {TOKEN}").status_code == 200
        page = web.get("/" + query).text
        assert f'fetch("status{query}"' in page
        with web.watching("/" + images_of(page)[0][0]) as answer:
            assert brightness(part(answer))[0] > 190
    assert capfd.readouterr() == ("", "")


def test_a_viewer_too_many_is_refused_until_another_has_gone(web):
    web.show(100)
    with contextlib.ExitStack() as others:
        watched = [others.enter_context(web.watching()) for _ in range(32)]
        with web.watching() as refused:
            assert (refused.status, refused.read()) == (503, b"too many viewers\n")
        assert web.get("/cameras/north.jpg").status_code == 200
        assert all(part(answer) for answer in watched)
    for _ in range(1000):  # The server learns that they went when it next writes to them.
        web.show(100)
        with web.watching() as answer:
            if answer.status == 200:
                return
    raise AssertionError("no place became free")


def test_closing_ends_every_connection_and_a_second_time_does_nothing():
    with serving() as web, contextlib.ExitStack() as open_ones:
        web.show(100)
        web.camera("south")
        paths = ["/cameras/north.mjpeg"] * 3 + ["/cameras/south.mjpeg"]
        watched = [open_ones.enter_context(web.watching(path)) for path in paths]
        web.stop.set()
        assert all(answer.read()[-2:] in (b"", b"\r\n") for answer in watched)
        web.server.close()
        with pytest.raises(httpx.ConnectError):
            web.get("/")


def test_closing_does_not_wait_for_who_never_asks_anything(web):
    with contextlib.closing(socket.create_connection(("127.0.0.1", web.port))) as idle:
        idle.sendall(b"GET / HT")
        web.get("/status")  # Connections are taken in order: the idle one is held now.
        web.stop.set()
        idle.settimeout(5)
        assert idle.recv(1) == b""


def test_a_stream_ends_when_its_camera_is_closed(web):
    web.show(100)
    with web.watching() as answer:
        assert part(answer)
        web.camera().close()
        while answer.readline():
            pass
    assert web.get("/status").status_code == 200


def test_an_address_that_is_none_is_refused_in_words(web):
    with contextlib.closing(socket.create_connection(("127.0.0.1", web.port))) as raw:
        raw.settimeout(LIMIT_S)
        raw.sendall(b"GET http://[/ HTTP/1.0\r\n\r\n")
        assert b" 400 " in raw.recv(100)
