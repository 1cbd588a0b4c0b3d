"""Streams, HLS and snapshots against a real HTTP server."""

import gc
import itertools
import threading
import weakref
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise

import pytest

from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import SourceFault, SourceLost, SourceRejected
from streamer.sources.address import SourceKind
from streamer.sources.http import HttpSource
from streamer.sources.http_fetch import HttpFetcher, tls_context
from streamer.sources.options import VideoOptions
from streamer.sources.probe import probe
from streamer.sources.snapshot import SnapshotSource
from streamer.sources.video import VideoSource
from tests.support.clips import jpeg, video_clip
from tests.support.http_camera import PASSWORD, USER, HttpCamera, multipart, pieces
from tests.support.http_logins import LoginCamera
from tests.support.rtsp_server import free_port
from tests.support.stepping import StepClock, StepStop


@pytest.fixture
def camera():
    with HttpCamera() as server:
        yield server


@pytest.fixture(scope="module")
def transport_stream(tmp_path_factory):
    return video_clip(tmp_path_factory.mktemp("http") / "live.ts").read_bytes()


def stream(url, **options):
    options = VideoOptions(**{"timeout_s": 1.0, **options})
    return VideoSource(url, clock=SystemClock(), live=True, options=options)


def until_failure(source):
    """All frames until it breaks off, and why it did."""
    frames = []
    with pytest.raises((SourceLost, SourceRejected)) as caught:
        frames.extend(source(CancelToken()))
    return frames, caught.value


def test_a_transport_stream_is_watched_until_it_breaks_off(camera, transport_stream):
    camera.bodies["/live.ts"] = pieces(transport_stream)
    frames, error = until_failure(stream(camera.url + "/live.ts"))
    assert len(frames) == 50
    assert error.fault is SourceFault.ENDED


