"""The pipeline's promises as properties: nothing lost, nothing hangs, no thread left over."""

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars, get_contextvars

from streamer.core.clock import CancelToken
from streamer.core.errors import Cancelled
from streamer.core.link import Link, Overflow
from streamer.core.pipeline import Pipeline, file_links, live_links
from tests.support.frames import counting, drain, frame, same

SECOND = 1_000_000_000
LIVE = live_links(latency_budget_ns=60 * SECOND)
FILE = file_links()


def doubled(frames):
    last = None
    for last, _ in itertools.pairwise(frames):
        yield last
        yield last


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 60), capacity=st.integers(1, 5), parts=st.integers(0, 3))
def test_block_loses_nothing_and_keeps_order(count, capacity, parts):
    got = []
    Pipeline(
        "p",
        counting(count),
        {f"s{index}": same for index in range(parts)},
        {"out": lambda frames: got.extend(item.number for item in frames)},
        make_link=file_links(capacity=capacity),
    ).run()
    assert got == list(range(count))


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(1, 80),
    capacity=st.integers(1, 5),
    work_s=st.sampled_from([0, 0.0005]),
)
def test_drop_oldest_delivers_a_subsequence_that_ends_in_the_newest(count, capacity, work_s):
    got = []

    def out(frames):
        for item in frames:
            time.sleep(work_s)  # The work of a slow sink, not a wait for something.
            got.append(item.number)

    pipeline = Pipeline(
        "p",
        counting(count),
        {"s": same},
        {"out": out},
        make_link=live_links(latency_budget_ns=60 * SECOND, capacity=capacity),
    )
    pipeline.run()
    assert got == sorted(set(got))
    assert got[-1] == count - 1
    for link in pipeline.statistics():
        assert link.received == link.delivered + link.dropped_full
        assert link.depth == link.discarded == 0


@settings(max_examples=40, deadline=None)
@given(
    where=st.sampled_from(["source", "stage", "sink", "worker"]),
    at=st.integers(0, 30),
    make_link=st.sampled_from([LIVE, FILE]),
)
def test_any_failure_at_any_frame_ends_every_thread_and_comes_out_of_run(where, at, make_link):
    reached = threading.Event()

    def failing_stage(frames):
        for index, item in enumerate(frames):
            if index == at:
                reached.set()
                if where == "stage":
                    raise ValueError("engine failed")
            yield item

    def failing_sink(frames):
        for index, _ in enumerate(frames):
            if where == "sink" and index == at:
                raise OSError("disk full")

    def failing_worker(cancel: CancelToken) -> None:
        if where == "worker":
            cancel.on_cancel(reached.set)
            reached.wait(10)
            raise OSError("recording failed")

    pipeline = Pipeline(
        "p",
        counting(10**7, fail_at=at if where == "source" else None),
        {"a": same, "b": failing_stage, "c": same},
        {"x": failing_sink, "y": drain},
        make_link=make_link,
        workers={"w": failing_worker},
    )
    with pytest.raises(ExceptionGroup) as raised:
        pipeline.run()
    assert len(raised.value.exceptions) == 1
    (note,) = raised.value.exceptions[0].__notes__
    assert note.startswith("in thread p/")


@settings(max_examples=20, deadline=None)
@given(after_s=st.floats(0, 0.02), make_link=st.sampled_from([LIVE, FILE]))
def test_stop_at_any_moment_ends_everything_and_cleans_up(after_s, make_link):
    begun, ended = [], []

    def tidy(frames):
        begun.append(1)
        try:
            yield from frames
        finally:
            ended.append(1)

    pipeline = Pipeline(
        "p", counting(10**9), {"a": tidy, "b": same}, {"x": drain}, make_link=make_link
    )
    timer = threading.Timer(after_s, pipeline.stop)
    timer.start()
    pipeline.run()
    timer.join()
    assert begun == ended


@settings(max_examples=20, deadline=None)
@given(after=st.integers(0, 50))
def test_finish_lets_everything_on_its_way_arrive(after):
    sent, got = [], []
    pipeline: Pipeline

    def source(cancel):
        for number in itertools.count():
            if number == after:
                pipeline.finish()
            sent.append(number)
            yield frame(number)

    pipeline = Pipeline(
        "p",
        source,
        {"a": same},
        {"x": lambda frames: got.extend(item.number for item in frames)},
        make_link=FILE,
    )
    pipeline.run()
    assert got == sent


def test_finish_cuts_a_pause_of_the_source_short():
    got = []
    pipeline: Pipeline

    def pausing(cancel):
        yield frame(0)
        threading.Thread(target=pipeline.finish).start()
        cancel.sleep(3600)

    pipeline = Pipeline("p", pausing, {"a": same}, {"x": got.extend}, make_link=LIVE)
    pipeline.run()
    assert [item.number for item in got] == [0]


