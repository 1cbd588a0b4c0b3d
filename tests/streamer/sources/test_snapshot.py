"""Snapshot cameras with odd logins and odd responses."""

import contextlib
import socket
import threading
import time
from itertools import islice

import pytest

from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import Cancelled, SourceError, SourceFault
from streamer.sources.jpeg_stream import first_jpeg
from streamer.sources.options import VideoOptions
from streamer.sources.snapshot import SnapshotSource
from tests.support.clips import jpeg
from tests.support.http_camera import HttpCamera, multipart, pieces
from tests.support.http_logins import PASSWORD, USER, LoginCamera
from tests.support.rtsp_server import certificate

IMAGE = jpeg()
BASIC = 'Basic realm="camera"'


def digest(algorithm: str | None = None, qop: str | None = "auth") -> str:
    more = f", algorithm={algorithm}" if algorithm else ""
    more += f', qop="{qop}"' if qop else ""
    return f'Digest realm="camera", nonce="{{nonce}}", opaque="5c"{more}'


def snapshots(url, **options):
    options = VideoOptions(**{"timeout_s": 2.0, "user": USER, "password": PASSWORD, **options})
    return SnapshotSource(url, clock=SystemClock(), interval_ns=1, options=options)


def fault_of(source) -> SourceError:
    with pytest.raises(SourceError) as caught:
        next(source(CancelToken()))
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def camera():
    with LoginCamera(IMAGE) as server:
        yield server


@pytest.fixture
def http():
    with HttpCamera() as server:
        yield server


@pytest.mark.parametrize(
    "challenges",
    [
        [BASIC],
        [digest()],
        [digest(qop=None)],
        [digest("MD5", "auth,auth-int")],
        [digest("SHA-256")],
        [digest("sha-256")],
        [digest("SHA-256-SESS")],
        [digest("SHA-512-256")],
        [digest("BLAKE3"), digest("SHA-256")],
        [f"{BASIC}, {digest('SHA-256')}"],
        ['Negotiate, Digest realm="camera",nonce="{nonce}",', BASIC],
    ],
    ids=lambda challenges: " ".join(challenges)[:60],
)
def test_every_kind_of_login_is_answered_once(camera, challenges):
    camera.challenges = challenges
    assert len(list(islice(snapshots(camera.url)(CancelToken()), 3))) == 3
    assert len(camera.logins) == 4, "one refused request, then the answer is kept"


def test_the_best_of_several_digests_is_chosen(camera):
    camera.challenges = [digest("MD5"), digest("SHA-512-256"), digest("SHA-256"), BASIC]
    next(snapshots(camera.url)(CancelToken()))
    assert "algorithm=SHA-512-256" in camera.logins[-1]


def test_a_camera_that_changes_its_login_and_its_nonces_is_still_fetched(camera):
    camera.challenges = [BASIC]
    frames = snapshots(camera.url)(CancelToken())
    next(frames)
    for challenge in (digest("MD5"), digest("SHA-256"), BASIC, digest("SHA-512-256")):
        camera.challenges = [challenge]
        next(frames)
        next(frames)
    camera.uses_per_nonce = 1
    assert len(list(islice(frames, 3))) == 3


@pytest.mark.parametrize(
    ("challenge", "named"),
    [(digest("BLAKE3"), "BLAKE3"), (digest("MD5", "auth-int"), "auth-int"), ("NTLM", "Ntlm"),
     ('Digest realm="no nonce"', "Digest")],
)  # fmt: skip
def test_a_login_that_is_not_known_is_one_clear_line(camera, challenge, named):
    camera.challenges = [challenge]
    error = fault_of(snapshots(camera.url))
    assert error.fault is SourceFault.REFUSED
    assert "demands a login that is not known here" in str(error)
    assert named in str(error)


@pytest.mark.parametrize("challenge", [BASIC, digest("SHA-256")])
def test_a_wrong_password_is_refused_once_and_not_tried_again(camera, challenge):
    camera.challenges = [challenge]
    assert fault_of(snapshots(camera.url, password="x")).fault is SourceFault.WRONG_PASSWORD
    assert len(camera.logins) == 2


