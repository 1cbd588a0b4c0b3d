"""The demonstration and `replay`, as a script uses them."""

import json
import subprocess
from pathlib import Path

import av
import pytest

from streamer.evidence.manifest import verify
from tests.support.clips import audio_clip

from .conftest import STREAMER

pytestmark = pytest.mark.slow

QUICK = """
data_dir: {data}
cameras:
  north:
    source: {{address: {address}}}
    detect: {{background: {{min_age_s: 3, step_s: 1}}}}
"""


def run(*arguments):
    command = [*STREAMER, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def configured(folder, address):
    path = folder / "north.yaml"
    path.write_text(QUICK.format(data=folder / "data", address=address))
    return path


def test_the_demonstration_raises_after_the_smoke_began_and_seals_its_evidence(demo):
    assert demo.summary["kind"] == "summary"
    assert demo.summary["onset_s"] < demo.summary["raised_s"] < demo.summary["onset_s"] + 30
    evidence = Path(demo.summary["evidence"])
    assert verify(evidence) == []
    assert (evidence / "clip.mp4").exists()
    with av.open(demo.summary["overlay"]) as overlay:
        assert sum(1 for _ in overlay.decode(video=0)) > 100


def test_the_alarm_is_where_the_plume_is(demo):
    truth = json.loads((demo.folder / "clip.json").read_text())
    x, y = truth["anchor"]
    left, top, right, bottom = demo.events[0]["box"]
    assert left - 0.05 <= x <= right + 0.05
    assert top - 0.05 <= y <= bottom + 0.05


def test_the_same_file_and_configuration_give_byte_equal_events(demo, tmp_path):
    config = configured(tmp_path, demo.summary["clip"])
    one, two = (run("replay", demo.summary["clip"], "--config", config, "--json") for _ in "12")
    assert (one.returncode, two.returncode) == (0, 0), one.stderr
    *events, summary = one.stdout.splitlines()
    assert events
    assert events == two.stdout.splitlines()[:-1]
    raised = json.loads(events[0])
    assert {"kind", "camera", "media_s", "reason", "score", "box"} <= set(raised)
    assert (raised["kind"], raised["camera"]) == ("raised", "north")
    totals = json.loads(summary)
    assert {"kind", "frames", "media_seconds", "wall_seconds", "raised"} == set(totals)
    assert (totals["kind"], totals["raised"]) == ("summary", 1)


def test_what_is_no_video_is_one_line_and_exit_4(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 99)
    audio_clip(tmp_path / "audio.mp4")
    for name in ("missing.mp4", "empty.mp4", "text.mp4", "audio.mp4"):
        failed = run("replay", tmp_path / name, "--json")
        assert (failed.returncode, failed.stdout) == (4, ""), name
        assert "Traceback" not in failed.stderr
        (line,) = [line for line in failed.stderr.splitlines() if line.startswith("streamer:")]
        assert name in line


@pytest.mark.parametrize(
    ("wrong", "code"),
    [("alarms: {}", 3), ("engine: {model: README.md}", 5), ("data_dir: [1]", 3)],
)
def test_a_wrong_configuration_or_model_is_reported(tmp_path, wrong, code):
    path = configured(tmp_path, "camera.mp4")
    path.write_text(path.read_text() + wrong + "\n" if code == 5 else wrong + "\n")
    failed = run("replay", "camera.mp4", "--config", path)
    assert failed.returncode == code, failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_overlay_that_cannot_be_written_is_reported_and_the_events_still_come(demo, tmp_path):
    (tmp_path / "in the way").touch()
    config = configured(tmp_path, demo.summary["clip"])
    failed = run(
        "replay", demo.summary["clip"], "--config", config, "--json",
        "--overlay", tmp_path / "in the way" / "out.mp4",
    )  # fmt: skip
    assert failed.returncode == 1
    assert "in the way" in failed.stderr
    assert "Traceback" not in failed.stderr
