"""What every test gets: no thread left over, and reasons where something is missing."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Machines that run tests are busy: how long an example takes says nothing about the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _no_thread_is_left_over() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    # Libraries keep pools of idle threads, which the interpreter ends; this program has none.
    left = [
        thread
        for thread in threading.enumerate()
        if thread not in before and not thread.name.startswith("ThreadPoolExecutor-")
    ]
    for thread in left:
        thread.join(timeout=2)  # A thread that is about to end may.
    names = [thread.name for thread in left if thread.is_alive()]
    assert not names, f"threads left over: {names}"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of development images and clips."""
    folder = Path(os.environ.get("STREAMER_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "smoke").is_dir():
        pytest.skip(f"no development data at {folder}; set STREAMER_DATA")
    return folder


def _needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="session")
def mosquitto() -> str:
    """The name of a real MQTT broker."""
    _needs("mosquitto")
    return "mosquitto"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """Where `STREAMER_REQUIRE` names a mark, its tests must run: a skip is a failure there.

    `REQUIRE_GPU=1` is another word for naming `gpu`.
    """
    report = yield
    required = os.environ.get("STREAMER_REQUIRE", "").split()
    required += ["gpu"] * (os.environ.get("REQUIRE_GPU") == "1")
    if report.skipped and any(item.get_closest_marker(mark) for mark in required):
        report.outcome = "failed"
        report.longrepr = f"must run here, but was skipped: {report.longrepr}"
    return report
