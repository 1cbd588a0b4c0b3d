import shutil
from datetime import UTC, datetime
from itertools import islice, pairwise

import numpy as np
import pytest

from streamer.core.clock import CancelToken, MediaClock, SystemClock
from streamer.core.errors import Cancelled, SourceFault, SourceLost, SourceRejected
from streamer.core.packet import EncodedPacket
from streamer.sources.frame_sampler import DecodeMode
from streamer.sources.options import VideoOptions
from streamer.sources.video import VideoSource
from tests.support.clips import audio_clip, damaged, joined, truncated, video_clip
from tests.support.odd_timestamps import with_odd_pts
from tests.support.stepping import StepClock, StepStop

MS = 1_000_000
S = 1000 * MS


def source(path, *, live=False, tap=None, clock=None, **options):
    return VideoSource(
        str(path),
        clock=clock or SystemClock(),
        live=live,
        options=VideoOptions(**options),
        tap=tap,
    )


def times_ms(frames):
    return [frame.pts_ns / MS for frame in frames]


def fails(camera):
    with pytest.raises(SourceRejected) as caught:
        list(camera(CancelToken()))
    return caught.value


def test_a_file_gives_every_frame_with_its_time_and_number(clip):
    frames = list(source(clip)(CancelToken()))
    assert times_ms(frames) == [number * 40 for number in range(50)]
    assert [frame.number for frame in frames] == list(range(50))
    assert frames[0].image.size == (180, 320)


def test_frames_differ_as_the_clip_does(clip):
    first, second = islice(source(clip)(CancelToken()), 2)
    assert np.argmax(second.image.luma()[90]) - np.argmax(first.image.luma()[90]) == 4


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("reordered.mp4", {"b_frames": 2, "options": {"preset": "medium"}}),
        ("reordered.mkv", {"b_frames": 2, "options": {"preset": "medium"}}),
        ("reordered.ts", {"b_frames": 2, "options": {"preset": "medium"}}),
        ("reordered.h264", {"b_frames": 2, "options": {"preset": "medium"}}),
        ("older.mp4", {"codec": "mpeg4"}),
        ("mjpeg.avi", {"codec": "mjpeg"}),
        ("odd.mp4", {"width": 322, "height": 182}),
    ],
)
def test_codecs_and_containers_give_the_same_times(tmp_path, name, settings):
    path = video_clip(tmp_path / name, frames=30, **settings)
    assert times_ms(source(path)(CancelToken())) == [number * 40 for number in range(30)]


def test_variable_distances_are_kept(tmp_path):
    times = [0, 0.02, 0.5, 0.53, 2.0, 2.01]
    path = video_clip(tmp_path / "variable.mp4", frames=6, times=times)
    assert times_ms(source(path)(CancelToken())) == [round(time * 1000) for time in times]


def test_an_old_container_with_reordered_frames_still_gives_rising_times(tmp_path):
    path = video_clip(tmp_path / "old.avi", frames=30, b_frames=2, options={"preset": "medium"})
    times = times_ms(source(path)(CancelToken()))
    assert len(times) == 30
    assert all(earlier < later for earlier, later in pairwise(times))


def test_a_rate_that_the_user_gives_replaces_the_timestamps(tmp_path):
    path = video_clip(tmp_path / "lapse.mp4", frames=6, b_frames=2, options={"preset": "medium"})
    assert times_ms(source(path, frame_rate=0.5)(CancelToken())) == [n * 2000 for n in range(6)]


def test_called_again_a_source_goes_on_with_time_and_number(clip):
    camera = source(clip)
    first, second = list(camera(CancelToken())), list(camera(CancelToken()))
    assert second[0].pts_ns - first[-1].pts_ns == 40 * MS
    assert second[0].number == 50
    assert camera.statistics().opened == 2


def test_a_loop_has_no_seam(clip):
    frames = list(islice(source(clip, loop=True)(CancelToken()), 120))
    assert times_ms(frames) == [number * 40 for number in range(120)]


def test_a_loop_shorter_than_the_inference_interval_goes_on(tmp_path):
    path = video_clip(tmp_path / "short.mp4", frames=10)
    frames = source(path, loop=True, inference_interval_ns=S)(CancelToken())
    assert times_ms(islice(frames, 4)) == [0, 1000, 2000, 3000]


def test_the_end_of_a_live_stream_is_a_failure(clip):
    frames = source(clip, live=True)(CancelToken())
    with pytest.raises(SourceLost) as caught:
        list(frames)
    assert caught.value.fault is SourceFault.ENDED


def test_a_replay_reads_the_media_clock(clip):
    clock = MediaClock(datetime(2026, 1, 1, tzinfo=UTC))
    packets = []
    for frame in source(clip, clock=clock, tap=packets.append)(CancelToken()):
        assert frame.arrived_ns == frame.pts_ns == clock.monotonic_ns()
    assert [packet.arrived_ns for packet in packets] == [packet.pts_ns for packet in packets]


