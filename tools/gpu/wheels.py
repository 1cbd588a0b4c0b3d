"""Collects the wheels of a kit from a folder or the package index, and builds PyCUDA."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gpu import build_pycuda, needs
from gpu.unpack import fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEADERS = ("nvidia-cuda-runtime-cu12==12.4.127", "nvidia-cuda-profiler-api-cu12==12.9.79")
"""Headers that PyCUDA is built against; see `build_pycuda`."""
_MACHINE = platform.machine()
# pip matches these one by one; a machine with glibc 2.28 or newer runs them all.
_PLATFORMS = (
    *(f"manylinux_2_{minor}_{_MACHINE}" for minor in range(40, 4, -1)),
    *(f"{name}_{_MACHINE}" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")),
)
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


class WheelError(Exception):
    """A package has no wheel; the message names it."""


def gather(
    packages: Sequence[str], pythons: Sequence[str], into: Path, *, wheelhouse: Path | None = None
) -> list[str]:
    """Collect a wheel of each package for each Python; return what is not packed, and why.

    Args:
        packages: Names. Those in the locks come in the version and with the digest written there.
        pythons: Versions, as in "3.12".
        into: Folder to fill. Source and headers of PyCUDA go into `pycuda` beside it, where no
            wheel of it can be built.
        wheelhouse: Folder of wheels to take instead of asking the index.

    Raises:
        WheelError: A package has no wheel for that Python.
    """
    into.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    for python in pythons:
        plain = [name for name in packages if name != "pycuda"]
        if wheelhouse is None:
            _download(plain, python, into)
        else:
            for name in plain:
                shutil.copy(_at_hand(name, python, wheelhouse), into)
    if "pycuda" in packages:
        notes = _pycuda(pythons, into, wheelhouse)
    return notes


def _at_hand(name: str, python: str, wheelhouse: Path) -> Path:
    major, minor = needs.numbers(python)[:2]
    found = [
        path
        for path in wheelhouse.glob("*.whl")
        if needs.normal(path.name.split("-")[0]) == name and fits(path.name, (major, minor))
    ]
    if not found:
        raise WheelError(f"no wheel of {name} for Python {python} in {wheelhouse}")
    return max(found, key=lambda path: needs.numbers(path.name.split("-")[1]))


def _download(packages: Iterable[str], python: str, into: Path) -> None:
    """Download packages with the digests of the locks, others in their newest version."""
    known = needs.locked(python)
    checked = [known[n].requirement for n in packages if n in known and known[n].hashes]
    others = [known[n].requirement if n in known else n for n in packages]
    others = [line for line in others if line not in checked]  # pip wants all digests or none
    with tempfile.TemporaryDirectory() as folder:
        for number, lines in enumerate((checked, others)):
            if not lines:
                continue
            path = Path(folder) / f"{number}.txt"
            path.write_text("\n".join(lines) + "\n")
            _pip_download(["--requirement", str(path)], python, into)


def _pip_download(what: Sequence[str], python: str, into: Path) -> None:
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    command = [
        *_PIP, "download", "--no-deps", "--only-binary=:all:", "--implementation", "cp",
        "--python-version", python, *platforms, "--dest", str(into), *what,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WheelError(f"for Python {python}: {done.stderr.strip()[-1000:]}")


def _pycuda(pythons: Sequence[str], into: Path, wheelhouse: Path | None) -> list[str]:
    """Build a wheel for each installed Python; for others collect what a build needs."""
    if wheelhouse is not None:
        for python in pythons:
            shutil.copy(_at_hand("pycuda", python, wheelhouse), into)
        return []
    material = into.parent / "pycuda"
    material.mkdir(exist_ok=True)
    for requirement in HEADERS:
        _pip_download([requirement], pythons[0], material)
    source = _source(material)
    headers = sorted(material.glob("*.whl"))
    notes = []
    for python in pythons:
        try:
            with tempfile.TemporaryDirectory(prefix="pycuda-env-") as folder:
                builder = _builder(python, Path(folder))
                build_pycuda.build(source, headers, into=into, python=str(builder))
        except build_pycuda.BuildError as error:
            notes.append(
                f"pycuda for Python {python}: {error}; its source is in pycuda/, "
                "tools/gpu/build_pycuda.py builds it there"
            )
    if not notes:
        shutil.rmtree(material)
    return notes


def _source(into: Path) -> Path:
    command = [*_PIP, "download", "--no-deps", "--no-binary=pycuda", "--dest", str(into), "pycuda"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(into.glob("pycuda-*.tar.gz"))
    if done.returncode or not found:
        raise WheelError(f"pycuda's source: {done.stderr.strip()[-1000:]}")
    return found[-1]


def _builder(python: str, folder: Path) -> Path:
    """Make a virtual environment of that Python with the build tools; return its interpreter.

    Raises:
        BuildError: That Python is not here.
    """
    interpreter = find_python(python)
    if interpreter is None:
        raise build_pycuda.BuildError(f"no python{python} on this machine")
    try:
        subprocess.run([interpreter, "-m", "venv", str(folder)], check=True, capture_output=True)
        mine = folder / "bin" / "python"
        command = [str(mine), "-m", "pip", "install", "--quiet", "setuptools", "wheel", "numpy"]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise build_pycuda.BuildError(f"{interpreter}: {error}") from error
    return mine


def find_python(version: str) -> str | None:
    """Return a working interpreter of that version: this one, one on PATH, or one of pyenv."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    pyenv = map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
    for candidate in (shutil.which(f"python{version}"), *pyenv):
        # pyenv's programs on PATH fail for versions that are not activated.
        if (
            candidate
            and not subprocess.run([candidate, "-V"], capture_output=True, check=False).returncode
        ):
            return candidate
    return None
