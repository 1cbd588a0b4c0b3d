"""A camera keeps what is usual when it ends; a replay neither reads nor writes it."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamer.app.camera_runtime import AppContext, CameraRuntime
from streamer.app.camera_spec import camera_spec
from streamer.app.models import Models
from streamer.app.replay import replay
from streamer.config import load
from streamer.core.clock import SystemClock
from streamer.detect.false_positive_prior import FalsePositivePrior
from streamer.evidence.folder import Provenance
from streamer.store.prior_file import PriorFile

PROVENANCE = Provenance(
    program="p", model="m", model_digest="d", backend="b", threshold=0.5, config_digest="c"
)


class Network:
    """Always takes the same spot for smoke, though never surely."""

    name, digest, backend, input_size = "m", "d", "b", (96, 160)
    threshold, low_threshold = 0.5, 0.4

    def __call__(self, image, background=None):
        probability = np.zeros((image.shape[0] // 2, image.shape[1] // 2), np.float32)
        probability[20:26, 40:46] = 0.3
        return probability


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    view = np.random.default_rng(2).integers(0, 256, (12, 20, 3), np.uint8)
    for number in range(30):
        cv2.imwrite(str(folder / f"{number:03}.png"), view.repeat(8, 0).repeat(8, 1))
    return folder


@pytest.fixture
def config(tmp_path, pictures):
    path = tmp_path / "c.yaml"
    path.write_text(
        f"data_dir: {tmp_path / 'data'}\n"
        "defaults: {detect: {false_positive_prior: {learn_minutes: 1}}}\n"
        "cameras:\n"
        f"  north: {{source: {{address: {pictures}}}, outputs: {{preview: false}}}}\n"
        f"  dome: {{source: {{address: {pictures}}}, detect: {{background: {{enabled: false}}}}}}\n"
        f"  plain: {{source: {{address: {pictures}}},\n"
        "    detect: {false_positive_prior: {enabled: false}}}\n"
    )
    return load(path).config


def watched(config, camera) -> Path:
    """The file of a camera's memory after it has watched all its pictures."""
    context = AppContext(
        clock=SystemClock(), models=Models(Network()), provenance=lambda: PROVENANCE
    )
    settings = config.cameras[camera]
    source = settings.source.model_copy(update={"realtime": False})
    spec = camera_spec(camera, settings.model_copy(update={"source": source}), config)
    CameraRuntime(replace(spec, evidence_folder=None), context).run()
    return config.usual_folder / f"{camera}.npz"


def test_what_was_learnt_is_kept_when_a_camera_ends_and_goes_on_when_it_begins_again(config):
    taught = [PriorFile(watched(config, "north")).load()["taught_s"] for _ in range(2)]
    assert [seconds.tolist() for seconds in taught] == [[29], [58]]


@pytest.mark.parametrize("camera", ["dome", "plain"])
def test_a_camera_that_moves_or_wants_none_has_no_memory(config, camera):
    assert not watched(config, camera).exists()


def test_a_replay_neither_reads_nor_writes_a_memory(config, pictures, monkeypatch):
    file = watched(config, "north")
    kept = file.read_bytes()
    restored = []
    monkeypatch.setattr(FalsePositivePrior, "restore", lambda usual, state: restored.append(state))
    events = []
    replay(str(pictures), config, "north", models=Models(Network()), on_event=events.append)
    assert file.read_bytes() == kept
    assert not restored
