"""What holds for every command: options, exit codes, streams, speed."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
import typer

from engines.errors import DeviceUnavailable
from streamer import __version__, cli
from streamer.cli import main, output
from streamer.cli.common import common
from streamer.cli.exit_codes import Exit, exit_code, one_line
from streamer.core import log
from streamer.core.errors import (
    ConfigError,
    DecoderUnavailable,
    SinkError,
    SourceFault,
    SourceLost,
    StorageError,
)

ROOT = Path(__file__).parents[3]
HEAVY = ["av", "cv2", "numpy", "openvino", "onnxruntime", "pydantic", "rich", "ruamel.yaml",
         "structlog", "httpx", "apprise", "paho", "sqlite3"]  # fmt: skip


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streamer.cli", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        (["--help"], []),
        (["check", "--help"], ["pydantic"]),  # Typer reads parameters with it.
        (["--version"], ["pydantic", "rich"]),
    ],
)
def test_help_imports_nothing_heavy(arguments: list[str], loaded: list[str]) -> None:
    code = (
        "import sys; from streamer.cli import main;"
        f"status = main({arguments!r});"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr);"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert set(json.loads(done.stderr.replace("'", '"'))) <= set(loaded)
    assert done.returncode == 0


def test_every_command_is_shown_with_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n  {name} " in shown


def test_the_version_is_for_people_or_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"
    assert main(["--json", "--version"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "kind": "version",
        "version": __version__,
        "contract": 2,
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("x"), 1),
        (OSError(28, "No space left on device"), 1),
        (StorageError("x"), 1),
        (SinkError("x"), 1),
        (typer.BadParameter("x"), 2),
        (ConfigError("x"), 3),
        (SourceLost("x", fault=SourceFault.ENDED), 4),
        (DeviceUnavailable("x"), 5),
        (DecoderUnavailable("x"), 5),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (ExceptionGroup("x", [ValueError("y"), SourceLost("x", fault=SourceFault.ENDED)]), 4),
        (ExceptionGroup("x", [ExceptionGroup("y", [ConfigError("z")]), StorageError("x")]), 3),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("a\nb"), "a\nb"),
        (OSError(28, "No space left on device", "/x"), "no space left on device: /x"),
        (ValueError("a\nb"), "unexpected ValueError: a b; --debug shows more"),
        (ExceptionGroup("x", [ConfigError("a"), ConfigError("a"), ConfigError("b")]), "a\nb"),
        (StorageError("disk full"), "disk full"),
        (StorageError(), "StorageError"),
    ],
)
def test_errors_are_shown_in_lines_without_their_class(error: Exception, text: str) -> None:
    assert one_line(error) == text


@pytest.mark.parametrize(
    "arguments",
    [["chek"], ["check"], ["check", "--nonsense"], ["-v"], ["engines"], ["engines", "x"]],
)
def test_a_wrong_command_line_is_reported_on_standard_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == Exit.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("streamer: ")
    assert shown.err.count("\n") == 1


def test_no_command_line_at_all_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == Exit.USAGE
    assert "Commands:" in capsys.readouterr().out


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def schema() -> None:
        raise error

    monkeypatch.setattr("streamer.cli.schema.schema", schema)


def test_a_traceback_is_shown_only_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _failing(monkeypatch, RuntimeError("boom"))
    assert main(["schema"]) == Exit.FAILED
    assert (
        capsys.readouterr().err == "streamer: unexpected RuntimeError: boom; --debug shows more\n"
    )
    for arguments in (["schema", "--debug"], ["--debug", "schema"]):
        assert main(arguments) == Exit.FAILED
        assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _failing(monkeypatch, KeyboardInterrupt())
    assert main(["schema"]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == ""


def test_common_options_hold_before_and_after_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[bool, int, bool]] = []

    def schema() -> None:
        out = output.current()
        seen.append((out.json, out.verbosity, out.debug))

    monkeypatch.setattr("streamer.cli.schema.schema", schema)
    main(["schema"])
    main(["--json", "-v", "--debug", "schema"])
    main(["schema", "--json", "-v", "--debug"])
    main(["-q", "schema", "-qq"])
    assert seen == [(False, 0, False), (True, 1, True), (True, 1, True), (False, -3, False)]


def test_a_reader_that_leaves_is_no_reason_to_complain() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "streamer.cli", "schema"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        errors = process.stderr.read()
    assert process.wait(timeout=60) == Exit.BROKEN_PIPE
    assert errors == ""


def test_the_module_runs_as_the_program() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


def test_json_goes_to_standard_output_and_notes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = output.Output(json=True)
    out.result({"kind": "a", "b": [1, "ü"]}, "for people")
    out.say("for people")
    out.note("working")
    shown = capsys.readouterr()
    assert shown.out == '{"kind": "a", "b": [1, "ü"]}\n'
    assert shown.err == "working\n"


def test_a_full_disk_under_standard_error_changes_no_exit_code() -> None:
    # As with `streamer watch 2>> log`, which used to end at its first line.
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "streamer.cli", "check", "/nonexistent.yaml"],
            cwd=ROOT, stderr=full, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == Exit.CONFIG


def test_people_get_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    out = output.Output()
    out.result({"kind": "a"}, "[bold] /a/[b]/" + "long " * 60)
    out.record({"kind": "a"})
    assert capsys.readouterr().out == "[bold] /a/[b]/" + "long " * 60 + "\n"


def test_quiet_means_no_notes(capsys: pytest.CaptureFixture[str]) -> None:
    output.Output(verbosity=-1).note("working")
    assert capsys.readouterr().err == ""


def test_secrets_are_printed_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    out = output.Output(json=True, secrets=frozenset({"hunter2", 'a"quote"', "abc"}))
    out.record({"error": 'hunter2 a"quote" abc', "problems": ["x hunter2"], "n": 7})
    out.note("hunter2")
    out.error("hunter2\nabc")
    shown = capsys.readouterr()
    assert shown.out == '{"error": "*** *** abc", "problems": ["x ***"], "n": 7}\n'
    assert shown.err == "***\nstreamer: ***\nstreamer: abc\n"


def test_names_and_ids_stay_readable_when_a_password_equals_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = output.Output(json=True, secrets=frozenset({"north"}))
    record = {"camera": "north", "alarm": "north-20261130T101112", "kind": "north"}
    out.record({**record, "error": "login 'north' failed"})
    log.set_up(level="info", style="json", redact=out.redact)
    structlog.get_logger("a").info("raised", camera="north", alarm=record["alarm"], part="north")
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {**record, "error": "login '***' failed"}
    logged = json.loads(shown.err)
    assert (logged["camera"], logged["alarm"], logged["part"]) == (
        "north",
        record["alarm"],
        "north",
    )


def test_arguments_of_a_command_survive_the_common_options() -> None:
    app = typer.Typer()
    seen = []

    @app.command()
    @common
    def add(a: int, b: int = 2) -> None:
        seen.append(a + b)

    app(["1", "--b", "5", "--quiet"], standalone_mode=False)
    assert seen == [6]


@pytest.mark.parametrize("style", ["text", "json"])
def test_the_log_goes_to_standard_error_without_secrets(
    style: log.Style, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up(level="info", style=style, redact=lambda text: text.replace("hunter2", "***"))
    structlog.get_logger("a").info("started hunter2", camera="north", url="x hunter2")
    logging.getLogger("b").warning("library %s", "hunter2")
    structlog.get_logger("a").debug("silent")
    logging.getLogger("httpx").info("silent")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 2
    assert "hunter2" not in shown.err
    assert "silent" not in shown.err
    if style == "json":
        first, second = map(json.loads, shown.err.splitlines())
        assert first["event"] == "started ***"
        assert (first["camera"], first["level"]) == ("north", "info")
        assert second["event"] == "library ***"


@pytest.mark.parametrize("style", ["text", "json"])
def test_an_error_in_the_log_shows_its_traceback_without_secrets(
    style: log.Style, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up(level="info", style=style, redact=lambda text: text.replace("hunter2", "***"))
    try:
        raise ValueError("hunter2 refused")
    except ValueError:
        structlog.get_logger("a").exception("failed")
        logging.getLogger("b").exception("failed")
    shown = capsys.readouterr().err
    assert shown.count("Traceback") == 2
    assert "hunter2" not in shown


@pytest.mark.parametrize("level", ["info", "debug"])
def test_an_error_that_says_what_is_wrong_is_logged_without_its_traceback(
    level: log.Level, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up(level=level, style="json")
    try:
        raise StorageError("the disk is full")
    except StorageError as error:
        structlog.get_logger("a").error("failed", exc_info=error)
        structlog.get_logger("a").exception("failed")
        logging.getLogger("b").exception("failed")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert ("exception" in line) is (level == "debug")
        assert "the disk is full" in str(line)


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_closed_streams_are_no_error(closed: str) -> None:
    number = ("stdin", "stdout", "stderr").index(closed)
    done = subprocess.run(
        [sys.executable, "-m", "streamer.cli", "--version"],
        cwd=ROOT, timeout=60, check=False, preexec_fn=lambda: os.close(number),
    )  # fmt: skip
    assert done.returncode == 0
