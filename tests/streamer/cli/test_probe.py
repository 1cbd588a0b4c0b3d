"""`streamer probe`, and what else opens cameras."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from engines.errors import ModelFileError
from engines.registry import REGISTRY
from streamer.cli import main
from streamer.cli.exit_codes import Exit

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds, 320x240, 10 fps, a key frame each second."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.gop_size = 10
        for number in range(30):
            image = np.full((240, 320, 3), number * 8, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_file_is_described_for_scripts(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(clip), "--json", "--fps", "1", "--fps", "5"]) == Exit.OK
    shown = capsys.readouterr()
    (line,) = shown.out.splitlines()
    record = json.loads(line)
    assert (record["kind"], record["source"]) == ("probe", "file")
    assert (record["width"], record["height"], record["codec"]) == (320, 240, "h264")
    assert record["rate"] == pytest.approx(10)
    assert [(plan["fps"], plan["decode"]) for plan in record["plans"]] == [
        (1, "key frames only"),
        (5, "every frame"),
    ]


def test_a_file_is_described_for_people(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(clip)]) == Exit.OK
    shown = capsys.readouterr()
    assert "320x240 h264" in shown.out
    assert "10.00 fps" in shown.out
    assert "key frames only" in shown.out
    assert shown.err == f"probing {clip}\n"


@pytest.mark.parametrize("content", [None, b"", b"this is no video\n" * 100])
def test_what_is_no_video_is_one_line_and_exit_4(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    assert main(["probe", "-q", str(path)]) == Exit.SOURCE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"streamer: {path}: ")
    assert shown.err.count("\n") == 1


def test_a_password_is_never_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    refused = "rtsp://me:hunter2@127.0.0.1:9/hunter2"
    for more in ([], ["--debug"], ["-v"], ["--json"]):
        arguments = ["probe", refused, "--password-file", str(secret), *more]
        assert main(arguments) == Exit.SOURCE
        shown = capsys.readouterr()
        assert "hunter2" not in shown.out + shown.err


def test_there_is_nothing_to_measure_in_the_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "pattern:"]) == Exit.USAGE
    assert "pattern" in capsys.readouterr().err


def test_check_asks_the_cameras_on_request(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(
        f"cameras:\n  a: {{source: {{address: {clip}}}}}\n"
        "  b: {source: {address: 'pattern:'}}\n"
    )
    assert main(["check", "--probe", "--json", str(file)]) == Exit.OK
    a, b = json.loads(capsys.readouterr().out)["budget"]["cameras"]
    assert (a["width"], a["height"], a["size_assumed"]) == (320, 240, False)
    assert b["size_assumed"]


@pytest.fixture
def _no_network_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds, and its library keeps a thread."""

    def refuse(*arguments: object, **settings: object) -> None:
        raise ModelFileError("no model here")

    monkeypatch.setattr("engines.smoke.model.open_smoke_model", refuse)


@pytest.mark.usefixtures("_no_network_is_opened")
def test_doctor_asks_the_cameras_of_a_configuration(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(
        "preview: {enabled: false}\n"
        f"data_dir: {tmp_path}\n"
        f"cameras:\n  a: {{source: {{address: {clip}}}}}\n"
        "  b: {source: {address: nowhere.mp4}}\n  c: {source: {address: 'pattern:'}}\n"
    )
    assert main(["doctor", "--json", "--config", str(file)]) == Exit.FAILED
    *findings, summary = map(json.loads, capsys.readouterr().out.splitlines())
    status = {finding["check"]: finding["status"] for finding in findings}
    assert status["configuration"] == status["camera a"] == status["camera c"] == "ok"
    assert status["camera b"] == "fail"
    assert all(finding["advice"] for finding in findings if finding["status"] != "ok")
    assert summary["kind"] == "summary"
    assert sum(summary[each] for each in ("ok", "warn", "fail")) == len(findings)


@pytest.mark.usefixtures("_no_network_is_opened")
def test_doctor_tells_every_problem_of_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text("log: {level: loud}\ncameras: {a: {}}\n")
    assert main(["doctor", "--config", str(file)]) == Exit.FAILED
    shown = capsys.readouterr().out
    assert f"fail  configuration: {file}:1: log.level" in shown
    assert f"fail  configuration: {file}:2: cameras.a.source" in shown


def test_doctor_and_verify_find_that_the_shipped_network_works_here() -> None:
    for arguments, kind, key, value in (
        (["doctor"], "finding", "status", "ok"),
        (["engines", "verify"], "proof", "passed", True),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "streamer.cli", *arguments, "--json"],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        records = [json.loads(line) for line in done.stdout.splitlines()]
        found = [
            record
            for record in records
            if record["kind"] == kind and record.get("check", "network") == "network"
        ]
        assert found
        assert all(record[key] == value for record in found)


def test_the_networks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "list", "--json"]) == Exit.OK
    record, *others = map(json.loads, capsys.readouterr().out.splitlines())
    assert (record["kind"], record["name"]) == ("engine", "smoke")
    assert [one["name"] for one in others] == [entry.name for entry in REGISTRY[1:]]
    assert len(record["digest"]) == 64
    assert main(["engines", "list"]) == Exit.OK
    assert record["digest"][:12] in capsys.readouterr().out


def test_an_unknown_network_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "verify", "somke"]) == Exit.DEVICE
    assert "there are: smoke" in capsys.readouterr().err
