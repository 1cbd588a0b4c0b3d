"""The section `tests`: the tests marked `gpu`, none of which may be skipped on a GPU machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from gpu.needs import ROOT
from gpu.sections import Unavailable

if TYPE_CHECKING:
    from gpu.sections import Options, ResultLog

_NOTHING_FOUND = 5
"""pytest's exit status when no test was collected."""
_MOST_NAMED = 20


def run(options: Options, results: ResultLog) -> None:
    """Run pytest.

    Raises:
        Unavailable: No test has the mark.
        RuntimeError: A test failed, or pytest itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
        environment = dict(os.environ)
        if options.on_gpu:
            environment["REQUIRE_GPU"] = "1"
        done = subprocess.run(
            [*command, f"--junitxml={report}", *options.tests],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == _NOTHING_FOUND:
            raise Unavailable("no test here is marked gpu")
        if not report.is_file():
            raise RuntimeError(f"pytest: {(done.stdout + done.stderr)[-1000:]}")
        # Written by the pytest above.
        cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314
    outcomes = {_name(case): _outcome(case) for case in cases}
    results.add("outcomes", outcomes)
    counts = {word: list(outcomes.values()).count(word) for word in ("passed", "skipped", "failed")}
    results.row(
        "tests marked gpu",
        ", ".join(f"{count} {word}" for word, count in counts.items()),
        goal="all run and pass" if options.on_gpu else None,
        reached=counts["passed"] == len(outcomes),
    )
    failed = [name for name, outcome in outcomes.items() if outcome == "failed"]
    for name in failed[:_MOST_NAMED]:
        results.problem("failed", name)
    if failed or done.returncode not in {0, _NOTHING_FOUND}:
        raise RuntimeError(f"{len(failed)} of {len(outcomes)} tests failed: {done.stdout[-800:]}")


def _name(case: ET.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


def _outcome(case: ET.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"
