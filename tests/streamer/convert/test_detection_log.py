"""What was seen, on disk: whole or not at all."""

import numpy as np
import pytest

from streamer.convert.detection_log import DetectionLogWriter, load_detections
from streamer.core.errors import StorageError
from streamer.core.frame import AlarmState, AlarmStatus, Detection, SegmentationResult

NS = 1_000_000_000
REGION = Detection(
    box=(0.1, 0.2, 0.3, 0.4), centroid=(0.2, 0.3), ground_point=(0.2, 0.4),
    area=0.01, confidence=0.7,
    peak=0.9, motion=0.25,
)  # fmt: skip
STILL = Detection((0.0, 0.0, 1.0, 1.0), (0.5, 0.5), (0.5, 1.0), 1.0, 0.5, 0.5)
STATUSES = [
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
    for number, alarm_status in enumerate(STATUSES):
        writer.add(smoke(number), alarm_status)
    log = writer.finish() if finish else None
    writer.close()
    return log


def test_inferences_come_back_as_they_were(tmp_path):
    written(tmp_path)
    log = load_detections(tmp_path)
    assert len(log) == len(STATUSES)
    for number, alarm_status in enumerate(STATUSES):
        kept, again = log[number]
        assert again == alarm_status
        assert kept.pts_ns == number * NS
        assert np.abs(kept.probability - smoke(number).probability).max() <= 0.5 / 255 + 1e-6
        assert not kept.probability.flags.writeable


def test_a_log_reads_the_same_before_and_after_a_restart(tmp_path):
    made, read = written(tmp_path), load_detections(tmp_path)
    for number in range(len(STATUSES)):
        np.testing.assert_array_equal(made[number][0].probability, read[number][0].probability)
        assert made[number][1] == read[number][1]


@pytest.mark.parametrize(
    ("pts_ns", "number"), [(-1, None), (0, 0), (NS - 1, 0), (NS, 1), (99 * NS, 5)]
)
def test_the_inference_before_a_time_is_found(tmp_path, pts_ns, number):
    assert written(tmp_path).before(pts_ns) == number


def test_alarms_are_listed_by_their_start(tmp_path):
    assert written(tmp_path).alarms == (2 * NS, 5 * NS)


def test_an_unfinished_pass_is_ignored(tmp_path):
    assert load_detections(tmp_path) is None
    written(tmp_path, finish=False)
    assert load_detections(tmp_path) is None


@pytest.mark.parametrize("file", ["detections.maps", "detections.json"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.999])
def test_truncated_files_are_ignored(tmp_path, file, keep):
    written(tmp_path)
    data = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(data[: int(len(data) * keep)])
    assert load_detections(tmp_path) is None


def test_a_damaged_map_is_an_error(tmp_path):
    log = written(tmp_path)
    size = (tmp_path / "detections.maps").stat().st_size
    (tmp_path / "detections.maps").write_bytes(b"\0" * size)
    with pytest.raises(StorageError, match="damaged"):
        log[0]


def test_a_full_disk_is_an_error(tmp_path):
    (tmp_path / "detections.maps").symlink_to("/dev/full")
    writer = DetectionLogWriter(tmp_path)
    with pytest.raises(StorageError, match="the disk is full"):
        writer.add(smoke(0), STATUSES[0])
    writer.close()
    assert load_detections(tmp_path) is None
