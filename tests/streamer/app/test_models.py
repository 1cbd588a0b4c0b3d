"""Which networks are opened, on which device, and what their status is."""

import pytest

from engines.engine import EngineState
from engines.errors import EngineError, InaccurateEngine
from streamer.app import models
from streamer.app.models import open_models, provenance
from streamer.config import load
from streamer.health.program_status import EngineStatus


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


def config(tmp_path, camera, engine=""):
    path = tmp_path / "c.yaml"
    path.write_text(
        f"cameras: {{north: {{source: {{address: a.mp4}}, {camera}}}}}\nengine: {{{engine}}}"
    )
    return load(path).config


def broken(*args, **kwargs):
    raise InaccurateEngine("differs from the reference")


def test_a_low_light_network_that_fails_does_not_stop_the_watch(tmp_path, monkeypatch, smoke):
    monkeypatch.setattr(models, "open_lowlight_model", broken)
    with open_models(config(tmp_path, "enabled: true")) as opened:
        assert opened.smoke is smoke
        assert opened.lowlight is None
    assert smoke.closed


def test_enhanced_outputs_need_the_low_light_network(tmp_path, monkeypatch, smoke):
    monkeypatch.setattr(models, "open_lowlight_model", broken)
    with (
        pytest.raises(EngineError, match="differs"),
        open_models(config(tmp_path, "enhance: {enabled: true}")),
    ):
        pass
    assert smoke.closed


def test_the_status_says_what_each_network_runs_on_now(tmp_path, monkeypatch, smoke):
    smoke.name, smoke.backend, smoke.state = "smoke", "openvino 1 cpu f32", EngineState("cpu")
    with open_models(config(tmp_path, "detect: {low_light: false}")) as opened:
        (engine,) = opened.status()
        assert (engine.engine, engine.device, engine.degraded) == ("smoke", "cpu", False)
        smoke.state = EngineState("cpu", degraded=True, reason="a kernel failed")
        (engine,) = opened.status()
        assert engine == EngineStatus(
            engine="smoke", backend="openvino 1 cpu f32", device="cpu", degraded=True,
            reason="a kernel failed", building=None,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("written", "requested"), [("auto", None), ("f16", None), ("bf16", "bf16"), ("f32", "f32")]
)
def test_without_a_gpu_the_precision_is_one_of_the_cpu(
    tmp_path, monkeypatch, smoke, written, requested
):
    seen = []
    monkeypatch.setattr(
        models, "open_smoke_model", lambda *_, **settings: seen.append(settings) or smoke
    )
    engine = f"precision: {written}"
    with open_models(config(tmp_path, "detect: {low_light: false}", engine)):
        assert seen == [{"precision": requested}]


def test_a_gpu_that_cannot_be_used_is_reported(tmp_path, monkeypatch, smoke):
    smoke.name, smoke.backend, smoke.state = "smoke", "openvino 1 cpu f32", EngineState("cpu")
    monkeypatch.setattr(models, "gpu_problem", lambda device: "PyCUDA is not installed")
    with open_models(config(tmp_path, "detect: {low_light: false}")) as opened:
        (engine,) = opened.status()
        assert (engine.degraded, engine.reason) == (True, "PyCUDA is not installed")


def test_it_is_opened_only_where_a_camera_needs_it(tmp_path, monkeypatch):
    lowlight = Network()
    monkeypatch.setattr(models, "open_lowlight_model", lambda **kwargs: lowlight)
    for camera, wanted in {
        "detect: {low_light: false}": None,
        "detect: {low_light: false}, enhance: {enabled: true}": lowlight,
        "detect: {low_light: true}": lowlight,
    }.items():
        with open_models(config(tmp_path, camera)) as opened:
            assert opened.lowlight is wanted
    assert lowlight.closed


class ByPlanes(Network):
    name, backend, ready, state = "smoke", "tensorrt 10 cuda:0 f16", True, EngineState("cuda:0")


def test_where_a_gpu_is_it_infers_from_planes_and_the_network_on_the_cpu_stands_in(
    tmp_path, monkeypatch, smoke
):
    smoke.name, smoke.backend, smoke.state = "smoke", "openvino 1 cpu f32", EngineState("cpu")
    smoke.digest, smoke.threshold = "d", 0.6
    gpu, calls = ByPlanes(), []
    monkeypatch.setattr(
        models, "open_smoke_model", lambda *_, **settings: calls.append(settings) or smoke
    )
    monkeypatch.setattr(
        models, "open_smoke_by_planes", lambda *_, **settings: calls.append(settings) or gpu
    )
    camera = "latency_budget_ms: 400, detect: {low_light: false, fps: 5}"
    wanted = config(tmp_path, camera, "device: cuda, precision: f16")
    with open_models(wanted) as opened:
        assert opened.on_gpu is gpu
        assert calls[0] == {
            "clients": {"planar": 1}, "device": "cuda", "precision": "f16",
            "max_queue_delay_s": pytest.approx(0.01),
        }  # fmt: skip
        assert calls[1] == {"precision": None}
        assert [engine.device for engine in opened.status()] == ["cuda:0"]
        assert provenance(wanted, opened).backend == gpu.backend
        gpu.ready = False
        assert provenance(wanted, opened).backend == smoke.backend
    assert gpu.closed
    assert smoke.closed


def test_decoders_on_hardware_give_nv12_and_each_layout_is_opened_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        models, "open_smoke_by_planes", lambda *_, **settings: calls.append(settings)
    )
    path = tmp_path / "c.yaml"
    path.write_text(
        "defaults: {detect: {low_light: false}}\n"
        "cameras:\n"
        "  north: {source: {address: a.mp4, hwaccel: cuda}}\n"
        "  south: {source: {address: b.mp4, hwaccel: cuda}}\n"
        "  east: {source: {address: c.mp4}, enabled: false}\n"
    )
    with open_models(load(path).config):
        assert calls[0]["clients"] == {"nv12": 2}
