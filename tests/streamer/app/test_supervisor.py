"""The supervisor: a failure stays with its camera, cameras come and go, nothing is left behind."""

import asyncio
import threading
from dataclasses import dataclass, field

import pytest

from streamer.app import supervisor as module
from streamer.app.supervised_task import one_line
from streamer.app.supervisor import Supervisor
from streamer.core import log
from streamer.core.backoff import Backoff
from streamer.core.errors import SourceFault, SourceLost
from streamer.core.pipeline import Pipeline, file_links
from streamer.health.reports import TaskPhase
from tests.support.frames import counting, frame
from tests.support.stepping import StepClock

LIMIT_S = 20


@dataclass
class PipelineCamera:
    """A camera of one real pipeline per run; the last source is used for all further runs."""

    name: str
    live: bool
    sources: list
    built: int = 0
    got: list = field(default_factory=list)
    closed: bool = False
    pipeline: Pipeline | None = None
    finished: bool = False

    def run(self) -> None:
        source = self.sources[min(self.built, len(self.sources) - 1)]
        self.built += 1
        links = file_links()
        self.pipeline = Pipeline(self.name, source, {}, {"out": self.got.extend}, make_link=links)
        if self.finished:
            self.pipeline.finish()
        self.pipeline.run()

    def finish(self) -> None:
        self.finished = True
        if self.pipeline is not None:
            self.pipeline.finish()

    def stop(self) -> None:
        self.finished = True
        if self.pipeline is not None:
            self.pipeline.stop()

    def close(self) -> None:
        self.closed = True


def lost(stop):
    raise SourceLost("north: the camera went away", fault=SourceFault.ENDED)
    yield


class Endless:
    """A source of frames until it is stopped; `delivered` says that some have been taken."""

    def __init__(self) -> None:
        self.delivered = threading.Event()

    def __call__(self, stop):
        number = 0
        while not stop.is_set():
            yield frame(number)
            number += 1
            if number == 9:
                self.delivered.set()


def wait(event: threading.Event) -> None:
    assert event.wait(LIMIT_S)


def reports(supervisor: Supervisor) -> dict:
    return {report.name: report for _, report in supervisor.cameras()}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    restart = Backoff(initial_s=0.01, max_delay_s=30, reset_after_s=60)
    monkeypatch.setattr(module, "_RESTART", restart)


def supervised(*cameras, clock=None, redact=str, **services) -> Supervisor:
    supervisor = Supervisor(clock=clock, redact=redact)
    for name, work in services.items():
        supervisor.add_service(name, work)
    for camera in cameras:
        supervisor.add(camera)
    return supervisor


class Running:
    """A supervisor that runs in a thread until the end of the block."""

    def __init__(self, *cameras, **services) -> None:
        self.supervisor = supervised(*cameras, **services)
        self._thread = threading.Thread(target=self.supervisor.run)

    def __enter__(self) -> Supervisor:
        self._thread.start()
        return self.supervisor

    def __exit__(self, *_) -> None:
        self.supervisor.stop()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()


def test_files_run_to_their_end():
    north, south = (
        PipelineCamera("north", False, [counting(5)]),
        PipelineCamera("south", False, [counting(3)]),
    )
    supervised(north, south).run()
    assert (len(north.got), len(south.got)) == (5, 3)
    assert north.closed
    assert south.closed


def test_a_live_camera_is_started_again_and_its_failure_is_reported_meanwhile():
    seen = []
    supervisor: Supervisor

    def watching(stop):
        seen.append(reports(supervisor)["north"])
        yield from counting(2)(stop)

    north = PipelineCamera("north", True, [lost, watching])
    supervisor = supervised(north)
    supervisor.run()
    assert north.built == 2
    assert len(north.got) == 2
    (report,) = seen
    assert (report.phase, report.restarts) == (TaskPhase.RUNNING, 1)
    assert report.failing_since_ns is not None
    assert report.last_error.message == "north: the camera went away (in thread north/source)"
    assert "in lost" in report.last_error.traceback


def test_a_file_that_fails_is_reported_and_the_others_go_on():
    broken = PipelineCamera("broken", False, [lost])
    whole = PipelineCamera("whole", False, [counting(9)])
    supervisor = supervised(broken, whole)
    with pytest.raises(ExceptionGroup) as raised:
        supervisor.run()
    assert "went away" in one_line(raised.value)
    assert "in thread broken/source" in one_line(raised.value)
    assert len(whole.got) == 9
    phases = {name: report.phase for name, report in reports(supervisor).items()}
    assert phases == {"broken": TaskPhase.FAILED, "whole": TaskPhase.ENDED}


