"""Faults of the table in a real `watch` with its own network, and as `streamer doctor` prints."""

import contextlib
import json
import re
import subprocess
import threading
from collections.abc import Iterator

import pytest

from streamer.config import load
from tests.support.browser import CHROMIUM, Page
from tests.support.disks import small_disk
from tests.support.five_views import Views, assert_gone, assert_shown
from tests.support.http_receiver import HttpReceiver
from tests.support.moody_camera import MoodyCamera
from tests.support.mqtt_broker import MqttBroker, MqttListener, free_port

from .conftest import STREAMER
from .test_faults import CONFIG, DISK_MIB, FAULTS, NAMES, Station, always, seed

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.system, pytest.mark.slow]

LIMIT_S = 60
CHOSEN = (
    "a camera that falls silent", "a stream that is corrupt", "a page instead of a video",
    "a wrong password", "a wrong path", "a camera whose server is killed",
    "an open alarm after a restart", "an open alarm of a camera that is gone", "a dead letter",
    "a disk that is low",
)  # fmt: skip
"""Those that come and go from the outside."""


@pytest.fixture
def station(mosquitto, tmp_path) -> Iterator[Station]:
    made = Station()
    with contextlib.ExitStack() as opened:
        made.cameras = opened.enter_context(MoodyCamera())
        made.far = opened.enter_context(MoodyCamera())
        broker = opened.enter_context(MqttBroker(tmp_path))
        listener = opened.enter_context(MqttListener(broker.port))
        receiver = opened.enter_context(HttpReceiver())
        made.disk = opened.enter_context(small_disk(tmp_path / "data", mib=DISK_MIB))
        seed(made.disk / "seeded" / "events.sqlite")
        (made.disk / "seeded" / "events.sqlite").rename(made.disk / "events.sqlite")
        addresses = {name: made.cameras.url(f"/{name}.mjpeg") for name in NAMES}
        addresses["far"] = made.far.url("/far.mjpeg")
        addresses["dead"] = f"http://127.0.0.1:{free_port()}/dead.mjpeg"
        made.config_file = tmp_path / "station.yaml"
        made.config_file.write_text(
            CONFIG.format(
                folder=tmp_path, port=free_port(), broker=broker.port, spare=broker.port,
                siren=receiver.url, pager=receiver.url,
                cameras="\n".join(
                    f"  {name}: {{source: {{address: '{address}'}}, detect: {{fps: 1}}}}"
                    for name, address in addresses.items()
                ),
            )
            + "engine: {model: smoke-fast}\n"
        )  # fmt: skip
        with (tmp_path / "log").open("wb") as log:
            command = [*STREAMER, "watch", str(made.config_file)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        opened.callback(process.wait, LIMIT_S)
        opened.callback(process.terminate)
        driver = opened.enter_context(playwright.sync_playwright())
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened.callback(browser.close)
        page = browser.new_page()
        config = load(made.config_file).config
        for _ in range(LIMIT_S * 5):
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
            with contextlib.suppress(playwright.Error):
                page.goto(f"http://127.0.0.1:{config.preview.port}/")
                break
            threading.Event().wait(0.2)
        page.wait_for_selector("figure")
        made.views = Views(config, Page(page), listener)
        opened.callback(made.views.close)
        yield made


def test_a_real_program_and_doctor_agree_on_faults_and_on_their_end(station):
    faults = {name: FAULTS[name][1] for name in CHOSEN}
    passing = {name: fault for name, fault in faults.items() if FAULTS[name][0] is not always}
    assert_gone(station.views, passing)
    with contextlib.ExitStack() as made:
        for name in CHOSEN:
            made.enter_context(FAULTS[name][0](station))
        assert_shown(station.views, faults)
        doctor = subprocess.run(
            [*STREAMER, "doctor", "--json", "-c", str(station.config_file)],
            capture_output=True, text=True, check=False, timeout=LIMIT_S,
        )  # fmt: skip
        reported = [
            line["message"] for line in map(json.loads, doctor.stdout.splitlines())
            if line.get("check") == "running" and line["status"] != "ok"
        ]  # fmt: skip
        assert doctor.stderr == ""
        for fault in faults.values():
            assert [line for line in reported if re.search(fault.line, line)], fault
    assert_gone(station.views, passing)
