"""`streamer check` and `streamer schema`."""

import json
from pathlib import Path

import pytest

from streamer.cli import main
from streamer.cli.exit_codes import Exit

RIGHT = """\
defaults: {source: {password: hunter2-secret}}
notify: {ops: {kind: webhook, url: 'https://u:hunter2-url@h/?token=hunter2-token'}}
cameras:
  north: {source: {address: 'rtsp://me:hunter2-address@h/1'}}
  south: {source: {address: '${env:SOUTH}'}, outputs: {publish: {url: 'rtsp://h/s'}}}
  east: {source: {address: 'http://h/snap.jpg?loginpas=hunter2-pas&psw=hunter2-psw&jwt=hunter2.e3'}}
  west:
    source: {address: 'srt://h:9000?mode=caller&passphrase=hunter2-passphrase'}
    outputs: {publish: {url: 'rtmp://h/live/hunter2-key'}}
"""


@pytest.fixture
def right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOUTH", "rtsp://hunter2-host/1")
    file = tmp_path / "fire.yaml"
    file.write_text(RIGHT)
    return file


@pytest.mark.parametrize("more", [[], ["--effective"], ["--json"], ["-v"], ["--debug"]])
def test_a_valid_file_is_reported_with_its_cost_and_without_secrets(
    right: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(right), *more]) == Exit.OK
    shown = capsys.readouterr()
    assert "hunter2" not in shown.out + shown.err
    assert "north" in shown.out
    assert shown.err == ""


def test_scripts_get_one_object(right: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", str(right)]) == Exit.OK
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert record["kind"] == "check"
    assert len(record["digest"]) == 64
    assert [camera["camera"] for camera in record["budget"]["cameras"]] == [
        "north",
        "south",
        "east",
        "west",
    ]
    assert record["effective"]["cameras"]["south"]["source"]["address"] == "${env:SOUTH}"
    assert record["advice"] == []


def test_every_problem_is_a_line_for_people_and_an_object_for_scripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text("log: {level: loud}\ncameras:\n  a: {sorce: {}}\n")
    assert main(["check", "--json", str(file)]) == Exit.CONFIG
    shown = capsys.readouterr()
    problems = [json.loads(line) for line in shown.out.splitlines()]
    assert [(problem["kind"], problem["line"], problem["key"]) for problem in problems] == [
        ("problem", 1, "log.level"),
        ("problem", 3, "cameras.a.sorce"),
        ("problem", 3, "cameras.a.source"),
    ]
    assert shown.err.splitlines() == [
        f"streamer: {file}:{problem['line']}: {problem['key']}: {problem['message']}"
        for problem in problems
    ]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "no channel is configured"),
        ("preview: {host: 0.0.0.0}\n", "set preview.token"),
        (
            "notify: {m: {kind: apprise, url: 'json://h'}}\ndefaults: {notify: []}\n",
            "alarms of this camera are sent to no channel",
        ),
    ],
)
def test_what_is_probably_not_intended_is_reported(
    tmp_path: Path, text: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(text + "cameras: {a: {source: {address: x}}}\n")
    assert main(["check", str(file)]) == Exit.OK
    assert advice in capsys.readouterr().out


def test_the_schema_and_the_reference_are_printed_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["schema"]) == Exit.OK
    schema = json.loads(capsys.readouterr().out)
    assert main(["schema", "--json"]) == Exit.OK
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == schema
    assert main(["schema", "--reference"]) == Exit.OK
    text = capsys.readouterr().out
    assert text.startswith("# yaml-language-server")
    assert main(["schema", "--reference", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["yaml"] == text


WRONG_CHANNELS = """\
notify:
  chat: {kind: apprise, url: 'unknown://x'}
  ops: {kind: webhook, url: 'https://h/', cert_file: missing.pem}
cameras: {north: {source: {address: 'rtsp://h/1'}}}
"""


def test_channels_that_watch_would_refuse_are_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(WRONG_CHANNELS)
    assert main(["check", str(file)]) == Exit.CONFIG
    lines = capsys.readouterr().err.splitlines()
    assert [("notify.chat" in line, "notify.ops" in line) for line in lines] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("server", ["h:99999", "h:0", "h:x", "[::1", "", ":554", "u:p@", "u:p@h:"])
def test_an_address_without_a_usable_server_is_a_problem(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(f"cameras: {{north: {{source: {{address: 'rtsp://{server}/1'}}}}}}")
    assert main(["check", str(file)]) == Exit.CONFIG
    assert "its host or port is not valid" in capsys.readouterr().err


@pytest.mark.parametrize("server", ["h", "h:554", "[::1]:554", "[fd00::1%25eth0]", "u:p/w@h:554"])
def test_addresses_with_a_usable_server_are_accepted(server: str, tmp_path: Path) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(f"cameras: {{north: {{source: {{address: 'rtsp://{server}/1'}}}}}}")
    assert main(["check", str(file)]) == Exit.OK
