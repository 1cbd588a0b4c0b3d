"""The detection pass of a conversion: as a replay, once, and the same for every chunk."""

from dataclasses import replace

import numpy as np
import pytest

from streamer.app.detection_pass import DetectionPass, DetectionProgress, DetectorSetup
from streamer.app.models import Models
from streamer.app.replay import replay
from streamer.config import from_source
from streamer.config.convert import ConvertOptions
from streamer.convert.chunk_source import ChunkSource
from streamer.convert.inspection import inspect
from streamer.convert.plan import plan
from streamer.core.clock import CancelToken
from streamer.core.errors import StorageError
from streamer.core.frame import AlarmState
from tests.support.clips import truncated, video_clip

NS = 1_000_000_000


class Network:
    """Detects smoke in the middle and counts its inferences; fails at inference *fail_at*."""

    name, digest, backend, input_size = "fake", "d" * 64, "b", (96, 160)
    threshold, low_threshold = 0.4, 0.3

    def __init__(self, *, fail_at=None):
        self.inferences = 0
        self.fail_at = fail_at

    def __call__(self, image, background=None, *, dark=False):
        self.inferences += 1
        if self.inferences == self.fail_at:
            raise KeyboardInterrupt
        probability = np.zeros((image.shape[0] // 2, image.shape[1] // 2), np.float32)
        probability[16:26, 30:46] = 0.9
        return probability


def configuration(address="pattern:"):
    return from_source(str(address), name="recording").config


def detector_setup(network):
    return DetectorSetup(Models(network), configuration())


def planned(path, **options):
    return plan(inspect(path), path.with_name("out.mp4"), ConvertOptions(overlay=True, **options))


def make_pass(path, network, *, report=lambda _: None, **options):
    return DetectionPass(planned(path, **options), detector_setup(network), report=report)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """24 seconds, two pieces."""
    return video_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=600, b_frames=2)


def test_one_frame_per_second_is_inferred_and_each_inference_is_reported(clip, tmp_path):
    reported = []
    detection_pass = make_pass(clip, Network(), report=reported.append)
    detection_pass(tmp_path)
    assert reported == [DetectionProgress(second * NS, 24 * NS, second + 1) for second in range(24)]


def test_the_alarm_is_raised_when_a_replay_raises_it(clip, tmp_path):
    events = []
    replay(
        str(clip), configuration(clip), "recording", models=Models(Network()),
        on_event=events.append,
    )  # fmt: skip
    assert [event.kind.value for event in events] == ["raised"]
    detection_pass = make_pass(clip, Network())
    detection_pass(tmp_path)
    assert detection_pass.detections.alarms == (events[0].pts_ns,)


def test_times_are_those_of_the_recording_whose_frames_begin_later(tmp_path):
    times = [1.4 + number / 25 for number in range(50)]
    clip = video_clip(tmp_path / "late.mkv", frames=50, times=times)
    reported = []
    make_pass(clip, Network(), report=reported.append)(tmp_path)
    assert [one.at_ns for one in reported] == [1_400_000_000, 2_400_000_000]


def test_a_resumed_run_does_not_infer_again(clip, tmp_path):
    make_pass(clip, Network())(tmp_path)
    before = files(tmp_path)
    network = Network()
    detection_pass = make_pass(clip, network)
    detection_pass(tmp_path)
    assert network.inferences == 0
    assert len(detection_pass.detections) == 24
    assert files(tmp_path) == before


@pytest.mark.parametrize("fail_at", [1, 7, 24])
def test_an_interrupted_pass_is_repeated_with_the_same_result(clip, tmp_path, fail_at):
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    make_pass(clip, Network())(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        make_pass(clip, Network(fail_at=fail_at))(tmp_path / "cut")
    assert not (tmp_path / "cut" / "detections.json").exists()
    make_pass(clip, Network())(tmp_path / "cut")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_without_detections_nothing_is_drawn(clip):
    assert make_pass(clip, Network()).stages() == {}


@pytest.mark.parametrize("factor", [1, 2])
def test_chunks_get_the_same_overlay_as_the_whole_recording(clip, tmp_path, factor):
    detection_pass = make_pass(clip, Network(), factor=factor)
    detection_pass(tmp_path)
    one = planned(clip, factor=factor)
    assert len(one.chunks) == 2
    whole = replace(one.chunks[0], end_ns=one.chunks[1].end_ns, is_last=True)

    def drawn(chunk):
        frames = ChunkSource(one.media, chunk, one.decoding)(CancelToken())
        for frame in detection_pass.stages()["overlay"](frames):
            yield frame.pts_ns, frame.alarm_status, frame.image.luma().tobytes()

    pieces = [drawn(chunk) for chunk in one.chunks]
    # The later one first.
    second, first = list(pieces[1]), list(pieces[0])
    assert [*first, *second] == list(drawn(whole))
    assert first[-1][1].state is second[0][1].state is AlarmState.ALARM


def test_a_truncated_recording_is_inferred_to_its_end(tmp_path):
    path = truncated(video_clip(tmp_path / "cut.mkv", frames=250), keep=0.6)
    detection_pass = make_pass(path, Network())
    detection_pass(tmp_path)
    assert 4 <= len(detection_pass.detections) <= 7


def test_a_full_disk_is_an_error(clip, tmp_path):
    (tmp_path / "detections.maps").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full"):
        make_pass(clip, Network())(tmp_path)


def test_digests_cover_network_and_settings():
    digests = detector_setup(Network()).digests()
    assert digests["fake"] == "d" * 64
    assert digests["detect"] == configuration().digest()


def test_the_duration_is_estimated_from_a_few_inferences_that_are_discarded(clip):
    network = Network()
    detection_pass = make_pass(clip, network)
    assert detection_pass.estimate_duration(5) > 0
    assert 5 <= network.inferences <= 12, "uncertain regions are verified by a second inference"
    assert detection_pass.detections is None
