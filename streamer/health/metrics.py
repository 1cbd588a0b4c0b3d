"""The program status in the text format of Prometheus.

Every figure comes from one `ProgramStatus`; nothing is counted here.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from .program_status import CameraState, CameraStatus, ProgramStatus

if TYPE_CHECKING:
    from prometheus_client import Metric

_CAMERA_GAUGES: Final = {
    "fps": ("Frames per second, recent.", "fps"),
    "last_frame_age_seconds": ("Age of the newest frame.", "age_s"),
    "ring_bytes": ("Size of the packet ring.", "ring_bytes"),
    "failed_attempts": ("Connection attempts that failed in a row.", "failed_attempts"),
}
"""Name of the metric without prefix: help text, field of `CameraStatus`."""

_CAMERA_COUNTERS: Final = {
    "frames": ("Frames that reached the end of the pipeline.", "frames"),
    "restarts": ("Restarts of the pipeline after a failure.", "restarts"),
    "connections": ("Connections opened.", "connections"),
    "packets": ("Packets received.", "packets"),
    "damaged": ("Packets and frames that could not be decoded.", "damaged"),
    "timestamp_repairs": ("Timestamps that were repaired.", "timestamp_repairs"),
    "ring_lost_packets": ("Packets that readers of the ring missed.", "ring_lost"),
    "recorded_bytes": ("Bytes of completed recordings.", "recorded_bytes"),
    "recorder_missed_packets": ("Packets that were not recorded.", "recorder_missed"),
}

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def render(status: ProgramStatus) -> bytes:
    """The metrics of *status* as Prometheus scrapes them, with `CONTENT_TYPE`."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Snapshot(Collector):
        def collect(self) -> "Iterable[Metric]":
            return _metrics(status)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot())
    return generate_latest(registry)


def _metrics(status: ProgramStatus) -> "Iterator[Metric]":
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

    yield InfoMetricFamily("streamer", "The running program.", {"version": status.version})
    problems = GaugeMetricFamily("streamer_problems", "Conditions that need attention.")
    problems.add_metric([], len(status.problems))
    yield problems
    yield from _cameras(status.cameras)
    yield from _links(status.cameras)
    yield from _services(status)
    yield from _outbox(status)
    degraded = GaugeMetricFamily(
        "streamer_engine_degraded", "1 while a requested GPU is not used.",
        labels=["engine", "device"],
    )  # fmt: skip
    for engine in status.engines:
        degraded.add_metric([engine.engine, engine.device], engine.degraded)
    yield degraded
    if status.disk is not None and status.disk.free_bytes is not None:
        free = GaugeMetricFamily("streamer_disk_free_bytes", "Free space for the data folder.")
        free.add_metric([], status.disk.free_bytes)
        yield free


def _cameras(cameras: Iterable[CameraStatus]) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    states = GaugeMetricFamily(
        "streamer_camera_state", "1 for the present state of a camera, 0 for the others.",
        labels=["camera", "state"],
    )  # fmt: skip
    alarm = GaugeMetricFamily(
        "streamer_camera_alarm", "1 while an alarm is active.", labels=["camera"]
    )
    for camera in cameras:
        for state in CameraState:
            states.add_metric([camera.camera, state.value], camera.state is state)
        alarm.add_metric([camera.camera], camera.alarm == "alarm")
    yield from (states, alarm)
    for name, (text, field) in _CAMERA_GAUGES.items():
        gauge = GaugeMetricFamily(f"streamer_camera_{name}", text, labels=["camera"])
        for camera in cameras:
            if (value := getattr(camera, field)) is not None:
                gauge.add_metric([camera.camera], value)
        yield gauge
    for name, (text, field) in _CAMERA_COUNTERS.items():
        counter = CounterMetricFamily(f"streamer_camera_{name}", text, labels=["camera"])
        for camera in cameras:
            counter.add_metric([camera.camera], getattr(camera, field))
        yield counter


def _links(cameras: Iterable[CameraStatus]) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    frames = CounterMetricFamily(
        "streamer_link_frames", "Frames that left a link, by what became of them.",
        labels=["camera", "link", "outcome"],
    )  # fmt: skip
    age = GaugeMetricFamily(
        "streamer_link_p99_age_seconds", "99th percentile of the age at delivery.",
        labels=["camera", "link"],
    )  # fmt: skip
    for camera in cameras:
        for link in camera.links:
            for outcome in ("delivered", "dropped_full", "dropped_late", "discarded"):
                frames.add_metric([camera.camera, link.link, outcome], getattr(link, outcome))
            age.add_metric([camera.camera, link.link], link.p99_age_ms / 1000)
    yield from (frames, age)


def _services(status: ProgramStatus) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily

    restarts = CounterMetricFamily(
        "streamer_service_restarts", "Restarts of a background service.", labels=["service"]
    )
    for service in status.services:
        restarts.add_metric([service.service], service.restarts)
    yield restarts


def _outbox(status: ProgramStatus) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    attempts = CounterMetricFamily(
        "streamer_delivery_attempts", "Delivery attempts by their outcome.",
        labels=["channel", "outcome"],
    )  # fmt: skip
    waiting = GaugeMetricFamily(
        "streamer_deliveries_waiting", "Deliveries that are not confirmed yet.", labels=["channel"]
    )
    dead = GaugeMetricFamily(
        "streamer_dead_letters", "Deliveries that wait for a decision.", labels=["channel"]
    )
    for channel in status.outbox:
        attempts.add_metric([channel.channel, "confirmed"], channel.confirmed)
        attempts.add_metric([channel.channel, "failed"], channel.failed)
        waiting.add_metric([channel.channel], channel.waiting)
        dead.add_metric([channel.channel], channel.dead_letters)
    yield from (attempts, waiting, dead)
