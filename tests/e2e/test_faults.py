"""A table of faults: `/status`, `/metrics`, the page, MQTT and `doctor` agree on each within 2 s.

The program runs with real cameras, a real disk of its own, a real broker, receivers and a browser;
only the network is replaced, because its smoke must come when the test wants it.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from engines.engine import EngineState
from streamer.app import camera_runtime, inference_report, retention, supervised_task
from streamer.app import supervisor as supervisor_module
from streamer.app.models import Models
from streamer.app.program import Program, open_program
from streamer.config import load
from streamer.core import clock_guard
from streamer.core.backoff import Backoff
from streamer.core.errors import SinkError
from streamer.detect import overload
from streamer.notify import reachability
from streamer.store import buffered
from streamer.store.sqlite import SqliteEventStore
from streamer.web.server import WebServer
from tests.support.browser import CHROMIUM, Page
from tests.support.deliveries import event
from tests.support.disks import fill, small_disk
from tests.support.five_views import Fault, Views, assert_gone, assert_shown
from tests.support.http_receiver import HttpReceiver
from tests.support.moody_camera import MoodyCamera
from tests.support.mqtt_broker import MqttBroker, MqttListener, free_port

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.system, pytest.mark.slow]

LIMIT_S = 30
DISK_MIB = 200
CONFIG = """
data_dir: {folder}/data
preview: {{port: {port}}}
retention: {{min_free_gb: 0.04}}
defaults:
  detect: {{fps: 5, low_light: false, zoom_verification: false, background: {{enabled: false}}}}
  alarm: {{confirm_window_s: 1, min_hits: 2, min_score_without_background: 0.05, clear_after_s: 2}}
  clip: {{pre_roll_s: 1, post_roll_s: 1}}
  source: {{timeout_s: 1, live: always}}
  reconnect: {{rejected_s: 1, max_delay_s: 0.5}}
retry: {{initial_s: 0.5, max_delay_s: 1}}
cameras:
{cameras}
notify:
  home: {{kind: mqtt, host: 127.0.0.1, port: {broker}}}
  spare: {{kind: mqtt, host: 127.0.0.1, port: {spare}, base_topic: spare, check_interval_s: 5}}
  siren: {{kind: webhook, url: "{siren}"}}
  pager: {{kind: webhook, url: "{pager}", check_interval_s: 5}}
"""
NAMES = ("silent", "garbage", "html", "locked", "missing", "far", "crash", "busy", "smoky", "idle")


class Network:
    """A smoke network that sees smoke in bright frames, and is as slow as the test wants."""

    name, digest, backend, input_size = "m", "d", "b", (48, 80)
    threshold, low_threshold = 0.5, 0.4
    concurrency = 1

    def __init__(self) -> None:
        self.state = EngineState("cpu")
        self.slow_s = 0.0
        self.hang = threading.Event()
        self.hang.set()

    def __call__(self, image: Any, background: Any = None, *, dark: bool = False) -> Any:
        self.hang.wait(LIMIT_S)
        if self.slow_s:
            threading.Event().wait(self.slow_s)
        smoke = np.zeros((48, 80), np.float32)
        if image.mean() > (180 if image.dtype == np.uint8 else 0.7):
            smoke[20:30, 30:40] = 0.95
        return smoke


class Station:
    """The running program and all that it depends on."""

    def __init__(self) -> None:
        self.crash = threading.Event()
        self.network = Network()
        self.program: Program
        self.cameras: MoodyCamera
        self.far: MoodyCamera
        self.spare: MqttBroker
        self.siren: HttpReceiver
        self.pager: HttpReceiver
        self.leap_s = 0
        self.disk: Path
        self.config_file: Path
        self.views: Views

    def mood(self, camera: str, mood: str) -> None:
        self.cameras.moods[f"/{camera}.mjpeg"] = mood


def seed(path: Path) -> None:
    """Leave open alarms of a camera that is watched and of one that is gone, and a dead letter."""
    path.parent.mkdir(parents=True)
    with SqliteEventStore(path) as store:
        store.add(event("dead-1", camera="dead"))
        store.add(event("removed-1", camera="removed"))
        store.add(event("north-1"), channels=["siren"])
        store.add(event("north-1", 1, kind="cleared"))
        delivery = store.outbox.claim("siren")
        assert delivery is not None
        store.outbox.dead_letter(delivery.number, error="HTTP 400")


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    """The cadences of an hour in seconds, so that the table is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor_module, "_RESTART", Backoff(1.0, 2.0, reset_after_s=0.5))
        patch.setattr(supervised_task, "_PROVEN_S", 0.5)
        patch.setattr(retention, "_MEASURE_S", 0.3)
        patch.setattr(buffered, "_PROBE_S", 0.3)
        patch.setattr(reachability, "_DOWN_AFTER_S", 1.0)
        patch.setattr(reachability, "_DOUBTFUL_S", 0.5)
        patch.setattr(reachability, "_DOWN_S", 1.0)
        patch.setattr(overload, "_WINDOW_NS", 1_000_000_000)
        patch.setattr(inference_report, "_HANGS_NS", 100_000_000)
        yield patch


