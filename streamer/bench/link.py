"""Cost of passing one item through a link."""

import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from streamer.core.link import Link, Overflow

_ITEMS = 20_000
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class _Item:
    arrived_ns: int


def measure() -> Mapping[str, float]:
    """Return `link_us`: median microseconds per item between two threads, for both policies."""
    figures = {}
    for overflow in Overflow:
        rounds = [_microseconds_per_item(overflow) for _ in range(_ROUNDS)]
        figures[overflow] = statistics.median(rounds)
    return {
        "link_us": round(max(figures.values()), 2),
        "link_block_us": round(figures[Overflow.BLOCK], 2),
        "link_drop_us": round(figures[Overflow.DROP_OLDEST], 2),
    }


def _microseconds_per_item(overflow: Overflow) -> float:
    link: Link[_Item] = Link("bench", capacity=4, overflow=overflow, max_age_ns=10**12)

    def send() -> None:
        for _ in range(_ITEMS):
            link.put(_Item(time.monotonic_ns()))
        link.close()

    began = time.perf_counter()
    sender = threading.Thread(target=send, name="bench/link")
    sender.start()
    for _ in link:
        pass
    sender.join()
    return (time.perf_counter() - began) / _ITEMS * 1e6
