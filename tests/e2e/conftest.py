"""The demonstration, made once: a clip of a starting fire, its alarm and its evidence."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

STREAMER = [sys.executable, "-m", "streamer.cli"]


@dataclass(frozen=True)
class Demo:
    """What `streamer demo --json` wrote."""

    folder: Path
    events: list[dict[str, Any]]
    summary: dict[str, Any]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [*STREAMER, "demo", "--json", "--out", folder],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *events, summary = map(json.loads, done.stdout.splitlines())
    return Demo(folder, events, summary)