@pytest.fixture(scope="module")
def station(
    mosquitto: str, tmp_path_factory: pytest.TempPathFactory, patched: pytest.MonkeyPatch
) -> Iterator[Station]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    folder = tmp_path_factory.mktemp("station")
    made = Station()
    with contextlib.ExitStack() as opened:
        made.cameras = opened.enter_context(MoodyCamera())
        made.far = opened.enter_context(MoodyCamera())
        (folder / "spare").mkdir()
        made.spare = opened.enter_context(MqttBroker(folder / "spare"))
        broker = opened.enter_context(MqttBroker(folder))
        listener = opened.enter_context(MqttListener(broker.port))
        made.siren = opened.enter_context(HttpReceiver())
        made.pager = opened.enter_context(HttpReceiver())
        made.disk = opened.enter_context(small_disk(folder / "data", mib=DISK_MIB))
        seed(made.disk / "seeded" / "events.sqlite")
        (made.disk / "seeded" / "events.sqlite").rename(made.disk / "events.sqlite")
        addresses = {name: made.cameras.url(f"/{name}.mjpeg") for name in NAMES}
        addresses["far"] = made.far.url("/far.mjpeg")
        addresses["dead"] = f"http://127.0.0.1:{free_port()}/dead.mjpeg"
        config_file = folder / "station.yaml"
        config_file.write_text(
            CONFIG.format(
                folder=folder, port=free_port(), broker=broker.port, spare=made.spare.port,
                siren=made.siren.url, pager=made.pager.url,
                cameras="\n".join(
                    f"  {name}: {{source: {{address: '{address}'}}}}"
                    for name, address in addresses.items()
                ),
            )
        )  # fmt: skip
        config = load(config_file).config
        patched.setattr(clock_guard, "read_clocks", leaping(made, clock_guard.read_clocks))
        _crash_on_demand(made, patched)
        made.program = opened.enter_context(open_program(config, models=Models(made.network)))
        web = WebServer(
            config.preview.host, config.preview.port, token=None,
            status=made.program.status, cameras=made.program.live_views,
        )  # fmt: skip
        made.program.supervisor.add_service("web", web.serve)
        thread = threading.Thread(target=made.program.supervisor.run)
        thread.start()
        opened.callback(thread.join, LIMIT_S)
        opened.callback(made.program.supervisor.stop)
        opened.callback(made.network.hang.set)
        driver = opened.enter_context(playwright.sync_playwright())
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened.callback(browser.close)
        page = browser.new_page()
        page.goto(web.url)
        made.views = Views(config, Page(page), listener)
        opened.callback(made.views.close)
        yield made
    structlog.reset_defaults()


