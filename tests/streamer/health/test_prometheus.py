"""The program status as Prometheus reads it."""

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamer.core.frame import AlarmState
from streamer.core.latency import LatencyHistogram
from streamer.health.program_status import EngineStatus
from streamer.health.prometheus import render
from streamer.health.reports import Condition, TaskPhase
from streamer.notify import ChannelStatus
from streamer.store import Backlog
from tests.support.stepping import START

from .test_program_status import link, report, status, task


def samples(whole) -> dict:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(render(whole).decode())
        for sample in family.samples
    }


def test_a_camera_is_described_by_its_state_counts_and_drops():
    links = (link("north/detect", delivered=7, dropped_full=2, dropped_late=3, discarded=1),)
    camera = report(links=links, alarm=AlarmState.ALARM, packets=50, damaged=4)
    found = samples(status(camera, task(restarts=6)))
    assert found["streamer_camera_state", "north", "live"] == 1
    assert found["streamer_camera_state", "north", "stale"] == 0
    assert found["streamer_camera_alarm", "north"] == 1
    assert found["streamer_camera_frames_total", "north"] == 100
    assert found["streamer_camera_restarts_total", "north"] == 6
    assert found["streamer_camera_damaged_total", "north"] == 4
    assert found["streamer_camera_last_frame_age_seconds", "north"] == 1
    outcomes = {
        outcome: found["streamer_link_frames_total", "north", "detect", outcome]
        for outcome in ("delivered", "dropped_full", "dropped_late", "discarded")
    }
    assert outcomes == {"delivered": 7, "dropped_full": 2, "dropped_late": 3, "discarded": 1}
    drops = {
        reason: found["streamer_frames_dropped_total", "north", reason]
        for reason in ("full", "late", "discarded")
    }
    assert drops == {"full": 2, "late": 3, "discarded": 1}


def test_latencies_are_cumulative_histograms_with_exact_bounds():
    histogram = LatencyHistogram()
    for age_s in (0.0, 0.05, 0.0501, 3.0, 3000.0):
        histogram.add(round(age_s * 1e9))
    camera = report(end_to_end=histogram.counts(), inferences=5)
    found = samples(status(camera))
    name = "streamer_end_to_end_latency_seconds"
    buckets = {
        bound: found[f"{name}_bucket", "north", bound]
        for bound in ("0.001", "0.05", "0.1", "2.0", "5.0", "60.0", "+Inf")
    }
    assert buckets == {
        "0.001": 1, "0.05": 2, "0.1": 3, "2.0": 3, "5.0": 4, "60.0": 4, "+Inf": 5,
    }  # fmt: skip
    assert found[f"{name}_count", "north"] == 5
    assert found[f"{name}_sum", "north"] == pytest.approx(3003.1001)
    assert found["streamer_inferences_total", "north"] == 5


def test_a_condition_is_a_metric_while_it_lasts():
    with_one = status(conditions=[Condition("clock", "not set", 0)])
    assert samples(with_one)["streamer_condition", "", "clock"] == 1
    assert not [key for key in samples(status()) if key[0] == "streamer_condition"]


def test_a_figure_that_is_not_known_is_left_out():
    found = samples(status(report(last_frame_ns=None)))
    assert ("streamer_camera_last_frame_age_seconds", "north") not in found


def test_services_channels_and_engines_are_described():
    found = samples(
        status(
            services=[task(name="delivery", phase=TaskPhase.BACKOFF, restarts=2)],
            channels=[ChannelStatus("ops", confirmed=3, failed=4)],
            backlog={"ops": Backlog(waiting=5, dead=6, oldest=START)},
            engines=[EngineStatus(engine="smoke", backend="b", device="cpu", degraded=True,
                                  reason="no driver", building=None)],
        )
    )  # fmt: skip
    assert found["streamer_service_restarts_total", "delivery"] == 2
    assert found["streamer_delivery_attempts_total", "ops", "confirmed"] == 3
    assert found["streamer_delivery_attempts_total", "ops", "failed"] == 4
    assert found["streamer_outbox_pending", "ops"] == 5
    assert found["streamer_outbox_oldest_age_seconds", "ops"] == 1000
    assert found["streamer_channel_fault", "ops"] == 0
    assert found["streamer_dead_letters", "ops"] == 6
    assert found["streamer_engine_degraded", "cpu", "smoke"] == 1
    assert found["streamer_problems",] == 3


def test_a_camera_name_with_quotes_and_line_breaks_is_escaped():
    name = 'north "2"\n\\'
    found = samples(status(report(camera="north")))
    assert found["streamer_camera_alarm", "north"] == 0
    whole = status()
    odd = replace(whole, cameras=(replace(whole.cameras[0], camera=name),))
    assert samples(odd)["streamer_camera_alarm", name] == 0
