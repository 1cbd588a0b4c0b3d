"""The program status in the text format of Prometheus.

Every figure comes from one `ProgramStatus`; nothing is counted here.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from streamer.core.latency import BOUNDS_S, LatencyCounts
from streamer.detect.inference_scheduler import SKIPPED
from streamer.notify import ChannelState

from .disk import DiskLevel
from .program_status import CameraState, CameraStatus, ProgramStatus
from .reports import TaskPhase

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_CAMERA: Final = (
    ("camera_fps", "gauge", "fps", "Frames per second, recent."),
    ("camera_inferred_fps", "gauge", "inferred_fps", "Inferences per second, recent."),
    ("camera_wanted_fps", "gauge", "wanted_fps", "Frames per second sampled for inference."),
    ("camera_last_frame_age_seconds", "gauge", "age_s", "Age of the newest frame."),
    ("camera_source_lag_seconds", "gauge", "source_lag_s", "How far the stream is behind."),
    ("camera_failures_last_hour", "gauge", "failures_last_hour", "Failures in the last hour."),
    ("camera_ring_bytes", "gauge", "ring_bytes", "Size of the packet ring."),
    ("camera_failed_attempts", "gauge", "failed_attempts", "Failed connection attempts in a row."),
    ("inferences", "counter", "inferences", "Inferences whose result reached the alarm."),
    ("inferences_late", "counter", "late_inferences", "Inferences after the latency budget."),
    ("camera_frames", "counter", "frames", "Frames that reached the end of the pipeline."),
    ("camera_restarts", "counter", "restarts", "Restarts of the pipeline after a failure."),
    ("camera_connections", "counter", "connections", "Connections opened."),
    ("camera_packets", "counter", "packets", "Packets received."),
    ("camera_damaged", "counter", "damaged", "Packets and frames that could not be decoded."),
    ("camera_timestamp_repairs", "counter", "timestamp_repairs", "Repaired timestamps."),
    ("camera_ring_lost_packets", "counter", "ring_lost", "Packets that slow readers missed."),
    ("camera_recorded_bytes", "counter", "recorded_bytes", "Bytes of completed recordings."),
    ("camera_recorder_missed_packets", "counter", "recorder_missed", "Packets not recorded."),
)
"""Metrics of a camera without their prefix: name, type, field of `CameraStatus`, help text."""

_LATENCIES: Final = (
    ("end_to_end", "From the arrival of a packet to the alarm's state after its inference."),
    ("inference", "Duration of one inference, from its start to its result."),
    ("decode", "Duration of decoding one packet."),
)

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


def _histogram(
    name: str, text: str, labels: str, samples: Iterable[tuple[tuple[str, ...], LatencyCounts]]
) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"streamer_{name}", text, labels=labels.split())
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    for values, latency in samples:
        buckets = list(zip(bounds, accumulate(latency.counts), strict=True))
        family.add_metric(values, buckets=buckets, sum_value=latency.sum_s)
    found: Metric = family
    return found


def _metrics(status: ProgramStatus) -> "Iterator[Metric]":
    from prometheus_client.core import InfoMetricFamily

    yield InfoMetricFamily("streamer", "The running program.", {"version": status.version})
    started = [((), status.started_utc.timestamp())]
    yield _metric("gauge", "start_time_seconds", "Start of the program, Unix time.", "", started)
    count = [((), len(status.problems))]
    yield _metric("gauge", "problems", "Conditions that need attention.", "", count)
    conditions = {(one.condition, one.camera or ""): 1.0 for one in status.conditions}
    text = "1 for each lasting condition that needs attention; camera is empty for the program."
    yield _metric("gauge", "condition", text, "condition camera", conditions.items())
    yield from _cameras(status.cameras)
    services = [((one.service,), one.restarts) for one in status.services]
    yield _metric("counter", "service_restarts", "Restarts of a service.", "service", services)
    failing = [((one.service,), one.state is TaskPhase.BACKOFF) for one in status.services]
    text = "1 while a service has failed and not yet proven itself again."
    yield _metric("gauge", "service_failing", text, "service", failing)
    yield from _outbox(status)
    engines = [((one.engine, one.device), one.degraded) for one in status.engines]
    text = "1 while a requested GPU is not used."
    yield _metric("gauge", "engine_degraded", text, "engine device", engines)
    building = [((one.engine, one.device), one.building) for one in status.engines]
    text = "Progress of the plan that is being built, 0 to 1."
    yield _metric("gauge", "engine_building_ratio", text, "engine device", building)
    if status.disk is not None:
        free, total = [((), status.disk.free_bytes)], [((), status.disk.total_bytes)]
        state = status.disk.state
        states = [((level.value,), level is state) for level in DiskLevel]
        text = "1 for the present state of the data folder's disk, 0 for the others."
        yield _metric("gauge", "disk_state", text, "state", states)
        yield _metric("gauge", "disk_free_bytes", "Free space for the data folder.", "", free)
        yield _metric("gauge", "disk_size_bytes", "Size of the data folder's disk.", "", total)


def _cameras(cameras: tuple[CameraStatus, ...]) -> "Iterator[Metric]":
    states = [((c.camera, state.value), c.state is state) for c in cameras for state in CameraState]
    text = "1 for the present state of a camera, 0 for the others."
    yield _metric("gauge", "camera_state", text, "camera state", states)
    alarms = [((camera.camera,), camera.alarm == "alarm") for camera in cameras]
    yield _metric("gauge", "camera_alarm", "1 while an alarm is active.", "camera", alarms)
    for name, kind, field, text in _CAMERA:
        figures = [((camera.camera,), getattr(camera, field)) for camera in cameras]
        yield _metric(kind, name, text, "camera", figures)
    for name, text in _LATENCIES:
        latencies = [((camera.camera,), camera.latencies[name]) for camera in cameras]
        yield _histogram(f"{name}_latency_seconds", text, "camera", latencies)
    drops = [
        ((camera.camera, reason), count)
        for camera in cameras
        for reason, count in camera.dropped.items()
    ]
    text = "Frames that were dropped, by reason."
    yield _metric("counter", "frames_dropped", text, "camera reason", drops)
    skips = [
        ((camera.camera, why), getattr(camera, f"skipped_{why}"))
        for camera in cameras
        for why in SKIPPED
    ]
    text = "Sampled frames that were not inferred, by reason."
    yield _metric("counter", "inferences_skipped", text, "camera reason", skips)
    pending = [((), sum(camera.evidence_pending for camera in cameras))]
    text = "Alarms whose evidence is not complete yet."
    yield _metric("gauge", "evidence_pending", text, "", pending)
    yield from _links(cameras)


def _links(cameras: Iterable[CameraStatus]) -> "Iterator[Metric]":
    links = [(camera.camera, link) for camera in cameras for link in camera.links]
    outcomes = [
        ((name, link.link, outcome), getattr(link, outcome))
        for name, link in links
        for outcome in ("delivered", "dropped_full", "dropped_late", "discarded")
    ]
    text = "Frames that left a link, by what became of them."
    yield _metric("counter", "link_frames", text, "camera link outcome", outcomes)
    depths = [((name, link.link), link.depth) for name, link in links]
    yield _metric("gauge", "link_depth", "Frames that wait in a link.", "camera link", depths)
    ages = [((name, link.link), link.ages) for name, link in links]
    text = "Age of frames when they leave a link."
    yield _histogram("link_age_seconds", text, "camera link", ages)


def _outbox(status: ProgramStatus) -> "Iterator[Metric]":
    attempts = [
        ((one.channel, outcome), getattr(one, outcome))
        for one in status.outbox
        for outcome in ("confirmed", "failed")
    ]
    text = "Delivery attempts by their outcome."
    yield _metric("counter", "delivery_attempts", text, "channel outcome", attempts)
    pending = [((one.channel,), one.waiting) for one in status.outbox]
    text = "Deliveries that are not confirmed yet."
    yield _metric("gauge", "outbox_pending", text, "channel", pending)
    ages = [
        ((one.channel,), (status.utc - one.oldest_waiting_utc).total_seconds())
        for one in status.outbox
        if one.oldest_waiting_utc is not None
    ]
    text = "Age of the oldest delivery that is not confirmed."
    yield _metric("gauge", "outbox_oldest_age_seconds", text, "channel", ages)
    dead = [((one.channel,), one.dead_letters) for one in status.outbox]
    text = "Deliveries that wait for a decision."
    yield _metric("gauge", "dead_letters", text, "channel", dead)
    faults = [((one.channel,), bool(one.reason)) for one in status.outbox]
    text = "1 while nothing is delivered or the last attempt failed."
    yield _metric("gauge", "channel_fault", text, "channel", faults)
    states = [
        ((one.channel, state.value), one.state is state)
        for one in status.outbox
        for state in ChannelState
    ]
    text = "1 for the present state of a channel, 0 for the others."
    yield _metric("gauge", "channel_state", text, "channel state", states)
