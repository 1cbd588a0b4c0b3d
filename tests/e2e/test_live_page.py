"""The page of a real `watch` in a real browser: many cameras, a kill, and a start after it."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.browser import CHROMIUM, Page
from tests.support.moody_camera import LEVELS, MoodyCamera
from tests.support.mqtt_broker import free_port

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.system, pytest.mark.slow]

LIMIT_S = 60
NAMES = ("west", "north", "zenith", "alpha", "mid", "south", "east")


class Watch:
    """The running program."""

    def __init__(self, folder: Path, cameras: MoodyCamera) -> None:
        self.port = free_port()
        self.log = folder / "log"
        self._config = folder / "station.yaml"
        lines = [
            f"  {name}: {{source: {{address: '{cameras.url(f'/{name}.mjpeg')}', live: always}}}}"
            for name in NAMES
        ]
        self._config.write_text(
            f"data_dir: {folder / 'data'}\npreview: {{port: {self.port}}}\n"
            "engine: {model: smoke-fast}\n"
            "defaults: {detect: {fps: 2, low_light: false}}\ncameras:\n" + "\n".join(lines) + "\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "streamer.cli", "watch", str(self._config)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._answers, within_s=LIMIT_S)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(LIMIT_S)
            self._process = None

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(
            f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=10, trust_env=False
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-2000:]
        try:
            return self.get("/status").status_code == 200
        except httpx.TransportError:
            return False


def until(condition: Any, *, within_s: float) -> None:
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "not in time"
        threading.Event().wait(0.1)


def test_the_page_shows_seven_cameras_and_survives_the_death_of_the_program(tmp_path):
    with MoodyCamera() as cameras, playwright.sync_playwright() as driver:
        watch = Watch(tmp_path, cameras)
        try:
            watch.start()
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = Page(browser.new_page())
            page.page.goto(f"http://127.0.0.1:{watch.port}/")

            def all_show(mood: str) -> bool:
                """Whether all images are fresh and as bright as the cameras film, with overlay."""
                levels = [page.level(name) for name in NAMES]
                return all(
                    level is not None and abs(level - LEVELS[mood]) < 50 for level in levels
                ) and not any("stale" in page.kinds(name) for name in NAMES)

            until(lambda: page.order() == list(NAMES), within_s=10)
            until(lambda: all_show("live"), within_s=20)
            before = watch.get("/status").json()["instance"]

            watch.kill()
            until(lambda: page.page.locator("#banner").is_visible(), within_s=8)
            assert all("stale" in page.kinds(name) for name in NAMES)
            assert not all_show("live")

            cameras.moods = {f"/{name}.mjpeg": "smoke" for name in NAMES}  # Other frames.
            watch.start()
            until(lambda: all_show("smoke"), within_s=20)
            assert not page.page.locator("#banner").is_visible()
            assert watch.get("/status").json()["instance"] != before
            assert watch.get("/status", Host="evil.example.com").status_code == 400
            browser.close()
        finally:
            watch.kill()
