"""Configuration keys under their old names: read for one release, with a warning each."""

from typing import get_args

import pytest

from streamer.cli import main
from streamer.config import InvalidConfig, load
from streamer.config.camera import CameraSettings
from streamer.config.field_types import Kind, field_kind
from streamer.config.renamed_keys import CAMERA, CHANNEL, TOP
from streamer.config.settings import Config

CAMERA_TEXT = "cameras: {north: {source: {address: 'rtsp://192.0.2.1/'}}}\n"

OLD_FILE = """\
log: {format: people}
defaults:
  watch:
    looks_per_second: 2
    usual:
      learn_min: 3
    lift_dark: false
cameras:
  north:
    source: {address: "rtsp://192.0.2.1/", pace: false}
    watch: {second_look: false}
    alarm: {outline: 0.2, keep_ratio: 0.7, persist_s: 5, persist_share: 0.5, min_looks: 4}
    clip: {ring_max_mb: 20}
notify:
  operations: {kind: webhook, url: "http://192.0.2.2/", picture: false}
retry: {cap_s: 60}
convert: {cuts: false, repeats: across}
"""

NEW_FILE = """\
log: {format: text}
defaults:
  detect:
    fps: 2
    false_positive_prior:
      learn_minutes: 3
    low_light: false
cameras:
  north:
    source: {address: "rtsp://192.0.2.1/", realtime: false}
    detect: {zoom_verification: false}
    alarm: {low_threshold: 0.2, hysteresis_ratio: 0.7, confirm_window_s: 5, confirm_ratio: 0.5,
            min_hits: 4}
    clip: {pre_roll_buffer_mb: 20}
notify:
  operations: {kind: webhook, url: "http://192.0.2.2/", include_image: false}
retry: {max_delay_s: 60}
convert: {scene_change: false, duplicates: interpolate}
"""


def write(folder, text, name="c.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_of_the_release_before_means_the_same(tmp_path):
    old = load(write(tmp_path, OLD_FILE, "old.yaml"))
    new = load(write(tmp_path, NEW_FILE, "new.yaml"))
    assert old.config == new.config
    assert not new.warnings


def test_each_old_name_is_warned_of_with_file_line_and_new_key(tmp_path):
    path = write(tmp_path, OLD_FILE)
    lines = [str(warning).removeprefix(str(path)) for warning in load(path).warnings]
    assert (
        ":4: defaults.watch.looks_per_second: old name, read until 0.3; write `detect.fps`" in lines
    )
    assert ":3: defaults.watch: old name, read until 0.3; write `detect`" in lines
    assert (
        ":6: defaults.watch.usual.learn_min: old name, read until 0.3;"
        " write `detect.false_positive_prior.learn_minutes`"
    ) in lines
    assert ":1: log.format: old name, read until 0.3; write `format: text`" in lines
    assert len(lines) == 19


def test_a_wrong_value_under_an_old_name_is_told_at_its_line(tmp_path):
    path = write(tmp_path, CAMERA_TEXT + "defaults:\n  watch:\n    looks_per_second: 0\n")
    with pytest.raises(InvalidConfig, match=r":4: defaults\.detect\.fps: expected a number from"):
        load(path)


def test_old_and_new_name_side_by_side_are_a_problem(tmp_path):
    path = write(tmp_path, CAMERA_TEXT + "defaults:\n  watch: {}\n  detect: {fps: 1}\n")
    with pytest.raises(InvalidConfig, match=r":3: defaults\.watch: is the old name of `detect`"):
        load(path)


def test_what_is_no_mapping_is_left_to_the_checks(tmp_path):
    path = write(tmp_path, CAMERA_TEXT + "defaults: 3\nnotify: [a]\n")
    with pytest.raises(InvalidConfig, match="defaults: expected a section"):
        load(path)


@pytest.mark.parametrize("row", CAMERA, ids=lambda row: ".".join(row.old))
def test_every_new_key_of_a_camera_exists_and_no_old_one_does(row):
    assert keys_exist(CameraSettings, row.new)
    assert not keys_exist(CameraSettings, row.old)


@pytest.mark.parametrize("row", TOP, ids=lambda row: ".".join(row.old))
def test_every_new_key_at_the_top_exists(row):
    assert keys_exist(Config, row.new)
    assert row.old == row.new or not keys_exist(Config, row.old)


@pytest.mark.parametrize("row", CHANNEL, ids=lambda row: ".".join(row.old))
def test_every_new_key_of_a_channel_exists(row):
    (_, channel) = get_args(Config.model_fields["notify"].annotation)
    models = get_args(get_args(channel)[0])
    assert any(keys_exist(model, row.new) for model in models)
    assert not any(keys_exist(model, row.old) for model in models)


def keys_exist(model, keys):
    kind = Kind(model)
    for key in keys:
        if key not in kind.fields:
            return False
        kind = field_kind(kind.fields[key])
    return True


def test_the_warning_reaches_the_log(tmp_path, capsys):
    assert main(["check", str(write(tmp_path, OLD_FILE))]) == 0
    err = capsys.readouterr().err
    assert "configuration key was renamed" in err
    assert "detect.fps" in err