def test_finish_drains_and_ends_the_services_after_the_cameras():
    order = []
    supervisor: Supervisor
    north: PipelineCamera

    def endless(stop):
        number = 0
        while True:
            if number == 20:
                supervisor.finish()
            yield frame(number)
            number += 1

    def delivery(stop):
        ended = threading.Event()
        stop.on_cancel(ended.set)
        wait(ended)
        order.append(len(north.got))

    north = PipelineCamera("north", True, [endless])
    supervisor = supervised(north, delivery=delivery)
    supervisor.run()
    assert order == [len(north.got)]
    assert [item.number for item in north.got] == list(range(21))


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (OSError("broker gone"), "broker gone"),
        (asyncio.CancelledError(), "RuntimeError: CancelledError"),
    ],
)
def test_a_service_that_fails_is_started_again(failure, message):
    runs = []

    def delivery(stop):
        runs.append(1)
        if len(runs) < 3:
            raise failure
        supervisor.finish()

    def endless(stop):
        yield frame(0)
        stop.sleep(3600)

    supervisor = supervised(PipelineCamera("north", True, [endless]), delivery=delivery)
    supervisor.run()
    assert len(runs) == 3
    (report,) = supervisor.services()
    assert (report.restarts, report.last_error.message) == (2, message)


def test_stop_while_a_camera_waits_to_be_started_again_ends_at_once(monkeypatch):
    monkeypatch.setattr(module, "_RESTART", Backoff.constant(3600))

    def watchdog(stop):
        while reports(supervisor)["north"].phase is not TaskPhase.BACKOFF:
            stop.sleep(0.001)
        supervisor.stop()

    supervisor = supervised(PipelineCamera("north", True, [lost]), watchdog=watchdog)
    supervisor.run()
    assert reports(supervisor)["north"].phase is TaskPhase.ENDED


def test_a_camera_is_added_while_the_others_run():
    first, second = Endless(), Endless()
    south = PipelineCamera("south", True, [second])
    with Running(PipelineCamera("north", True, [first])) as supervisor:
        wait(first.delivered)
        supervisor.add(south)
        wait(second.delivered)
        assert list(reports(supervisor)) == ["north", "south"]
        with pytest.raises(ValueError, match="there is a camera 'south' already"):
            supervisor.add(PipelineCamera("south", True, [second]))
    assert south.closed


def test_a_removed_camera_has_ended_and_the_others_go_on():
    first, second = Endless(), Endless()
    north, south = PipelineCamera("north", True, [first]), PipelineCamera("south", True, [second])
    with Running(north, south) as supervisor:
        wait(first.delivered)
        wait(second.delivered)
        supervisor.remove("south")
        assert south.closed
        count = len(south.got)
        first.delivered.clear()
        assert list(reports(supervisor)) == ["north"]
        assert reports(supervisor)["north"].phase is TaskPhase.RUNNING
        assert len(south.got) == count
        with pytest.raises(KeyError):
            supervisor.remove("south")


def test_a_camera_that_waits_to_be_started_again_is_removed_at_once(monkeypatch):
    monkeypatch.setattr(module, "_RESTART", Backoff.constant(3600))
    first = Endless()
    with Running(
        PipelineCamera("north", True, [first]), PipelineCamera("south", True, [lost])
    ) as supervisor:
        wait(first.delivered)
        while reports(supervisor)["south"].phase is not TaskPhase.BACKOFF:
            pass
        supervisor.remove("south")
        assert list(reports(supervisor)) == ["north"]


def test_the_only_camera_is_replaced_without_ending_the_program():
    first, second = Endless(), Endless()
    before, after = PipelineCamera("north", True, [first]), PipelineCamera("north", True, [second])
    with Running(before) as supervisor:
        wait(first.delivered)
        supervisor.replace(after)
        wait(second.delivered)
        assert before.closed
        assert [camera for camera, _ in supervisor.cameras()] == [after]


def test_a_camera_that_does_not_finish_is_stopped_after_the_grace_period(monkeypatch):
    monkeypatch.setattr(module, "_FINISH_S", 0.01)
    started, ended = threading.Event(), threading.Event()

    class Stubborn(PipelineCamera):
        def run(self) -> None:
            started.set()
            wait(ended)

        def finish(self) -> None:
            """It does not listen."""

        def stop(self) -> None:
            ended.set()

    first = Endless()
    south = Stubborn("south", True, [])
    with Running(PipelineCamera("north", True, [first]), south) as supervisor:
        wait(started)
        supervisor.remove("south")
        assert ended.is_set()


