"""Times calls beside each other, in turns: what else runs on a machine slows all of them alike."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

CALLS = 4
"""Calls per thread and round."""


def interleaved(calls: Mapping[str, Callable[[], object]], *, rounds: int = 10) -> dict[str, float]:
    """Return the median milliseconds per call while every core runs such calls.

    Each round asks every call in turn, from as many threads as there are cores. The first round
    warms up and is not counted.
    """
    threads = len(os.sched_getaffinity(0))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    with ThreadPoolExecutor(threads) as pool:
        for turn in range(rounds + 1):
            for name, call in calls.items():
                began = time.perf_counter()
                for done in [pool.submit(_repeat, call) for _ in range(threads)]:
                    done.result()
                if turn:
                    taken[name].append((time.perf_counter() - began) / (threads * CALLS))
    return {name: 1e3 * statistics.median(times) for name, times in taken.items()}


def _repeat(call: Callable[[], object]) -> None:
    for _ in range(CALLS):
        call()
