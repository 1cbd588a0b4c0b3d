"""Which recordings are converted, and what each result is called."""

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


def told(inputs, output, **more):
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
def test_results_are_named_after_their_recordings(place, inputs, output, results):
    assert told(inputs, output) == results


def test_a_folder_is_searched_but_for_results_and_what_is_not_whole(place):
    assert told(["."], "out") == [
        ("a.mp4", "out/a.mp4"),
        ("b.avi", "out/b.mkv"),
        ("deep/a.mp4", "out/deep/a.mp4"),
        ("deep/c.mkv", "out/deep/c.mkv"),
        ("deep/d.MOV", "out/deep/d.mov"),
    ]


def test_results_in_a_folder_are_as_asked(place):
    results = told(["a.mp4", "b.avi"], "new", container=".webm")
    assert [result for _, result in results] == ["new/a.webm", "new/b.webm"]


REFUSED = [
    (["a.mp4"], "a.mp4", "a.mp4: would replace the recording itself"),
    (["a.mp4"], ".", "a.mp4: would replace the recording itself"),
    (["."], ".", "a.mp4: would replace the recording itself"),
    (["out/*.mp4"], "out", "out/a.mp4: would replace the recording itself"),
    (["a.mp4", "deep/a.mp4"], "new", "would both become new/a.mp4"),
    (["a.mp4"], "b.xyz", "b.xyz: what is written is told by the name: .mp4, .m4v, .mov, .mkv"),
]


@pytest.mark.parametrize(("inputs", "output", "why"), REFUSED)
def test_no_recording_is_replaced_and_no_result_twice(place, inputs, output, why):
    with pytest.raises(SinkError) as refused:
        tasks(inputs, Path(output))
    assert why in str(refused.value)


def test_other_names_of_a_recording_are_known_to_be_it(place):
    Path("link.mp4").symlink_to("a.mp4")
    Path("same.mp4").hardlink_to("a.mp4")
    for name in ("link.mp4", "same.mp4"):
        with pytest.raises(SinkError, match="would replace the recording itself"):
            tasks(["a.mp4"], Path(name))


@pytest.mark.parametrize(
    ("inputs", "output", "why"),
    [
        (["none.mp4"], "new.mp4", "none.mp4: there is no such file, folder or pattern that fits"),
        (["*.webm"], "new", "*.webm: there is no such file, folder or pattern that fits"),
        (["empty"], "new", "empty: holds no recordings"),
    ],
)
def test_what_is_not_there_is_a_line(place, inputs, output, why):
    Path("empty").mkdir()
    with pytest.raises(SourceRejected) as refused:
        tasks(inputs, Path(output))
    assert str(refused.value) == why


def test_who_finds_results_only_is_told_so(place):
    with pytest.raises(SourceRejected, match=r"out/a\*: holds no recordings but those in \."):
        tasks(["out/a*"], Path())


def test_what_has_its_name_is_done(place):
    assert tasks(["a.mp4"], Path("out"))[0].done
    assert not tasks(["a.mp4"], Path("new"))[0].done
