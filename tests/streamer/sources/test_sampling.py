"""Sampling from an encoded clip to the detector: each sampled frame is inferred exactly once."""

from itertools import pairwise

import numpy as np
import pytest

from streamer.alarm.policy import Alarm
from streamer.core.clock import SystemClock
from streamer.core.pipeline import Pipeline, file_links
from streamer.detect.detector import Detector, Thresholds
from streamer.detect.segmenter import Segmentation
from streamer.sources.frame_sampler import DecodeMode
from streamer.sources.options import VideoOptions
from streamer.sources.video import VideoSource
from streamer.stages.detect import DetectStage
from tests.support.clips import video_clip

S = 1_000_000_000
SECONDS = 20


def run(path, *, every_frame):
    """The source, the media times of its frames, of the sampled ones, and of the inferences."""
    inferred, sampled, yielded = [], [], []

    def segmenter(image, pts_ns, background, *, enhanced):
        inferred.append(pts_ns)
        return Segmentation(np.zeros((48, 80, 3), np.uint8), np.zeros((24, 40), np.float32), False)

    def record(frames):
        for frame in frames:
            yielded.append(frame.pts_ns)
            if frame.sampled:
                sampled.append(frame.pts_ns)

    clock = SystemClock()
    options = VideoOptions(inference_interval_ns=S, every_frame=every_frame)
    source = VideoSource(str(path), clock=clock, live=False, options=options)
    detector = Detector(segmenter, Thresholds(0.5, 0.4, 0.3), clock=clock)
    stage = DetectStage(detector, Alarm("camera"), inference_interval_ns=S)
    Pipeline("p", source, {"detect": stage}, {"record": record}, make_link=file_links()).run()
    return source, yielded, sampled, inferred


@pytest.mark.parametrize("every_frame", [False, True])
@pytest.mark.parametrize(
    ("rate", "gop"), [(25, 20), (25, 25), (25, 10), (25, 50), (30, 24), (12, 7), (10, 250)]
)
def test_each_sampled_frame_is_inferred_once_at_the_requested_rate(
    tmp_path, rate, gop, every_frame
):
    path = video_clip(tmp_path / "clip.mp4", frames=SECONDS * rate, rate=rate, gop=gop)
    source, yielded, sampled, inferred = run(path, every_frame=every_frame)
    assert inferred == sampled
    assert len(inferred) == pytest.approx(SECONDS, abs=1)
    distance_ns = (gop if source.plan.decode is DecodeMode.KEY_FRAMES else 1) * S // rate
    assert max(b - a for a, b in pairwise(inferred)) <= S + distance_ns
    if every_frame:
        assert len(yielded) == SECONDS * rate
    else:
        assert yielded == sampled
    if source.plan.decode is DecodeMode.KEY_FRAMES:
        # All frames are decoded until the first GOP is measured, then only the inferred ones.
        after_first_gop = [pts_ns for pts_ns in inferred if pts_ns >= gop * S // rate]
        assert source.statistics().decoded == gop + len(after_first_gop)
