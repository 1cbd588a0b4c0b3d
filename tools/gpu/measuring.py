"""Times calls: sequential ones for latency, from several threads for throughput."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WARM_UP = 3
"""Calls that are not timed."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]


def latency(call: Callable[[], object], *, seconds: float, least: int = 20) -> dict[str, float]:
    """Return p50, p95, p99 of sequential calls in milliseconds, and the number of calls."""
    for _ in range(_WARM_UP):
        call()
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while len(taken) < least or time.perf_counter() < ends:
        began = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - began))
    figures = {f"p{p}_ms": round(percentile(taken, p / 100), 4) for p in (50, 95, 99)}
    return {**figures, "calls": len(taken)}


def throughput(call: Callable[[], object], *, threads: int, seconds: float) -> float:
    """Return calls per second from so many threads at once.

    Raises:
        Exception: What a call raised, in any of them.
    """
    call()
    counts, failures = [0] * threads, []
    gate = threading.Barrier(threads + 1)
    ends = [0.0]

    def work(number: int) -> None:
        gate.wait()
        try:
            while time.perf_counter() < ends[0]:
                call()
                counts[number] += 1
        except Exception as error:  # noqa: BLE001  raised again in the caller
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    began = time.perf_counter()
    ends[0] = began + seconds
    gate.wait()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - began
    if failures:
        raise failures[0]
    return sum(counts) / took


def loop_rate(run: Callable[[int], None], *, seconds: float) -> float:
    """Return rounds per second of a bare loop; `run(n)` does n rounds and waits for the last."""
    run(2)
    count = 2
    while True:
        began = time.perf_counter()
        run(count)
        took = time.perf_counter() - began
        if took >= seconds:
            return count / took
        # Enough for the rest of the time, in steps that a wrong first guess cannot spoil.
        count = min(count * 8, max(count + 1, int(1.2 * count * seconds / max(took, 1e-6))))
