"""Which recordings are to be converted, and what each result is called."""

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
"""Suffixes of what is taken from a folder; a file that is named is taken whatever it is called."""


@dataclass(frozen=True, slots=True)
class Task:
    """One recording and what it becomes."""

    source: Path
    output: Path

    @property
    def done(self) -> bool:
        """Whether the output is there: it gets its name only when it is whole and proven."""
        return self.output.exists()


def tasks(inputs: Sequence[str], output: Path, *, container: str | None = None) -> list[Task]:
    """What is to be done for files, folders and patterns.

    Args:
        inputs: As they were named.
        output: A file for a single recording, else a folder.
        container: Suffix of the results in a folder; the recording's own where it can be written,
            else `.mkv`.

    Raises:
        SourceRejected: Something that was named is not there, or holds no recordings.
        SinkError: Two results would have one name, or one would replace its recording.
    """
    found = [pair for name in inputs for pair in _found(name)]
    single = len(found) == 1 and found[0][1] is None
    if single and not output.is_dir() and output.suffix.lower() in MUXERS:
        result = [Task(found[0][0], output)]
    elif single and output.suffix and not output.is_dir():
        raise SinkError(f"{output}: what is written is told by the name: {', '.join(MUXERS)}")
    else:
        result = [
            Task(
                path,
                output / (path.relative_to(root).parent if root else "") / _name(path, container),
            )
            for path, root in found
            if not _made(path, root, output.absolute())
        ]
    if not result:
        raise SourceRejected(
            f"{', '.join(inputs)}: holds no recordings but those in {output}"
            if found
            else f"{', '.join(inputs)}: holds no recordings",
            fault=SourceFault.NOT_FOUND,
        )
    _check(result)
    return result


def _made(path: Path, root: Path | None, output: Path) -> bool:
    """Whether a recording that was found, not named, is a result of an earlier run."""
    return root is not None and root != output and path.is_relative_to(output)


def _found(name: str) -> Iterator[tuple[Path, Path | None]]:
    """Recordings, each with the folder in which it was found if a folder was named."""
    path = Path(name).absolute()
    if path.is_dir():
        inside = (one for one in sorted(path.rglob("*")) if _wanted(one))
        yield from ((one, path) for one in inside)
        return
    if path.exists():
        yield path, None
        return
    # `Path.glob` takes no absolute pattern.
    fitting = [Path(one).absolute() for one in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207
    if not fitting:
        raise SourceRejected(f"{name}: there is no such file, folder or pattern that fits",
                             fault=SourceFault.NOT_FOUND)  # fmt: skip
    # A pattern that fits one file stands for many: its result goes into a folder too.
    yield from ((one, one.parent) for one in fitting if one.is_file())


def _wanted(path: Path) -> bool:
    beside = any(parent.name.endswith(FOLDER) for parent in path.parents)
    return path.is_file() and path.suffix.lower() in _RECORDINGS and not beside


def _name(path: Path, container: str | None) -> str:
    suffix = container or (path.suffix.lower() if path.suffix.lower() in MUXERS else ".mkv")
    return f"{path.stem}{suffix}"


def _check(wanted: Sequence[Task]) -> None:
    names: dict[Path, Path] = {}
    for task in wanted:
        output = task.output.absolute()
        if output == task.source.absolute() or (output.exists() and output.samefile(task.source)):
            raise SinkError(f"{task.output}: would replace the recording itself")
        if output in names:
            raise SinkError(f"{names[output]} and {task.source} would both become {task.output}")
        names[output] = task.source
        if output.name.endswith(PART):
            raise SinkError(f"{task.output}: names that end in {PART} are for what is not whole")
