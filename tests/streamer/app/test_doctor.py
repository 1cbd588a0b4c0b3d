"""What `streamer doctor` finds."""

import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engines.errors import DeviceUnavailable, InaccurateEngine, ModelFileError
from streamer.alarm.event import Event, EventKind
from streamer.app import doctor
from streamer.app.data_folder import own_data_folder
from streamer.app.doctor import Finding, examine
from streamer.config import Config
from streamer.store.sqlite import SqliteEventStore


def config(**settings: Any) -> Config:
    return Config.model_validate(
        {"cameras": {"a": {"source": {"address": "pattern:"}}}, **settings}
    )


def found(check: str, **settings: Any) -> Finding:
    (finding,) = [each for each in examine(config(**settings), reach=False) if each.check == check]
    return finding


@pytest.fixture(autouse=True)
def _no_network_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise ModelFileError("no model here")

    monkeypatch.setattr("engines.smoke.model.open_smoke_model", refuse)


def test_this_machine_has_what_is_needed() -> None:
    assert found("program").status == "ok"
    assert found("decoders").status == "ok"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (DeviceUnavailable("no GPU"), "engine.device"),
        (InaccurateEngine("0.5 off"), "engine.precision"),
        (ModelFileError("no file"), "engine.model"),
    ],
)
def test_a_network_that_does_not_work_is_a_failure_with_advice(
    error: Exception, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr("engines.smoke.model.open_smoke_model", refuse)
    finding = found("network")
    assert (finding.status, finding.message) == ("fail", str(error))
    assert advice in finding.advice


class Network:
    name, backend = "smoke", "openvino 1 cpu f32"

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("gpu", "plan", "problem", "warning"),
    [
        (None, "", "", ""),
        ("a GPU", "checked", "", ""),
        ("a GPU", "", "", "auto: there is no validated plan yet"),
        (None, "", "PyCUDA is missing", "auto: PyCUDA is missing"),
    ],
)
def test_a_gpu_that_is_not_used_is_a_warning_and_no_plan_is_built(
    gpu: str | None, plan: str, problem: str, warning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network()
    requested: list[object] = []

    def opened(*arguments: object, **settings: object) -> Network:
        requested.append(settings["precision"])
        return network

    def built(*arguments: object) -> None:
        raise AssertionError("a plan is built")

    monkeypatch.setattr("engines.smoke.model.open_smoke_model", opened)
    monkeypatch.setattr("engines.loading.find_gpu", lambda device, precision: gpu)
    monkeypatch.setattr("engines.loading.gpu_problem", lambda device: problem)
    monkeypatch.setattr(
        "engines.smoke.yuv_model.has_checked_plan", lambda model, gpu, *, precision: bool(plan)
    )
    monkeypatch.setattr("engines.plans.build_process.Compilation.__init__", built)
    findings = [each for each in examine(config(), reach=False) if each.check in ("network", "gpu")]
    assert (findings[0].check, findings[0].status) == ("network", "ok")
    assert [each.message for each in findings[1:]] == [warning] * bool(warning)
    assert all(each.status == "warn" and each.advice for each in findings[1:])
    assert network.closed
    assert requested == [None]  # what suits the device


def test_a_data_folder_that_is_not_there_yet_is_no_fault_and_is_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    finding = found("data", data_dir=folder)
    assert finding.status != "fail"
    assert not folder.parent.exists()


def test_a_data_folder_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert found("data", data_dir=file / "below").status == "fail"


@pytest.mark.parametrize(
    ("free", "status"), [(10**8, "fail"), (15 * 10**8, "warn"), (10**11, "ok")]
)
def test_a_disk_that_is_nearly_full_is_reported(
    free: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=free, total=10**12)
    monkeypatch.setattr("streamer.health.disk.shutil.disk_usage", lambda path: usage)
    assert found("data", data_dir=tmp_path).status == status


def test_too_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_available_bytes", lambda: 1_000_000)
    assert found("memory").status == "warn"
    monkeypatch.setattr(doctor, "_available_bytes", lambda: 10**12)
    assert found("memory").status == "ok"
    monkeypatch.setattr(doctor, "_available_bytes", lambda: None)
    assert found("memory").status == "ok"


@pytest.mark.parametrize(("state", "status"), [(False, "warn"), (True, "ok"), (None, "ok")])
def test_a_clock_that_nobody_sets_is_a_warning(
    *, state: bool | None, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "clock_is_synchronised", lambda: state)
    assert found("clock").status == status


def test_a_clock_before_the_newest_event_is_a_failure(tmp_path: Path) -> None:
    later = datetime.now(UTC) + timedelta(days=400)
    with SqliteEventStore(tmp_path / "events.sqlite") as store:
        store.add(raised_at(later))
    finding = found("clock", data_dir=tmp_path)
    assert (finding.status, "before the newest event" in finding.message) == ("fail", True)
    assert "chrony" in finding.advice


def raised_at(moment: datetime) -> Event:
    return Event(
        "north-1", 0, EventKind.RAISED, "north", pts_ns=0, utc=moment, onset_ns=0, reason="x",
        score=0.9, regions=(),
    )  # fmt: skip


def test_the_event_store_is_read(tmp_path: Path) -> None:
    assert "is made when the program starts" in found("events", data_dir=tmp_path).message
    with SqliteEventStore(tmp_path / "events.sqlite") as store:
        store.add(raised_at(datetime.now(UTC)), channels=["a", "b"])
    assert "1 alarms active, 2 deliveries wait" in found("events", data_dir=tmp_path).message
    (tmp_path / "events.sqlite").write_bytes(b"this is no store" * 1000)
    finding = found("events", data_dir=tmp_path)
    assert (finding.status, bool(finding.advice)) == ("fail", True)


def test_a_program_that_uses_the_data_folder_is_named_and_its_port_is_not_taken(
    tmp_path: Path,
) -> None:
    preview = {"enabled": False}
    with own_data_folder(config(data_dir=tmp_path)):
        finding = found("running", data_dir=tmp_path, preview=preview)
        assert finding.status == "ok"
        assert f"pid {os.getpid()} on" in finding.message
    findings = list(examine(config(data_dir=tmp_path, preview=preview), reach=False))
    assert not [each for each in findings if each.check == "running"]


def test_receivers_are_contacted_on_request_but_not_beside_a_running_program(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    hook = {"kind": "webhook", "url": f"http://127.0.0.1:{port}/"}
    settings = {"data_dir": tmp_path, "notify": {"hook": hook}, "preview": {"enabled": False}}
    wanted = config(**settings)

    def checked(*, reach: bool) -> dict[str, Finding]:
        return {each.check: each for each in examine(wanted, reach=reach)}

    refused = checked(reach=True)["notify hook"]
    assert (refused.status, bool(refused.advice)) == ("fail", True)
    assert "deliveries test" in checked(reach=False)["notify"].message
    with own_data_folder(wanted):
        assert "the running program checks" in checked(reach=True)["notify"].message


def test_the_advice_for_a_camera_is_a_complete_command_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    source = {"address": f"rtsp://fire:hunter2@127.0.0.1:{port}/stream1", "transport": "tcp"}
    wanted = config(cameras={"a": {"source": source}}, preview={"enabled": False})
    (finding,) = [each for each in examine(wanted, reach=True) if each.check == "camera a"]
    assert finding.advice == (
        f"try `streamer probe rtsp://127.0.0.1:{port}/stream1 --user fire --transport tcp"
        " --timeout 10`"
    )


def test_a_port_in_use_is_a_failure() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert found("preview", preview={"port": port}).status == "fail"
    assert found("preview", preview={"port": port}).status == "ok"
    assert found("preview", preview={"host": "no.such.host.invalid"}).status == "fail"


def test_the_problems_of_a_running_program_are_findings() -> None:
    from streamer.core.clock import CancelToken
    from streamer.health.disk import DiskLevel, DiskStatus
    from streamer.health.snapshot import program_status
    from streamer.web.server import WebServer
    from tests.support.stepping import StepClock

    full = DiskStatus(
        path="/d", state=DiskLevel.FULL, reason="only 0 GB", free_bytes=0, total_bytes=1
    )
    status = program_status(
        version="1.2", started_ns=0, cameras=[], tasks={}, disk=full, clock=StepClock()
    )
    web = WebServer("127.0.0.1", 0, token="t", status=lambda: status, cameras=dict)
    port = int(web.url.rstrip("/").rpartition(":")[2])
    cancel = CancelToken()
    thread = threading.Thread(target=web.serve, args=(cancel,))
    thread.start()
    try:
        preview = {"port": port, "token": "t"}
        findings = {each.check: each for each in examine(config(preview=preview), reach=False)}
        assert findings["preview"].status == "ok"
        assert findings["preview"].message == f"streamer 1.2 is running at 127.0.0.1:{port}"
        running = findings["running"]
        assert (running.status, running.message) == ("warn", "disk: only 0 GB")
        refused = found("preview", preview={"port": port})
        assert refused.status == "fail"
        assert "refuses the token" in refused.message
        assert "doctor --config" in refused.advice
    finally:
        cancel.set()
        thread.join(20)
    assert not thread.is_alive()


def test_a_check_that_breaks_is_a_finding_and_the_others_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr(doctor, "_decoders", broken)
    findings = list(examine(config(), reach=False))
    (broken_check,) = [each for each in findings if each.check == "decoders"]
    assert (broken_check.status, broken_check.message) == ("fail", "RuntimeError: oops")
    assert findings[-1].check == "preview"
