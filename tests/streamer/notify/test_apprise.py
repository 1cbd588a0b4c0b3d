"""Apprise: a real service of it (JSON by HTTP), its failures, and its secrets."""

import gc
import json
import logging
import threading

import pytest

from streamer.notify import DeliveryFailed
from streamer.notify.apprise import AppriseChannel
from tests.support.deliveries import event, notice
from tests.support.http_receiver import Answer, HttpReceiver


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


def url_of(receiver, options: str = "") -> str:
    return f"json://fire:t0psecret@127.0.0.1:{receiver.port}/s3cretpath{options}"


def test_title_text_and_image_arrive(tmp_path):
    image = tmp_path / "still.jpg"
    image.write_bytes(b"\xff\xd8 an image \xff\xd9")
    with HttpReceiver() as receiver:
        AppriseChannel("mail", url=url_of(receiver)).deliver(notice(image=image))
    got = json.loads(receiver.requests[0].body)
    assert (got["title"], got["message"]) == ("Alarm: north", "smoke")
    assert [each["filename"] for each in got["attachments"]] == ["still.jpg"]


@pytest.mark.parametrize(
    ("kind", "weight"), [("raised", "failure"), ("updated", "warning"), ("cleared", "success")]
)
def test_the_weight_follows_the_kind_of_the_event(kind, weight):
    with HttpReceiver() as receiver:
        channel = AppriseChannel("mail", url=url_of(receiver))
        channel.deliver(notice(event("a", 1, kind=kind)))
    assert json.loads(receiver.requests[0].body)["type"] == weight


def test_every_second_attempt_goes_without_the_image(tmp_path):
    image = tmp_path / "still.jpg"
    image.write_bytes(b"\xff\xd8 an image \xff\xd9")
    with HttpReceiver() as receiver:
        channel = AppriseChannel("mail", url=url_of(receiver))
        for attempt in (1, 2, 3):
            channel.deliver(notice(image=image, attempt=attempt))
    counts = [len(json.loads(each.body)["attachments"]) for each in receiver.requests]
    assert counts == [1, 0, 1]


def test_a_image_that_is_gone_does_not_stop_the_alarm(tmp_path):
    with HttpReceiver() as receiver:
        channel = AppriseChannel("mail", url=url_of(receiver))
        channel.deliver(notice(image=tmp_path / "gone.jpg"))
    assert len(receiver.requests) == 1


def test_a_service_that_does_not_take_it_is_a_failure_with_a_reason(capfd):
    with HttpReceiver([Answer.FAIL]) as receiver:
        channel = AppriseChannel("mail", url=url_of(receiver))
        with pytest.raises(DeliveryFailed, match=r"Failed to send JSON.*error=500") as caught:
            channel.deliver(notice())
    assert not caught.value.permanent
    assert capfd.readouterr().err == "", "what Apprise logs is not for everyone"


def test_no_part_of_the_url_is_shown(caplog):
    caplog.set_level(logging.DEBUG)
    with HttpReceiver() as receiver:
        url = url_of(receiver)
    channel = AppriseChannel("mail", url=url, timeout_s=0.5)
    with pytest.raises(DeliveryFailed) as caught:
        channel.deliver(notice())
    shown = str(caught.value) + caplog.text
    assert "t0psecret" not in shown
    assert "s3cretpath" not in shown


def test_a_remark_that_names_a_secret_is_redacted():
    channel = AppriseChannel("mail", url="json://fire:t0p%20secret@127.0.0.1/s3cretpath?x=y1234")
    text = "t0p secret, t0p%20secret, 127.0.0.1/s3cretpath, y1234 refused"
    assert channel._redact(text) == "***, ***, ***/***, *** refused"


def test_a_stalled_service_is_given_up_in_time():
    with HttpReceiver([Answer.STALL]) as receiver:
        channel = AppriseChannel("mail", url=url_of(receiver), timeout_s=0.3)
        with pytest.raises(DeliveryFailed):
            channel.deliver(notice())


def test_an_attempt_that_was_late_is_awaited_and_not_repeated():
    late = threading.Event()

    class Slow(HttpReceiver):
        def note(self, request):
            late.wait(20)
            return super().note(request)

    with Slow() as receiver:
        channel = AppriseChannel("mail", url=url_of(receiver, "?rto=20"), timeout_s=0.2)
        channel._service.socket_read_timeout = 20  # As a service that knows no timeout.
        with pytest.raises(DeliveryFailed, match=r"no answer within 0\.2 s"):
            channel.deliver(notice())
        with pytest.raises(DeliveryFailed, match="an earlier attempt has not ended"):
            channel.deliver(notice(event("b")))
        late.set()
        channel._timeout_s = 20
        channel.deliver(notice(attempt=2))
        assert len(receiver.requests) == 1, "the first attempt arrived: that is the confirmation"
        channel.deliver(notice(event("b"), attempt=2))
        assert len(receiver.requests) == 2


def test_a_server_that_is_named_is_checked_and_others_are_unknown():
    with HttpReceiver() as receiver:
        channel = AppriseChannel("mail", url=url_of(receiver))
        assert channel.check()
        receiver.die()
        with pytest.raises(DeliveryFailed, match="connection refused"):
            channel.check()
        assert receiver.requests == []
    assert not AppriseChannel("chat", url="tgram://123456789:abcdefg_hijklmnop/12315544/").check()


@pytest.mark.parametrize("url", ["nonsense", "nosuchservice://t0psecret", "mailto://"])
def test_a_url_that_apprise_does_not_accept_is_refused_at_once(url):
    with pytest.raises(ValueError, match="channel 'mail': Apprise does not accept") as caught:
        AppriseChannel("mail", url=url)
    assert "t0psecret" not in str(caught.value)


def test_entering_and_leaving_keeps_nothing_open():
    with HttpReceiver() as receiver, AppriseChannel("mail", url=url_of(receiver)) as channel:
        channel.deliver(notice())
    gc.collect()  # What was left open would warn now, and a warning fails the test.
    assert len(receiver.requests) == 1
