"""A camera saves its false-positive prior when it ends; a replay neither reads nor writes it."""

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
from streamer.evidence.writer import Provenance
from streamer.store.prior_file import PriorFile

PROVENANCE = Provenance(
    program="p",
    model="m",
    model_digest="d",
    backend="b",
    thresholds={},
    zones={},
    config_digest="c",
)


class Network:
    """Always reports the same spot, with a low probability."""

    name, digest, backend, input_size = "m", "d", "b", (96, 160)
    threshold, low_threshold = 0.5, 0.4

    def __call__(self, image, background=None):
        probability = np.zeros((image.shape[0] // 2, image.shape[1] // 2), np.float32)
        probability[20:26, 40:46] = 0.3
        return probability


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    view = np.random.default_rng(2).integers(0, 256, (12, 20, 3), np.uint8)
    for number in range(30):
        cv2.imwrite(str(folder / f"{number:03}.png"), view.repeat(8, 0).repeat(8, 1))
    return folder


@pytest.fixture
def config(tmp_path, images):
    path = tmp_path / "c.yaml"
    path.write_text(
        f"data_dir: {tmp_path / 'data'}\n"
        "defaults: {detect: {false_positive_prior: {learn_minutes: 1}}}\n"
        "cameras:\n"
        f"  north: {{source: {{address: {images}}}, outputs: {{preview: false}}}}\n"
        f"  dome: {{source: {{address: {images}}}, detect: {{background: {{enabled: false}}}}}}\n"
        f"  plain: {{source: {{address: {images}}},\n"
        "    detect: {false_positive_prior: {enabled: false}}}\n"
    )
    return load(path).config


def watched(config, camera) -> Path:
    """Return the prior file of a camera after it has seen all its images."""
    context = AppContext(
        clock=SystemClock(), models=Models(Network()), provenance=lambda: PROVENANCE
    )
    settings = config.cameras[camera]
    source = settings.source.model_copy(update={"realtime": False})
    spec = camera_spec(camera, settings.model_copy(update={"source": source}), config)
    runtime = CameraRuntime(replace(spec, evidence_folder=None), context)
    runtime.run()
    runtime.close()
    return config.priors_folder / f"{camera}.npz"


def test_a_prior_is_saved_when_a_camera_ends_and_loaded_when_it_starts_again(config):
    learned = [PriorFile(watched(config, "north")).load()["learned_s"] for _ in range(2)]
    assert [seconds.tolist() for seconds in learned] == [[29], [58]]


def test_a_prior_in_the_folder_of_version_0_1_is_loaded(config):
    stored = watched(config, "north")
    stored.parent.rename(stored.parent.with_name("usual"))
    learned = PriorFile(watched(config, "north")).load()["learned_s"]
    assert learned.tolist() == [58]


@pytest.mark.parametrize("camera", ["dome", "plain"])
def test_without_a_background_or_when_disabled_there_is_no_prior(config, camera):
    assert not watched(config, camera).exists()


def test_a_replay_neither_reads_nor_writes_a_prior(config, images, monkeypatch):
    file = watched(config, "north")
    stored = file.read_bytes()
    restored = []
    monkeypatch.setattr(FalsePositivePrior, "restore", lambda prior, state: restored.append(state))
    events = []
    replay(str(images), config, "north", models=Models(Network()), on_event=events.append)
    assert file.read_bytes() == stored
    assert not restored
