"""What stands here: card, driver, libraries, and what the check lacks. Standard library alone."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu import needs

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu.sections import Options, ResultLog

_CARD = ("name", "driver_version", "memory.total", "compute_cap", "clocks.max.sm", "power.limit")
"""Fields that are queried from nvidia-smi."""
_LONGEST_S = 30


def run(options: Options, results: ResultLog) -> None:
    """Record all parts; a missing one is a finding, not an error."""
    del options
    parts: dict[str, Callable[[], Any]] = {
        "python": _python,
        "system": _system,
        "cards": _cards,
        "driver": _driver,
        "toolkit": _toolkit,
        "tensorrt": _tensorrt,
        "pycuda": _pycuda,
        "torch": _torch,
        "onnxruntime": _onnxruntime,
        "ffmpeg": _ffmpeg,
    }
    found: dict[str, Any] = {}
    for name, probe in parts.items():
        try:
            found[name] = probe()
        except Exception as error:  # noqa: BLE001  a broken library is a finding
            found[name] = {"error": f"{type(error).__name__}: {error}"}
        results.add(name, found[name])
        results.row(name, _words(found[name]))
    wanted = needs.wanted_here()
    results.add("packages", {name: needs.installed(name) for name in wanted})
    lacking = needs.lacking(wanted)
    results.add("lacking", lacking)
    results.row("lacking packages", ", ".join(lacking) or "none")


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {_words(each)}" for name, each in value.items() if each not in ("", None)
        )
    if isinstance(value, (list, tuple)):
        return "; ".join(map(_words, value)) or "none"
    return str(value)


def _python() -> dict[str, str]:
    return {"version": platform.python_version(), "executable": sys.executable}


def _system() -> dict[str, Any]:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "kernel": platform.platform(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages / 1e9, 1),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _output_of(*command: str) -> str:
    """Return the output of a program, or that it was not found."""
    if shutil.which(command[0]) is None:
        return f"{command[0]}: not found"
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    return (done.stdout or done.stderr).strip()


def _cards() -> list[dict[str, str]] | str:
    output = _output_of("nvidia-smi", f"--query-gpu={','.join(_CARD)}", "--format=csv,noheader")
    rows = [line.split(", ") for line in output.splitlines()]
    if any(len(row) != len(_CARD) for row in rows):
        return output
    return [dict(zip(_CARD, row, strict=True)) for row in rows]


def _driver() -> dict[str, Any]:
    """Return what the driver's library reports, which works without nvidia-smi."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"error": f"no driver: {error}"}
    version, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    began = library.cuInit(0)
    if not began:
        library.cuDeviceGetCount(ctypes.byref(count))
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return {"cuda": cuda, "gpus": count.value, "cuInit": began}


def _toolkit() -> str:
    output = _output_of("nvcc", "--version").splitlines()
    return next(
        (line for line in output if "release" in line), output[0] if output else "nvcc: silent"
    )


def _module(name: str) -> Any:
    """Return a module, or None if it is not installed; a broken one raises."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def _tensorrt() -> dict[str, str]:
    found = {}
    for edition, name in (("tensorrt", "tensorrt"), ("rtx", "tensorrt_rtx_bindings")):
        try:
            module = _module(name)
            found[edition] = "not installed" if module is None else str(module.__version__)
        except Exception as error:  # noqa: BLE001  whatever a broken installation raises
            found[edition] = f"cannot be loaded: {error}"
    return found


def _pycuda() -> str:
    version = needs.installed("pycuda")
    if version is None:
        return "not installed"
    importlib.import_module("pycuda.driver")
    return version


def _torch() -> dict[str, Any] | str:
    torch = _module("torch")
    if torch is None:
        return "not installed"
    there = torch.cuda.is_available()
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "available": there,
        "gpu": torch.cuda.get_device_name(0) if there else "",
        "capability": ".".join(map(str, torch.cuda.get_device_capability(0))) if there else "",
    }


def _onnxruntime() -> dict[str, Any] | str:
    module = _module("onnxruntime")
    if module is None:
        return "not installed"
    return {"version": module.__version__, "providers": module.get_available_providers()}


def _ffmpeg() -> dict[str, Any] | str:
    module = _module("av")
    if module is None:
        return "not installed"
    from av.codec.hwaccel import hwdevices_available

    return {"av": module.__version__, "hwaccel": list(hwdevices_available())}
