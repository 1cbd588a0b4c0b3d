"""Packs what a GPU machine without network needs, into parts that `unpack.py` joins there.

A kit has the repository as it is in the working tree (with the models), wheels for the requested
versions of Python, PyCUDA built for them or its source with CUDA's headers, and a synthetic clip.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu import needs, wheels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = needs.ROOT
PART_MB = 60
"""Maximum size of a part, in 10**6 bytes: a common limit of transfers to such machines."""
_BLOCK = 1 << 20
CLIPS = (("watch.mp4", ("--height", "1080", "--fps", "30", "--seconds", "20")),)
"""Clips that the cameras of the check play: 1080p30 with a key frame each second."""


class KitError(Exception):
    """The kit cannot be packed; the message says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What goes into a kit."""

    pythons: tuple[str, ...]
    """Versions, as in "3.12"."""
    packages: tuple[str, ...]
    """Names; what they need themselves is not added: the locks name everything."""
    clips: bool = True
    part_bytes: int = PART_MB * 1_000_000


def pack(
    wanted: Wanted, out: Path, *, wheelhouse: Path | None = None, root: Path = ROOT
) -> dict[str, Any]:
    """Write a kit; return its list of files and parts.

    Args:
        wanted: What to pack.
        out: Folder for `unpack`, `kit.json` and the parts; parts of an older kit are replaced.
        wheelhouse: Folder of wheels to take instead of asking the package index.
        root: Of the repository.

    Raises:
        WheelError: A package has no wheel.
        KitError: The repository cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="gpu-kit-") as name:
        folder = Path(name)
        revision = archive_repository(folder / "streamer.tar.gz", root)
        missing = wheels.gather(
            wanted.packages, wanted.pythons, folder / "wheels", wheelhouse=wheelhouse
        )
        if wanted.clips:
            make_clips(folder / "clips")
        facts = {
            "format": 1,
            "revision": revision,
            "pythons": wanted.pythons,
            "packages": wanted.packages,
            "not_packed": missing,
            "archives": ["streamer.tar.gz"],
        }
        return write_parts(folder, out, facts, part_bytes=wanted.part_bytes)


def archive_repository(path: Path, root: Path = ROOT) -> str:
    """Pack what git would commit, changes included; return the revision, with "+" if changed.

    Raises:
        KitError: It is no git repository.
    """
    names = _git(root, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    with tarfile.open(path, "w:gz") as archive:
        for name in sorted(filter(None, names)):
            if (root / name).is_file():  # Deleted ones are still listed.
                archive.add(root / name, arcname=name, recursive=False, filter=_plain)
    changed = "+" if _git(root, "status", "--porcelain").strip() else ""
    return _git(root, "rev-parse", "HEAD").strip() + changed


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Remove users and times, so that the same tree makes the same archive."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _git(root: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stderr", None) or error
        raise KitError(f"cannot read the repository at {root}: {output}") from error


def make_clips(folder: Path) -> None:
    """Make the clips that the cameras of the check play."""
    folder.mkdir()
    for name, arguments in CLIPS:
        command = [sys.executable, str(ROOT / "tools" / "make_clip.py"), str(folder / name)]
        subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        for beside in folder.glob("*.npz"):
            beside.unlink()  # The ground truth is not needed there.


def write_parts(
    folder: Path, out: Path, facts: dict[str, Any], *, part_bytes: int
) -> dict[str, Any]:
    """Write the files of a folder as parts of one byte stream, with a list of files and parts."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("part-*"):
        old.unlink()
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    files = [
        {
            "path": path.relative_to(folder).as_posix(),
            "size": path.stat().st_size,
            "sha256": digest(path),
            "mode": 0o644,
        }
        for path in paths
    ]
    parts = []
    begin = 0
    for number, content in enumerate(_cut(paths, part_bytes)):
        name = f"part-{number:03d}"
        (out / name).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        parts.append({"name": name, "begin": begin, "size": len(content), "sha256": sha256})
        begin += len(content)
    made = {**facts, "files": files, "parts": parts}
    (out / "kit.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    unpack = out / "unpack"
    unpack.write_bytes(Path(__file__).with_name("unpack.py").read_bytes())
    unpack.chmod(0o755)
    return made


def _cut(paths: Sequence[Path], part_bytes: int) -> Iterator[bytes]:
    """Yield the files' bytes in pieces of `part_bytes`; the last one may be smaller."""
    waiting = bytearray()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                waiting += block
                while len(waiting) >= part_bytes:
                    yield bytes(waiting[:part_bytes])
                    del waiting[:part_bytes]
    if waiting:
        yield bytes(waiting)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_options(
    pythons: Sequence[str], lacking: str | None, report: Path | None, add: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return versions of Python and packages, from the command line and a report of `gpu_check`.

    Raises:
        KitError: The file is no report of `gpu_check`.
    """
    names: list[str] = []
    if report is not None:
        try:
            environment = json.loads(report.read_text())["sections"]["environment"]["figures"]
            names, machine = list(environment["lacking"]), environment["python"]["version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KitError(f"{report} is no report of gpu_check: {error}") from error
        pythons = pythons or [".".join(machine.split(".")[:2])]
    versions = tuple(pythons) or ("3.11", "3.12")
    if report is None and lacking is None:
        lacking = "program,tests,graphs,pycuda"
    for word in (*(lacking or "").split(","), *add):
        group = needs.program(versions[0]) if word == "program" else needs.GROUPS.get(word, (word,))
        names.extend(filter(None, group))
    return versions, tuple(dict.fromkeys(map(needs.normal, names)))


def main(arguments: list[str] | None = None) -> int:
    """Run the command `gpu_kit`; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="gpu_kit", description="Pack what a GPU machine without network lacks."
    )
    parser.add_argument("out", type=Path, help="folder for unpack, kit.json and the parts")
    parser.add_argument("--python", action="append", default=[], help="3.11, 3.12; may be repeated")
    words = ", ".join(["program", *needs.GROUPS])
    parser.add_argument("--lacking", help=f"packages, with commas; {words} stand for several")
    parser.add_argument("--report", type=Path, help="gpu_check's JSON from that machine: says both")
    parser.add_argument("--add", action="append", default=[], help="a package more")
    parser.add_argument("--wheels", type=Path, help="folder of wheels, instead of the index")
    parser.add_argument(
        "--part-mb", type=float, default=PART_MB, help="most of a part, 10**6 bytes"
    )
    parser.add_argument("--no-clips", action="store_true")
    a = parser.parse_args(arguments)
    if not 0 < a.part_mb <= PART_MB:
        parser.error(f"--part-mb must be above 0 and at most {PART_MB}, got {a.part_mb}")
    try:
        pythons, packages = read_options(a.python, a.lacking, a.report, a.add)
        wanted = Wanted(pythons, packages, not a.no_clips, round(a.part_mb * 1e6))
        made = pack(wanted, a.out, wheelhouse=a.wheels)
    except (KitError, wheels.WheelError, subprocess.CalledProcessError) as error:
        print(f"gpu_kit: {error}", file=sys.stderr)
        return 1
    size = sum(part["size"] for part in made["parts"]) / 1e6
    print(f"{a.out}: {len(made['files'])} files, {size:.0f} MB in {len(made['parts'])} parts")
    for line in made["not_packed"]:
        print(f"not packed: {line}")
    print("there: python3 unpack --into kit")
    return 0
