"""The outbox does in every order of calls what a list of plain records does."""

import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from streamer.store import DeliveryState
from streamer.store.sqlite import SqliteEventStore
from tests.support.deliveries import HandClock, event

WAITING, SENDING, CONFIRMED, DEAD, GIVEN_UP = DeliveryState
CHANNELS = ("mail", "siren")
ALARMS = {"a": "north", "b": "north", "c": "south"}


@dataclass
class Row:
    number: int
    channel: str
    alarm: str
    due: datetime
    changed: datetime
    state: DeliveryState = WAITING
    attempts: int = 0
    backoff_total: timedelta = field(default_factory=timedelta)
    error: str | None = None


class OutboxMachine(RuleBasedStateMachine):
    """Calls the outbox and the model alike, and compares."""

    claims = 0

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = HandClock()
        self.open()
        self.rows: list[Row] = []
        self.next_sequence = dict.fromkeys(ALARMS, 0)
        self.known: list[tuple] = []

    def open(self):
        self.store = SqliteEventStore(Path(self.folder.name) / "events.db", clock=self.clock)
        self.outbox = self.store.outbox

    def teardown(self):
        self.store.close()
        self.folder.cleanup()

    @rule(alarm=st.sampled_from(list(ALARMS)), channels=st.sets(st.sampled_from(CHANNELS)))
    def add(self, alarm, channels):
        what = event(alarm, self.next_sequence[alarm], camera=ALARMS[alarm])
        self.next_sequence[alarm] += 1
        ordered = sorted(channels)
        assert self.store.add(what, channels=ordered)
        self.known.append((what, ordered))
        for channel in ordered:
            now = self.clock.now
            self.rows.append(Row(len(self.rows) + 1, channel, alarm, due=now, changed=now))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def add_again(self, data):
        what, channels = data.draw(st.sampled_from(self.known))
        assert not self.store.add(what, channels=channels)

    @rule(seconds=st.integers(0, 100))
    def time_passes(self, seconds):
        self.clock.advance(seconds=seconds)

    @rule(seconds=st.integers(1, 100))
    def the_wall_clock_is_set_back(self, seconds):
        self.clock.advance(seconds=-seconds)

    def heads(self, channel):
        """The first open row of each alarm on the channel, if it waits."""
        found = {}
        for row in self.rows:
            if row.channel == channel and row.state in (WAITING, SENDING):
                found.setdefault(row.alarm, row)
        return [row for row in found.values() if row.state is WAITING]

    @rule(channel=st.sampled_from(CHANNELS), untried_only=st.booleans())
    def claim(self, channel, untried_only):
        now = self.clock.now
        due = [
            row
            for row in self.heads(channel)
            if (row.due <= now or row.changed > now) and not (untried_only and row.attempts)
        ]
        claimed = self.outbox.claim(channel, untried_only=untried_only)
        if not due:
            assert claimed is None
            return
        row = min(due, key=lambda row: (row.attempts, row.number))
        row.state, row.changed, row.attempts = SENDING, now, row.attempts + 1
        assert (claimed.number, claimed.attempts) == (row.number, row.attempts)
        OutboxMachine.claims += 1
        assert claimed.superseded == any(
            other.state is CONFIRMED
            and other.number > row.number
            and other.channel == channel
            and ALARMS[other.alarm] == ALARMS[row.alarm]
            for other in self.rows
        )

    def some(self, data, *states):
        return data.draw(st.sampled_from([row for row in self.rows if row.state in states]))

    @precondition(lambda self: any(row.state is SENDING for row in self.rows))
    @rule(data=st.data(), outcome=st.sampled_from(["confirm", "later", "dead"]))
    def finish(self, data, outcome):
        row = self.some(data, SENDING)
        row.changed = self.clock.now
        match outcome:
            case "confirm":
                assert self.outbox.confirm(row.number) == self.clock.now
                row.state, row.error = CONFIRMED, None
            case "later":
                delay = timedelta(seconds=data.draw(st.integers(0, 50)))
                self.outbox.reschedule(row.number, after=delay, error="later")
                row.state, row.due, row.error = WAITING, self.clock.now + delay, "later"
                row.backoff_total += delay
            case "dead":
                self.outbox.dead_letter(row.number, error="dead")
                row.state, row.error = DEAD, "dead"

    @rule(numbers=st.none() | st.sets(st.integers(1, 12)))
    def a_person_brings_back(self, numbers):
        wanted = [
            row
            for row in self.rows
            if (row.state is DEAD and (numbers is None or row.number in numbers))
            or (row.state is WAITING and numbers is not None and row.number in numbers)
        ]
        assert self.outbox.retry(numbers) == len(wanted)
        for row in wanted:
            row.state, row.attempts, row.backoff_total = WAITING, 0, timedelta()
            row.due = row.changed = self.clock.now

    @rule(numbers=st.sets(st.integers(1, 12), max_size=2))
    def a_person_gives_up(self, numbers):
        wanted = [r for r in self.rows if r.number in numbers and r.state in (WAITING, DEAD)]
        assert self.outbox.give_up(numbers) == len(wanted)
        for row in wanted:
            row.state, row.changed = GIVEN_UP, self.clock.now

    @rule(channel=st.sampled_from(CHANNELS))
    def a_receiver_is_back(self, channel):
        self.outbox.expedite(channel)
        for row in self.rows:
            if row.channel == channel and row.state is WAITING:
                row.due = min(row.due, self.clock.now)

    @rule()
    def the_program_is_killed_and_started_again(self):
        self.store.close()
        self.open()
        for channel in CHANNELS:
            cut = [row for row in self.rows if row.channel == channel and row.state is SENDING]
            assert self.outbox.recover(channel) == len(cut)
            for row in cut:
                row.state, row.error = WAITING, "the program ended during the attempt"
                row.due = row.changed = self.clock.now

    @invariant()
    def what_is_pending_is_the_same(self):
        def shown(each):
            return (
                each.number,
                each.state,
                each.attempts,
                each.backoff_total,
                each.changed,
                each.error,
            )

        wanted = [row for row in self.rows if row.state in (WAITING, SENDING, DEAD)]
        assert [shown(each) for each in self.outbox.pending()] == [shown(row) for row in wanted]
        backlog = self.outbox.backlog()
        for channel in CHANNELS:
            ours = [row.state for row in wanted if row.channel == channel]
            there = backlog.get(channel)
            dead = ours.count(DEAD)
            assert (there.waiting, there.dead) == (len(ours) - dead, dead) if ours else not there

    @invariant()
    def what_is_due_next_is_the_same(self):
        for channel in CHANNELS:
            dues = [row.due for row in self.heads(channel)]
            wanted = min(dues) - self.clock.now if dues else None
            assert self.outbox.next_due(channel) == wanted


def test_the_outbox_is_a_list_of_records():
    run_state_machine_as_test(
        OutboxMachine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None)
    )
    assert OutboxMachine.claims > 0, "the comparison has covered deliveries"