def leaping(made: Station, read: Any) -> Any:
    """The clocks of the machine, which cannot be set here, with the leap of the test."""

    def clocks() -> Any:
        now = read()
        return replace(now, wall_ns=now.wall_ns + made.leap_s * 1_000_000_000)

    return clocks


def _crash_on_demand(made: Station, patched: pytest.MonkeyPatch) -> None:
    build = camera_runtime.build_outputs

    def outputs(spec: Any, **more: Any) -> Any:
        def crashing(frames: Any) -> None:
            for _ in frames:
                if made.crash.is_set():
                    raise SinkError("the output cannot be written")

        sinks = build(spec, **more)
        return sinks | ({"file": crashing} if spec.name == "crash" else {})

    patched.setattr(camera_runtime, "build_outputs", outputs)


@pytest.fixture(autouse=True)
def _no_thread_is_left_over() -> None:
    """The program of the module starts and ends threads in any test."""


def camera_mood(name: str, mood: str) -> Any:
    @contextlib.contextmanager
    def make(station: Station) -> Iterator[None]:
        station.mood(name, mood)
        yield
        station.mood(name, "live")

    return make


@contextlib.contextmanager
def server_killed(station: Station) -> Iterator[None]:
    station.far.stop()
    yield
    station.far.start()


@contextlib.contextmanager
def crash_loop(station: Station) -> Iterator[None]:
    station.crash.set()
    yield
    station.crash.clear()


@contextlib.contextmanager
def overloaded(station: Station) -> Iterator[None]:
    station.network.slow_s = 0.2
    yield
    station.network.slow_s = 0


@contextlib.contextmanager
def engine_hangs(station: Station) -> Iterator[None]:
    station.network.hang.clear()
    yield
    station.network.hang.set()


@contextlib.contextmanager
def engine_degraded(station: Station) -> Iterator[None]:
    station.network.state = EngineState("cpu", degraded=True, reason="the GPU has failed")
    yield
    station.network.state = EngineState("cpu")


def disk_left(*, leave: int) -> Any:
    @contextlib.contextmanager
    def make(station: Station) -> Iterator[None]:
        filler = fill(station.disk, leave=leave)
        yield
        filler.unlink()

    return make