def test_a_redirect_carries_no_credentials_to_another_host(camera):
    with LoginCamera(IMAGE) as other:
        other.challenges = [BASIC]
        camera.challenges = [BASIC]
        source = snapshots(camera.url)
        frames = source(CancelToken())
        next(frames)
        camera.redirect_to = other.url
        with pytest.raises(SourceError) as caught:
            next(frames)
        assert caught.value.fault is SourceFault.WRONG_PASSWORD
        assert other.logins == [None]
        other.challenges = []
        assert next(source(CancelToken())).image.size == (180, 320)
        assert set(other.logins) == {None}


def test_a_redirect_that_never_ends_is_one_clear_line(camera):
    camera.redirect_to = camera.url
    assert "too many redirects" in str(fault_of(snapshots(camera.url)))


def test_a_certificate_is_verified_by_ca_file_or_not_at_all(tmp_path):
    pem = certificate(tmp_path)
    with LoginCamera(IMAGE, tls=pem) as camera:
        assert "certificate is not valid" in str(fault_of(snapshots(camera.url)))
        for options in ({"ca_file": str(tmp_path / "certificate.pem")}, {"tls_verify": False}):
            assert next(snapshots(camera.url, **options)(CancelToken())).number == 0


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_one_clear_line(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    error = fault_of(snapshots("https://127.0.0.1:1/snap.jpg", ca_file=str(path)))
    assert f"ca_file {path}: " in str(error)


@pytest.mark.parametrize("via_redirect", [False, True])
def test_a_link_local_address_is_not_reached_unless_allowed(camera, via_redirect):
    url = "http://169.254.169.254/latest/meta-data"
    if via_redirect:
        camera.redirect_to, url = url, camera.url
    error = fault_of(snapshots(url, allow_link_local=False))
    assert error.fault is SourceFault.REFUSED
    assert "network.allow_link_local" in str(error)


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (IMAGE[: len(IMAGE) // 2], "image/jpeg", "the image ends early, after"),
        (b"<html>Too many users</html>", "text/html; charset=x", "answered with text/html of 27"),
        (b'{"error": 5}', "application/octet-stream", "no image"),
        (b"", "image/jpeg", "no image"),
    ],
)
def test_what_is_no_image_is_one_clear_line(http, body, content_type, message):
    http.bodies["/snap.jpg"], http.types["/snap.jpg"] = body, content_type
    error = fault_of(snapshots(http.url + "/snap.jpg"))
    assert error.fault is SourceFault.DAMAGED
    assert message in str(error)


PART = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE + b"\r\n"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (multipart([IMAGE] * 3, endless=True), "multipart/x-mixed-replace; boundary=frame"),
        (multipart([IMAGE] * 3, endless=True), "application/octet-stream"),
        (pieces(PART + b"--frame\r\n" + PART, silent_after=2 * len(IMAGE)), "multipart/mixed"),
        (pieces(IMAGE * 3, silent_after=2 * len(IMAGE) + 9), ""),
    ],
    ids=["motion JPEG", "no content type", "no first boundary", "bare images"],
)
def test_of_motion_jpeg_each_request_reads_the_first_image(http, body, content_type):
    http.bodies["/video"], http.types["/video"] = body, content_type
    began = time.monotonic()
    frames = list(islice(snapshots(http.url + "/video")(CancelToken()), 2))
    assert [frame.image.size for frame in frames] == [(180, 320)] * 2
    assert time.monotonic() - began < 2, "it does not wait for the end of the stream"


def test_a_thumbnail_is_not_taken_for_the_image():
    size = len(IMAGE) + 2
    inside = IMAGE[:2] + b"\xff\xe1" + size.to_bytes(2, "big") + IMAGE + IMAGE[2:]
    assert first_jpeg(b"junk" + inside + b"junk") == inside
    assert first_jpeg(inside[:-2]) is None
    assert all(first_jpeg(IMAGE[:end]) is None for end in range(0, len(IMAGE), 97))


def test_a_camera_that_is_silent_does_not_hold_up_the_end(http):
    http.bodies["/snap.jpg"] = pieces(b"", silent_after=0)
    cancel = CancelToken()
    threading.Timer(0.2, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        next(snapshots(http.url + "/snap.jpg", timeout_s=30)(cancel))
    assert time.monotonic() - began < 2


def test_a_camera_that_sends_byte_by_byte_is_stalled_in_time():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/snap.jpg"
        began = time.monotonic()
        assert fault_of(snapshots(url, timeout_s=0.5)).fault is SourceFault.STALLED
        assert time.monotonic() - began < 2
        thread.join()
