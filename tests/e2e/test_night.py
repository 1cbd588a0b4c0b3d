"""A dark recording through the program: people see it, evidence and recordings stay dark."""

import itertools

import av
import numpy as np
import pytest

from .test_demo_and_replay import run

pytestmark = pytest.mark.slow

CONFIG = """
data_dir: {data}
cameras:
  gate:
    source: {{address: {address}}}
    enhance: {{enabled: {enabled}}}
    detect: {{low_light: {enabled}}}
"""


def lumas(path):
    with av.open(str(path)) as clip:
        return [frame.reformat(format="gray8").to_ndarray() for frame in clip.decode(video=0)]


def clip(source, path, *, light, seconds=3):
    """The beginning of a clip with so much of its light, and a sensor's noise."""
    random = np.random.default_rng(1)
    with av.open(str(source)) as day, av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "18"})
        stream.width, stream.height = day.streams.video[0].width, day.streams.video[0].height
        stream.pix_fmt = "yuv420p"
        for frame in itertools.islice(day.decode(video=0), 25 * seconds):
            linear = (frame.to_ndarray(format="rgb24") / 255) ** 2.2 * light
            dark = linear ** (1 / 2.2) * 255 + random.normal(0, 2, linear.shape) * (light < 1)
            shown = av.VideoFrame.from_ndarray(
                np.clip(np.rint(dark), 0, 255).astype(np.uint8), format="rgb24"
            )
            file.mux(stream.encode(shown))
        file.mux(stream.encode(None))
    return path


def overlay(folder, address, *, enabled):
    config = folder / f"{enabled}.yaml"
    config.write_text(
        CONFIG.format(data=folder / "data", address=address, enabled=str(enabled).lower())
    )
    out = folder / f"{address.stem}-{enabled}.mp4"
    done = run("replay", address, "--config", config, "--overlay", out)
    assert done.returncode == 0, done.stderr
    return lumas(out)


def test_a_dark_recording_is_shown_lit(demo, tmp_path):
    dark = clip(demo.summary["clip"], tmp_path / "dark.mp4", light=0.03)
    before = overlay(tmp_path, dark, enabled=False)
    after = overlay(tmp_path, dark, enabled=True)
    assert len(after) == len(before) > 0
    assert np.mean(before) < 50
    assert np.mean(after) > 2 * np.mean(before)


def test_a_day_recording_is_shown_as_it_is(demo, tmp_path):
    day = clip(demo.summary["clip"], tmp_path / "day.mp4", light=1)
    before = overlay(tmp_path, day, enabled=False)
    after = overlay(tmp_path, day, enabled=True)
    np.testing.assert_array_equal(before, after)