def test_a_file_in_real_time_waits_for_the_time_of_each_packet(clip):
    clock = StepClock()
    cancel = StepStop(clock)
    frames = list(source(clip, clock=clock, realtime=True)(cancel))
    assert sum(cancel.pauses) == pytest.approx(49 * 0.04)
    assert all(frame.arrived_ns >= frame.pts_ns for frame in frames)


def test_a_stop_ends_the_pause_of_a_file_in_real_time(clip):
    clock = StepClock()
    frames = source(clip, clock=clock, realtime=True)(StepStop(clock, limit=10))
    with pytest.raises(Cancelled):
        list(frames)


def test_a_stop_ends_a_file_between_two_packets(clip):
    cancel = CancelToken()
    frames = source(clip)(cancel)
    next(frames)
    cancel.set()
    assert len(list(frames)) < 49


def test_every_packet_goes_to_the_tap_on_the_same_time_as_the_frames(tmp_path):
    path = video_clip(tmp_path / "b.mp4", frames=30, b_frames=2, options={"preset": "medium"})
    packets: list[EncodedPacket] = []
    frames = list(source(path, tap=packets.append)(CancelToken()))
    assert sorted(packet.pts_ns for packet in packets) == [frame.pts_ns for frame in frames]
    assert all(a.dts_ns < b.dts_ns for a, b in pairwise(packets))
    assert [packet.keyframe for packet in packets].index(True) == 0
    stream = packets[0].stream
    assert (stream.codec, stream.width, stream.height) == ("h264", 320, 180)
    assert stream.extradata[:1] == b"\x01"  # As the file has it: not Annex B.


def test_only_sampled_frames_are_yielded_and_only_key_frames_decoded_for_them(tmp_path):
    path = video_clip(tmp_path / "long.mp4", frames=250)
    camera = source(path, inference_interval_ns=S)
    frames = list(camera(CancelToken()))
    assert times_ms(frames) == [number * 1000 for number in range(10)]
    assert camera.plan.decode is DecodeMode.KEY_FRAMES
    assert camera.plan.gop_ns == S


def test_key_frames_of_reordered_streams_come_without_delay(tmp_path):
    path = video_clip(tmp_path / "b.mp4", frames=100, b_frames=3, options={"preset": "medium"})
    packets: list[EncodedPacket] = []
    camera = source(path, inference_interval_ns=S, tap=packets.append)
    for frame in camera(CancelToken()):
        if camera.plan.decode is DecodeMode.KEY_FRAMES and frame.number > 1:
            assert packets[-1].pts_ns == frame.pts_ns


def test_rare_key_frames_let_every_frame_be_decoded(tmp_path):
    path = video_clip(tmp_path / "long.mp4", frames=150, gop=50)
    camera = source(path, inference_interval_ns=S)
    assert times_ms(camera(CancelToken())) == [number * 1000 for number in range(6)]
    assert camera.plan.decode is DecodeMode.EVERY_FRAME


def test_sampling_goes_on_when_the_camera_makes_its_key_frames_rare(tmp_path):
    parts = [
        video_clip(tmp_path / "short.ts", frames=40, gop=5),
        video_clip(tmp_path / "rare.ts", frames=100, gop=100),
        video_clip(tmp_path / "again.ts", frames=60, gop=5),
    ]
    camera = source(joined(tmp_path / "all.ts", parts), inference_interval_ns=200 * MS)
    plans, times = [], []
    for frame in camera(CancelToken()):
        plans.append(camera.plan.decode)
        times.append(frame.pts_ns / MS)
    changes = [later for earlier, later in pairwise(plans) if later is not earlier]
    assert changes == [DecodeMode.KEY_FRAMES, DecodeMode.EVERY_FRAME, DecodeMode.KEY_FRAMES]
    assert max(later - earlier for earlier, later in pairwise(times)) <= 240
    assert camera.statistics().repairs.non_monotonic == 0


def test_a_change_of_size_in_the_middle_is_followed_and_counted(tmp_path):
    parts = [
        video_clip(tmp_path / "large.ts", frames=30),
        video_clip(tmp_path / "small.ts", frames=30, width=240, height=136),
    ]
    packets: list[EncodedPacket] = []
    camera = source(joined(tmp_path / "all.ts", parts), tap=packets.append)
    frames = list(camera(CancelToken()))
    assert [frame.image.size for frame in frames] == [(180, 320)] * 30 + [(136, 240)] * 30
    assert times_ms(frames) == [number * 40 for number in range(60)]
    assert camera.statistics().stream_changes == 1
    assert [(p.stream.width, p.stream.height) for p in packets] == [(320, 180)] * 30 + [
        (240, 136)
    ] * 30
    assert packets[30].keyframe
    assert len({packet.stream for packet in packets}) == 2


