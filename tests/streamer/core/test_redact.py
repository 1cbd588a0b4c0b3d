"""No password, user or token of a URL is printed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.redact import Redactor, all_parts, redact, secret_parts

secrets = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x17F, exclude_categories=["Cc", "Cs", "Zs"]),
    min_size=1,
)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("rtsp://cam:554/a?channel=1", "rtsp://cam:554/a?channel=1"),
        ("rtsp://admin:secret@cam:554/a", "rtsp://***@cam:554/a"),
        ("rtsp://admin:se@cr/et@cam/a", "rtsp://***@cam/a"),
        ("rtsp://admin:pass word@cam/a", "rtsp://***@cam/a"),
        ("http://cam/snap?user=a&password=secret&q=1", "http://cam/snap?user=***&password=***&q=1"),
        ("http://cam/s?token=abc#x", "http://cam/s?token=***#x"),
        ("http://cam/s?access_token=abc", "http://cam/s?access_token=***"),
        (
            "rtsp://cam/user=admin_password=secret_channel=1.sdp",
            "rtsp://cam/user=admin_password=***",
        ),
        ("clip@home.mp4", "clip@home.mp4"),
        ("no answer from rtsp://a:b@cam/1 at noon", "no answer from rtsp://***@cam/1 at noon"),
        ("'rtsp://a:b@c' or 'http://d:e@f'", "'rtsp://***@c' or 'http://***@f'"),
    ],
)
def test_urls_are_printed_without_their_secrets(text, printed):
    assert redact(text) == printed
    assert redact(printed) == printed, "a text that was redacted before stays"


@given(user=secrets, password=secrets)
def test_no_password_whatever_its_characters_is_printed(user, password):
    assert redact(f"rtsp://{user}:{password}@cam.example/a") == "rtsp://***@cam.example/a"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("rtsp://h/1", set()),
        ("rtsp://u:p%40s@h/1", {"rtsp://u:p%40s@h/1", "u:p%40s", "p%40s", "p@s"}),
        ("http://h/?user=me&pwd=x1", {"http://h/?user=me&pwd=x1", "me", "x1"}),
    ],
)
def test_the_secret_parts_of_a_url_are_known(url, parts):
    assert secret_parts(url) == parts


def test_all_words_of_a_url_are_known_as_written_and_decoded():
    assert all_parts("slack://T0K3N/a%20b/?x=1") == {"T0K3N", "a%20b", "a b", "x", "1"}


def test_known_secrets_are_redacted_the_longest_first_and_short_ones_left():
    redactor = Redactor(["hunter", "hunter22", "abc"])
    assert redactor("hunter22, hunter, abc") == "***, ***, abc"


def test_known_secrets_are_redacted_in_every_text_of_a_record():
    record = {"hunter2": ["hunter2", 1, None, {"a": ("x hunter2 y",)}]}
    assert Redactor(["hunter2"]).clean(record) == {"***": ["***", 1, None, {"a": ["x *** y"]}]}
