"""The first pass of a conversion: what a replay would see, once, and on every piece the same."""

from dataclasses import replace

import numpy as np
import pytest

from streamer.app.detection_pass import DetectionPass, DetectionProgress, DetectorSetup
from streamer.app.models import Models
from streamer.app.replay import replay
from streamer.config import from_source
from streamer.convert.chunk_source import ChunkSource
from streamer.convert.media_info import take
from streamer.convert.plan import ConvertOptions, plan
from streamer.core.clock import CancelToken
from streamer.core.errors import StorageError
from streamer.core.frame import AlarmState
from tests.support.clips import truncated, video_clip

NS = 1_000_000_000


class Network:
    """Sees smoke in the middle, and counts how often it was asked; fails at one look if told."""

    name, digest, backend, input_size = "fake", "d" * 64, "b", (96, 160)
    threshold, low_threshold = 0.4, 0.3

    def __init__(self, *, fail_at=None):
        self.looks = 0
        self.fail_at = fail_at

    def __call__(self, image, background=None, *, dark=False):
        self.looks += 1
        if self.looks == self.fail_at:
            raise KeyboardInterrupt
        probability = np.zeros((image.shape[0] // 2, image.shape[1] // 2), np.float32)
        probability[16:26, 30:46] = 0.9
        return probability


def configuration(address="pattern:"):
    return from_source(str(address), name="recording").config


def watch(network):
    return DetectorSetup(Models(network), configuration())


def planned(path, **asked):
    return plan(take(path), path.with_name("out.mp4"), ConvertOptions(overlay=True, **asked))


def first_pass(path, network, *, report=lambda _: None, **asked):
    return DetectionPass(planned(path, **asked), watch(network), report=report)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """24 seconds, two pieces."""
    return video_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=600, b_frames=2)


def test_all_is_looked_at_once_a_second_and_each_look_is_reported(clip, tmp_path):
    told = []
    looking = first_pass(clip, Network(), report=told.append)
    looking(tmp_path)
    assert told == [DetectionProgress(second * NS, 24 * NS, second + 1) for second in range(24)]


def test_the_alarm_is_raised_when_a_replay_raises_it(clip, tmp_path):
    events = []
    replay(
        str(clip), configuration(clip), "recording", models=Models(Network()),
        on_event=events.append,
    )  # fmt: skip
    assert [event.kind.value for event in events] == ["raised"]
    looking = first_pass(clip, Network())
    looking(tmp_path)
    assert looking.looks.alarms == (events[0].pts_ns,)


def test_times_are_those_of_the_recording_whose_pictures_begin_later(tmp_path):
    times = [1.4 + number / 25 for number in range(50)]
    clip = video_clip(tmp_path / "late.mkv", frames=50, times=times)
    told = []
    first_pass(clip, Network(), report=told.append)(tmp_path)
    assert [one.at_ns for one in told] == [1_400_000_000, 2_400_000_000]


def test_who_resumes_does_not_look_again(clip, tmp_path):
    first_pass(clip, Network())(tmp_path)
    before = files(tmp_path)
    network = Network()
    looking = first_pass(clip, network)
    looking(tmp_path)
    assert network.looks == 0
    assert len(looking.looks) == 24
    assert files(tmp_path) == before


@pytest.mark.parametrize("fail_at", [1, 7, 24])
def test_a_pass_that_was_cut_short_is_made_anew_and_comes_out_the_same(clip, tmp_path, fail_at):
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    first_pass(clip, Network())(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        first_pass(clip, Network(fail_at=fail_at))(tmp_path / "cut")
    assert not (tmp_path / "cut" / "looks.json").exists()
    first_pass(clip, Network())(tmp_path / "cut")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_nothing_is_drawn_before_anything_was_looked_at(clip):
    assert first_pass(clip, Network()).stages() == {}


@pytest.mark.parametrize("factor", [1, 2])
def test_what_is_drawn_on_pieces_is_what_is_drawn_on_the_whole(clip, tmp_path, factor):
    looking = first_pass(clip, Network(), factor=factor)
    looking(tmp_path)
    one = planned(clip, factor=factor)
    assert len(one.chunks) == 2
    whole = replace(one.chunks[0], end_ns=one.chunks[1].end_ns, last=True)

    def drawn(chunk):
        frames = ChunkSource(one.inventory, chunk, one.decoding)(CancelToken())
        for frame in looking.stages()["overlay"](frames):
            yield frame.pts_ns, frame.alarm_status, frame.image.luma().tobytes()

    pieces = [drawn(chunk) for chunk in one.chunks]
    # The later one first.
    second, first = list(pieces[1]), list(pieces[0])
    assert [*first, *second] == list(drawn(whole))
    assert first[-1][1].state is second[0][1].state is AlarmState.ALARM


def test_a_recording_that_was_cut_is_looked_at_to_its_end(tmp_path):
    path = truncated(video_clip(tmp_path / "cut.mkv", frames=250), keep=0.6)
    looking = first_pass(path, Network())
    looking(tmp_path)
    assert 4 <= len(looking.looks) <= 7


def test_a_full_disk_is_a_line(clip, tmp_path):
    (tmp_path / "looks.maps").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full"):
        first_pass(clip, Network())(tmp_path)


def test_what_decides_over_looks_is_told_by_its_digest():
    digests = watch(Network()).digests()
    assert digests["fake"] == "d" * 64
    assert digests["watch"] == configuration().digest()


def test_how_long_a_pass_takes_is_told_from_a_few_looks_of_which_nothing_is_kept(clip):
    network = Network()
    looking = first_pass(clip, network)
    assert looking.estimate_duration(5) > 0
    assert 5 <= network.looks <= 12, "suspect places are looked at twice"
    assert looking.looks is None
