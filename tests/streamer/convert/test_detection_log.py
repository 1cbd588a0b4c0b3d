"""What was seen, on disk: whole or not at all."""

import numpy as np
import pytest

from streamer.convert.detection_log import DetectionLogWriter, kept_looks
from streamer.core.errors import StorageError
from streamer.core.frame import AlarmState, AlarmStatus, Detection, SegmentationResult

NS = 1_000_000_000
REGION = Detection(
    box=(0.1, 0.2, 0.3, 0.4), centroid=(0.2, 0.3), ground_point=(0.2, 0.4),
    area=0.01, confidence=0.7,
    peak=0.9, motion=0.25,
)  # fmt: skip
STILL = Detection((0.0, 0.0, 1.0, 1.0), (0.5, 0.5), (0.5, 1.0), 1.0, 0.5, 0.5)
VERDICTS = [
    AlarmStatus(AlarmState.IDLE, 0),
    AlarmStatus(AlarmState.PENDING, NS, (REGION,)),
    AlarmStatus(AlarmState.ALARM, 2 * NS, (REGION, STILL)),
    AlarmStatus(AlarmState.ALARM, 2 * NS),
    AlarmStatus(AlarmState.IDLE, 4 * NS),
    AlarmStatus(AlarmState.ALARM, 5 * NS, (STILL,)),
]


def smoke(number):
    random = np.random.default_rng(number)
    return SegmentationResult(random.random((96, 160), np.float32), number * NS)


def written(folder, *, finish=True):
    writer = DetectionLogWriter(folder)
    for number, alarm_status in enumerate(VERDICTS):
        writer.add(smoke(number), alarm_status)
    looks = writer.finish() if finish else None
    writer.close()
    return looks


def test_looks_come_back_as_they_were(tmp_path):
    written(tmp_path)
    looks = kept_looks(tmp_path)
    assert len(looks) == len(VERDICTS)
    for number, alarm_status in enumerate(VERDICTS):
        kept, again = looks[number]
        assert again == alarm_status
        assert kept.pts_ns == number * NS
        assert np.abs(kept.probability - smoke(number).probability).max() <= 0.5 / 255 + 1e-6
        assert not kept.probability.flags.writeable


def test_a_pass_that_was_just_made_is_what_is_read_later(tmp_path):
    made, read = written(tmp_path), kept_looks(tmp_path)
    for number in range(len(VERDICTS)):
        np.testing.assert_array_equal(made[number][0].probability, read[number][0].probability)
        assert made[number][1] == read[number][1]


@pytest.mark.parametrize(
    ("pts_ns", "number"), [(-1, None), (0, 0), (NS - 1, 0), (NS, 1), (99 * NS, 5)]
)
def test_the_look_before_a_time_is_found(tmp_path, pts_ns, number):
    assert written(tmp_path).before(pts_ns) == number


def test_alarms_are_told_by_when_they_began(tmp_path):
    assert written(tmp_path).alarms == (2 * NS, 5 * NS)


def test_nothing_is_kept_of_a_pass_that_was_not_finished(tmp_path):
    assert kept_looks(tmp_path) is None
    written(tmp_path, finish=False)
    assert kept_looks(tmp_path) is None


@pytest.mark.parametrize("file", ["looks.maps", "looks.json"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.999])
def test_files_that_were_cut_count_for_nothing(tmp_path, file, keep):
    written(tmp_path)
    data = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(data[: int(len(data) * keep)])
    assert kept_looks(tmp_path) is None


def test_a_map_that_was_spoilt_is_told_of(tmp_path):
    looks = written(tmp_path)
    size = (tmp_path / "looks.maps").stat().st_size
    (tmp_path / "looks.maps").write_bytes(b"\0" * size)
    with pytest.raises(StorageError, match="damaged"):
        looks[0]


def test_a_full_disk_is_a_line(tmp_path):
    (tmp_path / "looks.maps").symlink_to("/dev/full")
    writer = DetectionLogWriter(tmp_path)
    with pytest.raises(StorageError, match="the disk is full"):
        writer.add(smoke(0), VERDICTS[0])
    writer.close()
    assert kept_looks(tmp_path) is None
