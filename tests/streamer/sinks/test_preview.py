"""The preview as browsers and scripts meet it: over a real connection."""

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
from streamer.sinks.preview import PreviewServer
from tests.support.frames import frame
from tests.support.stepping import StepClock

LIMIT_S = 20
TOKEN = "t&k/n+ 1"


class Preview:
    """A server on a free port, with cameras whose time the test moves."""

    def __init__(self, *, token=None, status=dict):
        self.clock, self.stop, self.why = StepClock(), CancelToken(), ""
        self.server = PreviewServer("127.0.0.1", 0, token=token, status=status)
        self.port = int(self.server.url.rstrip("/").rpartition(":")[2])

    def camera(self, name="north"):
        return self.server.sink(name, clock=self.clock, stale_after_s=1.0, why=lambda: self.why)

    def show(self, level, name="north"):
        picture = Image.from_rgb(np.full((96, 128, 3), level, np.uint8))
        self.camera(name)([replace(frame(0, arrived_ns=self.clock.now_ns), image=picture)])

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
    preview = Preview(**wanted)
    thread = threading.Thread(target=preview.server.serve, args=(preview.stop,))
    thread.start()
    try:
        yield preview
    finally:
        preview.stop.set()
        with contextlib.suppress(OSError):  # A knock, so that it need not wait for its next look.
            socket.create_connection(("127.0.0.1", preview.port)).close()
        thread.join(LIMIT_S)
        assert not thread.is_alive()


@pytest.fixture
def preview():
    with serving() as running:
        running.camera()
        yield running


def part(answer):
    """The next picture of a stream: its JPEG, checked to be framed as browsers expect."""
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


def test_a_still_is_the_newest_picture(preview):
    preview.show(90)
    preview.show(200)
    answer = preview.get("/cameras/north.jpg")
    level, size = brightness(answer.content)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["cache-control"] == "no-store"
    assert size == (96, 128)
    assert level == pytest.approx(200, abs=4)


def test_a_stream_gives_each_new_picture_as_a_part(preview):
    preview.show(60)
    with preview.watching() as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        for level in (60, 130, 220):
            preview.show(level)
            parts_until(answer, lambda seen, level=level: abs(seen - level) < 5)


def test_two_viewers_see_the_same_and_the_picture_is_encoded_once(preview):
    preview.show(150)
    with preview.watching() as one, preview.watching() as other:
        assert part(one) == part(other)
    camera = preview.camera()
    assert camera.jpeg(0, timeout_s=0)[1] is camera.jpeg(0, timeout_s=0)[1]


def test_a_camera_that_never_came_shows_a_card_with_the_reason():
    with serving() as preview:
        preview.camera()
        cards = []
        for preview.why in ("", "wrong password", ""):
            cards.append(preview.get("/cameras/north.jpg").content)
    assert cards[0] == cards[2] != cards[1]
    assert brightness(cards[0]) == (pytest.approx(28, abs=2), (360, 640))


def test_an_old_picture_is_never_given_as_live(preview):
    preview.show(200)
    with preview.watching() as answer:
        assert brightness(part(answer))[0] > 190
        preview.clock.step(1.0)
        assert brightness(preview.get("/cameras/north.jpg").content)[0] > 190
        preview.clock.step(0.01)
        assert brightness(preview.get("/cameras/north.jpg").content)[0] < 60
        with preview.watching() as late:
            assert brightness(part(late))[0] < 60
        parts_until(answer, lambda seen: seen < 60)
        preview.show(180)
        parts_until(answer, lambda seen: seen > 170)


def test_the_page_shows_every_camera_and_fetches_nothing_from_elsewhere(preview):
    preview.camera("south 2/b")
    answer = preview.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert [name for _, name in images_of(answer.text)] == ["north", "south 2/b"]
    assert "//" not in answer.text.replace("</", "")
    for address, _ in images_of(answer.text):
        assert preview.get("/" + address.replace(".mjpeg", ".jpg")).status_code == 200


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a\"b'c", "größer & kälter"])
def test_a_camera_name_is_only_ever_text(preview, name):
    preview.camera(name)
    page = preview.get("/").text
    address, shown = images_of(page)[1]
    assert shown == name
    assert page.count("<script>") == 1
    assert preview.get("/" + address.replace(".mjpeg", ".jpg")).status_code == 200


