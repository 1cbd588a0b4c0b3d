"""The web server as browsers and scripts meet it: over a real connection."""

import contextlib
import http.client
import itertools
import json
import threading
from dataclasses import replace
from urllib.parse import urlencode

import av
import httpx
import numpy as np
import pytest

from streamer.core import log
from streamer.core.clock import CancelToken
from streamer.core.image import Image
from streamer.health.program_status import ProgramStatus
from streamer.health.snapshot import program_status
from streamer.sinks.mjpeg import MjpegSink
from streamer.web import routes
from streamer.web.server import WebServer
from tests.support.frames import frame
from tests.support.stepping import StepClock

LIMIT_S = 20
TOKEN = "t&k/n+ 1"


def empty_status() -> ProgramStatus:
    return program_status(
        version="1.2", started_ns=0, cameras=[], tasks={}, clock=StepClock(), instance="i"
    )


def until(condition):
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("not in time")


class Web:
    """A server on a free port, with cameras whose time the test moves."""

    def __init__(self, *, host="127.0.0.1", token=None, status=empty_status, **more):
        self.clock, self.stop, self.reason = StepClock(), CancelToken(), ""
        self.cameras: dict[str, MjpegSink] = {}
        self.server = WebServer(
            host, 0, token=token, status=status, cameras=lambda: self.cameras, **more
        )
        self.port = int(self.server.url.rstrip("/").rpartition(":")[2])

    def camera(self, name="north"):
        if name not in self.cameras:
            self.cameras[name] = MjpegSink(
                name, clock=self.clock, stale_after_s=1.0, reason=lambda: self.reason
            )
        return self.cameras[name]

    def show(self, level, name="north"):
        self.show_image(Image.from_rgb(np.full((96, 128, 3), level, np.uint8)), name)

    def show_image(self, image, name="north"):
        self.camera(name)([replace(frame(0, arrived_ns=self.clock.now_ns), image=image)])

    def start(self):
        self.thread = threading.Thread(target=self.server.serve, args=(self.stop,))
        self.thread.start()

    def restart(self):
        self.stop = CancelToken()
        self.start()

    def get(self, path, **headers):
        with httpx.Client(timeout=LIMIT_S, trust_env=False, verify=False) as client:
            return client.get(f"http://127.0.0.1:{self.port}{path}", headers=headers)

    @contextlib.contextmanager
    def watching(self, path="/cameras/north.mjpeg", *, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        with contextlib.closing(connection):
            connection.request(method, path)
            with connection.getresponse() as answer:
                yield answer


@contextlib.contextmanager
def serving(**wanted):
    web = Web(**wanted)
    web.start()
    try:
        yield web
    finally:
        web.stop.set()
        web.thread.join(LIMIT_S)
        assert not web.thread.is_alive()


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


def test_the_status_is_that_of_the_moment():
    versions = itertools.chain("1", itertools.repeat("2"))

    def status():
        return program_status(
            version=next(versions), started_ns=0, cameras=[], tasks={}, clock=StepClock()
        )

    with serving(status=status) as web:
        assert web.get("/status").json()["version"] == "1"
        until(lambda: web.get("/status").json()["version"] == "2")


def test_the_metrics_are_those_of_the_status(web):
    answer = web.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'streamer_info{version="1.2"} 1.0' in answer.text.splitlines()
    assert "streamer_problems 0.0" in answer.text.splitlines()


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


def test_a_stream_ends_when_its_camera_is_closed(web):
    web.show(100)
    with web.watching() as answer:
        assert part(answer)
        web.camera().close()
        while answer.readline():
            pass
    assert web.get("/status").status_code == 200


def test_the_token_opens_as_query_or_header_and_is_never_logged(capfd):
    with serving(token=TOKEN) as web:
        web.show(200)
        query = "?" + urlencode({"token": TOKEN})
        assert web.get("/status", Authorization=f"Bearer {TOKEN}").status_code == 200
        assert web.get("/" + query).status_code == 200
        with web.watching("/cameras/north.mjpeg" + query) as answer:
            assert brightness(part(answer))[0] > 190
    assert capfd.readouterr() == ("", "")


def test_an_unknown_path_is_not_found(web):
    for path in ("south.jpg", "", "../../etc/passwd", "%2e%2e%2fnorth.jpg", "%FF.jpg"):
        answer = web.get(f"/cameras/{path}")
        assert (answer.status_code, answer.text.count("\n")) == (404, 1), path
    assert web.get("/cameras/south.jpg").text == "no such camera\n"
    assert web.get("/x").text == "not found\n"


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/status", "/metrics", "/frames", "/cameras/north.jpg",
             "/cameras/north.mjpeg"],
)  # fmt: skip
def test_every_address_answers_head_with_the_headers_of_get(web, path):
    web.show(100)
    with web.watching(path) as get, web.watching(path, method="HEAD") as head:
        assert (head.status, head.read()) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(web, method):
    with web.watching("/status", method=method) as answer:
        assert (answer.status, answer.read()) == (405, b"method not allowed\n")


