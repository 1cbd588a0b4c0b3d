"""The file of a false-positive prior: survives a restart, and never stops a camera."""

import random
from datetime import UTC, datetime

import numpy as np
import pytest
from structlog.testing import capture_logs

from streamer.detect.false_positive_prior import FalsePositivePrior
from streamer.store.prior_file import PriorFile, adopt_old_folder

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SCENE = np.full((24, 40), 0.03, np.float32)


def learned():
    prior = FalsePositivePrior(learn_s=10)
    probability = np.zeros((96, 160), np.float32)
    probability[40:50, 60:70] = 0.6
    for second in range(20):
        prior.update(probability, NOON, second * 10**9)
    prior.select_scene(SCENE)
    return prior


def test_a_prior_survives_and_its_file_is_small(tmp_path):
    file = PriorFile(tmp_path / "priors" / "a.npz")
    file.save(learned())
    assert file.path.stat().st_size < 50_000
    assert [path.name for path in file.path.parent.iterdir()] == ["a.npz"]
    again = FalsePositivePrior()
    file.load_into(again)
    again.select_scene(SCENE)
    np.testing.assert_allclose(again.value_at(NOON), learned().value_at(NOON), atol=0.003)


def test_an_empty_prior_is_not_written(tmp_path):
    file = PriorFile(tmp_path / "a.npz")
    file.save(FalsePositivePrior())
    assert not file.path.exists()
    file.load_into(prior := FalsePositivePrior())
    assert prior.is_empty
    assert not file.delete()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no zip", b"\x93NUMPY\x01", "other", "shape", "forms", "array"]
)
def test_an_unusable_file_is_discarded_with_a_warning(tmp_path, content):
    file = PriorFile(tmp_path / "a.npz")
    if content == "other":
        np.savez_compressed(file.path, form=np.array(9), maps=np.zeros(3))
    elif content == "shape":
        np.savez_compressed(file.path, form=np.array(1), maps=np.zeros(3), view=np.zeros(3))
    elif content == "forms":
        np.savez_compressed(file.path, form=np.array([1, 1]))
    elif content == "array":
        with file.path.open("wb") as foreign:
            np.save(foreign, np.zeros(3))
    else:
        file.path.write_bytes(content)
    with capture_logs() as logs:
        file.load_into(prior := FalsePositivePrior())
    assert prior.is_empty
    assert [entry["event"] for entry in logs] == ["false-positive prior discarded"]
    file.save(learned())
    assert file.load() is not None


def test_a_damaged_file_leaves_an_empty_prior_or_a_valid_one(tmp_path):
    file = PriorFile(tmp_path / "a.npz")
    file.save(learned())
    whole, rng = file.path.read_bytes(), random.Random(1)
    discarded = 0
    with capture_logs() as logs:
        for _ in range(300):
            damaged = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            file.path.write_bytes(damaged[: rng.choice([None, rng.randrange(len(whole))])])
            file.load_into(prior := FalsePositivePrior())
            prior.select_scene(SCENE)
            discarded += prior.is_empty
            assert ((prior.value_at(NOON) >= 0) & (prior.value_at(NOON) <= 1)).all()
    assert discarded > 200, "the CRC of the ZIP file finds nearly all damage"
    assert len(logs) >= discarded - 10


def test_a_full_disk_is_logged_once_and_raises_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    file = PriorFile(blocked / "a.npz")
    with capture_logs() as logs:
        file.save(learned())
        file.save(learned())
    assert [entry["event"] for entry in logs] == ["false-positive prior not saved"]


def test_a_file_deleted_while_the_program_runs_is_not_written_again(tmp_path):
    station, person = PriorFile(tmp_path / "a.npz"), PriorFile(tmp_path / "a.npz")
    prior = learned()
    station.save(prior)
    assert person.delete()
    station.save(prior)
    assert prior.is_empty
    assert not station.path.exists()
    station.save(learned())
    assert station.path.exists(), "what is learned from then on is stored"


def test_a_folder_that_was_deleted_is_created_again(tmp_path):
    file = PriorFile(tmp_path / "priors" / "a.npz")
    prior = learned()
    file.save(prior)
    file.path.unlink()
    file.path.parent.rmdir()
    file.save(prior)
    assert file.path.exists()


def test_a_file_of_format_1_is_read(tmp_path):
    file = PriorFile(tmp_path / "a.npz")
    state = learned().state()
    np.savez_compressed(
        file.path,
        form=np.array(1),
        maps=state["maps"],
        view=state["signatures"],
        taught_s=state["learned_s"],
    )
    file.load_into(prior := FalsePositivePrior())
    prior.select_scene(SCENE)
    np.testing.assert_allclose(prior.value_at(NOON), learned().value_at(NOON), atol=0.003)


def test_the_folder_of_version_0_1_is_renamed_once(tmp_path):
    old, new = tmp_path / "usual", tmp_path / "priors"
    PriorFile(old / "a.npz").save(learned())
    for _ in range(2):
        adopt_old_folder(new)
    assert PriorFile(new / "a.npz").load() is not None
    assert not old.exists()


def test_an_old_folder_beside_a_new_one_is_left_alone(tmp_path):
    old, new = tmp_path / "usual", tmp_path / "priors"
    PriorFile(old / "a.npz").save(learned())
    new.mkdir()
    adopt_old_folder(new)
    assert (old / "a.npz").exists()
    assert list(new.iterdir()) == []


def test_an_old_folder_that_cannot_be_renamed_is_logged(tmp_path, monkeypatch):
    (tmp_path / "usual").mkdir()

    def refuse(self, target):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(type(tmp_path), "rename", refuse)
    with capture_logs() as logs:
        adopt_old_folder(tmp_path / "priors")
    assert [entry["event"] for entry in logs] == ["false-positive priors not taken over"]


def test_delete_removes_the_file(tmp_path):
    file = PriorFile(tmp_path / "a.npz")
    file.save(learned())
    assert file.delete()
    assert not file.path.exists()
