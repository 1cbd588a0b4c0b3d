"""`streamer verify`."""

import json
from pathlib import Path

import pytest

from streamer.cli import main
from streamer.cli.exit_codes import Exit
from streamer.convert.verify import CHECK_NAMES
from tests.support.corpus import Corpus
from tests.support.rework import rework


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.getbasetemp() / "corpus")


@pytest.fixture
def pair(recordings: Corpus, tmp_path: Path) -> tuple[str, str]:
    """A recording and a faithful copy."""
    source = recordings["chapters.mkv"]
    return str(source), str(rework(source, tmp_path / "copy.mp4"))


@pytest.fixture
def spoilt(recordings: Corpus, tmp_path: Path) -> tuple[str, str]:
    """A recording and a copy without its chapters."""
    source = recordings["chapters.mkv"]
    return str(source), str(rework(source, tmp_path / "copy.mp4", chapters=lambda _: []))


def test_without_a_loss_the_exit_code_is_0_and_a_table_is_shown(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *pair]) == Exit.OK
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) >= len(CHECK_NAMES) + 1
    assert lines[-1] == "60 frames in, 60 out (inferred: factor 1); nothing is lost"
    assert "LOST" not in shown.out
    assert shown.err == ""


def test_with_a_loss_the_exit_code_is_1_and_the_check_is_named(
    spoilt: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *spoilt]) == Exit.FAILED
    shown = capsys.readouterr()
    (lost,) = (line for line in shown.out.splitlines() if line.startswith("LOST"))
    assert lost.split() == ["LOST", "chapters", "0", "chapters,", "expected", "3"]
    assert shown.out.rstrip().endswith("lost: chapters")


def test_json_output_has_a_record_per_check_and_a_summary(
    spoilt: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *spoilt, "--json", "--thorough"]) == Exit.FAILED
    *checks, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert [one["name"] for one in checks] == list(CHECK_NAMES)
    assert all(set(one) == {"kind", "name", "ok", "detail"} for one in checks)
    assert [one["name"] for one in checks if not one["ok"]] == ["chapters"]
    assert summary == {
        "kind": "summary",
        "ok": False,
        "source": spoilt[0],
        "output": spoilt[1],
        "source_frames": 60,
        "output_frames": 60,
        "expected": "factor 1",
        "inferred": True,
        "thorough": True,
        "failed": ["chapters"],
    }


@pytest.mark.parametrize("file", ["text.mp4", "no-index.mp4", "nowhere.mp4"])
def test_an_unreadable_file_is_a_one_line_error_with_exit_code_4(
    file: str, pair: tuple[str, str], recordings: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(recordings[file]) if file != "nowhere.mp4" else file
    for files in ((path, pair[0]), (pair[0], path)):
        assert main(["verify", *files]) == Exit.SOURCE
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith(f"streamer: {path}: ")
        assert shown.err.count("\n") == 1
