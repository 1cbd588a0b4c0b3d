"""`streamer engines`: networks and plans are shown, built, checked and pruned."""

import json

import pytest

from engines.backends import cuda
from engines.backends.tensorrt import library
from engines.errors import DeviceUnavailable
from engines.plans.builder import Progress
from engines.plans.cache import Plan, PlanCache, PlanKey
from engines.registry import REGISTRY, find
from streamer.cli import engine_plans, main
from streamer.cli.engines import _entries
from streamer.cli.exit_codes import Exit


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path))
    return PlanCache()


@pytest.fixture
def records(capsys):
    """Runs a command with --json; its status, and what it wrote."""

    def run(*arguments):
        status = main(["engines", *arguments, "--json"])
        return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_the_networks_that_gpus_run_are_among_those_that_are_compiled():
    names = {entry.name for entry in _entries(None, None, "cuda")}
    assert {"smoke-planar", "smoke-nv12", "lowlight-full-resolution"} <= names
    assert "lowlight-full-resolution" not in {e.name for e in _entries(None, "f16", "cuda")}


def plan(store, name="smoke-planar", *, edition="tensorrt", version="1.0", digest=None, driver=580):
    """A plan as if it had been compiled."""
    entry = find(name)
    target = entry.target("sm89", driver=driver)
    key = PlanKey(digest or entry.model().digest, edition, version, target)
    return store.put(Plan(b"plan", key, {"name": name}))


def test_networks_are_listed_and_then_their_plans(records, store):
    path = plan(store)
    status, reported = records("list")
    assert status == Exit.OK
    assert [record["name"] for record in reported[:-1]] == [entry.name for entry in REGISTRY]
    assert reported[-1] == {
        "kind": "engine_plan",
        "name": "smoke-planar",
        "library": "tensorrt 1.0",
        "gpu": "sm89",
        "driver": 580,
        "precision": "f16",
        "bytes": path.stat().st_size,
        "validated_on": [],
        "problem": None,
        "path": str(path),
    }