def test_a_transport_stream_that_falls_silent_is_stalled(camera, transport_stream):
    camera.bodies["/live.ts"] = pieces(transport_stream, silent_after=len(transport_stream) // 2)
    frames, error = until_failure(stream(camera.url + "/live.ts"))
    assert frames
    assert error.fault is SourceFault.STALLED


def test_motion_jpeg_has_the_times_of_its_arrival(camera):
    camera.bodies["/video"] = multipart([jpeg(number=number) for number in range(8)])
    camera.types["/video"] = "multipart/x-mixed-replace; boundary=frame"
    frames, _ = until_failure(stream(camera.url + "/video"))
    assert len(frames) == 8
    spent_ns = frames[-1].arrived_ns - frames[0].arrived_ns
    assert frames[-1].pts_ns - frames[0].pts_ns <= spent_ns + 100_000_000


def test_hls_is_watched_to_its_end(camera, tmp_path):
    video_clip(tmp_path / "live.m3u8", frames=75, container_format="hls", mux={"hls_time": "1"})
    camera.bodies["/hls"] = tmp_path
    frames, error = until_failure(stream(camera.url + "/hls/live.m3u8"))
    assert len(frames) == 75
    assert all(b.pts_ns - a.pts_ns == 40_000_000 for a, b in pairwise(frames))
    assert error.fault is SourceFault.ENDED


@pytest.mark.parametrize("login", ["basic", "digest"])
def test_a_stream_behind_a_login_is_watched(camera, transport_stream, login):
    camera.bodies["/live.ts"] = pieces(transport_stream)
    camera.login = login
    frames, _ = until_failure(stream(camera.url + "/live.ts", user=USER, password=PASSWORD))
    assert len(frames) == 50
    _, error = until_failure(stream(camera.url + "/live.ts", user=USER, password="secret"))
    assert error.fault is SourceFault.WRONG_PASSWORD


def test_a_page_that_is_no_video_is_damaged_and_a_missing_one_not_found(camera):
    camera.bodies["/page"] = b"<html>welcome</html>"
    assert until_failure(stream(camera.url + "/page"))[1].fault is SourceFault.DAMAGED
    assert until_failure(stream(camera.url + "/none"))[1].fault is SourceFault.NOT_FOUND


def snapshots(url, *, clock=None, interval_ns=1_000_000_000, **options):
    options = VideoOptions(**{"timeout_s": 1.0, **options})
    return SnapshotSource(
        url, clock=clock or SystemClock(), interval_ns=interval_ns, options=options
    )


def test_snapshots_are_polled_at_their_interval(camera):
    camera.bodies["/snap.jpg"] = jpeg()
    clock = StepClock()
    cancel = StepStop(clock)
    source = snapshots(camera.url + "/snap.jpg?channel=1", clock=clock, interval_ns=2_000_000_000)
    with closing(source(cancel)) as frames:
        taken = list(islice(frames, 4))
    assert [frame.pts_ns / 1e9 for frame in taken] == [0, 2, 4, 6]
    assert [frame.number for frame in taken] == [0, 1, 2, 3]
    assert taken[0].image.size == (180, 320)
    assert camera.requests == ["/snap.jpg?channel=1"] * 4


def test_snapshots_polled_more_often_than_inferences_are_requested_are_marked(camera):
    camera.bodies["/snap.jpg"] = jpeg()
    clock = StepClock()
    source = snapshots(
        camera.url + "/snap.jpg",
        clock=clock,
        interval_ns=500_000_000,
        inference_interval_ns=1_000_000_000,
    )
    with closing(source(StepStop(clock))) as frames:
        assert [frame.sampled for frame in islice(frames, 5)] == [True, False, True, False, True]


@pytest.mark.parametrize("login", ["basic", "digest"])
def test_snapshots_behind_a_login_are_fetched(camera, login):
    camera.bodies["/snap.jpg"] = jpeg()
    camera.login = login
    apart = snapshots(camera.url + "/snap.jpg", user=USER, password=PASSWORD)
    assert next(apart(CancelToken())).number == 0
    inside = camera.url.replace("//", f"//{USER}:wa%3Atch%401%2F%25@") + "/snap.jpg"
    assert next(snapshots(inside)(CancelToken())).number == 0
    _, error = until_failure(snapshots(camera.url + "/snap.jpg", user=USER, password="secret"))
    assert error.fault is SourceFault.WRONG_PASSWORD
    assert isinstance(error, SourceRejected)


def test_snapshots_go_on_with_time_and_number_after_a_failure(camera):
    camera.bodies["/snap.jpg"] = jpeg()
    clock = StepClock()
    source = snapshots(camera.url + "/snap.jpg", clock=clock)
    first = next(source(StepStop(clock)))
    camera.bodies.clear()
    frames, error = until_failure(source)
    assert (frames, error.fault) == ([], SourceFault.NOT_FOUND)
    clock.step(60)
    camera.bodies["/snap.jpg"] = jpeg()
    again = next(source(StepStop(clock)))
    assert (again.number, again.pts_ns - first.pts_ns) == (1, 60_000_000_000)


def test_a_snapshot_that_is_no_image_is_damaged(camera):
    for body in (b"", b"<html>login</html>", jpeg()[:200]):
        camera.bodies["/snap.jpg"] = body
        _, error = until_failure(snapshots(camera.url + "/snap.jpg"))
        assert error.fault is SourceFault.DAMAGED


def test_a_snapshot_camera_that_is_not_there_is_named_without_its_password(camera):
    refused = snapshots(f"http://fire:secret@127.0.0.1:{free_port()}/snap.jpg?pwd=secret")
    _, error = until_failure(refused)
    assert error.fault is SourceFault.REFUSED
    assert "secret" not in str(error) + repr(refused)
    _, error = until_failure(snapshots("http://no-such-camera.invalid/snap.jpg"))
    assert error.fault is SourceFault.NO_ROUTE


def test_a_snapshot_camera_that_says_nothing_is_stalled(camera):
    camera.bodies["/snap.jpg"] = pieces(b"", silent_after=0)
    _, error = until_failure(snapshots(camera.url + "/snap.jpg", timeout_s=0.3))
    assert error.fault is SourceFault.STALLED


def test_a_probe_of_a_snapshot_address_requests_one(camera):
    camera.bodies["/snap.jpg"] = jpeg()
    report = probe(
        camera.url + "/snap.jpg", options=VideoOptions(timeout_s=1), cancel=CancelToken()
    )
    assert (report.kind, report.width, report.height) == (SourceKind.SNAPSHOT, 320, 180)
    assert len(camera.requests) == 1


def test_an_address_that_does_not_say_what_it_serves_is_requested_once(camera, transport_stream):
    camera.bodies |= {"/a.cgi": jpeg(), "/b.cgi": pieces(transport_stream)}
    camera.types |= {"/a.cgi": "image/jpeg", "/b.cgi": "video/mp2t"}
    options = VideoOptions(timeout_s=1)
    for path, kind in (("/a.cgi", SourceKind.SNAPSHOT), ("/b.cgi", SourceKind.HTTP)):
        source = HttpSource(video=stream(camera.url + path), snapshot=snapshots(camera.url + path))
        assert next(source(CancelToken())).image.size == (180, 320)
        report = probe(camera.url + path, options=options, cancel=CancelToken())
        assert report.kind is kind


def test_a_server_is_inspected_again_when_what_it_reported_gives_no_frames(camera):
    camera.bodies["/a.cgi"], camera.types["/a.cgi"] = b"starting", "text/plain"
    source = HttpSource(
        video=stream(camera.url + "/a.cgi"), snapshot=snapshots(camera.url + "/a.cgi")
    )
    until_failure(source)
    camera.bodies["/a.cgi"], camera.types["/a.cgi"] = jpeg(), "image/jpeg"
    assert next(source(CancelToken())).image.size == (180, 320)


def test_a_page_at_such_an_address_is_one_clear_line(camera):
    camera.bodies["/a.cgi"], camera.types["/a.cgi"] = b"<html>welcome</html>", "text/html"
    source = HttpSource(video=stream(camera.url + "/a"), snapshot=snapshots(camera.url + "/a.cgi"))
    assert "answered with text/html of 20 bytes, no image" in str(until_failure(source)[1])


PART = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg()) + jpeg() + b"\r\n"
BOUNDED = b"--frame\r\n" + PART


