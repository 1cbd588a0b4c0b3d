"""Rules of the house that import-linter cannot express."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    path.relative_to(ROOT)
    for folder in ("streamer", "engines")
    for path in ROOT.glob(f"{folder}/**/*.py")
)

THREADS = {
    "streamer/core/pipeline.py": "one thread a part",
    "streamer/core/uninterruptible.py": "calls that cannot be interrupted, left behind when late",
    "streamer/app/supervised_task.py": "one thread a camera, and what serves all cameras",
    "streamer/app/supervisor.py": "closes cameras side by side, so that the end is bounded",
    "streamer/cli/termination.py": "ends the process although the main thread may be blocked",
    "streamer/sinks/publish_process.py": "a process of its own: reads frames while it encodes",
    "streamer/evidence/disk_worker.py": "a slow or hanging disk must not hold an alarm up",
    "streamer/store/bounded_calls.py": "a call to a disk that hangs must not hold an alarm up",
    "streamer/notify/dispatcher.py": "one thread a channel: a dead receiver delays nobody else",
    "streamer/web/server.py": "encodes images and builds the status beside the event loop",
    "streamer/bench/link.py": "the two ends of the link it measures",
    "streamer/bench/overload.py": "pipelines side by side, and as many callers as the engine runs",
    "streamer/bench/cameras.py": "one thread a pipeline, started and stopped by hand",
    "engines/plans/fallback.py": "a plan is built and proven while the program goes on",
    "engines/benchmark.py": "every core at work while it is timed",
    "streamer/convert/job.py": "chunks side by side, each in a pipeline of its own",
    "streamer/bench/rtsp.py": "the pipeline runs while the camera is timed",
}
"""Files that create threads, each with its reason."""

ONE_PLACE = {
    "openvino": {"engines/backends/openvino.py"},
    "onnxruntime": {"engines/backends/onnxruntime.py"},
    "tensorrt": {"engines/backends/tensorrt.py"},
    "tensorrt_rtx_bindings": {"engines/backends/tensorrt.py"},
    "pycuda": {"engines/backends/cuda.py"},
}
TORCH = {"network.py", "data.py", "train.py", "evaluate.py", "export.py"}
TORCH |= {"losses.py", "baselines.py", "speed.py", "training.py", "encoder.py"}

LONGEST_FILE = 500


def imports(path: Path) -> set[str]:
    """Top-level names of all modules that *path* imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", ONE_PLACE)
def test_an_accelerator_library_is_imported_in_one_place(package):
    users = {path.as_posix() for path in MODULES if package in imports(path)}
    assert users <= ONE_PLACE[package]


def test_torch_is_imported_only_where_networks_are_made():
    users = {path for path in MODULES if "torch" in imports(path)}
    assert all(path.parts[0] == "engines" and path.name in TORCH for path in users), users


def test_threads_are_created_in_few_files():
    creators = {
        path.as_posix()
        for path in MODULES
        if re.search(r"\b(Thread|Timer|ThreadPoolExecutor)\(", (ROOT / path).read_text())
    }
    assert creators <= set(THREADS), f"give a reason for {sorted(creators - set(THREADS))}"


@pytest.mark.parametrize(
    "path",
    [
        *(f"alarm/{n}.py" for n in ("event", "policy", "tracks")),
        *(f"detect/{n}.py" for n in ("detector", "segmenter", "scene", "regions", "zones")),
        *(f"detect/{n}.py" for n in ("inference_scheduler", "overload", "service_time")),
        "detect/false_positive_prior.py",
        "core/link.py",
        *(f"stages/{n}.py" for n in ("detect", "alarm", "low_light", "overlay")),
    ],
)
def test_pure_parts_do_no_input_or_output_and_read_no_clock(path):
    used = imports(Path("streamer") / path)
    assert not used & {"time", "socket", "sqlite3", "httpx", "pathlib", "os", "io", "subprocess"}


def test_no_file_is_long():
    tests = sorted(path.relative_to(ROOT) for path in ROOT.glob("tests/**/*.py"))
    long = {
        str(path): lines
        for path in [*MODULES, *tests]
        if (lines := (ROOT / path).read_text().count("\n")) > LONGEST_FILE
    }
    assert not long


@pytest.mark.parametrize(
    "folder",
    [
        *sorted({path.parent.as_posix() for path in MODULES if path.name == "__init__.py"}),
        "configs",
        "tests",
        "tools",
    ],
)
def test_every_folder_explains_itself(folder):
    assert (ROOT / folder / "README.md").is_file()


def test_importing_the_program_needs_neither_torch_nor_a_gpu_library():
    code = (
        "import sys, streamer.app, streamer.app.supervisor, engines.registry;"
        "gpu = {'tensorrt', 'tensorrt_rtx_bindings', 'pycuda'};"
        "print(sorted({'torch', *gpu} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert answer.stdout.strip() == "[]"


CIRCLES: dict[str, str] = {}
"""Modules that may import each other, each with its reason; only what is left to be untangled."""


def edges() -> dict[str, set[str]]:
    """Modules that each module imports, wherever in the file: functions and type checking too."""
    names = {".".join(p.with_suffix("").parts).removesuffix(".__init__"): p for p in MODULES}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found = set()
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.Import):
                found |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*(parts if node.level else []), *filter(None, [node.module])])
                for each in node.names:
                    submodule = f"{base}.{each.name}"
                    found.add(submodule if submodule in names else base)
        graph[name] = (found & names.keys()) - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(sorted(component))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_no_modules_import_each_other() -> None:
    found = [circle for circle in circles(edges()) if not set(circle) <= CIRCLES.keys()]
    assert not found, "\n".join(" - ".join(circle) for circle in found)
