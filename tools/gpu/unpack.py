#!/usr/bin/env python3
"""Unpacks a kit that tools/gpu_kit packed: parts to files, wheels to a folder for Python.

Needs Python 3.10 and its standard library, no pip and no network. May be run whenever parts arrive:
available parts are unpacked, missing or damaged ones are named, and unpacked parts may be deleted.
A run that was killed is resumed by the next one.

    python3 unpack --into FOLDER        exit 0: complete; 3: parts are missing; 1: an error
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

INCOMPLETE = 3
"""Exit status while parts are missing."""
_BLOCK = 1 << 20


class UnpackError(Exception):
    """The kit cannot be unpacked; the message says why."""


class Kit:
    """A kit and the folder that it is unpacked into.

    The parts are one stream of all files' bytes, in the order of the list, cut at even distances.
    """

    def __init__(self, folder: Path, into: Path) -> None:
        self.folder, self.into = folder, into
        try:
            facts = json.loads((folder / "kit.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnpackError(f"no kit at {folder}: {error}") from error
        self.facts: dict[str, Any] = facts
        self.parts: list[dict[str, Any]] = facts["parts"]
        self.files: list[dict[str, Any]] = facts["files"]
        self._state = into / ".unpacked.json"
        into.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, str] = _read(self._state)

    def take_parts(self) -> list[str]:
        """Unpack the available parts; return a line for each missing or damaged one."""
        problems = []
        for part in self.parts:
            if self.done.get(part["name"]) == part["sha256"]:
                continue
            path = self.folder / part["name"]
            if not path.is_file():
                problems.append(f"{part['name']}: missing")
            elif path.stat().st_size != part["size"] or _digest(path) != part["sha256"]:
                problems.append(f"{part['name']}: damaged, bring it again")
            else:
                self._take(part, path.read_bytes())
        return problems

    def _take(self, part: dict[str, Any], content: bytes) -> None:
        begin, at = part["begin"], 0
        for number, file in enumerate(self.files):
            first, last = max(begin, at), min(begin + len(content), at + file["size"])
            if first < last:
                path = self._unfinished(number)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("r+b" if path.exists() else "wb") as output:
                    output.seek(first - at)
                    output.write(content[first - begin : last - begin])
            at += file["size"]
        self.done[part["name"]] = part["sha256"]
        _write(self._state, self.done)

    def _unfinished(self, number: int) -> Path:
        return self.into / "unfinished" / str(number)

    def finish(self) -> None:
        """Check every file and move it to its place.

        Raises:
            UnpackError: One is not what was packed; its parts count as not unpacked any more.
        """
        for number, file in enumerate(self.files):
            place = self.into / _safe(file["path"])
            if place.is_file() and _digest(place) == file["sha256"]:
                continue
            path = self._unfinished(number)
            if not path.is_file() or _digest(path) != file["sha256"]:
                self._state.unlink(missing_ok=True)
                raise UnpackError(f"{file['path']} is not what was packed: unpack all parts again")
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
            place.chmod(file.get("mode", 0o644))

    def unroll(self) -> None:
        """Unpack the repository's archive beside itself."""
        for name in self.facts.get("archives", ()):
            target = self.into / PurePosixPath(name).name.split(".")[0]
            digest = next(file["sha256"] for file in self.files if file["path"] == name)
            mark = target / ".digest"
            if mark.is_file() and mark.read_text() == digest:
                continue
            with tarfile.open(self.into / _safe(name)) as archive:
                for member in archive.getmembers():
                    if not (member.isfile() or member.isdir()):
                        raise UnpackError(f"{name}: {member.name} is neither file nor folder")
                    _safe(member.name)
                archive.extractall(target)  # noqa: S202  every member was checked
            mark.write_text(digest)

    def install(self) -> list[str]:
        """Unpack the wheels that fit this Python into `site`; return the packages without one."""
        site = self.into / "site"
        site.mkdir(exist_ok=True)
        mark = site / ".wheels.json"
        done = _read(mark)
        fitting: set[str] = set()
        seen: set[str] = set()
        for file in self.files:
            if not file["path"].endswith(".whl"):
                continue
            name = PurePosixPath(file["path"]).name
            seen.add(_project(name))
            if not fits(name):
                continue
            fitting.add(_project(name))
            if done.get(name) != file["sha256"]:
                extract(self.into / _safe(file["path"]), site)
                done[name] = file["sha256"]
                _write(mark, done)
        return sorted(seen - fitting)


def fits(wheel: str, version: tuple[int, int] | None = None) -> bool:
    """Whether a wheel of that file name runs on a version of CPython, else on this one."""
    major, minor = version or sys.version_info[:2]
    pythons, abis, platforms = wheel.removesuffix(".whl").split("-")[-3:]
    if platforms != "any" and platform.machine() not in platforms:
        return False
    for python in pythons.split("."):
        for abi in abis.split("."):
            if abi == "none" and python in {f"py{major}", f"py{major}{minor}", f"cp{major}{minor}"}:
                return True
            if abi == python == f"cp{major}{minor}":
                return True
            # The stable interface: made for this version or an older one.
            if abi == "abi3" and python.startswith(f"cp{major}") and int(python[3:]) <= minor:
                return True
    return False


def extract(wheel: Path, site: Path) -> None:
    """Unpack a wheel's modules as pip would (PEP 427); scripts and headers are left out."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            parts = _safe(entry.filename).parts
            if parts and parts[0].endswith(".data"):
                if len(parts) < 3 or parts[1] not in {"purelib", "platlib"}:  # noqa: PLR2004  x.data/purelib/...
                    continue
                parts = parts[2:]
            if entry.is_dir() or not parts:
                continue
            target = site.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(entry))
            # Permissions are in the upper half; libraries and programs want theirs.
            target.chmod((entry.external_attr >> 16) & 0o777 or 0o644)


def _project(wheel: str) -> str:
    return wheel.split("-", maxsplit=1)[0].lower().replace("_", "-")


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UnpackError(f"{name!r} leads out of the folder")
    return path


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _read(path: Path) -> dict[str, str]:
    try:
        facts: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts


def _write(path: Path, facts: dict[str, str]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(facts), encoding="utf-8")
    part.replace(path)


def _say_how(kit: Kit, lacking: list[str]) -> None:
    into = kit.into.resolve()
    shell = into / "environment"
    shell.write_text(
        f'export STREAMER_KIT="{into}"\n'
        f'export PYTHONPATH="{into}/site:{into}/streamer${{PYTHONPATH:+:$PYTHONPATH}}"\n'
        f'export STREAMER_PYTHON="{sys.executable}"\n'
    )
    version = ".".join(map(str, sys.version_info[:2]))
    for name in lacking:
        print(
            f"no wheel of {name} for Python {version} on {platform.machine()}; wheels/ has others"
        )
    print(
        f"unpacked into {into}; now:\n  . {shell} && {into}/streamer/tools/gpu_check --out results"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command `unpack`; return its exit status."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Unpack a kit; see the top of this file.")
    parser.add_argument("--kit", type=Path, default=here, help="folder of kit.json and the parts")
    parser.add_argument("--into", type=Path, default=Path("kit"), help="folder to unpack into")
    a = parser.parse_args(arguments)
    try:
        kit = Kit(a.kit, a.into)
        if problems := kit.take_parts():
            print(f"{len(kit.parts) - len(problems)} of {len(kit.parts)} parts are unpacked")
            print("\n".join(problems))
            return INCOMPLETE
        kit.finish()
        kit.unroll()
        _say_how(kit, kit.install())
    except (UnpackError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        print(f"unpack: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
