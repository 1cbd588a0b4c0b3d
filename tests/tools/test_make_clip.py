"""The tool makes what its options say."""

import json
import subprocess
import sys
from pathlib import Path

import av

ROOT = Path(__file__).parents[2]


def made(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "make_clip.py", *map(str, arguments)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_tool_writes_a_clip_and_its_truth(tmp_path):
    path = tmp_path / "fire.mp4"
    done = made(path, "--seconds", 2, "--height", 90, "--fps", 5, "--onset", 1, "--seed", 4)
    assert done.returncode == 0, done.stderr
    with av.open(str(path)) as clip:
        assert (clip.streams.video[0].width, clip.streams.video[0].height) == (160, 90)
        assert sum(1 for _ in clip.decode(video=0)) == 10
    assert json.loads(path.with_suffix(".json").read_text())["seed"] == 4
    assert path.with_suffix(".alpha.npz").is_file()


def test_the_tool_makes_a_clear_clip(tmp_path):
    path = tmp_path / "clear.mp4"
    assert made(path, "--seconds", 1, "--height", 90, "--fps", 5, "--no-smoke").returncode == 0
    assert json.loads(path.with_suffix(".json").read_text())["onset_s"] is None
