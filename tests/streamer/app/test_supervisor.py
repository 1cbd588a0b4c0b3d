"""The service: one camera's failure is its own, nothing is left behind, finish drains."""

import threading
from dataclasses import dataclass, field

import pytest

from streamer.app import supervisor as module
from streamer.app.supervisor import Supervisor
from streamer.core.backoff import Backoff
from streamer.core.errors import SourceFault, SourceLost
from streamer.core.pipeline import Pipeline, file_links
from tests.support.frames import counting, frame


@dataclass
class FakeCamera:
    name: str
    live: bool
    sources: list
    built: int = 0
    got: list = field(default_factory=list)

    def pipeline(self) -> Pipeline:
        source = self.sources[min(self.built, len(self.sources) - 1)]
        self.built += 1
        return Pipeline(self.name, source, {}, {"out": self.got.extend}, make_link=file_links())


def lost(stop):
    raise SourceLost("north: the camera went away", fault=SourceFault.ENDED)
    yield


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(module, "_RESTART", Backoff(initial_s=0.01, max_delay_s=30))


def test_files_run_to_their_end():
    north, south = (
        FakeCamera("north", False, [counting(5)]),
        FakeCamera("south", False, [counting(3)]),
    )
    Supervisor([north, south], background_services={}).run()
    assert (len(north.got), len(south.got)) == (5, 3)


def test_a_live_camera_is_started_again_and_the_failure_is_told_meanwhile():
    seen = []
    service: Supervisor

    def watching(stop):
        seen.append(service.failures())
        yield from counting(2)(stop)

    north = FakeCamera("north", True, [lost, watching])
    service = Supervisor([north], background_services={})
    service.run()
    assert north.built == 2
    assert seen == [{}]
    assert len(north.got) == 2


def test_a_file_that_fails_is_reported_and_the_others_go_on():
    broken, whole = FakeCamera("broken", False, [lost]), FakeCamera("whole", False, [counting(9)])
    with pytest.raises(ExceptionGroup) as raised:
        Supervisor([broken, whole], background_services={}).run()
    assert "went away" in module.one_line(raised.value)
    assert "in thread broken/source" in module.one_line(raised.value)
    assert len(whole.got) == 9


def test_finish_drains_and_ends_what_runs_beside_after_the_cameras():
    order = []
    service: Supervisor
    north: FakeCamera

    def endless(stop):
        number = 0
        while True:
            if number == 20:
                service.finish()
            yield frame(number)
            number += 1

    def background_services(stop):
        ended = threading.Event()
        stop.on_cancel(ended.set)
        ended.wait(30)
        order.append(len(north.got))

    north = FakeCamera("north", True, [endless])
    service = Supervisor([north], background_services={"delivery": background_services})
    service.run()
    assert order == [len(north.got)]
    assert [item.number for item in north.got] == list(range(21))


def test_shared_work_that_fails_is_started_again():
    runs = []

    def background_services(stop):
        runs.append(1)
        if len(runs) < 3:
            raise OSError("broker gone")
        service.finish()

    def endless(stop):
        yield frame(0)
        stop.sleep(3600)

    service = Supervisor(
        [FakeCamera("north", True, [endless])],
        background_services={"delivery": background_services},
    )
    service.run()
    assert len(runs) == 3


def test_stop_while_a_camera_waits_to_be_started_again_ends_at_once(monkeypatch):
    monkeypatch.setattr(module, "_RESTART", Backoff.constant(3600))

    def background_services(stop):
        while "north" not in service.failures():
            stop.sleep(0.001)
        service.stop()

    service = Supervisor(
        [FakeCamera("north", True, [lost])], background_services={"watchdog": background_services}
    )
    service.run()
