"""Whole clips run through `streamer replay` and are counted as alarms or false alarms."""

import evaluate_clips
import pytest

from engines.smoke.data import Entry
from engines.smoke.demo_clip import make_clip
from engines.smoke.model import open_smoke_model


@pytest.mark.slow
def test_a_clip_without_smoke_is_replayed_and_raises_no_false_alarm(tmp_path):
    path = tmp_path / "clear.mp4"
    make_clip(path, seconds=4, size=(180, 320), fps=10, onset_s=4)
    clear = Entry("clips_nonsmoke", path, None, smoke=False, group="")
    model = open_smoke_model("smoke-fast", validate=False)
    result = evaluate_clips.measure_clips(model, [clear], engine="smoke-fast")
    model.close()
    (clip,) = result["clips"]
    assert (clip["clip"], clip["alarms"], clip["raised_after_s"]) == ("clear.mp4", 0, None)
    assert clip["seconds"] == pytest.approx(3)  # from the first to the last sampled frame
    assert clip["frames_with_smoke"] == 0
    assert (result["with_smoke"], result["false_alarms"]) == (0, 0)
    assert result["hours_without_smoke"] == pytest.approx(clip["seconds"] / 3600)


def test_a_replay_that_fails_is_reported_with_its_clip(tmp_path):
    path = tmp_path / "clear.mp4"
    make_clip(path, seconds=1, size=(180, 320), fps=10, onset_s=1)
    with pytest.raises(RuntimeError, match=r"clear\.mp4: .*no such network"):
        evaluate_clips.replay(path, "no such network")