def test_what_is_not_there_is_said_to_be_not_there(preview):
    for path in ("south.jpg", "north.png", "north", "", "../../etc/passwd", "%2e%2e%2fnorth.jpg"):
        answer = preview.get(f"/cameras/{path}")
        assert (answer.status_code, answer.text) == (404, "no such camera\n"), path


def test_status_is_what_the_program_says_now():
    said = {"cameras": []}
    with serving(status=lambda: said) as preview:
        said["cameras"].append({"camera": "nörd", "alarm": "alarm"})
        assert preview.get("/status").json() == said


def test_a_server_in_use_is_told_at_once(preview):
    with pytest.raises(SinkError, match=f"cannot listen on 127.0.0.1:{preview.port}: address"):
        PreviewServer("127.0.0.1", preview.port, token=None, status=dict)


def test_with_a_token_nothing_is_said_to_those_who_do_not_know_it():
    with serving(token=TOKEN, status=lambda: {"secret": 1}) as preview:
        preview.show(200)
        for path in ("/", "/status", "/cameras/north.jpg", "/cameras/north.mjpeg", "/x"):
            for tried in ("", "?token=", "?token=wrong", "?token=%FF", "?Token=t"):
                answer = preview.get(path + tried)
                assert (answer.status_code, answer.text) == (401, "token missing or wrong\n")
            for header in ("", "Bearer", "Bearer wrong", "Bearer " + TOKEN + "x"):
                assert preview.get(path, Authorization=header).status_code == 401


def test_the_token_opens_as_query_or_header_and_is_never_logged(capfd):
    with serving(token=TOKEN) as preview:
        preview.show(200)
        query = "?" + urlencode({"token": TOKEN})
        assert preview.get("/status", Authorization=f"Bearer {TOKEN}").status_code == 200
        page = preview.get("/" + query).text
        assert f'fetch("status{query}"' in page
        with preview.watching("/" + images_of(page)[0][0]) as answer:
            assert brightness(part(answer))[0] > 190
    assert capfd.readouterr() == ("", "")


def test_a_viewer_too_many_is_refused_until_another_has_gone(preview):
    preview.show(100)
    with contextlib.ExitStack() as others:
        watched = [others.enter_context(preview.watching()) for _ in range(32)]
        with preview.watching() as refused:
            assert (refused.status, refused.read()) == (503, b"too many viewers\n")
        assert preview.get("/cameras/north.jpg").status_code == 200
        assert all(part(answer) for answer in watched)
    for _ in range(1000):  # The server learns that they went when it next writes to them.
        preview.show(100)
        with preview.watching() as answer:
            if answer.status == 200:
                return
    raise AssertionError("no place became free")


def test_closing_ends_every_connection_and_a_second_time_does_nothing():
    with serving() as preview, contextlib.ExitStack() as open_ones:
        preview.show(100)
        preview.camera("south")
        paths = ["/cameras/north.mjpeg"] * 3 + ["/cameras/south.mjpeg"]
        watched = [open_ones.enter_context(preview.watching(path)) for path in paths]
        preview.stop.set()
        assert all(answer.read()[-2:] in (b"", b"\r\n") for answer in watched)
        preview.server.close()
        with pytest.raises(httpx.ConnectError):
            preview.get("/")


def test_closing_does_not_wait_for_who_never_asks_anything(preview):
    with contextlib.closing(socket.create_connection(("127.0.0.1", preview.port))) as idle:
        idle.sendall(b"GET / HT")
        preview.get("/status")  # Connections are taken in order: the idle one is held now.
        preview.stop.set()
        idle.settimeout(5)
        assert idle.recv(1) == b""


def test_an_old_picture_costs_a_viewer_one_card_a_second(preview):
    preview.show(200)
    preview.clock.step(5)
    version, card = preview.camera().jpeg(0, timeout_s=0)
    later, again = preview.camera().jpeg(version, timeout_s=0)
    assert version > 0, "the next call waits for something newer"
    assert later == version
    assert card
    assert again


def test_an_address_that_is_none_is_refused_in_words(preview):
    with contextlib.closing(socket.create_connection(("127.0.0.1", preview.port))) as raw:
        raw.settimeout(LIMIT_S)
        raw.sendall(b"GET http://[/ HTTP/1.0\r\n\r\n")
        assert b" 400 " in raw.recv(100)
