"""What the configuration takes as default is what the parts take."""

import dataclasses
import inspect
from typing import Any

import pytest

from streamer.app.resource_budget import _BACKGROUND_SLOTS
from streamer.config.camera import (
    BackgroundSettings,
    ReconnectSettings,
    SourceDefaults,
)
from streamer.config.channels import RetrySettings
from streamer.config.values import Section
from streamer.detect.scene import Background
from streamer.notify.retry import DELIVERY_BACKOFF, RetryPolicy
from streamer.sources.options import VideoOptions
from streamer.sources.reconnect import RECONNECT, REJECTED


def of_class(kind: Any) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(kind)}


def of_call(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


@pytest.mark.parametrize(
    ("settings", "part", "ours"),
    [
        (BackgroundSettings(), of_call(Background), {"enabled"}),
        (ReconnectSettings(), dataclasses.asdict(RECONNECT), {"rejected_s"}),
        (RetrySettings(), dataclasses.asdict(DELIVERY_BACKOFF), {"give_up_after_days"}),
        # Replaying and tests play as fast as they can; people who watch a file do not.
        (SourceDefaults(), of_class(VideoOptions), {"kind", "live", "poll_s", "realtime"}),
    ],
)
def test_defaults_are_those_of_the_part(
    settings: Section, part: dict[str, Any], ours: set[str]
) -> None:
    configured = {name: value for name, value in settings if name not in ours}
    assert configured == {name: part[name] for name in configured}


def test_a_rejected_source_waits_for_the_same_time() -> None:
    assert ReconnectSettings().rejected_s == REJECTED.initial_s == REJECTED.max_delay_s


def test_deliveries_are_given_up_after_the_same_time() -> None:
    assert of_class(RetryPolicy)["give_up_after"].days == RetrySettings().give_up_after_days


def test_the_budget_knows_the_frames_of_the_background() -> None:
    assert of_call(Background)["slots"] == _BACKGROUND_SLOTS
