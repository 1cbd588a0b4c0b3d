"""The map of failures, against real sockets; what needs a real server stands in `test_rtsp`."""

import errno
import socket
import threading
import traceback

import av.error
import pytest

from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import SourceFault, SourceLost, SourceRejected
from streamer.sources.ffmpeg_errors import FaultContext, translate
from streamer.sources.options import VideoOptions
from streamer.sources.video import VideoSource
from tests.support.rtsp_server import free_port

PASSWORD = "t0p:s/cret@"
OPTIONS = VideoOptions(timeout_s=0.5, user="fire", password=PASSWORD)


def failure(address, *, options=OPTIONS):
    with pytest.raises((SourceLost, SourceRejected)) as caught:
        next(VideoSource(address, clock=SystemClock(), live=True, options=options)(CancelToken()))
    return caught.value


@pytest.fixture
def silent():
    """The port of a server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def answering():
    """Starts a server that sends something to each client and hangs up; gives its port."""
    ending = threading.Event()
    started = []

    def start(response: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.05)

        def serve() -> None:
            while not ending.is_set():
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                with client:
                    client.settimeout(1)
                    client.recv(1000)
                    client.sendall(response)

        thread = threading.Thread(target=serve)
        thread.start()
        started.append((thread, listener))
        return listener.getsockname()[1]

    yield start
    ending.set()
    for thread, listener in started:
        thread.join()
        listener.close()


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https"])
def test_a_port_that_nobody_listens_on_is_refused(scheme):
    error = failure(f"{scheme}://127.0.0.1:{free_port()}/a")
    assert error.fault is SourceFault.REFUSED
    assert isinstance(error, SourceLost)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_sends_nothing_is_stalled(silent, scheme):
    error = failure(f"{scheme}://127.0.0.1:{silent}/a")
    assert error.fault is SourceFault.STALLED
    assert "0.5 s" in str(error)


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http"])
def test_an_unknown_name_has_no_route(scheme):
    error = failure(f"{scheme}://no-such-camera.invalid/a")
    assert error.fault is SourceFault.NO_ROUTE
    assert "no-such-camera.invalid" in str(error)


def test_a_server_that_hangs_up_is_tried_again(answering):
    assert isinstance(failure(f"rtsp://127.0.0.1:{answering(b'')}/a"), SourceLost)
    assert failure(f"http://127.0.0.1:{answering(b'')}/a").fault is SourceFault.ENDED


def test_a_server_of_another_protocol_is_called_damaged(answering):
    port = answering(b"220 mail.example ESMTP\r\n")
    assert failure(f"rtsp://127.0.0.1:{port}/a").fault is SourceFault.DAMAGED


def test_a_server_without_tls_is_not_trusted(answering):
    port = answering(b"RTSP/1.0 400 Bad Request\r\n\r\n")
    error = failure(f"rtsps://127.0.0.1:{port}/a")
    assert error.fault is SourceFault.REFUSED
    assert "TLS" in str(error)


@pytest.mark.parametrize(
    ("status", "fault", "kind"),
    [
        ("401 Unauthorized", SourceFault.WRONG_PASSWORD, SourceRejected),
        ("403 Forbidden", SourceFault.WRONG_PASSWORD, SourceRejected),
        ("404 Not Found", SourceFault.NOT_FOUND, SourceLost),
        ("453 Not Enough Bandwidth", SourceFault.REFUSED, SourceLost),
        ("503 Service Unavailable", SourceFault.REFUSED, SourceLost),
    ],
)
def test_a_camera_that_answers_with_an_error_is_understood(answering, status, fault, kind):
    answer = f"RTSP/1.0 {status}\r\nCSeq: 1\r\nContent-Length: 0\r\n\r\n"
    error = failure(f"rtsp://127.0.0.1:{answering(answer.encode())}/a")
    assert error.fault is fault
    assert type(error) is kind


def test_a_protocol_that_nobody_knows_is_not_found():
    assert failure("gopher3://127.0.0.1/a").fault is SourceFault.NOT_FOUND


@pytest.mark.parametrize("given_apart", [True, False])
def test_no_failure_ever_prints_a_password(silent, given_apart, capfd):
    password, encoded = "t0p:s/cret@", "t0p%3As%2Fcret%40"
    for port in (silent, free_port()):
        for scheme in ("rtsp", "http"):
            userinfo = "" if given_apart else f"fire:{encoded}@"
            options = OPTIONS if given_apart else VideoOptions(timeout_s=0.3)
            address = f"{scheme}://{userinfo}127.0.0.1:{port}/a"
            error = failure(address, options=options)
            source = VideoSource(address, clock=SystemClock(), live=True, options=options)
            shown = "".join(traceback.format_exception(error)) + repr(error) + repr(source)
            shown += repr(error.__cause__) + repr(error.__context__)
            assert password not in shown
            assert encoded not in shown
    assert "cret" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (errno.EHOSTUNREACH, SourceFault.NO_ROUTE),
        (errno.ENETUNREACH, SourceFault.NO_ROUTE),
        (errno.ETIMEDOUT, SourceFault.STALLED),
        (errno.ECONNRESET, SourceFault.ENDED),
        (errno.EPROTONOSUPPORT, SourceFault.REFUSED),
        (errno.ENODEV, SourceFault.NOT_FOUND),
        (errno.EIO, SourceFault.ENDED),
        (errno.ENOMEM, SourceFault.DAMAGED),
    ],
)
def test_what_cannot_be_had_on_one_machine_is_translated_by_its_number(number, fault):
    error = _ffmpeg_error(number)
    attempt = FaultContext(address="rtsp://127.0.0.1/a", live=True, opening=False, timeout_s=1)
    assert translate(error, attempt).fault is fault


def test_a_file_that_fails_is_rejected_where_a_camera_is_lost():
    for live, kind in ((True, SourceLost), (False, SourceRejected)):
        attempt = FaultContext(address="clip.mp4", live=live, opening=True, timeout_s=1)
        assert type(translate(_ffmpeg_error(errno.ENOENT), attempt)) is kind


def _ffmpeg_error(number):
    try:
        av.error.err_check(-number, "rtsp://fire:secret@127.0.0.1/a")
    except av.error.FFmpegError as error:
        return error
    raise AssertionError