def test_the_list_for_people_shows_what_is_damaged(store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    plan(store).write_bytes(b"")
    plan(store, "smoke-nv12")
    assert main(["engines", "list"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "not a plan of this program" in shown
    assert "not validated yet" in shown


def test_a_damaged_plan_fails_the_check(records, store):
    path = plan(store)
    assert records("verify", "lowlight")[0] == Exit.OK
    path.write_bytes(path.read_bytes()[:-1])
    status, reported = records("verify", "lowlight")
    assert status == Exit.DEVICE
    assert [record["problem"] for record in reported if record["kind"] == "engine_plan"] == [
        "it was cut short"
    ]


def test_pruning_keeps_current_plans(records, store, monkeypatch):
    pytest.importorskip("onnx", reason="networks by planes are made with it")
    monkeypatch.setattr("engines.backends.tensorrt.library", missing)
    kept = {plan(store), plan(store, edition="rtx", version="9", driver=None)}
    outdated = {
        plan(store, name, digest="0" * 64) for name in ("lowlight-full-resolution", "smoke-nv12")
    }
    damaged = plan(store, "smoke-fast-planar")
    damaged.write_bytes(b"")
    status, reported = records("prune")
    assert status == Exit.OK
    assert {record["path"] for record in reported} == {str(path) for path in outdated | {damaged}}
    assert set(store.folder.glob("*.plan")) == kept


def missing(edition=None):
    raise DeviceUnavailable("TensorRT: not installed")


class Installed:
    """A library of another version than the plans were made with."""

    version = "2.0"


def test_pruning_takes_the_plans_of_a_library_that_was_replaced(records, store, monkeypatch):
    monkeypatch.setattr("engines.backends.tensorrt.library", lambda edition: Installed)
    old, new = plan(store, version="1.0"), plan(store, "smoke-fast-nv12", version="2.0")
    assert [record["path"] for record in records("prune")[1]] == [str(old)]
    assert store.entries()[0].path == new


def test_pruning_spares_what_others_compiled_of_their_own(records, store, monkeypatch):
    monkeypatch.setattr("engines.backends.tensorrt.library", missing)
    key = PlanKey("1" * 64, "rtx", "1.0", find("smoke-planar").target("sm89"))
    store.put(Plan(b"plan", key, {"name": "my-smoke"}))
    assert records("prune") == (Exit.OK, [])
    assert len(records("prune", "--all")[1]) == 1
    assert store.entries() == []


@pytest.mark.parametrize(
    ("named", "status", "words"),
    [
        ("89", Exit.USAGE, "as in sm86,sm89, not 89"),
        ("sm89,rtx", Exit.USAGE, "not rtx"),
        ("sm89, SM86", None, None),
    ],
)
def test_kinds_of_gpu_are_named_by_compute_capability(named, status, words, capsys):
    if status is None:
        assert engine_plans.targets_of(named, "rtx") == [("sm89", None), ("sm86", None)]
        return
    pytest.importorskip("tensorrt_rtx_bindings", reason="the extra compile has it")
    assert main(["engines", "build", "smoke-planar", "--target", "rtx", "--gpu", named]) == status
    assert words in capsys.readouterr().err


class Gpu:
    capability, driver_major = "sm90", 580


def test_plans_are_built_for_the_gpus_that_are_here(monkeypatch):
    monkeypatch.setattr(cuda, "count", lambda: 2)
    monkeypatch.setattr(cuda, "gpu", lambda index: Gpu())
    assert engine_plans.targets_of(None, "tensorrt") == [("sm90", 580)]
    assert engine_plans.targets_of("sm90", "tensorrt") == [("sm90", 580)]
    with pytest.raises(DeviceUnavailable, match="has sm90, not sm89"):
        engine_plans.targets_of("sm89", "tensorrt")


def test_without_a_gpu_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(cuda, "count", lambda: 0)
    monkeypatch.setattr(cuda, "gpu", missing)
    with pytest.raises(DeviceUnavailable, match="with --gpu, as in sm89"):
        engine_plans.targets_of(None, "rtx")
    with pytest.raises(DeviceUnavailable, match=r"not installed$"):
        engine_plans.targets_of(None, "tensorrt")


@pytest.fixture(scope="module")
def rtx():
    pytest.importorskip("onnx", reason="the extras train, tensorrt and rtx have it")
    try:
        return library("rtx")
    except DeviceUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.compile
def test_a_plan_is_built_once_and_again_with_force(rtx, records, store):
    build = ("build", "smoke-fast-planar", "--target", "rtx", "--gpu", "sm89")
    status, (first,) = records(*build)
    assert status == Exit.OK
    assert (first["name"], first["gpu"], first["precision"]) == ("smoke-fast-planar", "sm89", "f16")
    assert [records(*build)[1][0]["built"], records(*build, "--force")[1][0]["built"]] == [
        False,
        True,
    ]
    (entry,) = store.entries()
    assert first["path"] == str(entry.path)


@pytest.mark.compile
def test_a_card_that_tensorrt_for_rtx_does_not_know_is_one_line(rtx, capsys, store):
    assert main(["engines", "build", "smoke-fast-planar", "--gpu", "sm90"]) == Exit.DEVICE
    assert "not for sm90" in capsys.readouterr().err
    assert not store.entries()


def test_an_engine_is_timed_on_the_device_that_is_requested(records):
    status, (reported,) = records("bench", "lowlight", "--device", "cpu")
    assert status == Exit.OK
    assert reported["ms"] > 0
    assert "cpu f32" in reported["backend"]
    assert records("bench", "lowlight", "--device", "gpu")[0] == Exit.DEVICE


def test_time_left_is_shown_in_minutes_once_it_is_known():
    assert engine_plans.left(Progress(0.1, "Timing graph nodes", 30.0, 272.4)) == (
        "4:32 left, Timing graph nodes"
    )
    assert engine_plans.left(Progress(0.0, "Building engine", 0.1, None)) == "Building engine"
