"""Runs the sections of the check, each in a process of its own with a time limit.

A section that fails, hangs or crashes is reported with its results so far, and the rest goes on.
Only the standard library is used: it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

TOOL = Path(__file__).resolve().parents[1] / "gpu_check.py"
_QUOTED = 1500
"""Characters of the output of a failed section that are kept."""


class Unavailable(Exception):  # noqa: N818  states a fact
    """This machine cannot run a section; the message says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the check."""

    device: str = "cuda"
    """ "cuda", "cuda:1" or "cpu"."""
    quick: bool = False
    """Small and short: tests the tool only."""
    seconds: float = 3.0
    """Duration of each single measurement."""
    engines: tuple[str, ...] = ()
    """Names in the registry; empty for all."""
    runtimes: tuple[str, ...] = ()
    """Names in `runtimes.RUNTIMES`; empty for all."""
    tests: tuple[str, ...] = ("tests",)
    """Paths that pytest collects."""
    clips: str = ""
    """Folder of the kit's clips; empty: a clip is made."""
    cameras: int = 256
    """Largest number that is tried."""

    @property
    def least(self) -> int:
        """Minimum number of timed calls: p95 needs twenty."""
        return 3 if self.quick else 20

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is measured."""
        return self.device != "cpu"

    @property
    def index(self) -> int:
        """Index of the GPU."""
        return int(self.device.partition(":")[2] or 0)


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the check."""

    name: str
    module: str
    """Module with `run(options: Options, results: ResultLog) -> None`."""
    limit_s: float
    """Time limit."""
    about: str
    """Description, in a few words."""


SECTIONS: tuple[Section, ...] = (
    Section("environment", "gpu.environment", 120, "GPU, driver, libraries, missing packages"),
    Section("validate", "gpu.validating", 900, "plans for this GPU, compared with the reference"),
    Section("tests", "gpu.testing", 600, "pytest -m gpu, none of them skipped"),
    Section("speed", "gpu.speed", 600, "throughput and latency by network, batch and runtime"),
    Section("decode", "gpu.decoding", 200, "1080p on the CPU and by NVDEC"),
    Section("cameras", "gpu.cameras", 600, "cameras watched at 5 inferences per second"),
)


@dataclass(slots=True)
class ResultLog:
    """Results of a section so far; written to disk after every line, in case it is the last."""

    path: Path
    figures: dict[str, Any] = field(default_factory=dict)
    """For programs."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """For the table: `what`, `figure`, and `goal` with `reached` if there is one."""
    problems: list[str] = field(default_factory=list)
    """Measurements that failed, with the reason; the section continues."""

    def add(self, name: str, figures: Any) -> None:
        """Add figures under a name."""
        self.figures[name] = figures
        self._save()

    def row(
        self, what: str, figure: str, *, goal: str | None = None, reached: bool | None = None
    ) -> None:
        """Add a line of the table."""
        compared = {} if goal is None else {"goal": goal, "reached": reached}
        self.rows.append({"what": what, "figure": figure, **compared})
        self._save()

    def problem(self, what: str, error: BaseException | str) -> None:
        """Add a failed measurement of the section."""
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self.problems.append(f"{what}: {text}")
        self._save()

    def attempt(self, what: str, measure: Callable[[], object]) -> None:
        """Measure something; an error becomes a problem of the section."""
        try:
            measure()
        except Exception as error:  # noqa: BLE001  of any library: the rest goes on
            self.problem(what, error)

    def _save(self) -> None:
        facts = {name: value for name, value in asdict(self).items() if name != "path"}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(facts, default=str), encoding="utf-8")
        part.replace(self.path)


def run_here(section: Section, options: Options, path: Path) -> int:
    """Run a section in this process; return its exit status."""
    results = ResultLog(path)
    try:
        importlib.import_module(section.module).run(options, results)
    except Unavailable as error:
        results.problem("unavailable", str(error))
        return 3
    except ModuleNotFoundError as error:
        traceback.print_exc()
        results.problem("error", f"the package {error.name} is not installed")
        return 1
    except Exception as error:  # noqa: BLE001  it is reported, whatever it is
        traceback.print_exc()
        results.problem("error", error)
        return 1
    return 0


def run_apart(
    section: Section, options: Options, *, limit_s: float, tool: Path = TOOL
) -> dict[str, Any]:
    """Run a section in a process of its own; return its record, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        path, log = Path(folder) / "notes.json", Path(folder) / "log.txt"
        command = [sys.executable, str(tool), "--section", section.name, "--into", str(path)]
        command += ["--options", json.dumps(asdict(options))]
        began = time.monotonic()
        with log.open("wb") as output:
            # A session of its own: what the section starts ends with it.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
            try:
                code: int | None = process.wait(timeout=max(0.1, limit_s))
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(process)
        took_s = round(time.monotonic() - began, 1)
        record: dict[str, Any] = {"status": _status(code), "took_s": took_s}
        record |= _read(path)
        if record["status"] not in {"done", "unavailable"}:
            record["error"] = _why(code, limit_s, record.get("problems", ()))
            output_text = log.read_text(encoding="utf-8", errors="replace")
            record["output"] = output_text[-_QUOTED:]
        return record


def _status(code: int | None) -> str:
    return {None: "timed out", 0: "done", 3: "unavailable"}.get(code, "failed")


def _why(code: int | None, limit_s: float, problems: Iterable[str]) -> str:
    if code is None:
        return f"took longer than {limit_s:.0f} s"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return next((line for line in reversed(list(problems))), f"exit status {code}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the section and all its child processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        facts: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"figures": {}, "rows": [], "problems": []}
    return facts


def run_all(
    names: Iterable[str],
    options: Options,
    *,
    limit_s: float,
    section_limit_s: float | None = None,
    report: Callable[[str], None] = print,
    sections: Iterable[Section] = SECTIONS,
    tool: Path = TOOL,
) -> dict[str, dict[str, Any]]:
    """Run sections one after the other, within a time limit for all."""
    wanted, ends = set(names), time.monotonic() + limit_s
    results: dict[str, dict[str, Any]] = {}
    for section in sections:
        if section.name not in wanted:
            continue
        left_s = ends - time.monotonic()
        if left_s <= 0:
            results[section.name] = {
                "status": "not started", "error": f"the time limit of {limit_s:.0f} s was reached",
                "took_s": 0.0, "figures": {}, "rows": [], "problems": [],
            }  # fmt: skip
        else:
            report(f"{section.name}: {section.about}")
            most_s = min(left_s, section_limit_s or section.limit_s)
            results[section.name] = run_apart(section, options, limit_s=most_s, tool=tool)
        record = results[section.name]
        report(f"{section.name}: {record['status']} {record.get('error', '')}".rstrip())
    return results
