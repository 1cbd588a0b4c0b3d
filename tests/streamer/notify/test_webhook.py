"""The webhook against a real receiver that behaves in all the ways of real ones."""

import hashlib
import hmac
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from email.policy import HTTP
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from streamer.notify import DeliveryFailed
from streamer.notify.webhook import WebhookChannel, signature, signing_key
from tests.support.deliveries import event, notice
from tests.support.http_receiver import Answer, HttpReceiver
from tests.support.rtsp_server import certificate

ROOT = Path(__file__).resolve().parents[3]
JPEG = b"\xff\xd8 an image \xff\xd9"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def receiver():
    with HttpReceiver() as listening:
        yield listening


def refused(channel, what=None) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        channel.deliver(what or notice())
    message = str(caught.value)
    assert "t0psecret" not in message
    assert "alarm?" not in message
    assert "\n" not in message
    return caught.value


def parts(request) -> dict:
    """The parts of a multipart body, by name, each with its content type."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    return {
        part.get_param("name", header="content-disposition"): (
            part.get_content_type(),
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    }


def test_the_event_arrives_as_json_with_its_key(receiver):
    WebhookChannel("siren", url=receiver.url).deliver(notice(attempt=3))
    (request,) = receiver.requests
    assert json.loads(request.body) == notice().payload
    assert request.headers["content-type"] == "application/json"
    assert request.key == "north-1-0:siren"
    assert request.headers["streamer-attempt"] == "3"
    assert request.headers["user-agent"].startswith("streamer/")
    assert "streamer-signature" not in request.headers


def test_every_attempt_carries_the_same_key_and_body(receiver):
    channel = WebhookChannel("siren", url=receiver.url)
    for attempt in (1, 2):
        channel.deliver(notice(attempt=attempt))
    first, second = receiver.requests
    assert (first.key, first.body) == (second.key, second.body)


def test_the_key_of_every_message_fits_between_full_stops(receiver):
    WebhookChannel("siren", url=receiver.url).deliver(notice(event("a.b")))
    assert receiver.requests[0].key == "a%2Eb-0:siren"


def test_a_key_of_any_letters_fits_into_a_header(receiver):
    what = event("nörd\r\nX: 1")
    WebhookChannel("siren", url=receiver.url).deliver(notice(what))
    assert receiver.requests[0].key == "n%C3%B6rd%0D%0AX:%201-0:siren"


def test_the_image_comes_along(receiver, tmp_path):
    image = tmp_path / "still.jpg"
    image.write_bytes(JPEG)
    WebhookChannel("siren", url=receiver.url).deliver(notice(image=image))
    found = parts(receiver.requests[0])
    assert found["image"] == ("image/jpeg", JPEG)
    kind, body = found["event"]
    assert (kind, json.loads(body)) == ("application/json", notice().payload)


@pytest.mark.parametrize("wanted", [True, False])
def test_an_alarm_goes_without_a_image_that_is_gone_or_unwanted(receiver, tmp_path, wanted):
    image = tmp_path / "still.jpg"
    if not wanted:
        image.write_bytes(JPEG)
    WebhookChannel("siren", url=receiver.url, include_image=wanted).deliver(notice(image=image))
    assert receiver.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("code", [413, 415])
def test_where_the_image_is_refused_the_alarm_goes_without_it_at_once(tmp_path, code):
    image = tmp_path / "still.jpg"
    image.write_bytes(JPEG)
    with HttpReceiver([(code, {})]) as receiver:
        WebhookChannel("siren", url=receiver.url).deliver(notice(image=image))
        kinds = [each.headers["content-type"].partition(";")[0] for each in receiver.requests]
    assert kinds == ["multipart/form-data", "application/json"]


def test_where_the_image_makes_the_receiver_hang_up_the_alarm_goes_without_it_at_once(tmp_path):
    image = tmp_path / "still.jpg"
    image.write_bytes(JPEG * 100_000)
    kinds = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            for status in ("413 Too Large", "204 No Content"):
                connection, _ = server.accept()
                with connection:
                    head = connection.recv(2000)
                    kinds.append(b"multipart/form-data" in head)
                    connection.sendall(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n".encode())
                    if not kinds[-1]:
                        while connection.recv(2000):
                            pass

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        WebhookChannel("siren", url=url).deliver(notice(image=image))
        thread.join(5)
    assert kinds == [True, False]


@pytest.mark.parametrize("with_image", [True, False])
def test_a_receiver_can_tell_that_nobody_else_sent_it(receiver, tmp_path, with_image):
    image = tmp_path / "still.jpg"
    image.write_bytes(JPEG)
    what = notice(image=image if with_image else None)
    WebhookChannel("siren", url=receiver.url, secret="pass word").deliver(what)
    (request,) = receiver.requests
    timestamp = request.headers["streamer-timestamp"]
    expected = hmac.new(b"pass word", timestamp.encode() + b"." + request.body, hashlib.sha256)
    assert request.headers["streamer-signature"] == "sha256=" + expected.hexdigest()
    sent = datetime.fromtimestamp(int(timestamp), UTC)
    assert abs(datetime.now(UTC) - sent) < timedelta(minutes=1)


def test_the_signature_is_that_of_standard_webhooks():
    # The example of the specification's test suite.
    made = signature(
        b'{"test": 2432232314}',
        key=signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp="1614265330",
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signature_depends_on_secret_id_time_and_body():
    base = {"key": b"s", "message_id": "a", "timestamp": "1"}
    made = {
        signature(b"body", **base),
        signature(b"bodY", **base),
        signature(b"body", **{**base, "key": b"S"}),
        signature(b"body", **{**base, "message_id": "b"}),
        signature(b"body", **{**base, "timestamp": "2"}),
    }
    assert len(made) == 5


@pytest.mark.parametrize("secret", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "pass word"])
def test_each_attempt_is_signed_anew_under_the_same_id(receiver, secret):
    channel = WebhookChannel("siren", url=receiver.url, secret=secret)
    for attempt in (1, 2):
        channel.deliver(notice(attempt=attempt))
    for request in receiver.requests:
        assert request.headers["webhook-id"] == request.key == "north-1-0:siren"
        assert request.headers["webhook-signature"] == signature(
            request.body,
            key=signing_key(secret),
            message_id=request.headers["webhook-id"],
            timestamp=request.headers["webhook-timestamp"],
        )


def test_a_secret_that_is_not_what_its_prefix_says_is_refused():
    with pytest.raises(ValueError, match="is not base64 behind 'whsec_'"):
        WebhookChannel("siren", url="http://h/", secret="whsec_t0psecret!")


def test_further_headers_are_sent_and_cannot_replace_ours(receiver):
    headers = {"Authorization": "Bearer abc", "Idempotency-Key": "mine", "Content-Type": "text/x"}
    WebhookChannel("siren", url=receiver.url, headers=headers).deliver(notice())
    got = receiver.requests[0].headers
    assert got["authorization"] == "Bearer abc"
    assert got["idempotency-key"] == "north-1-0:siren"
    assert got["content-type"] == "application/json"


def test_user_and_password_of_the_address_are_used(receiver):
    url = receiver.url.replace("http://", "http://fire:t0psecret@")
    WebhookChannel("siren", url=url).deliver(notice())
    assert receiver.requests[0].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
def test_every_success_is_an_acknowledgement(code):
    with HttpReceiver([(code, {})]) as receiver:
        WebhookChannel("siren", url=receiver.url).deliver(notice())
        assert list(receiver.counts().values()) == [1]


@pytest.mark.parametrize(
    ("code", "permanent"),
    [
        (400, True), (401, False), (403, False), (404, False), (405, True), (408, False),
        (409, False), (410, True), (413, True), (422, True), (425, False), (429, False),
        (500, False), (502, False), (503, False), (504, False), (301, False), (304, False),
    ],
)  # fmt: skip
def test_only_what_can_never_be_accepted_is_permanent(code, permanent):
    with HttpReceiver([(code, {})]) as receiver:
        failure = refused(WebhookChannel("siren", url=receiver.url))
    assert failure.permanent is permanent
    assert f"answered {code}" in str(failure)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_secrets_do_not_follow_a_redirect(code, receiver):
    with HttpReceiver([(code, {"Location": receiver.url})]) as moved:
        failure = refused(WebhookChannel("siren", url=moved.url, headers={"Authorization": "x"}))
    assert receiver.requests == []
    assert "configure its new address" in str(failure)


def test_a_wrong_password_says_what_to_check():
    with HttpReceiver([(401, {})]) as receiver:
        failure = refused(WebhookChannel("siren", url=receiver.url))
    assert str(failure) == "127.0.0.1: answered 401 Unauthorized: check the password or token"


@pytest.mark.parametrize("wait", ["30", "date"])
def test_the_requested_delay_is_passed_on(wait):
    if wait == "date":
        wait = format_datetime(datetime.now(UTC) + timedelta(seconds=31), usegmt=True)
    with HttpReceiver([(429, {"Retry-After": wait})]) as receiver:
        failure = refused(WebhookChannel("siren", url=receiver.url))
    assert 20 < failure.retry_after_s <= 31


@pytest.mark.parametrize("nonsense", ["soon", "-5", "Wed", ""])
def test_a_pause_that_cannot_be_understood_is_none(nonsense):
    with HttpReceiver([(503, {"Retry-After": nonsense})]) as receiver:
        assert refused(WebhookChannel("siren", url=receiver.url)).retry_after_s is None


@pytest.mark.parametrize("answer", [Answer.STALL, Answer.DRIP])
def test_an_attempt_ends_in_time_however_the_receiver_dawdles(answer):
    with HttpReceiver([answer]) as receiver:
        failure = refused(WebhookChannel("siren", url=receiver.url, timeout_s=0.3))
        assert str(failure) == "127.0.0.1: no answer within 0.3 s"


@pytest.mark.parametrize("answer", [Answer.CUT, Answer.CUT_IN_HEADER])
def test_a_connection_that_breaks_off_before_the_answer_is_a_failure(answer):
    with HttpReceiver([answer]) as receiver:
        failure = refused(WebhookChannel("siren", url=receiver.url))
    assert str(failure) == "127.0.0.1: closed the connection without an answer"


def test_the_status_line_is_the_acknowledgement():
    with HttpReceiver([Answer.CUT_IN_BODY]) as receiver:
        WebhookChannel("siren", url=receiver.url).deliver(notice())
        assert list(receiver.counts().values()) == [1]


def test_a_receiver_that_is_gone_is_the_reason():
    with HttpReceiver() as receiver:
        url = receiver.url
    assert str(refused(WebhookChannel("siren", url=url))) == "127.0.0.1: connection refused"


def test_a_host_that_does_not_exist_is_the_reason():
    channel = WebhookChannel("siren", url="http://receiver.invalid/alarm?token=t0psecret")
    assert str(refused(channel)) == "receiver.invalid: its name cannot be resolved"


@pytest.mark.parametrize("host", ["169.254.169.254", "metadata.example", "[fe80::1]"])
def test_an_address_that_serves_credentials_is_not_reached(monkeypatch, host):
    def resolve(name, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    channel = WebhookChannel("siren", url=f"http://{host}/alarm?token=t0psecret", timeout_s=2)
    assert "network.allow_link_local" in str(refused(channel))
    with pytest.raises(DeliveryFailed, match=r"network\.allow_link_local"):
        channel.check()


def test_a_check_connects_and_sends_nothing(receiver):
    channel = WebhookChannel("siren", url=receiver.url)
    assert channel.check()
    receiver.die()
    with pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1: connection refused"):
        channel.check()
    assert receiver.requests == []


SILENT_RESOLVER = """
import sys, threading, time
from socket import AF_INET, SOCK_DGRAM, socket
from streamer.notify import DeliveryFailed
from streamer.notify.event_loop import RESOLVER
from streamer.notify.webhook import WebhookChannel
from tests.support.deliveries import notice

