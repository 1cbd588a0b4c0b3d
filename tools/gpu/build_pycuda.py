"""Builds PyCUDA without a CUDA toolkit: from its source, CUDA's headers and a stub of the driver.

PyCUDA is published as source only. It needs the driver's headers (`cuda.h`), which the packages
`nvidia-cuda-runtime-cu12` and `nvidia-cuda-profiler-api-cu12` contain, and a `libcuda` to link to,
which only a driver installs. A stub library with an empty function for every name in the headers
replaces it.

The headers are those of CUDA 12: newer headers declare newer functions, and a driver without one
of them could not load the module. A driver keeps all functions of its predecessors.

Needs Python 3.10, its standard library and a C++ compiler; the target Python needs numpy and
setuptools. Also runs where a kit is unpacked: `python build_pycuda.py SOURCE HEADERS...`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_S = 1500
"""Time limit of the build, which takes four minutes on a busy core."""
_DRIVER = "libcuda.so.1"
"""Library that a driver installs, and that PyCUDA must be linked to."""

# Without cuRAND and OpenGL: the program uses memory, streams, events and graphs.
_SETTINGS = """\
CUDA_ROOT = {root!r}
CUDA_INC_DIR = {includes!r}
CUDADRV_LIB_DIR = [{library!r}]
CUDADRV_LIBNAME = ["cuda"]
CUDART_LIB_DIR = CUDART_LIBNAME = []
CUDA_ENABLE_CURAND = CUDA_ENABLE_GL = CUDA_TRACE = False
USE_SHIPPED_BOOST = True
CXXFLAGS = ["-w"]
LDFLAGS = []
"""


class BuildError(Exception):
    """PyCUDA could not be built; the message holds the end of what the compiler output."""


def build(source: Path, headers: Sequence[Path], *, into: Path, python: str) -> Path:
    """Build a wheel.

    Args:
        source: PyCUDA's `pycuda-*.tar.gz`.
        headers: Wheels with `cuda.h` and `cudaProfiler.h` in them.
        into: Folder of the wheel.
        python: The interpreter it is built for, with pip, numpy and setuptools.

    Raises:
        BuildError: A compiler or a header is missing, or it failed.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BuildError("no C++ compiler here (Debian: build-essential)")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pycuda-") as name:
        folder = Path(name)
        for wheel in headers:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder / "cuda")  # noqa: S202  as for pip
        includes = _stand_in(folder, compiler)
        with tarfile.open(source) as archive:
            archive.extractall(folder)  # noqa: S202  as for pip
        (tree,) = (path.parent for path in folder.glob("pycuda-*/setup.py"))
        settings = {"root": str(folder / "cuda"), "includes": includes, "library": str(folder)}
        (tree / "siteconf.py").write_text(_SETTINGS.format(**settings))
        arguments = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(into)]
        _run([python, "-m", "pip", "wheel", *arguments, "."], tree)
    made = max(into.glob("pycuda-*.whl"), key=lambda path: path.stat().st_mtime)
    with zipfile.ZipFile(made) as archive:
        (driver,) = (name for name in archive.namelist() if "/_driver." in name)
        if _DRIVER.encode() not in archive.read(driver):
            # Linkers leave out what they see no use for; the driver would then not be loaded.
            made.unlink()
            raise BuildError(f"what was built does not ask for {_DRIVER}")
    return made


def _stand_in(folder: Path, compiler: str) -> list[str]:
    """Make a stub `libcuda.so` from the headers under `cuda/`; return the headers' folders.

    Raises:
        BuildError: There is no `cuda.h`, or the compiler failed.
    """
    headers = sorted(folder.glob("cuda/**/include/cuda*.h"))
    if not any(path.name == "cuda.h" for path in headers):
        raise BuildError("no cuda.h in the headers that were given")
    # Every word that could be a function's name: to define one too many does no harm.
    text = "".join(path.read_text(errors="replace") for path in headers)
    words = sorted(set(re.findall(r"\bcu[A-Z]\w*", text)))
    source = folder / "stand_in.c"
    source.write_text("".join(f"void {word}(void) {{}}\n" for word in words))
    options = ["-w", "-shared", "-fPIC", f"-Wl,-soname,{_DRIVER}"]
    _run([compiler, *options, "-o", str(folder / "libcuda.so"), str(source)], folder)
    return sorted({str(path.parent) for path in headers})


def _run(command: Sequence[str], folder: Path) -> None:
    # PIP_ variables of the environment may name an index.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "PIP_"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, timeout=LONGEST_S, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took longer than {LONGEST_S} s") from error
    if done.returncode:
        raise BuildError(f"{' '.join(command[:4])} failed: {done.stdout[-2000:]}")


def main() -> None:
    """Build for the Python that runs this."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("headers", type=Path, nargs="+")
    parser.add_argument("--into", type=Path, default=Path())
    a = parser.parse_args()
    print(build(a.source, a.headers, into=a.into.resolve(), python=sys.executable))


if __name__ == "__main__":
    main()
