"""What a configuration can cost at worst."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.smoke.model import SmokeModel
from streamer.app.resource_budget import (
    LINK_CAPACITY,
    NETWORK_SIZE,
    compute,
    decoder_frames,
    frame_bytes,
)
from streamer.config import Config, from_source
from streamer.core.image import Image
from streamer.core.pipeline import live_links


def config(**camera: Any) -> Config:
    return Config.model_validate({"cameras": {"a": {"source": {"address": "x"}, **camera}}})


def test_no_frame_is_delivered_older_than_the_budget_and_shown_one_interval_longer() -> None:
    (camera,) = compute(
        config(
            latency_budget_ms=700,
            detect={"fps": 4},
            outputs={"publish": {"url": "rtsp://h", "rate": 10}, "file": {"path": "a.mp4"}},
        )
    ).cameras
    assert {age.sink: (age.delivered_ms, age.shown_ms) for age in camera.ages} == {
        "status": (700, 950),
        "preview": (700, 950),
        "file": (700, 950),
        "publish": (700, 1050),
    }


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"outputs": {"file": {"path": "a.mp4"}}}, "file"),
        ({"outputs": {"publish": {"url": "rtsp://h"}}}, "publish"),
        ({"clip": {"pre_roll_buffer_mb": 100}}, "ring"),
        ({"clip": {"pre_roll_buffer_mb": 100}}, "clip"),
        ({"record": {"enabled": True}}, "record"),
    ],
)
def test_what_needs_memory_is_counted(more: dict[str, Any], part: str) -> None:
    plain, rich = (compute(config(**settings)).cameras[0] for settings in ({}, more))
    assert rich.memory[part] > plain.memory.get(part, 0)
    assert rich.bytes > plain.bytes


def test_what_is_turned_off_costs_nothing() -> None:
    (camera,) = compute(config(detect={"background": {"enabled": False}})).cameras
    assert "background" not in camera.memory
    assert compute(config(enabled=False)).cameras == ()
    (unseen,) = compute(config(outputs={"preview": False})).cameras
    assert [age.sink for age in unseen.ages] == ["status"]


def test_larger_frames_cost_more_and_a_known_size_is_no_assumption() -> None:
    small, large = (
        compute(config(), sizes={"a": size}).cameras[0] for size in ((480, 640), (2160, 3840))
    )
    assert small.bytes < large.bytes
    assert not small.assumed
    assumed = compute(config())
    assert assumed.cameras[0].assumed
    assert any("1920x1080" in text for text in assumed.assumptions)


def test_the_sum_is_the_sum_of_its_parts() -> None:
    budget = compute(config())
    assert budget.bytes == sum(budget.shared.values()) + sum(budget.cameras[0].memory.values())
    assert budget.as_json()["bytes"] == budget.bytes


@pytest.mark.parametrize(
    ("size", "frames"),
    # Table A-1 of the standard: 9 frames at 720p and 4 at 1080p for level 4.1; one is worked on.
    [((720, 1280), 10), ((1080, 1920), 5), ((2160, 3840), 6), ((240, 320), 17)],
)
def test_a_decoder_keeps_what_its_level_allows(size: tuple[int, int], frames: int) -> None:
    assert decoder_frames(size) == frames


@pytest.mark.parametrize("size", [(1080, 1920), (480, 640), (721, 1281)])
def test_a_real_frame_is_not_larger_than_computed(size: tuple[int, int]) -> None:
    image = Image.from_rgb(np.zeros((*size, 3), np.uint8))
    assert image.nbytes <= frame_bytes(size) * 1.05  # A tiny one is padded more.


def test_the_figures_are_those_of_the_parts() -> None:
    assert inspect.signature(live_links).parameters["capacity"].default == LINK_CAPACITY
    assert SmokeModel.input_size == NETWORK_SIZE


def test_a_single_source_has_a_budget_too(tmp_path: Path) -> None:
    assert compute(from_source(str(tmp_path / "a.mp4")).config).bytes > 0