server = socket(AF_INET, SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
channel = WebhookChannel("siren", url="http://receiver.example/alarm", timeout_s=0.5)
for attempt in (channel.check, lambda: channel.deliver(notice())):
    began = time.monotonic()
    try:
        attempt()
    except DeliveryFailed as error:
        print(error, RESOLVER.running, f"{time.monotonic() - began:.1f}", sep="|")
print("end", flush=True)
"""


@pytest.mark.system
def test_the_timeout_bounds_name_resolution_and_the_end_of_the_program_too(tmp_path):
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:8 attempts:1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: dns\n")
    prepare = "ip link set lo up"
    for name in ("resolv.conf", "nsswitch.conf"):
        prepare += f"; mount --bind {tmp_path / name} /etc/{name}"
    own = ["unshare", "--map-root-user", "--net", "--mount", "sh", "-ec"]
    if shutil.which("unshare") is None or (
        subprocess.run([*own, prepare], capture_output=True, check=False).returncode
    ):
        pytest.skip("no network of its own may be made here")
    command = [*own, f'{prepare}; exec "$0" -c "$1"', sys.executable, SILENT_RESOLVER]
    began = time.monotonic()
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    took_s = time.monotonic() - began
    *attempts, end = ended.stdout.splitlines()
    assert end == "end"
    for number, line in enumerate(attempts, 1):
        reason, running, seconds = line.split("|")
        assert reason == "receiver.example: no answer within 0.5 s"
        assert int(running) == number, "the resolver still holds what was left behind"
        assert float(seconds) < 1
    assert took_s < 6, "the process ends although the resolver needs 8 s"


@pytest.mark.parametrize("url", ["example.org/x", "ftp://example.org", "http://", "http://a:b:c/"])
def test_an_address_that_is_none_of_a_web_server_is_refused_at_once(url):
    with pytest.raises(ValueError, match="channel 'siren': the URL"):
        WebhookChannel("siren", url=url)


def test_a_header_that_cannot_be_sent_is_no_leak():
    with HttpReceiver() as receiver:
        channel = WebhookChannel("siren", url=receiver.url, headers={"X": "t0psecret\r\n"})
        assert str(refused(channel)) == "127.0.0.1: a configured header is not valid"


class _Thanks(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def encrypted(tmp_path):
    """A receiver with a certificate of its own making; gives its address and the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    server = HTTPServer(("127.0.0.1", 0), _Thanks)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}/", tmp_path / "certificate.pem"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_certificate_is_checked(encrypted):
    url, trusted = encrypted
    trusting = ssl.create_default_context(cafile=trusted)
    WebhookChannel("siren", url=url, tls=trusting).deliver(notice())
    failure = refused(WebhookChannel("siren", url=url))
    assert str(failure).startswith("127.0.0.1: its certificate is not trusted (")


def test_a_superseded_event_is_sent_like_any_other(receiver):
    WebhookChannel("siren", url=receiver.url).deliver(notice(in_alarm=None))
    assert len(receiver.requests) == 1
