"""The program with real pipelines: status over HTTP, restarts, cameras that come and go."""

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from structlog.testing import capture_logs

from engines.engine import EngineState
from streamer.app import camera_runtime, inference_report
from streamer.app import program as program_module
from streamer.app import supervisor as supervisor_module
from streamer.app.camera_runtime import AppContext, CameraRuntime
from streamer.app.camera_spec import camera_spec, camera_specs
from streamer.app.models import Models
from streamer.app.program import Program, open_program
from streamer.config import Config, load
from streamer.core.backoff import Backoff
from streamer.core.clock import SystemClock
from streamer.core.errors import SinkError
from streamer.detect import overload
from streamer.evidence.writer import Provenance
from streamer.web.server import WebServer
from tests.support.rtsp_server import free_port

LIMIT_S = 30


class Network:
    """A smoke network that never sees any."""

    name, digest, backend, input_size = "m", "d", "b", (48, 80)
    threshold, low_threshold = 0.5, 0.4
    concurrency = 1

    state = EngineState("cpu")

    def __call__(self, image, background=None, *, dark=False):
        return np.zeros((image.shape[0] // 2, image.shape[1] // 2), np.float32)


def provenance() -> Provenance:
    return Provenance(
        program="p",
        model="m",
        model_digest="d",
        backend="b",
        thresholds={},
        zones={},
        config_digest="c",
    )


def configured(folder: Path, cameras: str) -> Config:
    path = folder / "station.yaml"
    path.write_text(
        f"data_dir: {folder / 'data'}\n"
        "defaults: {detect: {fps: 10, low_light: false, zoom_verification: false}}\n"
        f"cameras:\n{cameras}"
    )
    return load(path).config


@contextmanager
def running(config: Config, **more):
    """The program and its web server, in a thread of its own."""
    models = more.pop("models", None) or Models(Network())
    with open_program(config, models=models, **more) as program:
        web = WebServer(
            "127.0.0.1", 0, token=None, status=program.status, cameras=program.live_views
        )
        program.supervisor.add_service("web", web.serve)
        thread = threading.Thread(target=program.supervisor.run)
        thread.start()
        try:
            yield program, web
        finally:
            program.supervisor.stop()
            thread.join(LIMIT_S)
            assert not thread.is_alive()


def until(condition, *, what: str):
    """Poll *condition*, which another thread makes true, and return its value."""
    ends = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < ends, f"not in time: {what}"
        threading.Event().wait(0.01)
    return found


def camera(program: Program, name: str):
    (found,) = [one for one in program.status().cameras if one.camera == name]
    return found


def is_live(program: Program, name: str) -> bool:
    return camera(program, name).state.value == "live"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    restart = Backoff(initial_s=0.02, max_delay_s=30, reset_after_s=60)
    monkeypatch.setattr(supervisor_module, "_RESTART", restart)


@pytest.fixture
def broken_output(monkeypatch):
    """An output of every camera called south that fails at its first frame."""
    build = camera_runtime.build_outputs

    def broken(frames):
        next(frames)
        raise SinkError("hunter2/out.mp4 cannot be written")

    def outputs(spec, **more):
        return build(spec, **more) | ({"file": broken} if spec.name == "south" else {})

    monkeypatch.setattr(camera_runtime, "build_outputs", outputs)


@pytest.mark.usefixtures("broken_output")
def test_a_camera_that_crashes_in_a_loop_is_seen_in_the_status(tmp_path):
    config = configured(
        tmp_path,
        "  north: {source: {address: 'pattern:', live: always}}\n"
        "  south: {source: {address: 'pattern:', live: always}}\n",
    )
    redact = lambda text: text.replace("hunter2", "***")  # noqa: E731
    with running(config, redact=redact) as (program, web):
        until(lambda: camera(program, "south").restarts >= 3, what="three restarts")
        until(lambda: is_live(program, "north"), what="the other camera")
        with httpx.Client(timeout=LIMIT_S, trust_env=False) as client:
            status = client.get(f"{web.url}status").json()
            metrics = client.get(f"{web.url}metrics").text
    north, south = status["cameras"]
    assert (north["state"], north["restarts"], north["last_error"]) == ("live", 0, None)
    assert south["state"] in ("restarting", "unstable")
    assert south["restarts"] >= 3
    assert "***/out.mp4 cannot be written" in south["last_error"]
    assert "in thread south/file" in south["last_error"]
    assert "SinkError" in south["last_traceback"]
    assert "hunter2" not in str(status)
    assert south["reason"] == south["last_error"]
    assert status["problems"][0].startswith(f"camera south: {south['state']}: ")
    assert south["since_utc"] < south["last_error_utc"]
    assert 'streamer_camera_state{camera="north",state="live"} 1.0' in metrics


class SlowNetwork(Network):
    """A network that takes a fifth of a second, one image at a time."""

    def __init__(self) -> None:
        self.hang = threading.Event()
        self.hang.set()

    def __call__(self, image, background=None, *, dark=False):
        self.hang.wait(LIMIT_S)
        time.sleep(0.2)  # The work of a slow engine, not a wait for something.
        return super().__call__(image, background, dark=dark)


def test_an_overload_is_a_state_with_figures_and_a_hanging_inference_a_condition(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(overload, "_WINDOW_NS", 1_000_000_000)
    monkeypatch.setattr(inference_report, "_HANGS_NS", 100_000_000)
    config = configured(
        tmp_path,
        "".join(
            f"  {name}:\n    source: {{address: 'pattern:', live: always}}\n"
            "    latency_budget_ms: 1000\n"
            for name in ("north", "south")
        ),
    )
    network = SlowNetwork()
    with capture_logs() as logs, running(config, models=Models(network)) as (program, web):
        until(lambda: camera(program, "south").state.value == "overloaded", what="the overload")
        until(lambda: camera(program, "north").inferences >= 3, what="some inferences")
        until(lambda: [one for one in logs if "overloaded" in one["event"]], what="a log line")
        with httpx.Client(timeout=LIMIT_S, trust_env=False) as client:
            status = client.get(f"{web.url}status").json()
            metrics = client.get(f"{web.url}metrics").text
        network.hang.clear()
        conditions = until(lambda: program.status().conditions, what="the hanging inference")
        network.hang.set()
    south = status["cameras"][1]
    assert south["wanted_fps"] > 5
    assert 1 < south["inferred_fps"] < 4
    assert south["skipped_superseded"] > 5
    assert "of 10 inferences per second in time" in south["reason"]
    assert f"camera south: overloaded: {south['reason']}" in status["problems"]
    assert 'streamer_camera_state{camera="south",state="overloaded"} 1.0' in metrics
    assert 'streamer_inferences_skipped_total{camera="south",reason="superseded"}' in metrics
    assert (conditions[0].condition, conditions[0].camera) in {
        ("inference", "north"), ("inference", "south"),
    }  # fmt: skip


class StatusChannel:
    """A channel that publishes the status, and delivers nothing."""

    name = "home"

    def __init__(self) -> None:
        self.published: list[tuple[str, dict]] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def deliver(self, notice):
        raise AssertionError("there is no event")

    def check(self):
        return False

    def show_cameras(self, cameras):
        self.published += [(name, dict(status)) for name, status in cameras.items()]

    def show_program(self, entry):
        self.problems = entry["problems"]

    def states(self, camera):
        return [status["state"] for name, status in self.published if name == camera]


def test_channels_get_the_status_of_every_camera(tmp_path, monkeypatch):
    channel = StatusChannel()
    monkeypatch.setattr(program_module, "open_channels", lambda *_, **__: [channel])
    monkeypatch.setattr(program_module, "_STATUS_S", 0.01)
    refused = free_port()
    config = configured(
        tmp_path,
        "  north: {source: {address: 'pattern:'}}\n"
        f"  south: {{source: {{address: 'rtsp://me:hunter2@127.0.0.1:{refused}/1'}}}}\n",
    )
    with running(config):
        until(lambda: "live" in channel.states("north"), what="north live")
        until(lambda: "reconnecting" in channel.states("south"), what="south lost")
    south = [status for name, status in channel.published if name == "south"]
    lost = next(status for status in south if status["state"] == "reconnecting")
    assert f"127.0.0.1:{refused}/1: refused" in lost["reason"]
    assert "hunter2" not in str(south)


def test_cameras_are_added_replaced_and_removed_while_the_others_run(tmp_path):
    config = configured(tmp_path, "  north: {source: {address: 'pattern:', live: always}}\n")
    spec = camera_spec("south", config.cameras["north"], config)
    with running(config) as (program, web):
        until(lambda: is_live(program, "north"), what="north")
        program.supervisor.add(program.camera(spec))
        until(lambda: is_live(program, "south"), what="south")
        with httpx.Client(timeout=LIMIT_S, trust_env=False) as client:
            assert client.get(f"{web.url}cameras/south.jpg").status_code == 200
            before = camera(program, "north").frames

            hidden = spec.settings.model_copy(
                update={"outputs": spec.settings.outputs.model_copy(update={"preview": False})}
            )
            program.supervisor.replace(program.camera(camera_spec("south", hidden, config)))
            until(lambda: is_live(program, "south"), what="south again")
            assert client.get(f"{web.url}cameras/south.jpg").status_code == 404

        program.supervisor.remove("south")
        assert [one.camera for one in program.status().cameras] == ["north"]
        until(lambda: camera(program, "north").frames > before, what="frames of north")
        assert camera(program, "north").restarts == 0
    assert not [one.name for one in threading.enumerate() if one.name.startswith("south")]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Two seconds at 10 fps with a key frame each second."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.gop_size = 10
        for number in range(20):
            image = np.full((240, 320, 3), number * 8, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.usefixtures("broken_output")
def test_the_packet_ring_and_the_counts_outlive_a_failed_pipeline(tmp_path, clip):
    config = configured(
        tmp_path, f"  south: {{source: {{address: {clip}, live: never, realtime: false}}}}\n"
    )
    context = AppContext(clock=SystemClock(), models=Models(Network()), provenance=provenance)
    (spec,) = camera_specs(config)
    south = CameraRuntime(spec, context)
    reports = []
    for _ in range(2):
        with pytest.raises(ExceptionGroup, match="south"):
            south.run()
        reports.append(south.report())
    first, second = reports
    assert (first.connections, second.connections) == (1, 2)
    assert second.packets > first.packets > 0
    assert second.ring.packets > first.ring.packets > 0
    assert second.ring.span_ns > first.ring.span_ns
    received = [sum(link.received for link in one.links) for one in reports]
    assert received[1] > received[0] > 0
    names = [link.name for link in second.links]
    assert len(set(names)) == len(names)
    south.close()
    assert south.report().ring.packets == 0


def test_a_camera_that_was_finished_does_not_run_again(tmp_path):
    config = configured(tmp_path, "  north: {source: {address: 'pattern:', live: always}}\n")
    context = AppContext(clock=SystemClock(), models=Models(Network()), provenance=provenance)
    (spec,) = camera_specs(config)
    north = CameraRuntime(spec, context)
    north.finish()
    north.run()
    assert north.report().frames == 0


def test_equal_configurations_give_equal_specs_and_a_change_gives_another(tmp_path):
    first, second = (
        configured(
            tmp_path, f"  north: {{source: {{address: 'pattern:', live: always, user: {user}}}}}\n"
        )
        for user in ("a", "a")
    )
    changed = configured(
        tmp_path, "  north: {source: {address: 'pattern:', live: always, user: b}}\n"
    )
    assert list(camera_specs(first)) == list(camera_specs(second))
    assert list(camera_specs(first)) != list(camera_specs(changed))


def test_a_live_test_pattern_runs_at_its_own_frame_rate(tmp_path):
    config = configured(tmp_path, "  north: {source: {address: 'pattern:', live: always}}\n")
    with running(config) as (program, _):
        began = time.monotonic()
        until(lambda: camera(program, "north").frames >= 5, what="five frames")
        took_s = time.monotonic() - began
        (link,) = [one for one in camera(program, "north").links if one.link == "detect"]
    assert link.received <= 25 * took_s + 50, "the pattern has 25 frames per second"