def test_a_body_is_refused(web):
    with httpx.Client(timeout=LIMIT_S, trust_env=False, verify=False) as client:
        answer = client.request("GET", f"http://127.0.0.1:{web.port}/status", content=b"x")
    assert (answer.status_code, answer.text) == (413, "a request has no body here\n")


def test_answers_have_headers_that_protect_browsers(web):
    for path in ("/", "/status", "/nothing"):
        headers = web.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]


def test_what_goes_wrong_inside_is_one_line_and_logged_without_the_token(capfd):
    def broken():
        raise RuntimeError("oops")

    log.set_up(level="info", style="text")
    with serving(token=TOKEN, status=broken) as web:
        answer = web.get("/status?" + urlencode({"token": TOKEN}))
        assert (answer.status_code, answer.text.count("\n")) == (500, 1)
    out, err = capfd.readouterr()
    assert "RuntimeError: oops" in out + err
    assert "t%26k" not in out + err


def test_a_status_that_hangs_is_reported_and_delays_no_image(monkeypatch):
    monkeypatch.setattr(routes, "_STATUS_LIMIT_S", 0.2)
    go_on = threading.Event()
    go_on.set()

    def status():
        assert go_on.wait(LIMIT_S)
        return empty_status()

    with serving(status=status) as web:
        web.show(100)
        assert web.get("/frames").status_code == 200
        go_on.clear()
        until(lambda: web.get("/status").status_code == 503)
        assert web.get("/status").text.startswith("the status cannot be read: no answer for ")
        assert web.get("/cameras/north.jpg").status_code == 200
        assert len(batch(web.get("/frames"))) == 2
        go_on.set()


def batch(answer) -> list[tuple[dict, bytes]]:
    """The parts of a batch: its own header, then each camera's with its image."""
    data, found = answer.content, []
    while data:
        size = 4 + int.from_bytes(data[:4], "big")
        head = json.loads(data[4:size])
        end = size + head.get("length", 0)
        found.append((head, data[size:end]))
        data = data[end:]
    return found


def test_one_request_gets_the_newest_frame_of_every_camera(web):
    for number in range(16):
        web.show(10 * number + 20, name=f"c{number}")
    web.clock.step(0.5)
    (head, _), *frames = batch(web.get("/frames"))
    assert head == {"instance": "i"}
    assert [one["camera"] for one, _ in frames] == [f"c{number}" for number in range(16)]
    assert {one["age_s"] for one, _ in frames} == {0.5}
    for number, (_, jpeg) in enumerate(frames):
        assert brightness(jpeg)[0] == pytest.approx(10 * number + 20, abs=5)


def test_a_viewer_gets_only_frames_that_it_has_not_got(web):
    web.show(100)
    web.show(100, name="south")
    versions = {one["camera"]: one["version"] for one, _ in batch(web.get("/frames"))[1:]}
    web.show(120)
    query = urlencode({"known": json.dumps({"instance": "i", "versions": versions})})
    assert [one["camera"] for one, _ in batch(web.get(f"/frames?{query}"))[1:]] == ["north"]
    query = urlencode({"known": json.dumps({"instance": "earlier", "versions": versions})})
    assert len(batch(web.get(f"/frames?{query}"))) == 3
    for wrong in ("[]", "{", "1"):
        assert web.get(f"/frames?{urlencode({'known': wrong})}").status_code == 400


def test_a_request_for_frames_waits_for_the_next_one(web):
    answers = []
    asking = threading.Thread(target=lambda: answers.append(web.get("/frames")))
    asking.start()
    until(lambda: web.camera()._listeners)
    web.show(100)
    asking.join(LIMIT_S)
    assert [one.get("camera") for one, _ in batch(answers[0])] == [None, "north"]
    assert not web.camera()._listeners
