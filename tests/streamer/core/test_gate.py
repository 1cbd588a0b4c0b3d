"""A link behind a gate: what waits, what wakes it, and what the gate learns."""

import threading
from dataclasses import replace

import pytest

from streamer.core.errors import Cancelled
from streamer.core.link import Link, Overflow
from tests.support.frames import frame


class Turnstile:
    """Delivers an item once it is open or newer items wait; notes what it learns."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open = False
        self.waits = threading.Event()
        self.noted = []
        self.patience = None

    def attach(self, wake):
        self.wake = wake

    def arrived(self, item):
        self.noted.append(("arrived", item.number))

    def admit(self, item, *, newer, closing):
        if self.open:
            return item
        if newer or closing:
            return replace(item, sampled=False)
        self.waits.set()
        return None

    def patience_s(self):
        return self.patience

    def dropped(self, item):
        self.noted.append(("dropped", item.number))

    def discarded(self, item):
        self.noted.append(("discarded", item.number))

    def closed(self):
        self.noted.append(("closed",))

    def let_through(self):
        with self.lock:
            self.open = True
            self.wake()


def link_behind(gate, **keywords):
    return Link("l", capacity=2, overflow=Overflow.DROP_OLDEST, gate=gate, **keywords)


def received(link):
    """Receive one item in another thread; returns the list it comes into, and the thread."""
    got = []

    def receive():
        try:
            got.append(next(iter(link)))
        except Cancelled:
            got.append("cancelled")
        except StopIteration:
            got.append("end")

    receiver = threading.Thread(target=receive)
    receiver.start()
    return got, receiver


@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        (lambda gate, link: gate.let_through(), (0, True)),
        (lambda gate, link: link.put(frame(1)), (0, False)),
        (lambda gate, link: link.close(), (0, False)),
        (lambda gate, link: link.abort(), "cancelled"),
    ],
    ids=["the gate opens", "a newer item arrives", "the link is closed", "the pipeline stops"],
)
def test_an_item_waits_until(happens, expected):
    gate = Turnstile()
    link = link_behind(gate)
    link.put(frame(0))
    got, receiver = received(link)
    assert gate.waits.wait(5)
    assert got == []
    happens(gate, link)
    receiver.join(5)
    (item,) = got
    assert (item if isinstance(item, str) else (item.number, item.sampled)) == expected


def test_the_gate_decides_again_when_its_patience_ends():
    gate = Turnstile()
    gate.patience = 0.001
    link = link_behind(gate)
    link.put(frame(0))
    got, receiver = received(link)
    assert gate.waits.wait(5)
    with gate.lock:
        gate.open = True  # Without waking anybody.
    receiver.join(5)
    assert got[0].number == 0


def test_the_gate_learns_the_fate_of_every_item():
    gate = Turnstile()
    link = link_behind(gate)
    for number in range(3):
        link.put(frame(number))
    link.abort()
    assert gate.noted == [
        ("arrived", 0), ("arrived", 1), ("arrived", 2), ("dropped", 0),
        ("discarded", 1), ("discarded", 2), ("closed",),
    ]  # fmt: skip


def test_the_age_limit_spares_what_is_ageless():
    class Later:
        def monotonic_ns(self):
            return 10**12

    link = Link(
        "l",
        capacity=4,
        overflow=Overflow.DROP_OLDEST,
        max_age_ns=1,
        ageless=lambda item: item.sampled,
        clock=Later(),
    )
    for number in range(4):
        link.put(frame(number, arrived_ns=0, sampled=number == 2))
    link.close()
    assert [item.number for item in link] == [2]
    assert link.statistics().dropped_late == 3


def test_a_link_that_has_ended_does_not_call_its_gate_again():
    """The gate may be that of the next link by then."""
    gate = Turnstile()
    old = Link("old", capacity=2, overflow=Overflow.DROP_OLDEST, gate=gate)
    old.leave()
    link = Link("new", capacity=2, overflow=Overflow.DROP_OLDEST, gate=gate)
    link.put(frame(1))
    gate.noted.clear()
    old.abort()
    assert gate.noted == []
    link.abort()
    assert gate.noted == [("discarded", 1), ("closed",)]
