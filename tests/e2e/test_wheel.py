"""The built wheel in an empty environment: what a user gets by `pip install`."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.system]  # The packages come from the package index.


def run(*command, **kwargs):
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=600, check=False, **kwargs
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the files that git knows: nothing that merely lies in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*pip, "--wheel-dir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_networks_licence_and_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"engines/smoke/smoke.onnx", "engines/lowlight/lowlight.onnx"} <= names
    assert {name.rpartition("/")[2] for name in names} >= {"LICENSE", "NOTICE", "py.typed"}
    assert not [name for name in names if name.startswith(("tests/", "tools/"))]


def test_the_installed_wheel_runs_the_demonstration(wheel, tmp_path):
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment)
    install = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
    run(*install, "--constraint", constraints(tmp_path), wheel, env=clean())
    streamer = environment / "bin" / "streamer"
    assert run(streamer, "--version", env=clean()).startswith("0.")
    out = run(streamer, "demo", "--out", tmp_path / "demo", "--json", env=clean(), cwd=tmp_path)
    assert '"kind": "raised"' in out


def constraints(folder):
    """The versions of the lock without its digests, so that wheels of any platform fit."""
    path = folder / "constraints.txt"
    lines = (ROOT / "locks" / "run.txt").read_text().splitlines()
    kept = [line.rstrip("\\ ") for line in lines if line and line[0] not in " #"]
    path.write_text("\n".join(kept) + "\n")
    return path


def clean():
    """The environment without what would let the checkout be found."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
