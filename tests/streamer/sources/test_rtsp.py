"""Against a real RTSP server that is killed, stopped and started again."""

import time
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path

import pytest

from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import SourceFault, SourceLost, SourceRejected
from streamer.core.packet import EncodedPacket
from streamer.sources.frame_sampler import DecodeMode
from streamer.sources.options import VideoOptions
from streamer.sources.probe import probe
from streamer.sources.reconnect import ConnectionState, ReconnectingSource
from streamer.sources.video import VideoSource
from tests.support.rtsp_server import certificate

pytestmark = pytest.mark.system

MS = 1_000_000


def camera(server, *, address=None, tap=None, timeout_s=4.0, **options):
    return VideoSource(
        address or server.url,
        clock=SystemClock(),
        live=True,
        options=VideoOptions(timeout_s=timeout_s, **options),
        tap=tap,
    )


def take(source, count):
    with closing(source(CancelToken())) as frames:
        return list(islice(frames, count))


def fault(source):
    with pytest.raises((SourceLost, SourceRejected)) as caught:
        take(source, 10_000)
    return caught.value


@pytest.mark.parametrize("transport", ["tcp", "udp", "auto"])
def test_a_stream_is_watched_by(rtsp, elementary, transport):
    packets: list[EncodedPacket] = []
    with rtsp(elementary) as server:
        source = camera(server, transport=transport, tap=packets.append)
        frames = take(source, 12)
    steps = [(b.pts_ns - a.pts_ns) / MS for a, b in pairwise(frames[2:])]
    assert steps == pytest.approx([40] * 9, abs=0.1)
    assert frames[0].pts_ns == 0
    assert {packet.stream for packet in packets} == {packets[0].stream}
    assert (packets[0].stream.width, packets[0].stream.height) == (320, 180)
    assert packets[0].keyframe
    assert packets[0].stream.extradata.startswith(b"\x00\x00\x00\x01")
    assert source.statistics().repairs.jumps == 0


def test_auto_falls_back_to_udp_and_tcp_says_what_is_wrong(rtsp, elementary):
    with rtsp(elementary, transport="udp") as server:
        assert len(take(camera(server, transport="auto"), 3)) == 3
        error = fault(camera(server, transport="tcp"))
    assert error.fault is SourceFault.REFUSED
    assert "transport" in str(error)


@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_a_login_is_understood_and_a_wrong_one_named(rtsp, elementary, auth):
    with rtsp(elementary, auth=auth) as server:
        user, password = server.USER, server.PASSWORD
        inside = server.url.replace("//", f"//{user}:wa%3Atch%401%2F%25@")
        assert len(take(camera(server, user=user, password=password), 3)) == 3
        assert len(take(camera(server, address=inside), 3)) == 3
        for wrong in ({}, {"user": user, "password": "secret"}):
            error = fault(camera(server, **wrong))
            assert isinstance(error, SourceRejected)
            assert error.fault is SourceFault.WRONG_PASSWORD
            assert "secret" not in str(error)


def test_an_unknown_path_is_not_found_but_may_come_back(rtsp, elementary):
    with rtsp(elementary) as server:
        error = fault(camera(server, address=server.url + "2"))
    assert error.fault is SourceFault.NOT_FOUND
    assert isinstance(error, SourceLost)


def test_a_stream_of_audio_alone_has_no_video(rtsp):
    launch = "( audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 pt=8 )"
    with rtsp(launch=launch) as server:
        assert fault(camera(server)).fault is SourceFault.NO_VIDEO


def test_an_encrypted_stream_needs_a_valid_certificate_unless_disabled(rtsp, elementary, tmp_path):
    with rtsp(elementary, tls=certificate(tmp_path)) as server:
        error = fault(camera(server))
        assert error.fault is SourceFault.REFUSED
        assert "certificate" in str(error)
        assert len(take(camera(server, tls_verify=False), 3)) == 3
        trusted = str(tmp_path / "certificate.pem")
        assert len(take(camera(server, ca_file=trusted), 3)) == 3


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_server_that_falls_silent_is_stalled(rtsp, elementary, transport):
    with (
        rtsp(elementary) as server,
        closing(camera(server, transport=transport, timeout_s=1.0)(CancelToken())) as frames,
    ):
        next(frames)
        server.pause()
        with pytest.raises(SourceLost) as caught:
            list(frames)
    assert caught.value.fault is SourceFault.STALLED


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_killed_server_ends_the_stream(rtsp, elementary, transport):
    with (
        rtsp(elementary) as server,
        closing(camera(server, transport=transport)(CancelToken())) as frames,
    ):
        next(frames)
        server.kill()
        with pytest.raises(SourceLost) as caught:
            list(frames)
    assert caught.value.fault is SourceFault.ENDED


def test_frames_are_back_within_5_s_of_the_server_and_time_continues(rtsp, elementary):
    waits = []
    started_ns = []
    with rtsp(elementary) as server:

        def on_state(state):
            if state.connection is ConnectionState.WAITING:
                waits.append(state)
                if len(waits) == 5:  # The waits have reached their cap.
                    server.start()
                    started_ns.append(time.monotonic_ns())

        source = ReconnectingSource(camera(server), clock=SystemClock(), on_state=on_state)
        with closing(source(CancelToken())) as frames:
            before = list(islice(frames, 5))[-1]
            server.kill()
            after = next(frame for frame in frames if started_ns)
            later = list(islice(frames, 5))[-1]
    assert waits[0].fault is SourceFault.ENDED
    assert waits[1].fault is SourceFault.REFUSED
    assert after.arrived_ns - started_ns[0] < 5_000 * MS
    gap_ns = after.arrived_ns - before.arrived_ns
    assert after.pts_ns - before.pts_ns == pytest.approx(gap_ns, abs=1_000 * MS)
    assert later.pts_ns > after.pts_ns
    assert source.state.connection is ConnectionState.LIVE


def test_watching_decodes_the_key_frames_of_a_camera(rtsp, elementary):
    with rtsp(elementary) as server:
        source = camera(server, inference_interval_ns=400 * MS)
        frames = take(source, 5)
    assert source.plan.decode is DecodeMode.KEY_FRAMES
    steps = [(b.pts_ns - a.pts_ns) / MS for a, b in pairwise(frames[1:])]
    assert steps == pytest.approx([400] * 3, abs=1)


def test_a_probe_of_a_camera_measures_it(rtsp, elementary):
    with rtsp(elementary) as server:
        report = probe(server.url, options=VideoOptions(timeout_s=4), cancel=CancelToken())
    assert (report.codec, report.width, report.height) == ("h264", 320, 180)
    assert report.rate == pytest.approx(25, abs=1)
    assert report.gop_s == pytest.approx(0.4, abs=0.05)
    decodes = {plan.fps: plan.plan.decode for plan in report.plans}
    assert decodes[1] is DecodeMode.KEY_FRAMES
    assert decodes[5] is DecodeMode.EVERY_FRAME


def test_a_day_of_failing_leaves_no_open_files_behind(rtsp, elementary):
    with rtsp(elementary, auth="basic") as server:
        source = camera(server, user="fire", password="wrong")
        fault(source)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(50):
            fault(source)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
