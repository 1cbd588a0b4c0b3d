"""Age of live frames when decoding is slower than the camera, against a real RTSP stream."""

import time
from collections import deque
from contextlib import closing
from itertools import islice, takewhile

import numpy as np
import pytest

from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import SourceLost
from streamer.sources import video
from streamer.sources.frame_sampler import DecodeMode
from streamer.sources.options import VideoOptions
from streamer.sources.video import VideoSource
from tests.support.clips import jpeg, video_clip
from tests.support.http_camera import HttpCamera
from tests.support.odd_rtsp_camera import OddRtspCamera

MS = 1_000_000
FRAME_NS = 40 * MS
CLIP_FRAMES = 50
LAG_NS = 300 * MS


def camera(server, **options):
    options = VideoOptions(transport="tcp", **{"max_lag_ns": LAG_NS, **options})
    return VideoSource(server.url, clock=SystemClock(), live=True, options=options)


def number_of(frame):
    """The number that the camera gave a frame, from the bar in its image and about when it came."""
    in_clip = int(np.argmax(frame.image.luma()[90])) // 4
    loops = round((frame.pts_ns / FRAME_NS - in_clip) / CLIP_FRAMES)
    return in_clip + loops * CLIP_FRAMES


def watched(source, server, *, seconds, per_frame_s):
    """Frames, and (true age when yielded, error of `arrived_ns`) of each.

    The thread of the source needs *per_frame_s* for each frame, as a slow decoder does.
    """
    frames, ages, errors = [], [], []
    until = time.monotonic() + seconds
    with closing(source(CancelToken())) as stream:
        for frame in stream:
            now_ns = time.monotonic_ns()
            sent_ns = server.sent_ns[number_of(frame)]
            frames.append(frame)
            ages.append(now_ns - sent_ns)
            errors.append(frame.arrived_ns - sent_ns)
            if time.monotonic() > until:
                return frames, ages, errors
            time.sleep(per_frame_s)
    raise AssertionError("the stream ended")


def test_a_source_at_half_speed_stays_near_the_present_and_counts_what_it_skips(elementary):
    with OddRtspCamera(elementary) as server:
        source = camera(server, every_frame=True)
        frames, ages, errors = watched(source, server, seconds=4.5, per_frame_s=0.08)
    statistics = source.statistics()
    assert max(ages) < 1_500 * MS  # It measures whether it is busy once a second.
    assert max(errors) < 500 * MS  # What waited while the stream was analysed is not known.
    assert max(errors[-4:]) < 150 * MS, "the age counts what waited before the demuxer"
    assert len(frames) > 20
    assert statistics.skipped_behind >= 10
    assert statistics.behind_since_ns is not None
    assert statistics.repairs.jumps == statistics.repairs.deviations == 0
    # It fell behind again and again.
    assert source.plan.decode is DecodeMode.KEY_FRAMES
    assert "cannot keep up" in source.plan.reason
    assert max(ages[-4:]) < LAG_NS + 100 * MS


def test_a_source_that_keeps_up_skips_nothing(elementary):
    with OddRtspCamera(elementary) as server:
        source = camera(server, every_frame=True)
        _, ages, errors = watched(source, server, seconds=2, per_frame_s=0.0)
    assert source.statistics().skipped_behind == 0
    assert source.statistics().behind_since_ns is None
    assert source.statistics().decode_time.count >= len(ages)
    assert sorted(ages)[len(ages) // 2] < 150 * MS
    assert sorted(errors)[len(errors) // 2] < 150 * MS


def test_timestamps_that_stand_still_do_not_change_how_often_frames_are_sampled(elementary):
    with OddRtspCamera(elementary, ticks=lambda _: 0) as server:
        source = camera(server, inference_interval_ns=400 * MS)
        with closing(source(CancelToken())) as stream:
            began = next(stream).arrived_ns
            frames = list(takewhile(lambda frame: frame.arrived_ns - began < 3_000 * MS, stream))
    late = [frame for frame in frames if frame.arrived_ns - began > 1_500 * MS]
    assert 3 <= len(late) <= 5
    assert source.statistics().repairs.deviations == 1
    assert source.statistics().by_arrival_since_ns is not None


def test_a_foreign_source_on_the_channel_changes_no_time(elementary):
    packets = []
    with OddRtspCamera(elementary, foreign=True) as server:
        source = VideoSource(
            server.url,
            clock=SystemClock(),
            live=True,
            options=VideoOptions(transport="tcp"),
            tap=packets.append,
        )
        with closing(source(CancelToken())) as stream:
            frames = list(islice(stream, 40))
    took_ns = frames[-1].arrived_ns - frames[0].arrived_ns
    assert frames[-1].pts_ns - frames[0].pts_ns < took_ns + 1_000 * MS
    assert packets[-1].pts_ns < took_ns + 1_000 * MS
    assert max(packet.pts_ns - packet.dts_ns for packet in packets) < 1_000 * MS


def test_motion_jpeg_without_timestamps_stays_near_the_present_too():
    count = 76  # Positions of the bar: 3 s.
    images = [jpeg(number=number) for number in range(count)]
    sent_ns = []

    def live(out, ending):
        began = time.monotonic()
        while not ending.wait(max(0, began + len(sent_ns) / 25 - time.monotonic())):
            image = images[len(sent_ns) % count]
            sent_ns.append(time.monotonic_ns())
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
            out.write(head.encode() + image + b"\r\n")

    with HttpCamera() as server:
        server.bodies["/live"] = live
        server.types["/live"] = "multipart/x-mixed-replace; boundary=frame"
        options = VideoOptions(every_frame=True)
        address = server.url + "/live"
        source = VideoSource(address, clock=SystemClock(), live=True, options=options)
        ages, until = [], time.monotonic() + 3.5
        with closing(source(CancelToken())) as stream:
            for frame in stream:
                in_clip = int(np.argmax(frame.image.luma()[90])) // 4
                newest = len(sent_ns) - 1
                number = newest - (newest - in_clip) % count
                ages.append((time.monotonic_ns() - sent_ns[number]) / MS)
                if time.monotonic() > until:
                    break
                time.sleep(0.16)  # Four times as long as a frame takes to come.
    assert source.statistics().skipped_behind >= 15
    assert max(ages) < 2_500
    assert sorted(ages)[len(ages) // 2] < 1_000


def test_a_stream_that_fell_behind_and_sends_no_key_frame_is_opened_again(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_NO_FRAME_NS", 500 * MS)
    monkeypatch.setattr(video, "_BEHIND_FOR_NS", 1)  # It is behind for as long as it skips.

    def slowly(_):
        time.sleep(0.08)  # As a slow decoder does.

    options = {"x264-params": "aud=1"}
    clip = video_clip(tmp_path / "one-key-frame.h264", frames=600, gop=600, options=options)
    with OddRtspCamera(clip) as server:
        source = camera(server, every_frame=True)
        with pytest.raises(SourceLost, match="no key frame came to go on with"):
            deque(map(slowly, source(CancelToken())), maxlen=0)
    assert source.statistics().skipped_behind > 5
    assert source.statistics().behind_since_ns is not None
