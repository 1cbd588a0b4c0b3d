"""What `streamer doctor` finds."""

import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engines.errors import DeviceUnavailable, InaccurateEngine, ModelFileError
from streamer.app import doctor
from streamer.app.doctor import Finding, examine
from streamer.config import Config


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


@pytest.mark.parametrize(("state", "status"), [(5, "warn"), (0, "ok"), (None, "ok")])
def test_a_clock_that_nobody_sets_is_a_warning(
    state: int | None, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_clock_state", lambda: state)
    assert found("clock").status == status


def test_the_kernel_reports_the_state_of_its_clock() -> None:
    assert doctor._clock_state() in (None, 0, 1, 2, 3, 4, 5)


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
        assert found("preview", preview={"port": port}).status == "fail"  # without the token
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