def test_cameras_and_services_that_do_not_end_are_given_up_and_named(monkeypatch, capsys):
    log.set_up(level="info", style="text")
    for limit in ("_FINISH_S", "_STOP_S", "_CLOSE_S", "_SERVICES_S"):
        monkeypatch.setattr(module, limit, 0.05)
    released = threading.Event()

    class Stuck(PipelineCamera):
        def run(self) -> None:
            wait(released)

        def finish(self) -> None:
            """A system call does not listen."""

        stop = finish

    class Unwritten(PipelineCamera):
        def close(self) -> None:
            wait(released)

    endless = Endless()
    cameras = (
        Stuck("stuck", True, []),
        Unwritten("unwritten", True, [endless]),
        PipelineCamera("north", True, [endless]),
    )
    supervisor = supervised(*cameras, delivery=lambda stop: wait(released))
    ending = threading.Thread(target=lambda: (wait(endless.delivered), supervisor.finish()))
    ending.start()
    supervisor.run()
    ending.join()
    named = {line.split("part=")[1] for line in capsys.readouterr().err.splitlines()}
    assert named == {"stuck", "unwritten/close", "delivery"}
    assert cameras[2].closed, "the others end as ever"
    released.set()


def test_nothing_is_added_once_the_program_ends():
    supervisor = Supervisor()
    supervisor.finish()
    supervisor.run()
    with pytest.raises(RuntimeError, match="'north' not added: the program is ending"):
        supervisor.add(PipelineCamera("north", True, [lost]))


@pytest.mark.parametrize(
    ("failures", "proof_s"),
    [(1, 60), (2, 120), (5, 300), (30, 600)],
)
def test_a_camera_is_healthy_again_after_a_minute_for_each_failure_of_the_last_hour(
    failures, proof_s, monkeypatch
):
    monkeypatch.setattr(module, "_RESTART", Backoff.constant(0.001))
    clock = StepClock()
    seen = []
    supervisor: Supervisor

    def failing(stop):
        clock.step(1)
        raise OSError("gone")
        yield

    def healthy(stop):
        for step_s in (0, proof_s - 1, 2):
            clock.step(step_s)
            yield frame(0)
            seen.append(reports(supervisor)["north"].failing_since_ns)

    sources = [*[failing] * failures, healthy]
    supervisor = supervised(PipelineCamera("north", True, sources), clock=clock)
    supervisor.run()
    assert seen == [1_000_000_000, 1_000_000_000, None], "one good frame proves nothing"
    report = reports(supervisor)["north"]
    assert (report.restarts, report.failures_last_hour) == (failures, failures)


def test_a_camera_that_fails_every_90_seconds_never_reads_as_healthy():
    clock = StepClock()
    seen = []
    supervisor: Supervisor

    def flapping(stop):
        for _ in range(9):
            clock.step(10)
            yield frame(0)
            seen.append(reports(supervisor)["north"])
        if len(seen) < 500:
            raise OSError("gone")

    supervisor = supervised(PipelineCamera("north", True, [flapping]), clock=clock)
    supervisor.run()
    twice = [report for report in seen if report.restarts >= 2]
    assert {report.failing_since_ns for report in twice} == {180_000_000_000}
    assert max(report.failures_last_hour for report in seen) == 40


@pytest.mark.parametrize(
    ("error", "traced"),
    [(KeyError("box"), True), (SourceLost("gone", fault=SourceFault.ENDED), False)],
)
def test_the_log_shows_the_traceback_of_a_bug_but_not_of_a_camera_that_is_gone(
    error, traced, capsys
):
    def failing(stop):
        raise error
        yield

    log.set_up(level="info", style="text", redact=lambda text: text.replace("box", "***"))
    with pytest.raises(ExceptionGroup):
        supervised(PipelineCamera("north", False, [failing])).run()
    logged = capsys.readouterr().err
    assert ("Traceback" in logged) is traced
    assert ("KeyError: '***' (in thread north/source)" in logged) is traced
    assert "box" not in logged


def test_secrets_are_removed_from_errors_and_tracebacks():
    def failing():
        raise OSError("rtsp://me:hunter2@camera refused")

    camera = PipelineCamera("north", False, [])
    camera.run = failing
    supervisor = supervised(camera, redact=lambda text: text.replace("hunter2", "***"))
    with pytest.raises(ExceptionGroup):
        supervisor.run()
    error = reports(supervisor)["north"].last_error
    assert error.message == "rtsp://me:***@camera refused"
    assert "hunter2" not in error.traceback
    assert "Traceback" in error.traceback
