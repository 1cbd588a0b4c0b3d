"""The file of what is usual: survives a restart, and never stops a camera."""

import random
from datetime import UTC, datetime

import numpy as np
import pytest
from structlog.testing import capture_logs

from streamer.detect.false_positive_prior import FalsePositivePrior
from streamer.store.prior_file import PriorFile

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def learnt():
    usual = FalsePositivePrior(learn_s=10)
    probability = np.zeros((96, 160), np.float32)
    probability[40:50, 60:70] = 0.6
    for second in range(20):
        usual.learn(probability, NOON, second * 10**9)
    usual.see(np.full((24, 40), 0.03, np.float32))
    return usual


def test_what_was_learnt_survives_and_is_small(tmp_path):
    file = PriorFile(tmp_path / "usual" / "a.npz")
    file.save(learnt())
    assert file.path.stat().st_size < 50_000
    assert [path.name for path in file.path.parent.iterdir()] == ["a.npz"]
    again = FalsePositivePrior()
    file.load_into(again)
    again.see(np.full((24, 40), 0.03, np.float32))
    np.testing.assert_allclose(again.at(NOON), learnt().at(NOON), atol=0.003)


def test_nothing_is_written_before_anything_is_known(tmp_path):
    file = PriorFile(tmp_path / "a.npz")
    file.save(FalsePositivePrior())
    assert not file.path.exists()
    file.load_into(usual := FalsePositivePrior())
    assert usual.blank
    assert not file.forget()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no zip", b"\x93NUMPY\x01", "other", "shape", "forms", "array"]
)
def test_a_file_that_cannot_be_used_is_told_of_and_forgotten(tmp_path, content):
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
        file.load_into(usual := FalsePositivePrior())
    assert usual.blank
    assert [entry["event"] for entry in logs] == ["forgets what is usual"]
    file.save(learnt())
    assert file.load() is not None


def test_no_damage_ends_a_camera(tmp_path):
    file = PriorFile(tmp_path / "a.npz")
    file.save(learnt())
    whole, chance = file.path.read_bytes(), random.Random(1)
    with capture_logs():
        for _ in range(300):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            file.path.write_bytes(damaged[: chance.choice([None, chance.randrange(len(whole))])])
            file.load_into(FalsePositivePrior())


def test_a_full_disk_is_told_of_once_and_ends_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    file = PriorFile(blocked / "a.npz")
    with capture_logs() as logs:
        file.save(learnt())
        file.save(learnt())
    assert [entry["event"] for entry in logs] == ["cannot keep what is usual"]


def test_what_was_deleted_while_a_station_ran_is_not_brought_back(tmp_path):
    station, person = PriorFile(tmp_path / "a.npz"), PriorFile(tmp_path / "a.npz")
    usual = learnt()
    station.save(usual)
    assert person.forget()
    station.save(usual)
    assert usual.blank
    assert not station.path.exists()
    station.save(learnt())
    assert station.path.exists(), "what is learnt from then on is kept"


def test_a_folder_that_vanished_is_made_again(tmp_path):
    file = PriorFile(tmp_path / "usual" / "a.npz")
    usual = learnt()
    file.save(usual)
    file.path.unlink()
    file.path.parent.rmdir()
    file.save(usual)
    assert file.path.exists()


def test_forgetting_deletes(tmp_path):
    file = PriorFile(tmp_path / "a.npz")
    file.save(learnt())
    assert file.forget()
    assert not file.path.exists()
