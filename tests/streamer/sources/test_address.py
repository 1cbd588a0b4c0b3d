from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sources.address import (
    SourceKind,
    host_of,
    kind_of,
    resolve_credentials,
    says_kind,
    split_credentials,
    with_credentials,
)
from streamer.sources.options import VideoOptions

secrets = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x17F, exclude_categories=["Cc", "Cs", "Zs"]),
    min_size=1,
)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("clip.mp4", SourceKind.FILE),
        ("file:///tmp/clip.mp4", SourceKind.FILE),
        ("12:30:00.mkv", SourceKind.FILE),
        ("/dev/video0", SourceKind.DEVICE),
        ("rtsp://cam/stream", SourceKind.RTSP),
        ("RTSPS://cam/stream", SourceKind.RTSP),
        ("http://cam/live.ts", SourceKind.HTTP),
        ("https://cam/hls/live.m3u8", SourceKind.HTTP),
        ("http://cam/snapshot.jpg?channel=1", SourceKind.SNAPSHOT),
        ("https://cam/image.JPEG", SourceKind.SNAPSHOT),
        ("http://cam/cgi-bin/snapshot.cgi?channel=1", SourceKind.SNAPSHOT),
        ("http://cam/cgi-bin/api.cgi?cmd=Snap&channel=0", SourceKind.SNAPSHOT),
        ("http://cam/ISAPI/Streaming/channels/101/\x70icture", SourceKind.SNAPSHOT),
        ("http://cam/axis-cgi/jpg/image.cgi", SourceKind.SNAPSHOT),
        ("http://cam/axis-cgi/mjpg/video.cgi", SourceKind.HTTP),
        ("http://cam/snapshots/live.m3u8", SourceKind.HTTP),
        ("srt://cam:9000", SourceKind.STREAM),
        ("pattern:", SourceKind.PATTERN),
    ],
)
def test_an_address_gives_its_kind(address, kind):
    assert kind_of(address) is kind


@pytest.mark.parametrize(
    ("address", "is_clear"),
    [
        ("http://cam/snapshot.cgi", True),
        ("http://cam/live.ts", True),
        ("http://cam/videostream.cgi?rate=0", True),
        ("http://cam/cgi/get?channel=1", False),
        ("http://cam/", False),
    ],
)
def test_an_address_may_leave_its_kind_to_the_server(address, is_clear):
    assert says_kind(address) is is_clear


def test_a_folder_is_distinguished_from_a_file_on_disk(tmp_path):
    assert kind_of(str(tmp_path)) is SourceKind.FOLDER


def test_only_files_folders_and_the_pattern_may_end():
    assert {kind for kind in SourceKind if not kind.live} == {
        SourceKind.FILE,
        SourceKind.FOLDER,
        SourceKind.PATTERN,
    }


@given(user=secrets, password=secrets)
def test_credentials_given_apart_arrive_percent_encoded(user, password):
    url = with_credentials("rtsp://cam.example:554/a", user=user, password=password)
    parts = urlsplit(url)
    assert (parts.hostname, parts.port, parts.path) == ("cam.example", 554, "/a")
    assert unquote(parts.username or "") == user
    assert unquote(parts.password or "") == password


@given(user=secrets, password=secrets)
def test_credentials_are_found_again_in_the_url_they_were_put_in(user, password):
    url = with_credentials("rtsp://cam.example/a?b=c", user=user, password=password)
    assert split_credentials(url) == ("rtsp://cam.example/a?b=c", user, password)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("rtsp://cam/a", ("rtsp://cam/a", None, None)),
        ("rtsp://cam:554/a@b", ("rtsp://cam:554/a@b", None, None)),
        ("rtsp://[::1]:554/a@b", ("rtsp://[::1]:554/a@b", None, None)),
        ("rtsp://user@cam/a", ("rtsp://cam/a", "user", None)),
        ("rtsp://user:p@ss@cam/a", ("rtsp://cam/a", "user", "p@ss")),
        ("rtsp://user:p%2Fs%25@cam/a", ("rtsp://cam/a", "user", "p/s%")),
        ("rtsp://user:pa/s?s#1@cam/a", ("rtsp://cam/a", "user", "pa/s?s#1")),
        ("clip.mp4", ("clip.mp4", None, None)),
    ],
)
def test_credentials_are_taken_out_of_a_url(address, found):
    assert split_credentials(address) == found


def test_credentials_given_apart_come_before_those_in_the_url():
    assert resolve_credentials("rtsp://a:b@cam/x", user="c", password="d") == (
        "rtsp://cam/x",
        "c",
        "d",
    )
    assert resolve_credentials("rtsp://a:b@cam/x", user=None, password="d") == (
        "rtsp://cam/x",
        "a",
        "d",
    )
    assert resolve_credentials("rtsp://a:b@cam/x", user=None, password=None) == (
        "rtsp://cam/x",
        "a",
        "b",
    )


def test_the_host_is_found_behind_the_credentials():
    assert host_of("rtsp://a:b@cam.example:554/x") == "cam.example"
    assert host_of("rtsp://a:b@[::1]:554/x") == "::1"
    assert host_of("clip.mp4") is None


def test_options_do_not_show_the_password():
    assert "secret" not in repr(VideoOptions(user="a", password="secret"))


@pytest.mark.parametrize(
    "wrong", [{"timeout_s": 0}, {"inference_interval_ns": 0}, {"frame_rate": -1}]
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        VideoOptions(**wrong)
