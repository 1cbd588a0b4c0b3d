"""What is reported of an overload, and how often it is logged."""

import itertools

from streamer.app.inference_report import OverloadLog, hanging_inference, inference_report
from streamer.core.latency import LatencyCounts
from streamer.detect.inference_scheduler import SeatStatistics
from streamer.detect.overload import OverloadState

S = 1_000_000_000


class ManualClock:
    now_ns = 0

    def monotonic_ns(self):
        return self.now_ns


def seat(overload, *, running_since_ns=None):
    return SeatStatistics(
        wanted=120, inferred=40, late=3, skipped={"superseded": 70, "no_time": 9}, waiting=1,
        running_since_ns=running_since_ns, service=LatencyCounts(), overload=overload,
    )  # fmt: skip


def overloaded(worst=0.26, share=0.3):
    return OverloadState(
        wanted_fps=4, inferred_fps=1.3, share=share, since_ns=7 * S, worst_share=worst
    )


def test_the_report_has_the_figures_and_a_text_that_changes_only_when_it_gets_worse():
    fields = inference_report(seat(overloaded()), fps=4)
    assert (fields["wanted_fps"], fields["late_inferences"]) == (4, 3)
    assert fields["skipped_inferences"] == {"superseded": 70, "no_time": 9}
    assert fields["overload"].since_ns == 7 * S
    assert fields["overload"].reason == (
        "the machine is too slow: down to 30 % of 4 inferences per second in time"
    )
    better = inference_report(seat(overloaded(share=0.8)), fps=4)
    assert better["overload"] == fields["overload"]
    assert inference_report(seat(OverloadState()), fps=4)["overload"] is None


def test_an_inference_that_does_not_return_is_a_condition():
    clock = ManualClock()
    clock.now_ns = 60 * S
    found = {
        since_s: list(
            hanging_inference(
                seat(OverloadState(), running_since_ns=since_s * S),
                latency_budget_ns=2 * S,
                clock=clock,
            )
        )
        for since_s in (10, 50)
    }
    (condition,) = found[10]
    assert (condition.kind, condition.since_ns) == ("inference", 10 * S)
    assert condition.reason == "an inference has not returned for more than 17 s"
    assert found[50] == []


class Seats:
    """A scheduler with one camera, whose state the test sets."""

    def __init__(self):
        self.clock = ManualClock()
        self.state = OverloadState()
        self.camera = "north"

    def seats(self):
        return [self]

    def statistics(self):
        return seat(self.state)


def test_beginning_and_end_are_logged_at_most_once_a_minute():
    seats = Seats()
    log = OverloadLog(seats)
    lines = []
    for second, is_overloaded in zip(
        range(300), itertools.cycle([True] * 5 + [False] * 5), strict=False
    ):
        seats.clock.now_ns = second * S
        seats.state = overloaded() if is_overloaded else OverloadState()
        lines += [(second, line["overloaded"]) for line in log.lines()]
    assert lines == [(0, True), (65, False), (130, True), (195, False), (260, True)]
    seats.state = OverloadState()
    assert list(OverloadLog(seats).lines()) == []
    seats.state = overloaded()
    (line,) = OverloadLog(seats).lines()
    assert line == {
        "overloaded": True, "camera": "north", "wanted_fps": 4, "inferred_fps": 1.3,
        "in_time": "30%", "late": 3, "skipped": {"superseded": 70, "no_time": 9},
    }  # fmt: skip
