"""The clock guard: what it believes, for how long it waits, and what it corrects."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.clock_guard import (
    TOLERANCE_NS,
    ClockGuard,
    ClockHistory,
    ClockReading,
    ClockState,
    read_clocks,
)

NS = 1_000_000_000
HOUR, DAY = 3600, 86_400
TRUE = int(datetime(2026, 8, 10, 12, tzinfo=UTC).timestamp())
IN_1970 = 20 - TRUE
"""Seconds to add to the true time of a boot's start to be in 1970."""


class Machine:
    """A machine whose wall clock is wrong by what a test says, and a guard that follows it."""

    def __init__(self, history=None, *, boot="b1", synchronised=False):
        self.history = history or ClockHistory()
        self.boot, self.synchronised = boot, synchronised
        self.boot_s = 0
        self.true_at_boot = TRUE
        self.wrong_s = 0
        self.next = 1
        self.files = {}  # Sequence number -> (true time, time in its name), seconds.

    def run(self, seconds, *, step=60):
        for _ in range(max(1, seconds // step)):
            self.boot_s += step
            self.observe()
        return self.history.state

    def observe(self):
        reading = ClockReading(
            wall_ns=(self.true_at_boot + self.boot_s + self.wrong_s) * NS,
            boot_ns=self.boot_s * NS,
            boot=self.boot,
            synchronised=self.synchronised,
        )
        self.history = self.history.observe(reading, self.next)

    def record(self, files=1):
        for _ in range(files):
            self.observe()
            true_s = self.true_at_boot + self.boot_s
            self.files[self.next] = (true_s, true_s + self.wrong_s)
            self.next += 1
            self.boot_s += 60

    def correct(self):
        """Rename, as retention does."""
        for correction in self.history.corrections():
            end = self.next if correction.end is None else correction.end
            for number in range(correction.first, end):
                true_s, named_s = self.files[number]
                self.files[number] = (true_s, named_s + correction.shift.total_seconds())
            self.history = self.history.corrected(correction)

    def reboot(self, off_s, boot="b2"):
        self.true_at_boot += self.boot_s + off_s
        self.boot_s, self.boot = 0, boot

    def wrong_files(self):
        return [n for n, (true_s, named_s) in self.files.items() if abs(true_s - named_s) > 300]


def test_a_steady_clock_is_believed_and_nothing_is_corrected():
    machine = Machine()
    machine.record(5)
    assert machine.run(3 * DAY, step=600) is ClockState.OK
    assert machine.history.corrections() == []
    assert len(machine.history.spans) == 1
    assert machine.history.status().reason == ""


def test_a_clock_that_is_not_set_is_not_believed_until_it_is():
    machine = Machine()
    machine.wrong_s = IN_1970
    machine.record(3)
    assert machine.history.state is ClockState.NOT_SET
    assert machine.history.status().reason.startswith("the clock is not set, it showed 1970-01-01")
    assert machine.run(30 * DAY, step=HOUR) is ClockState.NOT_SET
    assert not machine.history.is_known(2)
    machine.wrong_s = 0
    machine.record(2)
    assert machine.history.state is ClockState.OK
    machine.correct()
    assert machine.wrong_files() == []
    assert all(machine.history.is_known(number) for number in machine.files)


def test_a_glitch_to_2036_is_never_believed_and_its_files_get_their_true_times():
    machine = Machine()
    machine.record(3)
    machine.wrong_s = 3653 * DAY
    machine.record(4)
    assert machine.history.state is ClockState.AHEAD
    assert "leapt by +3653.0 days to 2036" in machine.history.status().reason
    assert machine.run(60 * DAY, step=HOUR) is ClockState.AHEAD
    assert machine.history.is_known(2)
    assert not machine.history.is_known(5)
    machine.wrong_s = 0
    machine.record()
    machine.correct()
    assert machine.wrong_files() == []
    assert machine.history.state is ClockState.OK


def test_a_leap_of_a_month_waits_for_a_day():
    machine = Machine()
    machine.run(2 * HOUR)
    machine.wrong_s = 30 * DAY
    assert machine.run(DAY - 2 * HOUR) is ClockState.LEAPT
    assert "leapt by +30.0 days" in machine.history.status().reason
    since_ns = machine.history.status().since_ns
    assert since_ns == (2 * HOUR + 60) * NS
    assert machine.run(3 * HOUR) is ClockState.OK


def test_a_leap_that_goes_back_in_time_is_forgotten_at_once():
    machine = Machine()
    machine.run(2 * HOUR)
    machine.wrong_s = -40 * DAY
    assert machine.run(HOUR) is ClockState.BEHIND
    machine.wrong_s = 0
    assert machine.run(60) is ClockState.OK


def test_a_board_that_starts_where_it_was_switched_off_gets_its_first_files_right():
    machine = Machine()
    machine.run(HOUR)
    machine.reboot(10 * DAY)
    machine.wrong_s = -10 * DAY
    machine.record(2)
    assert machine.history.state is ClockState.OK  # Nothing speaks against it yet.
    machine.wrong_s, machine.synchronised = 0, True
    machine.record(2)
    assert machine.history.state is ClockState.OK
    machine.correct()
    assert machine.wrong_files() == []


def test_files_of_a_boot_that_never_saw_the_time_stay_unknown():
    machine = Machine()
    machine.record(2)
    machine.reboot(HOUR)
    machine.wrong_s = -machine.true_at_boot
    machine.record(2)
    machine.reboot(HOUR, boot="b3")
    machine.wrong_s = 0
    machine.record(2)
    machine.correct()
    assert [machine.history.is_known(n) for n in machine.files] == [
        True, True, False, False, True, True,
    ]  # fmt: skip
    assert machine.wrong_files() == [3, 4]


def test_a_long_rest_is_no_leap():
    machine = Machine()
    machine.run(HOUR)
    machine.reboot(400 * DAY)
    assert machine.run(60) is ClockState.OK
    machine.reboot(1000 * DAY, boot="b3")
    assert machine.run(60) is ClockState.AHEAD  # A person decides.


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 0, 1, -1, 7, 200, -200, 3653, IN_1970 / DAY]),
            st.integers(1, 3),
        ),
        max_size=8,
    )
)
def test_once_the_clock_is_right_every_file_of_the_boot_is(course):
    machine = Machine()
    machine.record()
    for wrong_days, files in course:
        machine.wrong_s = round(wrong_days * DAY)
        machine.record(files)
        machine.correct()
    machine.wrong_s = 0
    machine.record()
    machine.correct()
    assert machine.history.state is ClockState.OK
    assert machine.wrong_files() == []
    assert len(machine.history.spans) == 1


