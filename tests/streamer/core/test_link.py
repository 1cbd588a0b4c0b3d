"""The link alone, with a clock that the test moves."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.errors import Cancelled, ConsumerClosed
from streamer.core.link import LatestValue, Link, Overflow
from tests.support.frames import frame


class ManualClock:
    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_at(self, monotonic_ns: int):
        raise AssertionError("a link never reads wall time")


@given(
    capacity=st.integers(1, 4),
    budget=st.integers(1, 20),
    steps=st.lists(st.tuples(st.sampled_from(["put", "get", "wait"]), st.integers(0, 10))),
)
def test_nothing_older_than_the_limit_is_delivered_and_the_counts_add_up(capacity, budget, steps):
    clock = ManualClock()
    link = Link(
        "l", capacity=capacity, overflow=Overflow.DROP_OLDEST, max_age_ns=budget, clock=clock
    )
    number = 0
    got = []
    receive = iter(link)
    for action, amount in steps:
        if action == "put":
            link.put(frame(number, arrived_ns=clock.now_ns))
            number += 1
        elif action == "get" and any(
            clock.now_ns - item.arrived_ns <= budget for item in link._items
        ):
            item = next(receive)
            assert clock.now_ns - item.arrived_ns <= budget
            got.append(item.number)
        else:
            clock.now_ns += amount
        seen = link.statistics()
        assert seen.depth <= capacity
        assert seen.received == number
        assert number == (
            seen.delivered + seen.dropped_full + seen.dropped_late + seen.discarded + seen.depth
        )
    assert got == sorted(set(got))


def test_a_full_link_drops_expendable_items_first_and_else_the_oldest():
    link = Link(
        "l",
        capacity=2,
        overflow=Overflow.DROP_OLDEST,
        expendable=lambda item: not item.sampled,
    )
    for number in range(6):
        link.put(frame(number, sampled=number in {0, 4, 5}))
    assert [item.number for item in link._items] == [4, 5]
    link.put(frame(6, sampled=False))
    link.close()
    assert [item.number for item in link] == [4, 5]
    counts = link.statistics()
    assert (counts.received, counts.delivered, counts.dropped_full) == (7, 2, 5)


def test_what_waits_is_delivered_after_close():
    link = Link("l", capacity=3, overflow=Overflow.BLOCK)
    for number in range(3):
        link.put(frame(number))
    link.close()
    assert [item.number for item in link] == [0, 1, 2]


def test_putting_after_close_is_a_mistake_of_the_caller():
    link = Link("l", capacity=1, overflow=Overflow.BLOCK)
    link.close()
    with pytest.raises(RuntimeError, match="put after close"):
        link.put(frame(0))


def test_a_full_link_wakes_its_sender_when_the_receiver_leaves():
    link = Link("l", capacity=1, overflow=Overflow.BLOCK)
    link.put(frame(0))
    ended = []

    def send() -> None:
        try:
            link.put(frame(1))
        except ConsumerClosed:
            ended.append("left")

    sender = threading.Thread(target=send)
    sender.start()
    link.leave()
    sender.join(5)
    assert ended == ["left"]
    assert link.statistics().discarded == 1


def test_an_empty_link_wakes_its_receiver_when_the_pipeline_stops():
    link = Link("l", capacity=1, overflow=Overflow.BLOCK)
    ended = []

    def receive() -> None:
        try:
            list(link)
        except Cancelled:
            ended.append("cancelled")

    receiver = threading.Thread(target=receive)
    receiver.start()
    link.abort()
    receiver.join(5)
    assert ended == ["cancelled"]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"capacity": 0}, "capacity must be at least 1, got 0"),
        ({"capacity": 1, "max_age_ns": 0}, "max_age_ns must be positive, got 0"),
    ],
)
def test_impossible_values_are_refused_at_birth(keywords, message):
    with pytest.raises(ValueError, match=message):
        Link("l", overflow=Overflow.BLOCK, **keywords)


def test_latest_holds_the_newest_and_never_waits_to_be_read():
    slot = LatestValue[int]()
    assert slot.wait(0, timeout_s=0) is None
    slot.set(7)
    slot.set(8)
    assert slot.wait(0, timeout_s=0) == (2, 8)
    assert slot.wait(2, timeout_s=0) is None


def test_closing_latest_wakes_all_viewers():
    slot = LatestValue[int]()
    answers = []
    viewers = [
        threading.Thread(target=lambda: answers.append(slot.wait(0, timeout_s=60)))
        for _ in range(3)
    ]
    for viewer in viewers:
        viewer.start()
    slot.close()
    for viewer in viewers:
        viewer.join(5)
    assert answers == [None, None, None]
