"""The whole program, killed around alarms; `tools/kill_alarms --kills 200` is the long version."""

import pytest

from tests.support.disks import small_disk
from tests.support.kill_alarms import DISK_MIB, kill_alarms


@pytest.mark.slow
@pytest.mark.system
def test_kills_around_alarms_lose_none_and_repeat_none_that_is_recorded_as_acknowledged(tmp_path):
    with small_disk(tmp_path / "disk", mib=DISK_MIB) as disk:
        figures = kill_alarms(6, seed=1, folder=tmp_path, disk=disk)
    assert (figures.kills, figures.full_disk) == (6, 2)
    assert figures.events >= 6
    assert figures.acknowledged
    assert (figures.lost, figures.repeated) == ([], [])
