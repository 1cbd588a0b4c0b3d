"""A fire watch begins without what only helps it at night; who asked for light does not."""

import pytest

from engines.errors import EngineError, InaccurateEngine
from streamer.build import models
from streamer.build.models import open_models
from streamer.config import load


class Network:
    def __init__(self, *args, **kwargs):
        self.closed = False

    def prepare(self, size):
        pass

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def smoke(monkeypatch):
    network = Network()
    monkeypatch.setattr(models, "open_smoke_model", lambda *args, **kwargs: network)
    return network


def config(tmp_path, camera):
    path = tmp_path / "c.yaml"
    path.write_text(f"cameras: {{north: {{source: {{address: a.mp4}}, {camera}}}}}")
    return load(path).config


def broken(*args, **kwargs):
    raise InaccurateEngine("differs from the reference")


def test_a_low_light_network_that_fails_does_not_stop_the_watch(tmp_path, monkeypatch, smoke):
    monkeypatch.setattr(models, "open_lowlight_model", broken)
    with open_models(config(tmp_path, "enabled: true")) as opened:
        assert opened.smoke is smoke
        assert opened.lowlight is None
    assert smoke.closed


def test_who_wants_dark_pictures_shown_lit_is_told(tmp_path, monkeypatch, smoke):
    monkeypatch.setattr(models, "open_lowlight_model", broken)
    with (
        pytest.raises(EngineError, match="differs"),
        open_models(config(tmp_path, "enhance: {enabled: true}")),
    ):
        pass
    assert smoke.closed


def test_it_is_opened_only_where_a_camera_needs_it(tmp_path, monkeypatch):
    lowlight = Network()
    monkeypatch.setattr(models, "open_lowlight_model", lambda **kwargs: lowlight)
    for camera, wanted in {
        "watch: {lift_dark: false}": None,
        "watch: {lift_dark: false}, enhance: {enabled: true}": lowlight,
        "watch: {lift_dark: true}": lowlight,
    }.items():
        with open_models(config(tmp_path, camera)) as opened:
            assert opened.lowlight is wanted
    assert lowlight.closed
