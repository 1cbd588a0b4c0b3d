"""The five views of the state of the program, read at one moment.

They are `/status`, `/metrics`, the page in a browser, MQTT, and `doctor` beside the program.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from streamer.app import doctor
from streamer.app.running_program import find_running
from streamer.config import Config

from .browser import Page
from .mqtt_broker import MqttListener

AGREE_S = 2.0
"""All show a fault, or its end, within this time of the first view that does."""

DETECT_S = 25.0
"""The first view shows it within this time."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What the views must say while a fault lasts."""

    says: str
    """Regular expression for the reason, or for the line of the problem."""

    camera: str = ""
    """The camera that it is about; empty for the whole program."""

    states: tuple[str, ...] = ()
    """States of the camera; empty if the fault does not change its state."""

    metric: tuple[str, dict[str, str]] | None = None
    """A metric with labels that is not 0 while the fault lasts."""

    alarm: bool = False
    """Whether the camera's alarm is on all the time."""

    def shown_by(self, reading: "Reading") -> set[str]:
        """Return the views that show it."""
        shows = {
            "status": self._in_status(reading.status),
            "metrics": self._in_metrics(reading.metrics),
            "page": self._in_page(reading.page),
            "mqtt": self._in_mqtt(reading.mqtt),
            "doctor": _any(self.line, reading.doctor),
        }
        return {name for name, is_shown in shows.items() if is_shown}

    @property
    def line(self) -> str:
        """The problem's line as a regular expression."""
        if not self.camera:
            return self.says
        state = f"({'|'.join(self.states)}): " if self.states else ""
        return rf"camera {re.escape(self.camera)}: {state}.*{self.says}"

    def _in_status(self, status: dict[str, Any]) -> bool:
        if not _any(self.line, status["problems"]):
            return False
        if not self.camera:
            return True
        (camera,) = [one for one in status["cameras"] if one["camera"] == self.camera]
        return self._is(camera) and (not self.alarm or camera["alarm"] == "alarm")

    def _in_metrics(self, metrics: list[Any]) -> bool:
        wanted: list[tuple[str, dict[str, str]]] = [("streamer_problems", {})]
        if self.metric is not None:
            wanted.append(self.metric)
        if self.alarm:
            wanted.append(("streamer_camera_alarm", {"camera": self.camera}))
        present = {
            one.labels["state"]
            for one in metrics
            if one.name == "streamer_camera_state" and one.value
            if one.labels["camera"] == self.camera
        }
        return (not self.states or bool(present & set(self.states))) and all(
            any(one.name == name and one.value and labels.items() <= one.labels.items()
                for one in metrics)
            for name, labels in wanted
        )  # fmt: skip

    def _in_page(self, page: dict[str, Any]) -> bool:
        shown = _any(self.line, page["problems"])
        if self.states:
            caption, kinds = page["tiles"][self.camera]
            shown &= any(state in caption for state in self.states)
            shown &= re.search(self.says, caption) is not None and "fault" in kinds
        if self.alarm:
            shown &= "alarm" in page["tiles"][self.camera][1] and self.camera in page["summary"]
        return shown

    def _in_mqtt(self, mqtt: dict[str, str]) -> bool:
        if not self.states:
            return _any(self.line, json.loads(mqtt.get("status", "{}")).get("problems", []))
        entry = mqtt.get(f"{self.camera}/status")
        if self.alarm and mqtt.get(f"{self.camera}/alarm") != "ON":
            return False
        return entry is not None and self._is(json.loads(entry))

    def _is(self, entry: dict[str, Any]) -> bool:
        if not self.states:
            return True
        return entry["state"] in self.states and re.search(self.says, entry["reason"]) is not None


@dataclass(frozen=True)
class Reading:
    """What the five views show at one moment."""

    status: dict[str, Any]
    metrics: list[Any]
    page: dict[str, Any]
    mqtt: dict[str, str]
    """The newest payload of each topic, by its name below the base topic."""

    doctor: list[str]


TILES = """() => ({
    problems: [...document.querySelectorAll("#problems li")].map(line => line.textContent),
    summary: document.getElementById("summary").textContent,
    tiles: Object.fromEntries([...document.querySelectorAll("figure")].map(tile =>
        [tile.dataset.camera, [tile.querySelector(".what").textContent, [...tile.classList]]])),
})"""


@dataclass
class Views:
    """Reads the five views of one running program."""

    config: Config
    page: Page
    broker: MqttListener
    base: str = "streamer"

    def __post_init__(self) -> None:
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.config.preview.port}", timeout=20, trust_env=False
        )

    def close(self) -> None:
        self._client.close()

    def read(self) -> Reading:
        """Read all views, one after the other."""
        metrics = self._client.get("/metrics").text
        findings = doctor._running(find_running(self.config))
        return Reading(
            status=self._client.get("/status").json(),
            metrics=[
                sample for each in text_string_to_metric_families(metrics)
                for sample in each.samples
            ],
            page=self.page.page.evaluate(TILES),
            mqtt={
                topic.removeprefix(f"{self.base}/"): payload
                for topic, payload, _ in list(self.broker.heard)
            },
            doctor=[one.message for one in findings if one.status != "ok"],
        )  # fmt: skip


ALL = frozenset({"status", "metrics", "page", "mqtt", "doctor"})


def assert_shown(views: Views, faults: Mapping[str, Fault]) -> dict[str, float]:
    """Wait until all views show each fault; returns the seconds from the first to the last view."""
    return _assert(views, faults, lambda fault, reading: fault.shown_by(reading))


def assert_gone(views: Views, faults: Mapping[str, Fault]) -> dict[str, float]:
    """Wait until no view shows any of the faults."""
    return _assert(views, faults, lambda fault, reading: set(ALL - fault.shown_by(reading)))


def _assert(
    views: Views, faults: Mapping[str, Fault], which: Callable[[Fault, Reading], set[str]]
) -> dict[str, float]:
    first_s: dict[str, float] = {}
    agreed_s: dict[str, float] = {}
    ends_s = time.monotonic() + DETECT_S
    while len(agreed_s) < len(faults):
        began_s, reading = time.monotonic(), views.read()
        for name in faults.keys() - agreed_s.keys():
            done = which(faults[name], reading)
            if not done:
                assert began_s < ends_s, (
                    f"{name}: in no view; problems {reading.status['problems']}"
                )
                continue
            first_s.setdefault(name, began_s)
            if done == ALL:
                agreed_s[name] = began_s - first_s[name]
            late = f"{name}: only {sorted(done)} after {AGREE_S} s"
            assert began_s - first_s[name] <= AGREE_S, late
        threading.Event().wait(0.05)
    return agreed_s


def _any(pattern: str, lines: Iterable[str]) -> bool:
    return any(re.search(pattern, line) for line in lines)
