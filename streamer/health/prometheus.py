"""The program status in the text format of Prometheus.

Every figure comes from one `ProgramStatus`; nothing is counted here.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from .program_status import CameraState, CameraStatus, ProgramStatus

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_CAMERA: Final = (
    ("fps", "gauge", "fps", "Frames per second, recent."),
    ("last_frame_age_seconds", "gauge", "age_s", "Age of the newest frame."),
    ("ring_bytes", "gauge", "ring_bytes", "Size of the packet ring."),
    ("failed_attempts", "gauge", "failed_attempts", "Connection attempts that failed in a row."),
    ("frames", "counter", "frames", "Frames that reached the end of the pipeline."),
    ("restarts", "counter", "restarts", "Restarts of the pipeline after a failure."),
    ("connections", "counter", "connections", "Connections opened."),
    ("packets", "counter", "packets", "Packets received."),
    ("damaged", "counter", "damaged", "Packets and frames that could not be decoded."),
    ("timestamp_repairs", "counter", "timestamp_repairs", "Timestamps that were repaired."),
    ("ring_lost_packets", "counter", "ring_lost", "Packets that readers of the ring missed."),
    ("recorded_bytes", "counter", "recorded_bytes", "Bytes of completed recordings."),
    ("recorder_missed_packets", "counter", "recorder_missed", "Packets that were not recorded."),
)
"""Metrics of a camera without their prefix: name, type, field of `CameraStatus`, help text."""

Samples = Iterable[tuple[tuple[str, ...], float | None]]
"""Values with the values of their labels; `None` is left out."""


def render(status: ProgramStatus) -> bytes:
    """Return the metrics of *status* as Prometheus scrapes them, of type `CONTENT_TYPE`."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Snapshot(Collector):
        def collect(self) -> "Iterable[Metric]":
            return _metrics(status)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot())
    return generate_latest(registry)


def _metric(kind: str, name: str, text: str, labels: str, samples: Samples) -> "Metric":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families: dict[str, Any] = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
    family = families[kind](f"streamer_{name}", text, labels=labels.split())
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    found: Metric = family
    return found


def _metrics(status: ProgramStatus) -> "Iterator[Metric]":
    from prometheus_client.core import InfoMetricFamily

    yield InfoMetricFamily("streamer", "The running program.", {"version": status.version})
    count = [((), len(status.problems))]
    yield _metric("gauge", "problems", "Conditions that need attention.", "", count)
    yield from _cameras(status.cameras)
    services = [((one.service,), one.restarts) for one in status.services]
    yield _metric("counter", "service_restarts", "Restarts of a service.", "service", services)
    yield from _outbox(status)
    engines = [((one.engine, one.device), one.degraded) for one in status.engines]
    text = "1 while a requested GPU is not used."
    yield _metric("gauge", "engine_degraded", text, "engine device", engines)
    free = [((), status.disk.free_bytes)] if status.disk else []
    yield _metric("gauge", "disk_free_bytes", "Free space for the data folder.", "", free)


def _cameras(cameras: Iterable[CameraStatus]) -> "Iterator[Metric]":
    states = [((c.camera, state.value), c.state is state) for c in cameras for state in CameraState]
    text = "1 for the present state of a camera, 0 for the others."
    yield _metric("gauge", "camera_state", text, "camera state", states)
    alarms = [((camera.camera,), camera.alarm == "alarm") for camera in cameras]
    yield _metric("gauge", "camera_alarm", "1 while an alarm is active.", "camera", alarms)
    for name, kind, field, text in _CAMERA:
        figures = [((camera.camera,), getattr(camera, field)) for camera in cameras]
        yield _metric(kind, f"camera_{name}", text, "camera", figures)
    links = [(camera.camera, link) for camera in cameras for link in camera.links]
    outcomes = [
        ((name, link.link, outcome), getattr(link, outcome))
        for name, link in links
        for outcome in ("delivered", "dropped_full", "dropped_late", "discarded")
    ]
    text = "Frames that left a link, by what became of them."
    yield _metric("counter", "link_frames", text, "camera link outcome", outcomes)
    ages = [((name, link.link), link.p99_age_ms / 1000) for name, link in links]
    text = "99th percentile of the age at delivery."
    yield _metric("gauge", "link_p99_age_seconds", text, "camera link", ages)


def _outbox(status: ProgramStatus) -> "Iterator[Metric]":
    attempts = [
        ((one.channel, outcome), getattr(one, outcome))
        for one in status.outbox
        for outcome in ("confirmed", "failed")
    ]
    text = "Delivery attempts by their outcome."
    yield _metric("counter", "delivery_attempts", text, "channel outcome", attempts)
    waiting = [((one.channel,), one.waiting) for one in status.outbox]
    text = "Deliveries that are not confirmed yet."
    yield _metric("gauge", "deliveries_waiting", text, "channel", waiting)
    dead = [((one.channel,), one.dead_letters) for one in status.outbox]
    text = "Deliveries that wait for a decision."
    yield _metric("gauge", "dead_letters", text, "channel", dead)
