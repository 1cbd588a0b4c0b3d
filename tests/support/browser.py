"""The page in a real browser, before cameras whose frames, states and alarms the test sets."""

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import Cancelled
from streamer.core.frame import AlarmState
from streamer.core.image import Image
from streamer.health.program_status import ProgramStatus
from streamer.health.reports import CameraReport, TaskPhase, TaskReport
from streamer.health.snapshot import program_status
from streamer.sinks.mjpeg import MjpegSink
from streamer.web.server import WebServer

from .frames import frame

LIMIT_S = 20
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SIZE = (90, 160)


class Station:
    """A web server with cameras that film at five frames per second.

    Args:
        names: Of the cameras, in the configured order.
        level: Brightness of their frames.
        token: Access token.
    """

    def __init__(self, names: list[str], *, level: int = 180, token: str | None = None) -> None:
        self.clock = SystemClock()
        self.token, self.level, self.port, self.starts = token, level, 0, 0
        self.names = names
        self.alarms = dict.fromkeys(names, AlarmState.IDLE)
        self.faults = dict.fromkeys(names, "")
        self.dark: set[str] = set()
        """Cameras that deliver no frames."""

    def start(self) -> None:
        """Start the program, again on the same port."""
        self.starts += 1
        self.started_ns = self.clock.monotonic_ns()
        self.last: dict[str, int] = {}
        self.views = {
            name: MjpegSink(name, clock=self.clock, stale_after_s=1.0, reason=str)
            for name in self.names
        }
        self.stop = CancelToken()
        self.server = WebServer(
            "127.0.0.1", self.port, token=self.token, status=self.status, cameras=lambda: self.views
        )
        self.port = int(self.server.url.rstrip("/").rpartition(":")[2])
        self._threads = [
            threading.Thread(target=self.server.serve, args=(self.stop,)),
            threading.Thread(target=self._film),
        ]
        for thread in self._threads:
            thread.start()

    def kill(self) -> None:
        """End the program and its connections at once."""
        self.stop.set()
        for thread in self._threads:
            thread.join(LIMIT_S)

    def status(self) -> ProgramStatus:
        return program_status(
            clock=self.clock,
            version="1.2",
            started_ns=self.started_ns,
            instance=f"i{self.starts}",
            cameras=[self._report(name) for name in self.names],
            tasks={
                name: TaskReport(name=name, phase=TaskPhase.RUNNING, since_ns=self.started_ns)
                for name in self.names
            },
        )

    def _report(self, name: str) -> CameraReport:
        return CameraReport(
            camera=name,
            stale_after_s=1.0,
            frames=1,
            fps=5.0,
            last_frame_ns=self.last.get(name),
            alarm=self.alarms[name],
            size=SIZE,
            fault=self.faults[name],
            connection_since_ns=self.started_ns,
            inferred_fps=1.0,
        )

    def _film(self) -> None:
        number = 0
        while not self.stop.is_set():
            image = Image.from_rgb(np.full((*SIZE, 3), self.level, np.uint8))
            number += 1
            for name in set(self.names) - self.dark:
                now_ns = self.clock.monotonic_ns()
                self.views[name]([replace(frame(number, arrived_ns=now_ns), image=image)])
                self.last[name] = now_ns
            with contextlib.suppress(Cancelled):
                self.stop.sleep(0.2)


@contextlib.contextmanager
def station(names: list[str], **more: Any) -> Iterator[Station]:
    """Run a station for the block."""
    running = Station(names, **more)
    running.start()
    try:
        yield running
    finally:
        running.kill()


BRIGHTNESS = """image => {
    if (!image.naturalWidth) return null;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, 1, 1);
    return context.getImageData(0, 0, 1, 1).data[0];
}"""


class Page:
    """The open page, as a person sees it."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def tile(self, name: str) -> Any:
        return self.page.locator(f"figure[data-camera={json.dumps(name)}]")

    def caption(self, name: str) -> str:
        return str(self.tile(name).locator("figcaption").inner_text())

    def kinds(self, name: str) -> set[str]:
        """The classes of a tile: `alarm`, `pending`, `fault`, `stale`."""
        return set((self.tile(name).get_attribute("class") or "").split())

    def level(self, name: str) -> int | None:
        """Brightness of a tile's image; `None` without one."""
        found: int | None = self.tile(name).locator("img").evaluate(BRIGHTNESS)
        return found

    def order(self) -> list[str]:
        found: list[str] = self.page.locator("figcaption a").all_inner_texts()
        return found
