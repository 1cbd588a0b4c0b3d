"""Finds the recordings to convert, and names the output of each."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamer.core.atomic_file import PART
from streamer.core.errors import SinkError, SourceFault, SourceRejected

from .journal import FOLDER
from .mux import MUXERS

_RECORDINGS: Final = frozenset(
    {*MUXERS, ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv",
     ".vob", ".mxf", ".h264", ".h265", ".hevc"}
)  # fmt: skip
"""Suffixes of files that are converted when a folder is given; a file that is given by name is
converted whatever its suffix."""


@dataclass(frozen=True, slots=True)
class Task:
    """One recording and its output."""

    source: Path
    output: Path

    @property
    def is_done(self) -> bool:
        """Whether the output exists: it gets its name only when it is complete and verified."""
        return self.output.exists()


def tasks(inputs: Sequence[str], output: Path, *, container: str | None = None) -> list[Task]:
    """Return one task per recording that the given files, folders and patterns name.

    Args:
        inputs: Files, folders and glob patterns.
        output: A file for a single recording, otherwise a folder.
        container: Suffix of outputs in a folder; by default that of the recording if it can be
            written, otherwise `.mkv`.

    Raises:
        SourceRejected: An input does not exist, or contains no recordings.
        SinkError: Two outputs would have the same name, or one would replace its recording.
    """
    found = [pair for name in inputs for pair in _found(name)]
    single = len(found) == 1 and found[0][1] is None
    if single and not output.is_dir() and output.suffix.lower() in MUXERS:
        result = [Task(found[0][0], output)]
    elif single and output.suffix and not output.is_dir():
        raise SinkError(f"{output}: unknown container; the name must end in {', '.join(MUXERS)}")
    else:
        result = [
            Task(
                path,
                output / (path.relative_to(root).parent if root else "") / _name(path, container),
            )
            for path, root in found
            if not _is_result(path, root, output.absolute())
        ]
    if not result:
        raise SourceRejected(
            f"{', '.join(inputs)}: contains no recordings except those in {output}"
            if found
            else f"{', '.join(inputs)}: contains no recordings",
            fault=SourceFault.NOT_FOUND,
        )
    _check(result)
    return result


def _is_result(path: Path, root: Path | None, output: Path) -> bool:
    """Whether a recording found in a folder is the output of an earlier run."""
    return root is not None and root != output and path.is_relative_to(output)


def _found(name: str) -> Iterator[tuple[Path, Path | None]]:
    """Yield recordings, each with the folder or pattern root under which it was found."""
    path = Path(name).absolute()
    if path.is_dir():
        inside = (one for one in sorted(path.rglob("*")) if _is_recording(one))
        yield from ((one, path) for one in inside)
        return
    if path.exists():
        yield path, None
        return
    # `Path.glob` takes no absolute pattern.
    matches = [Path(one).absolute() for one in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207
    if not matches:
        raise SourceRejected(f"{name}: no such file or folder, and no file matches it",
                             fault=SourceFault.NOT_FOUND)  # fmt: skip
    # The output of a pattern goes into a folder, even if the pattern matches a single file.
    yield from ((one, one.parent) for one in matches if one.is_file())


def _is_recording(path: Path) -> bool:
    in_journal = any(parent.name.endswith(FOLDER) for parent in path.parents)
    return path.is_file() and path.suffix.lower() in _RECORDINGS and not in_journal


def _name(path: Path, container: str | None) -> str:
    suffix = container or (path.suffix.lower() if path.suffix.lower() in MUXERS else ".mkv")
    return f"{path.stem}{suffix}"


def _check(planned: Sequence[Task]) -> None:
    names: dict[Path, Path] = {}
    for task in planned:
        # Resolved: the folders of `missing/../a.mp4` are made later, and then it is `a.mp4`.
        output = task.output.resolve()
        if output == task.source.resolve() or (output.exists() and output.samefile(task.source)):
            raise SinkError(f"{task.output}: would replace the recording itself")
        if output in names:
            raise SinkError(f"{names[output]} and {task.source} have the same output {task.output}")
        names[output] = task.source
        if output.name.endswith(PART):
            raise SinkError(
                f"{task.output}: names ending in {PART} are reserved for incomplete files"
            )