@pytest.mark.parametrize("content_type", ["multipart/x-mixed-replace; boundary=frame", "", "a/b"])
@pytest.mark.parametrize(
    "body", [BOUNDED * 5, PART + BOUNDED * 4, jpeg() * 5], ids=["whole", "no boundary", "bare"]
)
def test_motion_jpeg_is_watched_without_content_type_and_boundary(camera, body, content_type):
    camera.bodies["/video"], camera.types["/video"] = pieces(body), content_type
    frames, error = until_failure(stream(camera.url + "/video"))
    assert [frame.image.size for frame in frames] == [(180, 320)] * 5
    assert error.fault is SourceFault.ENDED


def test_a_page_in_place_of_a_video_is_one_clear_line(camera):
    camera.bodies["/video"], camera.types["/video"] = b"<html>too many users</html>", "text/html"
    _, error = until_failure(stream(camera.url + "/video"))
    assert error.fault is SourceFault.DAMAGED
    assert "answered with text/html, no video" in str(error)


def test_a_redirect_of_a_stream_is_followed_only_to_where_it_may_lead(camera, transport_stream):
    camera.bodies["/live.ts"] = pieces(transport_stream)
    with LoginCamera(b"") as elsewhere:
        outcomes = {
            camera.url + "/live.ts": SourceFault.ENDED,
            "http://169.254.169.254/latest": SourceFault.REFUSED,
        }
        for target, outcome in outcomes.items():
            elsewhere.redirect_to = target
            url = f"http://127.0.0.1:{elsewhere.port}/video.ts"
            frames, error = until_failure(stream(url, allow_link_local=False))
            assert error.fault is outcome
            assert len(frames) == (50 if outcome is SourceFault.ENDED else 0)
    assert "network.allow_link_local" in str(error)


@pytest.mark.parametrize("url", ["rtsp://169.254.1.2/1", "http://169.254.1.2/video.ts"])
def test_a_link_local_stream_is_not_reached_unless_allowed(url):
    _, error = until_failure(stream(url, allow_link_local=False))
    assert error.fault is SourceFault.REFUSED
    assert "network.allow_link_local" in str(error)


def test_a_stream_joined_between_two_key_frames_begins_with_the_next(camera, tmp_path):
    data = video_clip(tmp_path / "long.ts", frames=150, gop=100).read_bytes()
    camera.bodies["/live.ts"] = pieces(data[len(data) // 8 // 188 * 188 :])
    packets = []
    source = VideoSource(
        camera.url + "/live.ts",
        clock=SystemClock(),
        live=True,
        options=VideoOptions(timeout_s=1.0),
        tap=packets.append,
    )
    frames, _ = until_failure(source)
    assert len(frames) == 50
    assert len(packets) > 60
    first = next(packet for packet in packets if packet.keyframe)
    assert (first.stream.width, first.stream.height) == (320, 180)
    assert first.stream.extradata
    assert first.pts_ns == frames[0].pts_ns


def test_a_server_that_redirects_to_another_address_each_time_is_given_up():
    fresh = itertools.count()
    valid = set()

    class OnceOnly(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            if self.path in valid:
                valid.clear()
                self.send_response(200)
            else:
                valid.clear()
                valid.add(f"/stream?id={next(fresh)}")
                self.send_response(302)
                self.send_header("Location", *valid)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Silent."""

    requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), OnceOnly) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/video.ts"
            until_failure(stream(url, allow_link_local=False))
        finally:
            server.shutdown()
            thread.join()
    assert len(requests) < 15


def test_nothing_is_left_of_a_request_when_it_is_over(camera):
    """A camera that is gone for weeks gets requests every few seconds, all with one token."""
    camera.bodies["/a.jpg"] = jpeg()
    cancel = CancelToken()
    with HttpFetcher(
        camera.url + "/a.jpg", login=None, timeout_s=5, cancel=cancel, allow_link_local=False,
        tls=tls_context(verify=False, ca_file=None),
    ) as fetcher:  # fmt: skip
        fetcher.fetch(is_enough=lambda *_: True)
    left = weakref.ref(fetcher)
    del fetcher
    gc.collect()
    assert left() is None