def test_a_change_of_codec_in_the_middle_hangs_nothing(tmp_path):
    h264 = video_clip(tmp_path / "a.ts", frames=30)
    hevc = video_clip(
        tmp_path / "b.ts", frames=30, codec="libx265", options={"x265-params": "log-level=none"}
    )
    camera = source(joined(tmp_path / "all.ts", [h264, hevc, h264]))
    frames = list(camera(CancelToken()))
    assert len(frames) >= 58
    assert camera.statistics().damaged > 20


def test_a_second_recording_with_other_stream_numbers_goes_on(tmp_path):
    first = video_clip(tmp_path / "a.ts", frames=30)
    second = video_clip(tmp_path / "b.ts", frames=30, mux={"mpegts_start_pid": "400"})
    frames = list(source(joined(tmp_path / "all.ts", [first, second]))(CancelToken()))
    assert len(frames) >= 59
    assert frames[-1].pts_ns / MS == pytest.approx(59 * 40, abs=80)


@pytest.mark.parametrize("name", ["clip.ts", "clip.mkv"])
def test_damage_is_counted_and_the_rest_is_decoded(tmp_path, name):
    path = damaged(
        video_clip(tmp_path / name, frames=100, options={"qp": "18"}), first=4000, every=9000
    )
    camera = source(path)
    times = times_ms(camera(CancelToken()))
    assert 50 <= len(times) <= 100
    assert camera.statistics().damaged > 0
    assert all(earlier < later for earlier, later in pairwise(times))


def test_a_file_that_was_cut_off_gives_what_it_holds(tmp_path):
    path = truncated(video_clip(tmp_path / "cut.mkv"), keep=0.6)
    assert 20 <= len(list(source(path)(CancelToken()))) < 50


def _written(path, data):
    path.write_bytes(data)
    return path


def _of_unknown_codec(folder):
    path = video_clip(folder / "unknown.mkv")
    data = path.read_bytes()
    assert b"V_MPEG4/ISO/AVC" in data
    return _written(path, data.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XVC"))


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: path / "missing.mp4", SourceFault.NOT_FOUND),
        (lambda path: path, SourceFault.NOT_FOUND),
        (lambda path: _written(path / "empty.mp4", b""), SourceFault.DAMAGED),
        (lambda path: _written(path / "text.mp4", b"no video\n" * 99), SourceFault.DAMAGED),
        (lambda path: truncated(video_clip(path / "cut.mp4"), keep=0.5), SourceFault.DAMAGED),
        (lambda path: audio_clip(path / "audio.m4a"), SourceFault.NO_VIDEO),
        (_of_unknown_codec, SourceFault.UNKNOWN_CODEC),
    ],
    ids=["missing", "folder", "empty", "text", "without index", "audio only", "unknown codec"],
)
def test_what_is_no_video_is_rejected_with_its_fault(tmp_path, make, fault):
    error = fails(source(make(tmp_path)))
    assert error.fault is fault
    assert str(tmp_path) in str(error)
    assert fault.value in str(error)
    assert "\n" not in str(error)


def test_a_name_with_a_colon_is_no_protocol(tmp_path, clip, monkeypatch):
    shutil.copy(clip, tmp_path / "12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(list(source("12:30.mp4")(CancelToken()))) == 50


def test_a_device_that_is_not_there_may_come_back():
    with pytest.raises(SourceLost) as caught:
        next(source("/dev/video97", live=True)(CancelToken()))
    assert caught.value.fault is SourceFault.NOT_FOUND


def test_a_file_without_packets_is_not_looped_for_ever(tmp_path):
    empty = truncated(video_clip(tmp_path / "a.mkv"), keep=0.02)
    assert fails(source(empty, loop=True)).fault in (SourceFault.NO_VIDEO, SourceFault.DAMAGED)


@pytest.mark.parametrize("hours", [6, -6])
@pytest.mark.parametrize("frame", [25, 40])  # A key frame and another.
@pytest.mark.parametrize("interval_ns", [None, S])
def test_one_frame_hours_away_changes_no_time_of_a_file(tmp_path, hours, frame, interval_ns):
    good = video_clip(tmp_path / "good.ts", frames=100, b_frames=2, options={"preset": "medium"})
    odd = with_odd_pts(good, tmp_path / "odd.ts", frame=frame, hours=hours)
    packets: list[EncodedPacket] = []
    camera = source(odd, inference_interval_ns=interval_ns, tap=packets.append)
    expected = times_ms(source(good, inference_interval_ns=interval_ns)(CancelToken()))
    # A key frame that is decoded alone has no neighbours: three frames of reordering are possible.
    within_ms = 1 if interval_ns is None else 120
    assert times_ms(camera(CancelToken())) == pytest.approx(expected, abs=within_ms)
    assert max(packet.pts_ns for packet in packets) == 99 * 40 * MS
    assert camera.statistics().repairs.outliers == 1
