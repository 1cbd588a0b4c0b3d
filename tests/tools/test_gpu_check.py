"""The check itself: on a machine without a GPU it runs end to end, on the CPU, at small sizes."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from gpu import measuring, report, runtimes
from gpu.sections import SECTIONS, Options, ResultLog, Section, run_all, run_apart

from engines.errors import DeviceUnavailable, EngineError

TOOL = Path(__file__).parents[2] / "tools" / "gpu_check"

BEHAVIOUR = """
import json, os, signal, subprocess, sys, time
name, into = sys.argv[2], sys.argv[4]
def note(**more):
    facts = {"figures": {"a": 1}, "rows": [], "problems": [], **more}
    open(into, "w").write(json.dumps(facts))
if name == "good":
    note(); sys.exit(0)
if name == "hangs":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    note(figures={"child": child.pid}); time.sleep(60)
if name == "crashes":
    note(); os.kill(os.getpid(), signal.SIGSEGV)
if name == "fails":
    print("a last word"); note(problems=["error: ValueError: no"]); sys.exit(1)
if name == "missing":
    note(problems=["unavailable: no card"]); sys.exit(3)
"""


@pytest.fixture
def tool(tmp_path):
    """Stands in for the check: its sections do what their names say."""
    path = tmp_path / "tool.py"
    path.write_text(BEHAVIOUR)
    return path


def section(name):
    return Section(name, "none", 30, "for a test")


def checked(out, *arguments, timeout=300):
    done = subprocess.run(
        [TOOL, "--out", out, "--quick", *arguments],
        capture_output=True, text=True, timeout=timeout, check=False,
        env={"PATH": "/usr/bin:/bin", "STREAMER_PYTHON": sys.executable, "HOME": str(out)},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done, json.loads((out / "gpu.json").read_text())["sections"]


def test_a_section_that_is_done_gives_its_figures(tool):
    record = run_apart(section("good"), Options(), limit_s=30, tool=tool)
    assert (record["status"], record["figures"]) == ("done", {"a": 1})


def test_a_section_that_hangs_is_ended_with_all_it_started_and_keeps_what_it_measured(tool):
    record = run_apart(section("hangs"), Options(), limit_s=1, tool=tool)
    assert record["status"] == "timed out"
    assert record["error"] == "took longer than 1 s"
    state = Path(f"/proc/{record['figures']['child']}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_section_whose_process_crashes_is_reported_with_its_signal(tool):
    record = run_apart(section("crashes"), Options(), limit_s=30, tool=tool)
    assert (record["status"], record["figures"]) == ("failed", {"a": 1})
    assert "SIGSEGV" in record["error"]


def test_a_section_that_fails_gives_its_error_and_its_last_words(tool):
    record = run_apart(section("fails"), Options(), limit_s=30, tool=tool)
    assert record["error"] == "error: ValueError: no"
    assert "a last word" in record["output"]


def test_whatever_becomes_of_a_section_the_others_run(tool):
    names = ["crashes", "missing", "good"]
    reported = []
    results = run_all(
        names,
        Options(),
        limit_s=60,
        sections=map(section, names),
        tool=tool,
        report=reported.append,
    )
    assert [one["status"] for one in results.values()] == ["failed", "unavailable", "done"]
    assert reported[-1] == "good: done"


def test_what_the_time_for_all_does_not_reach_is_reported_as_not_begun(tool):
    names = ["hangs", "good"]
    results = run_all(
        names, Options(), limit_s=1, sections=map(section, names), tool=tool, report=lambda _: None
    )
    assert [one["status"] for one in results.values()] == ["timed out", "not started"]


def test_every_section_is_described_and_has_its_module():
    folder = TOOL.with_name("gpu")
    for one in SECTIONS:
        assert one.about
        assert (folder / f"{one.module.removeprefix('gpu.')}.py").is_file()
    assert len({one.name for one in SECTIONS}) == len(SECTIONS)


def test_one_measurement_that_fails_does_not_end_its_section(tmp_path):
    results = ResultLog(tmp_path / "notes.json")

    def fail():
        raise EngineError("no such layer")

    results.attempt("smoke", fail)
    results.attempt("lowlight", lambda: results.row("lowlight", "fast"))
    kept = json.loads((tmp_path / "notes.json").read_text())
    assert kept["problems"] == ["smoke: EngineError: no such layer"]
    assert kept["rows"] == [{"what": "lowlight", "figure": "fast"}]


def test_the_table_shows_goals_states_and_what_was_not_measured(tmp_path):
    rows = [
        {"what": "a|b", "figure": "7", "goal": "8", "reached": False},
        {"what": "c", "figure": "9"},
    ]
    results = {
        "speed": {"status": "done", "took_s": 2.5, "rows": rows, "problems": ["x: no\n card"]},
        "build": {"status": "failed", "took_s": 1, "error": "it broke", "rows": []},
    }
    data, table = report.write(tmp_path, results, {"began_utc": "now", "subject": "H"})
    lines = table.read_text().splitlines()
    assert "| | a\\|b | 7 | 8 | **no** |" in lines
    assert "| | c | 9 |  |  |" in lines
    assert "| **build** | failed in 1 s: it broke | | | |" in lines
    assert lines[-1] == "* speed: x: no card"
    assert json.loads(data.read_text())["sections"] == results


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.01, 1)]
)
def test_a_percentile_is_a_value_that_was_measured(share, value):
    assert measuring.percentile(list(range(100, 0, -1)), share) == value


def test_an_error_in_a_thread_is_raised_in_the_caller():
    calls = iter(range(3))

    def call():
        if next(calls, 9) > 1:
            raise ValueError("worn out")

    with pytest.raises(ValueError, match="worn out"):
        measuring.throughput(call, threads=2, seconds=5)


def test_the_bare_loop_is_run_until_it_has_been_timed_long_enough(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])

    def run(times):
        now[0] += times * 0.001

    assert measuring.loop_rate(run, seconds=3) == pytest.approx(1000)


def _models(monkeypatch, *states):
    """Make the program open networks that report these states one after the other."""
    from gpu import cameras

    following = iter(states)

    class OpenedStream:
        def status(self):
            return [next(following)]

    monkeypatch.setattr(cameras, "open_models", lambda config: nullcontext(OpenedStream()))
    monkeypatch.setattr(cameras.time, "sleep", lambda _: None)
    return cameras


def state(device, *, building=None, degraded=False, reason=""):
    return SimpleNamespace(device=device, building=building, degraded=degraded, reason=reason)


ON_GPU = SimpleNamespace(engine=SimpleNamespace(device="cuda"))


def test_cameras_are_counted_once_the_program_has_gone_over_to_the_gpu(monkeypatch):
    cameras = _models(monkeypatch, state("cpu", building=0.2), state("cpu"), state("cuda:0"))
    with cameras._ready_models(ON_GPU) as models:
        assert models is not None


def test_a_program_that_stays_on_the_cpu_is_not_measured_as_a_gpu(monkeypatch):
    lost = state("cpu", degraded=True, reason="the card is full")
    cameras = _models(monkeypatch, state("cpu", building=0.9), lost)
    with (
        pytest.raises(DeviceUnavailable, match="the card is full"),
        cameras._ready_models(ON_GPU),
    ):
        raise AssertionError("nothing is to be measured")


def test_batches_are_made_of_1080p_frames_that_fit_the_plan():
    from engines.registry import FOR_GPUS

    for entry in FOR_GPUS:
        size = max(runtimes.batches(entry, quick=True))
        batch = runtimes.batch_of(entry, size)
        assert batch["luma"].shape == (size, 1080, 1920)
        shapes = {name: array.shape for name, array in batch.items()}
        assert entry.plan_settings().profiles[0].accepts(shapes)


def test_a_way_that_is_none_is_refused_by_name():
    with pytest.raises(EngineError, match="openvino-cpu"):
        runtimes.wanted(Options(device="cuda", runtimes=("openvino-cpu",)))


def test_ways_of_the_other_device_are_left_out():
    assert {runtime.name for runtime in runtimes.wanted(Options(device="cpu"))} == {
        "openvino-cpu", "onnxruntime-cpu"     }  # fmt: skip
    assert all(runtime.cuda for runtime in runtimes.wanted(Options(device="cuda:1")))


def test_onnx_runtime_does_not_take_the_cpu_for_a_gpu():
    from engines.registry import find

    runtime = next(runtime for runtime in runtimes.RUNTIMES if runtime.name == "onnxruntime-cuda")
    with pytest.raises(DeviceUnavailable, match="no CUDAExecutionProvider"):
        runtime.open(find("lowlight"), "f32", 0)


@pytest.mark.slow
def test_on_a_machine_without_a_gpu_each_way_says_why_it_cannot_run(tmp_path):
    arguments = (
        "--only",
        "validate",
        "--engines",
        "lowlight-full-resolution",
        "--device",
        "cuda:7",
    )
    done, sections = checked(tmp_path, *arguments)
    assert done.returncode == 0, "nothing was broken"
    assert {one["status"] for one in sections.values()} == {"unavailable"}
    problems = " ".join(sections["validate"]["problems"])
    for runtime in runtimes.wanted(Options(device="cuda")):
        assert f"by {runtime.name}: DeviceUnavailable" in problems
    assert "onnxruntime-cuda" in (tmp_path / "gpu.md").read_text()


@pytest.mark.slow
def test_the_check_runs_end_to_end_on_the_cpu(tmp_path):
    arguments = (
        "--only",
        "environment",
        "validate",
        "speed",
        "decode",
        "--engines",
        "lowlight",
    )
    done, sections = checked(
        tmp_path, *arguments, "--device", "cpu", "--runtimes", "onnxruntime-cpu"
    )
    assert done.returncode == 0, done.stdout
    assert {name: one["status"] for name, one in sections.items()} == dict.fromkeys(
        ("environment", "validate", "speed", "decode"), "done"
    )
    found = sections["environment"]["figures"]
    assert found["python"]["version"].startswith("3.")
    assert "numpy" in found["packages"]
    assert "numpy" not in found["lacking"]
    (accuracy,) = sections["validate"]["figures"].values()
    assert accuracy["passed"]
    (speed,) = sections["speed"]["figures"].values()
    assert speed["p50_ms"] <= speed["p95_ms"] <= speed["p99_ms"]
    assert speed["frames_per_s"] > 0
    assert speed["of_bare"] > 0
    assert sections["decode"]["figures"]["processor, 1 streams"]["frames_per_s"] > 0
    table = (tmp_path / "gpu.md").read_text()
    assert "its figures say nothing about speed" in table


@pytest.mark.slow
def test_pipelines_and_tests_run_on_the_cpu_too(tmp_path):
    arguments = ("--only", "tests", "cameras", "--engines", "smoke-fast")
    done, sections = checked(
        tmp_path, *arguments, "--device", "cpu", "--tests", "tests/streamer/core/test_hwaccel.py"
    )
    assert done.returncode == 0, done.stdout
    assert {one["status"] for one in sections.values()} == {"done"}, sections
    (watched,) = sections["cameras"]["figures"].values()
    assert watched["unreported"] == 0
    assert watched["cameras"] == 1
    assert len(sections["tests"]["figures"]["outcomes"]) == 3
