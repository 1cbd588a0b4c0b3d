"""The whole program on a disk that becomes full and is emptied again: it says so and goes on."""

import pytest

from streamer.app import retention
from tests.streamer.app.test_program import camera, configured, running, until
from tests.support.disks import fill, small_disk


def conditions(program):
    return {(one.condition, one.camera) for one in program.status().conditions}


@pytest.mark.system
def test_a_full_disk_pauses_the_outputs_and_a_freed_one_resumes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(retention, "_MEASURE_S", 0.05)
    with small_disk(tmp_path / "disk", mib=40) as disk:
        output = disk / "out" / "north.mp4"
        config = configured(
            disk,
            "  north:\n    source: {address: 'pattern:', live: always}\n"
            f"    outputs: {{file: {{path: {output}}}}}\n",
        )
        with running(config) as (program, _):
            until(lambda: list(output.parent.glob("*.part")), what="an output file")
            ballast = fill(disk, leave=1_000_000)
            until(
                lambda: {("recording", None), ("output", "north")} <= conditions(program),
                what="the pause in the status",
            )
            status = program.status()
            assert status.disk.state == "critical"
            assert any(line.startswith("recording: paused: only 1.") for line in status.problems)
            assert any(line.startswith("disk: only 1.") for line in status.problems)
            before = set(output.parent.iterdir())
            assert [path.suffix for path in before] == [".mp4"]  # Completed, not torn.
            ballast.unlink()
            until(lambda: conditions(program) == set(), what="the end of the pause")
            until(lambda: set(output.parent.iterdir()) > before, what="the next output file")
            north = camera(program, "north")
            assert (north.restarts, north.last_error) == (0, None)
