"""A plan is found by its whole key or not at all, and never in a damaged state."""

import os
from dataclasses import asdict, replace

import pytest

from engines.errors import PlanUnfit
from engines.plans.cache import Plan, PlanCache, PlanKey, read_key
from engines.spec import Profile, Target
from engines.validation import AccuracyReport, Tolerance

PROFILE = Profile({"x": ((1, 32), (2, 64), (4, 96))})
TARGET = Target("sm89", "f16", (PROFILE,), driver=580)
KEY = PlanKey("ab" * 32, "tensorrt", "10.13.2", TARGET)
REPORT = AccuracyReport(
    "smoke", "ab" * 32, "tensorrt", "onnxruntime", "cpu", 0.01, 0.001, Tolerance(1, 1)
)


@pytest.fixture
def store(tmp_path):
    return PlanCache(tmp_path / "plans")


OTHERS = {
    "model": replace(KEY, model="cd" * 32),
    "edition": replace(KEY, edition="rtx"),
    "version": replace(KEY, version="10.13.3"),
    "recipe": replace(KEY, recipe="0"),
    "capability": replace(KEY, target=replace(TARGET, capability="sm86")),
    "precision": replace(KEY, target=replace(TARGET, precision="f32")),
    "driver": replace(KEY, target=replace(TARGET, driver=590)),
    "sizes": replace(
        KEY, target=replace(TARGET, profiles=(Profile({"x": ((1, 32), (2, 64), (4, 97))}),))
    ),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_plan_whose_key_differs_in_anything_is_not_given(store, other):
    store.put(Plan(b"plan", KEY))
    assert store.get(KEY).content == b"plan"
    assert store.get(other) is None


@pytest.mark.parametrize("key", [KEY, *OTHERS.values()])
def test_a_key_comes_back_from_its_file_as_it_was(store, key):
    store.put(Plan(b"plan", key, {"name": "smoke"}))
    (entry,) = store.entries()
    assert entry.key == key
    assert entry.facts["name"] == "smoke"
    assert not entry.problem
    assert entry.size == entry.path.stat().st_size


def test_a_plan_for_rtx_made_without_a_gpu_serves_every_driver(store):
    made = replace(KEY, edition="rtx", target=replace(TARGET, driver=None))
    store.put(Plan(b"plan", made))
    assert store.get(replace(made, target=TARGET)).content == b"plan"
    assert store.get(replace(KEY, target=replace(TARGET, driver=None))) is None


def test_a_plan_made_here_goes_before_one_made_without_a_gpu(store):
    made = replace(KEY, edition="rtx", target=replace(TARGET, driver=None))
    store.put(Plan(b"elsewhere", made))
    store.put(Plan(b"here", replace(made, target=TARGET)))
    assert store.get(replace(made, target=TARGET)).content == b"here"


def cut_short(content):
    return content[:-1]


def emptied(content):
    return b""


def turned_bit(content):
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def other_file(content):
    return b"PK\x03\x04" + content


def damaged_header(content):
    return content.replace(b'"capability"', b'"capabilitx"')


def endless_header(content):
    return content[:40] + b"x" * 10


DAMAGE = [cut_short, emptied, turned_bit, other_file, damaged_header, endless_header]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_plan_is_not_given_and_is_made_anew(store, damage):
    path = store.put(Plan(b"a plan of some length", KEY))
    path.write_bytes(damage(path.read_bytes()))
    assert store.get(KEY) is None
    (entry,) = store.verify()
    assert entry.problem
    store.put(Plan(b"a plan of some length", KEY))
    assert store.get(KEY).content == b"a plan of some length"
    assert [entry.problem for entry in store.verify()] == [""]


def test_a_plan_under_the_name_of_another_key_is_not_given(store):
    path = store.put(Plan(b"plan", KEY))
    other = OTHERS["driver"]
    path.rename(path.with_name(f"{other.digest}.plan"))
    assert store.get(other) is None
    (entry,) = store.verify()
    assert entry.problem == "has another plan's name"


def test_a_build_that_dies_while_it_writes_leaves_no_plan(store, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.put(Plan(b"plan", KEY))
    assert list(store.folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PlanUnfit, match="cannot store the plan"):
        PlanCache(tmp_path / "file").put(Plan(b"plan", KEY))


def test_the_accuracy_of_a_plan_is_recorded_by_identity_and_does_not_outlive_the_plan(store):
    store.put(Plan(b"plan", KEY))
    store.note_report(store.get(KEY), "L4, driver 580", REPORT)
    store.note_report(store.get(KEY), "L4, driver 590", replace(REPORT, largest=2))
    reports = store.reports(store.get(KEY))
    assert {name: each["passed"] for name, each in reports.items()} == {
        "L4, driver 580": True, "L4, driver 590": False,
    }  # fmt: skip
    assert store.entries()[0].reports == reports
    store.put(Plan(b"another plan", KEY))
    assert not store.reports(store.get(KEY))


def test_pruning_takes_what_is_damaged_unwanted_or_left_over(store):
    kept = store.put(Plan(b"plan", KEY))
    unwanted = store.put(Plan(b"plan", OTHERS["driver"]))
    damaged = store.put(Plan(b"plan", OTHERS["model"]))
    damaged.write_bytes(b"")
    store.note_report(store.get(OTHERS["driver"]), "L4", REPORT)
    store.kernels(store.get(OTHERS["driver"])).write_bytes(b"kernels")
    left, at_work = store.folder / "old.part", store.folder / "new.part"
    left.touch()
    at_work.touch()
    os.utime(left, (0, 0))
    gone = store.prune(lambda entry: entry.key == KEY)
    assert {entry.path for entry in gone} == {unwanted, damaged}
    assert set(store.folder.iterdir()) == {kept, at_work}


@pytest.mark.parametrize("shapes", [((2,), (1,), (3,)), ((1,), (2,), (1,)), ((0,), (1,), (1,))])
def test_sizes_out_of_order_are_refused(shapes):
    with pytest.raises(ValueError, match="smallest <= tuned-for <= largest"):
        Profile({"x": shapes})


def test_a_profile_accepts_what_lies_within_it():
    assert PROFILE.accepts({"x": (1, 96)})
    assert not PROFILE.accepts({"x": (5, 64)})
    assert not PROFILE.accepts({"x": (1, 64, 3)})
    assert not PROFILE.accepts({"y": (1, 64)})


@pytest.mark.parametrize("facts", [{}, {"target": 1}, {**asdict(KEY), "more": 1}])
def test_what_is_no_key_is_refused(facts):
    with pytest.raises(PlanUnfit):
        read_key(facts)