@contextlib.contextmanager
def store_locked(station: Station) -> Iterator[None]:
    other = sqlite3.connect(station.disk / "events.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.close()


@contextlib.contextmanager
def clock_leap(station: Station) -> Iterator[None]:
    station.leap_s = 10 * 365 * 86_400
    yield
    station.leap_s = 0


@contextlib.contextmanager
def evidence_blocked(station: Station) -> Iterator[None]:
    folder = station.disk / "evidence"
    folder.rename(folder.with_name("elsewhere")) if folder.exists() else None
    folder.touch()  # A file where the evidence wants a folder.
    station.mood("smoky", "smoke")
    yield
    folder.unlink()
    station.mood("smoky", "live")


@contextlib.contextmanager
def broker_down(station: Station) -> Iterator[None]:
    station.spare.kill()
    yield
    station.spare.start()


@contextlib.contextmanager
def webhook_down(station: Station) -> Iterator[None]:
    station.pager.die()
    yield
    station.pager.revive()


@contextlib.contextmanager
def always(station: Station) -> Iterator[None]:
    """What is so from the start."""
    yield


def group(*faults: str) -> Any:
    return pytest.param(faults, id=", ".join(faults))


DEAD = ("reconnecting", "stale")
FAULTS: dict[str, tuple[Any, Fault]] = {
    "a camera that falls silent": (
        camera_mood("silent", "silent"),
        Fault(camera="silent", states=("reconnecting",), says="stalled: nothing came within 1 s"),
    ),
    "a stream that is corrupt": (
        camera_mood("garbage", "garbage"),
        Fault(camera="garbage", states=DEAD, says="no frames? "),
    ),
    "a page instead of a video": (
        camera_mood("html", "html"),
        Fault(camera="html", states=("reconnecting",), says="damaged|no video"),
    ),
    "a wrong password": (
        camera_mood("locked", "locked"),
        Fault(camera="locked", states=("reconnecting",), says="wrong password"),
    ),
    "a wrong path": (
        camera_mood("missing", "missing"),
        Fault(camera="missing", states=("reconnecting",), says="not found"),
    ),
    "a camera whose server is killed": (
        server_killed,
        Fault(camera="far", states=("reconnecting",), says="refused"),
    ),
    "a pipeline that crashes in a loop": (
        crash_loop,
        Fault(camera="crash", states=("restarting", "unstable"), says="output cannot be written"),
    ),
    "an open alarm after a restart": (
        always,
        Fault(camera="dead", states=("reconnecting",), says="refused", alarm=True),
    ),
    "an open alarm of a camera that is gone": (
        always,
        Fault(says="removed-1", metric=("streamer_condition", {"condition": "open_alarm"})),
    ),
    "a dead letter": (
        always,
        Fault(
            says="^channel siren: 1 dead letter",
            metric=("streamer_dead_letters", {"channel": "siren"}),
        ),
    ),
    "a broker that is down": (
        broker_down,
        Fault(says="^channel spare: ", metric=("streamer_channel_fault", {"channel": "spare"})),
    ),
    "a receiver that is down": (
        webhook_down,
        Fault(says="^channel pager: ", metric=("streamer_channel_fault", {"channel": "pager"})),
    ),
    "a degraded engine": (
        engine_degraded,
        Fault(says="the GPU has failed", metric=("streamer_engine_degraded", {})),
    ),
    "an overload": (
        overloaded,
        Fault(camera="busy", states=("overloaded",), says="the machine is too slow"),
    ),
    "an engine that hangs": (
        engine_hangs,
        Fault(
            says="an inference has not returned",
            metric=("streamer_condition", {"condition": "inference"}),
        ),
    ),
    "a disk that is low": (
        disk_left(leave=15 << 20),
        Fault(says="^disk: ", metric=("streamer_disk_state", {"state": "low"})),
    ),
    "a recording that is paused": (
        disk_left(leave=5 << 20),
        Fault(says="^recording: ", metric=("streamer_condition", {"condition": "recording"})),
    ),
    "a store that is full": (
        disk_left(leave=0),
        Fault(says="^store: ", metric=("streamer_condition", {"condition": "store"})),
    ),
    "a store that another program has locked": (
        store_locked,
        Fault(says="^store: ", metric=("streamer_condition", {"condition": "store"})),
    ),
    "a clock that leaps": (
        clock_leap,
        Fault(says="^clock: ", metric=("streamer_condition", {"condition": "clock"})),
    ),
    "evidence that cannot be written": (
        evidence_blocked,
        Fault(
            camera="smoky",
            says="evidence: ",
            metric=("streamer_condition", {"condition": "evidence"}),
        ),
    ),
}
"""How each fault is made, and what the views must say."""

TOGETHER = (
    "a camera that falls silent", "a stream that is corrupt", "a page instead of a video",
    "a wrong password", "a wrong path", "a camera whose server is killed",
    "an open alarm after a restart",
    "an open alarm of a camera that is gone", "a dead letter", "a broker that is down",
    "a receiver that is down", "a degraded engine",
)  # fmt: skip
"""Faults that do not hide each other."""


def test_the_table_has_twenty_faults():
    assert len(FAULTS) >= 20


@pytest.mark.parametrize(
    "names", [group(*TOGETHER), *(group(name) for name in FAULTS if name not in TOGETHER)]
)
def test_all_views_agree_on_each_fault_and_on_its_end(names, station):
    faults = {name: FAULTS[name][1] for name in names}
    passing = {name: fault for name, fault in faults.items() if FAULTS[name][0] is not always}
    assert_gone(station.views, passing)
    with contextlib.ExitStack() as made:
        for name in names:
            made.enter_context(FAULTS[name][0](station))
        assert_shown(station.views, faults)
    assert_gone(station.views, passing)
