"""Lists the packages that the check needs, from `locks/`. Uses the standard library only."""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).resolve().parents[2]

TESTS = ("pytest", "iniconfig", "pluggy", "hypothesis", "sortedcontainers")
"""For the tests marked `gpu`."""
GRAPHS = ("onnx", "ml-dtypes")
"""For converting networks for TensorRT."""
PYCUDA = ("pycuda", "pytools", "platformdirs", "siphash24", "mako", "markupsafe")
"""For device memory; the first is published as source and built."""
RTX = ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings")
"""TensorRT for RTX; the other edition comes from NVIDIA's own index."""
UNWANTED = frozenset({"openvino-telemetry"})
"""A dependency of OpenVINO that is never imported."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "tests": TESTS,
    "graphs": GRAPHS,
    "pycuda": PYCUDA,
    "rtx": RTX,
}
"""Groups that one word selects; `program` is all of `locks/run.txt`."""

_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)\s*(?:;\s*(.*?))?\s*\\?$")
_VERSION_RULE = re.compile(r"python_(?:full_)?version\s*(<|>=)\s*'([\d.]+)'")
_BOUND = re.compile(r"(>=|<)\s*([\d.]+)")


@dataclass(frozen=True, slots=True)
class Locked:
    """A package at the tested version."""

    name: str
    version: str
    hashes: tuple[str, ...] = ()
    """Digests "sha256:..." of its files, of which one must match."""

    @property
    def requirement(self) -> str:
        """Line of a requirements file."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash={h}" for h in self.hashes)])


def normal(name: str) -> str:
    """Return a package's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version: (3, 11, 2) of 3.11.2rc1."""
    return tuple(map(int, re.findall(r"\d+", re.split(r"[a-z+]", text)[0])))


def read_lock(path: Path, python: str) -> dict[str, Locked]:
    """Return a lock's packages for Linux and a version of Python; empty if there is no file."""
    found: dict[str, Locked] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    last: Locked | None = None
    for line in lines:
        if (hashed := re.search(r"--hash=(\S+)", line)) and last is not None:
            last = Locked(last.name, last.version, (*last.hashes, hashed[1]))
            found[last.name] = last
        elif not line.startswith((" ", "#")):
            locked = _LOCKED.match(line)
            last = None
            if locked and _holds(locked[3] or "", python):
                last = Locked(normal(locked[1]), locked[2])
                found[last.name] = last
    return found


def _holds(marker: str, python: str) -> bool:
    """Whether a lock's marker holds on Linux with CPython of that version."""
    if "sys_platform == 'win32'" in marker or "platform_system == 'Windows'" in marker:
        return False
    for sign, bound in _VERSION_RULE.findall(marker):
        below = numbers(python) < numbers(bound)
        if below != (sign == "<"):
            return False
    return True


def locked(python: str, root: Path = ROOT) -> dict[str, Locked]:
    """Return every locked package, by name, for a version of Python."""
    found: dict[str, Locked] = {}
    for path in sorted((root / "locks").glob("*.txt"), reverse=True):
        if path.stem != "train":
            found.update(read_lock(path, python))
    return found


def program(python: str, root: Path = ROOT) -> tuple[str, ...]:
    """Return the packages that the program needs."""
    return tuple(n for n in read_lock(root / "locks" / "run.txt", python) if n not in UNWANTED)


def bounds(root: Path = ROOT) -> dict[str, str]:
    """Return the versions that `pyproject.toml` allows, such as ">=18,<19", by package."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}
    for line in project["dependencies"]:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        assert name is not None, "a dependency begins with its name"
        found[normal(name[0])] = line[name.end() :].strip()
    return found


def allowed(installed: str, bound: str) -> bool:
    """Whether a version lies within bounds such as ">=18,<19"."""
    return all(
        (numbers(installed) >= numbers(limit)) == (sign == ">=")
        for sign, limit in _BOUND.findall(bound)
    )


def installed(name: str) -> str | None:
    """Return the installed version, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def lacking(wanted: Iterable[str], root: Path = ROOT) -> list[str]:
    """Return those of `wanted` that are missing or have an unsupported version."""
    rules = bounds(root)
    missing = []
    for name in wanted:
        have = installed(name)
        if have is None or not allowed(have, rules.get(name, "")):
            missing.append(name)
    return missing


def wanted_here() -> tuple[str, ...]:
    """Return all packages that the check can use on this machine."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (*program(here), *TESTS, *GRAPHS, *PYCUDA, *RTX)