@given(st.lists(st.integers(-TOLERANCE_NS // NS + 1, TOLERANCE_NS // NS - 1), max_size=20))
def test_small_corrections_of_the_clock_never_add_up_to_a_leap(drifts):
    machine = Machine()
    for drift in drifts:
        machine.wrong_s += drift
        machine.boot_s += 400
        machine.observe()
        assert machine.history.state is ClockState.OK


def test_the_history_survives_the_program(tmp_path):
    path = tmp_path / "clock.json"
    readings = [
        ClockReading(TRUE * NS, 0, "b1", synchronised=False),
        ClockReading((TRUE + 40 * DAY) * NS, 60 * NS, "b1", synchronised=False),
    ]
    guard = ClockGuard(path, read=lambda: readings[0])
    assert guard.observe(1).state is ClockState.OK
    guard = ClockGuard(path, read=lambda: readings[1])
    assert guard.observe(7).state is ClockState.LEAPT
    again = ClockGuard(
        path, read=lambda: replace(readings[0], boot_ns=120 * NS, wall_ns=(TRUE + 120) * NS)
    )
    assert again.history() == guard.history()
    assert again.observe(9).state is ClockState.OK
    (correction,) = again.history().corrections()
    assert (correction.first, correction.end) == (7, 9)
    assert correction.shift == timedelta(days=-40, seconds=60)
    again.mark_corrected(correction)
    assert ClockGuard(path).history().corrections() == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"spans": 3}', '{"spans": [], "state": "new"}'])
def test_a_damaged_history_is_begun_anew(tmp_path, text):
    (tmp_path / "clock.json").write_text(text)
    assert ClockGuard(tmp_path / "clock.json").history() == ClockHistory()


def test_a_folder_that_cannot_be_written_does_not_stop_the_guard(tmp_path):
    (tmp_path / "file").write_text("")
    guard = ClockGuard(
        tmp_path / "file" / "clock.json",
        read=lambda: ClockReading(TRUE * NS, 0, "b", synchronised=False),
    )
    assert guard.observe(1).state is ClockState.OK


def test_this_machine_has_both_clocks():
    first, second = read_clocks(), read_clocks()
    assert first.boot == second.boot
    assert second.boot_ns > first.boot_ns
    assert abs(second.offset_ns - first.offset_ns) < NS
