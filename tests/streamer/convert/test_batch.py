"""Which recordings are converted, and what each output is called."""

from pathlib import Path

import pytest

from streamer.convert.batch import tasks
from streamer.core.errors import SinkError, SourceRejected


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with recordings and other files; the current one."""
    for name in (
        "a.mp4", "b.avi", "notes.txt", "deep/c.mkv", "deep/d.MOV", "deep/a.mp4",
        "half.mp4.part", "e.mp4.convert/00000.mkv", "out/a.mp4",
    ):  # fmt: skip
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path / "in")
    return tmp_path / "in"


def named(inputs, output, **more):
    """Names of recordings and results, as seen from here."""
    here = Path.cwd()

    def name(path):
        path = path.absolute()
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    return [(name(one.source), name(one.output)) for one in tasks(inputs, Path(output), **more)]


@pytest.mark.parametrize(
    ("inputs", "output", "results"),
    [
        (["a.mp4"], "new.mkv", [("a.mp4", "new.mkv")]),
        (["a.mp4"], "results", [("a.mp4", "results/a.mp4")]),
        (["b.avi"], "results", [("b.avi", "results/b.mkv")]),
        (["a.mp4"], "out", [("a.mp4", "out/a.mp4")]),
        (["out/a.mp4"], "out/b.mp4", [("out/a.mp4", "out/b.mp4")]),
        (["b.avi"], ".", [("b.avi", "b.mkv")]),
        (["a.mp4", "b.avi"], "out", [("a.mp4", "out/a.mp4"), ("b.avi", "out/b.mkv")]),
        (
            ["deep"], "new",
            [("deep/a.mp4", "new/a.mp4"), ("deep/c.mkv", "new/c.mkv"), ("deep/d.MOV", "new/d.mov")],
        ),
        (["*.avi"], "new", [("b.avi", "new/b.mkv")]),
        (
            ["deep/*.m*"], "new",
            [("deep/a.mp4", "new/a.mp4"), ("deep/c.mkv", "new/c.mkv")],
        ),
    ],
)  # fmt: skip
def test_outputs_are_named_after_their_recordings(place, inputs, output, results):
    assert named(inputs, output) == results


def test_a_folder_is_searched_except_for_outputs_and_incomplete_files(place):
    assert named(["."], "out") == [
        ("a.mp4", "out/a.mp4"),
        ("b.avi", "out/b.mkv"),
        ("deep/a.mp4", "out/deep/a.mp4"),
        ("deep/c.mkv", "out/deep/c.mkv"),
        ("deep/d.MOV", "out/deep/d.mov"),
    ]


def test_outputs_in_a_folder_have_the_container_requested(place):
    results = named(["a.mp4", "b.avi"], "new", container=".webm")
    assert [result for _, result in results] == ["new/a.webm", "new/b.webm"]


REFUSED = [
    (["a.mp4"], "a.mp4", "a.mp4: would replace the recording itself"),
    (["a.mp4"], ".", "a.mp4: would replace the recording itself"),
    (["."], ".", "a.mp4: would replace the recording itself"),
    (["a.mp4"], "missing/../a.mp4", "a.mp4: would replace the recording itself"),
    (["out/*.mp4"], "out", "out/a.mp4: would replace the recording itself"),
    (["a.mp4", "deep/a.mp4"], "new", "have the same output new/a.mp4"),
    (["a.mp4"], "b.xyz", "b.xyz: unknown container; the name must end in .mp4, .m4v, .mov, .mkv"),
]


@pytest.mark.parametrize(("inputs", "output", "why"), REFUSED)
def test_no_recording_is_overwritten_and_no_output_is_written_twice(place, inputs, output, why):
    with pytest.raises(SinkError) as refused:
        tasks(inputs, Path(output))
    assert why in str(refused.value)


def test_links_to_a_recording_are_not_overwritten_either(place):
    Path("link.mp4").symlink_to("a.mp4")
    Path("same.mp4").hardlink_to("a.mp4")
    for name in ("link.mp4", "same.mp4"):
        with pytest.raises(SinkError, match="would replace the recording itself"):
            tasks(["a.mp4"], Path(name))


@pytest.mark.parametrize(
    ("inputs", "output", "why"),
    [
        (["none.mp4"], "new.mp4", "none.mp4: no such file or folder, and no file matches it"),
        (["*.webm"], "new", "*.webm: no such file or folder, and no file matches it"),
        (["empty"], "new", "empty: contains no recordings"),
    ],
)
def test_a_missing_input_is_a_one_line_error(place, inputs, output, why):
    Path("empty").mkdir()
    with pytest.raises(SourceRejected) as refused:
        tasks(inputs, Path(output))
    assert str(refused.value) == why


def test_a_folder_with_nothing_but_outputs_is_an_error(place):
    with pytest.raises(SourceRejected, match=r"out/a\*: contains no recordings except those in \."):
        tasks(["out/a*"], Path())


def test_a_task_whose_output_exists_is_done(place):
    assert tasks(["a.mp4"], Path("out"))[0].is_done
    assert not tasks(["a.mp4"], Path("new"))[0].is_done
