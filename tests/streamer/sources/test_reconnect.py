import time

import pytest

from streamer.core import log
from streamer.core.backoff import Backoff
from streamer.core.clock import CancelToken
from streamer.core.errors import Cancelled, SourceFault, SourceLost, SourceRejected
from streamer.sources.reconnect import ConnectionState, ReconnectingSource
from tests.support.frames import frame
from tests.support.stepping import StepClock, StepStop

NO_JITTER = Backoff(initial_s=1, max_delay_s=5, reset_after_s=10)
REJECTED = Backoff.constant(30)


def lost(fault=SourceFault.REFUSED):
    return SourceLost("cam: refused", fault=fault)


def scripted(clock, *script):
    """A source whose n-th call does the n-th item: yields so many frames, then raises or ends."""
    attempts = iter(script)
    state = {"number": 0}

    def source(cancel):
        count, step_s, error = next(attempts)
        for _ in range(count):
            clock.step(step_s)
            yield frame(state["number"])
            state["number"] += 1
        if error is not None:
            raise error

    return source


def run(*script, pauses, clock=None):
    """The frames, waits and states until so many waits have passed."""
    clock = clock or StepClock()
    cancel = StepStop(clock, limit=pauses)
    states = []
    source = ReconnectingSource(
        scripted(clock, *script),
        clock=clock,
        backoff=NO_JITTER,
        rejected=REJECTED,
        on_state=states.append,
    )
    frames = []
    with pytest.raises(Cancelled):
        frames.extend(source(cancel))
    return [one.number for one in frames], cancel.pauses, states


def test_each_wait_is_longer_up_to_the_cap():
    _, pauses, _ = run(*[(0, 0, lost())] * 7, pauses=6)
    assert pauses == [1, 2, 4, 5, 5, 5]


def test_a_rejection_is_tried_again_rarely():
    wrong = SourceRejected("cam: wrong password", fault=SourceFault.WRONG_PASSWORD)
    _, pauses, states = run((0, 0, wrong), (0, 0, wrong), (0, 0, lost()), pauses=2)
    assert pauses == [30, 30]
    assert states[-2].fault is SourceFault.WRONG_PASSWORD


def test_a_stretch_of_good_frames_ends_a_series_of_failures():
    good = (12, 1, lost(SourceFault.ENDED))
    _, pauses, _ = run((0, 0, lost()), (0, 0, lost()), good, (0, 0, lost()), pauses=3)
    assert pauses == [1, 2, 1]


def test_a_stream_that_breaks_at_once_continues_the_series():
    flapping = (1, 1, lost(SourceFault.ENDED))
    _, pauses, _ = run(flapping, flapping, flapping, flapping, pauses=3)
    assert pauses == [1, 2, 4]


def test_the_end_of_a_source_is_a_failure_too():
    frames, _, states = run((2, 1, None), (1, 1, None), (0, 0, lost()), pauses=2)
    assert frames == [0, 1, 2]
    waiting = [state for state in states if state.connection is ConnectionState.WAITING]
    assert [state.fault for state in waiting][:2] == [SourceFault.ENDED] * 2


def test_the_states_give_connection_fault_and_since_when():
    _, _, states = run((2, 1, lost()), (0, 0, lost()), (3, 1, lost()), pauses=2)
    reported = [(state.connection, state.since_ns // 10**9, state.attempts) for state in states]
    assert reported == [
        (ConnectionState.CONNECTING, 0, 0),
        (ConnectionState.LIVE, 1, 0),
        (ConnectionState.WAITING, 2, 1),
        (ConnectionState.CONNECTING, 2, 1),
        (ConnectionState.WAITING, 2, 2),
        (ConnectionState.CONNECTING, 2, 2),
        (ConnectionState.LIVE, 6, 0),
        (ConnectionState.WAITING, 8, 3),
    ]
    assert states[2].retry_in_s == 1
    assert states[2].message == "cam: refused"
    assert states[3].fault is SourceFault.REFUSED
    assert states[6].fault is None


def test_a_stop_during_a_wait_ends_at_once():
    clock = StepClock()
    cancel = CancelToken()
    source = ReconnectingSource(
        scripted(clock, (0, 0, lost())),
        clock=clock,
        backoff=Backoff(initial_s=3600, max_delay_s=3600),
        on_state=lambda state: (
            cancel.set() if state.connection is ConnectionState.WAITING else None
        ),
    )
    with pytest.raises(Cancelled):
        next(source(cancel))


def test_a_stop_while_frames_come_is_an_ordinary_end():
    clock = StepClock()
    cancel = CancelToken()

    def source(cancel):
        number = 0
        while not cancel.is_set():
            yield frame(number)
            number += 1

    frames = ReconnectingSource(source, clock=clock)(cancel)
    next(frames)
    cancel.set()
    assert list(frames) == []


def test_closing_it_closes_the_attempt_within():
    closed = []

    def source(cancel):
        try:
            yield frame(0)
        finally:
            closed.append(True)

    frames = ReconnectingSource(source, clock=StepClock())(CancelToken())
    next(frames)
    frames.close()
    assert closed == [True]


def test_other_errors_are_raised():
    def source(cancel):
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        next(ReconnectingSource(source, clock=StepClock())(CancelToken()))


def test_days_of_failing_write_few_lines(capsys):
    run(*[(0, 0, lost())] * 1000, pauses=999)
    assert capsys.readouterr().out.count("no frames") <= 11


def test_an_hour_of_a_camera_that_comes_and_goes_writes_few_lines_and_counts_the_rest(
    capsys, monkeypatch
):
    log.set_up(level="info", style="text")
    clock = StepClock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now_ns / 1e9)
    flapping = [(3, 0.5, lost(SourceFault.ENDED)), (0, 0, lost(SourceFault.REFUSED))]
    run(*flapping * 600, pauses=1199, clock=clock)  # Each pause lasts up to 5 s.
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert 10 <= len(lines) <= 50
    assert any("repeated=" in line for line in lines)
