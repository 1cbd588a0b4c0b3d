"""Commands in poor surroundings: no home folder, no entry of the user, a locale without umlauts."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.cli.exit_codes import Exit

CONFIG = 'cameras: {Süd: {source: {address: "pattern:"}}}\n'
STRANGER = 54_321
"""A user whom no system has."""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "fire.yaml").write_text(CONFIG, encoding="utf-8")
    tmp_path.chmod(0o755)
    return tmp_path


def run(*arguments: str, folder: Path, before=(), **environment: str):
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [*before, sys.executable, "-m", "streamer.cli", *arguments],
        cwd=folder, env={**known, **environment}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def as_stranger() -> list[str]:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    # The stranger may read the program, wherever it is installed.
    rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return [
        "setpriv",
        "--reuid",
        str(STRANGER),
        "--regid",
        str(STRANGER),
        "--clear-groups",
        *rights,
    ]


@pytest.mark.system
@pytest.mark.parametrize(
    ("arguments", "code", "shown_too"),
    [
        (["check", "fire.yaml"], Exit.OK, ""),
        (["engines", "list"], Exit.OK, ""),
        (["events", "list"], None, "/var/lib/streamer/events.sqlite"),
        (["doctor"], None, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_user_without_home_and_without_entry_gets_results_or_one_line(
    folder, arguments, code, shown_too
):
    done = run(*arguments, folder=folder, before=as_stranger(), TMPDIR=str(folder))
    shown = (done.stdout + done.stderr).decode()
    assert "unexpected" not in shown
    assert "Traceback" not in shown
    assert code is None or done.returncode == code, shown
    assert shown_too in shown


def test_a_home_folder_in_a_path_without_home_is_one_line_with_its_place(folder):
    (folder / "home.yaml").write_text(f"data_dir: ~/data\n{CONFIG}", encoding="utf-8")
    done = run("check", "home.yaml", folder=folder, before=as_stranger())
    assert done.returncode == Exit.CONFIG
    assert done.stderr.decode() == (
        "streamer: home.yaml:1: data_dir: this user has no home folder for '~';"
        " write the whole path\n"
    )


@pytest.mark.parametrize("home", ["/nonexistent", "/proc"])
def test_a_home_folder_that_cannot_be_written_is_no_obstacle(folder, home):
    done = run("check", "fire.yaml", folder=folder, HOME=home, TMPDIR=str(folder))
    assert done.returncode == Exit.OK, done.stderr


@pytest.mark.parametrize(
    "surroundings",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=str,
)
def test_a_name_with_an_umlaut_can_be_shown_in_every_locale(folder, surroundings):
    home = {"HOME": str(folder), **surroundings}
    text = run("check", "fire.yaml", folder=folder, **home)
    assert text.returncode == Exit.OK, text.stderr
    assert b"S" in text.stdout
    record = json.loads(run("check", "--json", "fire.yaml", folder=folder, **home).stdout)
    assert [camera["camera"] for camera in record["budget"]["cameras"]] == ["Süd"]