def test_stop_cuts_a_pause_of_the_source_short():
    pipeline: Pipeline
    interrupted = []

    def pausing(cancel):
        yield frame(0)
        threading.Thread(target=pipeline.stop).start()
        try:
            cancel.sleep(3600)
        except Cancelled:
            interrupted.append(cancel.is_set())
            raise

    pipeline = Pipeline("p", pausing, {"a": same}, {"x": drain}, make_link=LIVE)
    pipeline.run()
    assert interrupted == [True]


def test_a_sink_that_has_enough_ends_the_source():
    got = []
    Pipeline(
        "p",
        counting(10**9),
        {"a": same},
        {"x": lambda frames: got.extend(itertools.islice(frames, 5))},
        make_link=FILE,
    ).run()
    assert [item.number for item in got] == [0, 1, 2, 3, 4]


def test_one_sink_leaving_does_not_end_the_other():
    few, many = [], []
    Pipeline(
        "p",
        counting(200),
        {"a": same},
        {"few": lambda frames: few.extend(itertools.islice(frames, 5)), "many": many.extend},
        make_link=FILE,
    ).run()
    assert len(few) == 5
    assert [item.number for item in many] == list(range(200))


def test_a_stage_that_ends_early_ends_the_source():
    got = []
    Pipeline(
        "p",
        counting(10**9),
        {"head": lambda frames: itertools.islice(frames, 3)},
        {"x": got.extend},
        make_link=FILE,
    ).run()
    assert len(got) == 3


def test_without_sinks_frames_end_after_the_last_stage():
    seen = []

    def record(frames):
        for item in frames:
            seen.append(item.number)
            yield item

    Pipeline("p", counting(5), {"record": record}, {}, make_link=FILE).run()
    assert seen == [0, 1, 2, 3, 4]


def test_a_stage_may_make_more_frames_than_it_got():
    a, b = [], []
    Pipeline(
        "p", counting(5), {"x2": doubled}, {"a": a.extend, "b": b.extend}, make_link=FILE
    ).run()
    assert [item.number for item in a] == [item.number for item in b] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_slow_sink_gets_young_frames_only_and_every_drop_is_counted():
    budget_ns = 30_000_000
    late = []

    def slow(frames):
        for item in frames:
            late.append(item.number)
            time.sleep(0.01)  # The work of a slow sink, not a wait for something.

    def make_link(name, *, gate=None):
        return Link(name, capacity=50, overflow=Overflow.DROP_OLDEST, max_age_ns=budget_ns)

    pipeline = Pipeline("p", counting(300, pause_s=0.001), {}, {"x": slow}, make_link=make_link)
    pipeline.run()
    (link,) = pipeline.statistics()
    assert link.age.max_ms <= budget_ns / 1e6
    assert link.dropped_late > 0
    assert len(late) == link.delivered == 300 - link.dropped_late - link.dropped_full


def test_the_pipeline_is_only_function_composition():
    assert [item.number for item in same(same(counting(3)(CancelToken())))] == [0, 1, 2]


def test_what_the_caller_bound_for_the_log_is_in_the_lines_of_all_threads():
    seen = []

    def source(stop):
        seen.append(get_contextvars())
        yield frame(0)

    def sink(frames):
        seen.append(get_contextvars())
        list(frames)

    with bound_contextvars(camera="north"):
        pipeline = Pipeline("north", source, {}, {"out": sink}, make_link=file_links())
    pipeline.run()
    assert seen == [{"camera": "north"}] * 2


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Python's own handler of SIGINT, whatever other tests of the process have installed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_ends_the_threads_before_it_leaves_run():
    began, ended = threading.Event(), threading.Event()

    def endless(stop):
        try:
            began.set()
            while True:
                yield frame(0)
                stop.sleep(0.001)
        finally:
            ended.set()

    def interrupt():
        began.wait()
        # To the main thread, as from a terminal: it wakes from its wait.
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    pipeline = Pipeline("north", endless, {}, {"out": list}, make_link=file_links())
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    interrupting.join()
    assert ended.is_set()


def test_when_a_thread_cannot_be_started_the_others_end(monkeypatch):
    def endless(stop):
        while True:
            yield frame(0)
            stop.sleep(0.001)

    pipeline = Pipeline("north", endless, {}, {"out": list}, make_link=file_links())

    def refuse():
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pipeline._threads[1], "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        pipeline.run()


def test_an_error_that_is_no_exception_ends_every_thread_too():
    def broken(frames):
        next(frames)
        raise asyncio.CancelledError  # As a panic of a library in Rust.
        yield

    def endless(cancel):
        yield frame(0)
        cancel.sleep(10)

    pipeline = Pipeline("p", endless, {"s": broken}, {"out": drain}, make_link=LIVE)
    began_s = time.monotonic()
    with pytest.raises(ExceptionGroup) as raised:
        pipeline.run()
    assert time.monotonic() - began_s < 5
    (error,) = raised.value.exceptions
    assert str(error) == "CancelledError"
    assert error.__notes__ == ["in thread p/s"]
