"""A plan is found by its whole key or not at all, and never in a damaged state."""

import itertools
import os
import time
from dataclasses import asdict, replace

import pytest

from engines.errors import PlanUnfit
from engines.plans.cache import Plan, PlanCache, PlanKey, Profile, Target, read_key
from engines.validation import AccuracyReport, Tolerance

PROFILE = Profile({"x": ((1, 32), (2, 64), (4, 96))})
TARGET = Target("sm89", "f16", (PROFILE,), ("head*",), driver=580)
KEY = PlanKey("ab" * 32, "tensorrt", "10.13.2", TARGET)
PROOF = AccuracyReport(
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
    "kept layers": replace(KEY, target=replace(TARGET, keep_f32=())),
    "flags": replace(KEY, target=replace(TARGET, flags=("SPARSE_WEIGHTS",))),
    "sizes": replace(
        KEY, target=replace(TARGET, profiles=(Profile({"x": ((1, 32), (2, 64), (4, 97))}),))
    ),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_plan_whose_key_differs_in_anything_is_not_given(store, other):
    store.put(Plan(b"plan", KEY))
    assert store.get(KEY) == b"plan"
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
    assert store.get(replace(made, target=TARGET)) == b"plan"
    assert store.get(replace(KEY, target=replace(TARGET, driver=None))) is None


def test_a_plan_made_here_goes_before_one_made_without_a_gpu(store):
    made = replace(KEY, edition="rtx", target=replace(TARGET, driver=None))
    store.put(Plan(b"elsewhere", made))
    store.put(Plan(b"here", replace(made, target=TARGET)))
    assert store.get(replace(made, target=TARGET)) == b"here"


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
    assert store.get(KEY) == b"a plan of some length"
    assert [entry.problem for entry in store.verify()] == [""]


def test_a_plan_under_the_name_of_another_key_is_not_given(store):
    path = store.put(Plan(b"plan", KEY))
    other = OTHERS["driver"]
    path.rename(path.with_name(f"{other.digest}.plan"))
    assert store.get(other) is None
    (entry,) = store.verify()
    assert entry.problem == "stands under another name"


def test_a_build_that_dies_while_it_writes_leaves_no_plan(store, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.put(Plan(b"plan", KEY))
    assert list(store.folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PlanUnfit, match="cannot keep the plan"):
        PlanCache(tmp_path / "file").put(Plan(b"plan", KEY))


def wider(sizes):
    return replace(KEY, target=replace(TARGET, profiles=(Profile({"x": sizes}),)))


def test_the_previous_plan_is_the_newest_that_passed_its_proof_on_this_gpu(store, monkeypatch):
    monkeypatch.setattr(time, "time", itertools.count(1e9).__next__)
    old, newer, unproven = (wider(((1, 1), (1, 1), (1, n))) for n in (1, 2, 3))
    for key in (old, newer, unproven):
        store.put(Plan(key.digest.encode(), key))
    store.note_proof(old, PROOF, gpu="L4")
    store.note_proof(newer, PROOF, gpu="L4")
    assert store.previous(KEY, gpu="L4") == (newer, newer.digest.encode())
    assert store.previous(KEY, gpu="L40S") is None


@pytest.mark.parametrize("name", ["model", "edition", "version", "capability", "driver"])
def test_a_plan_for_something_else_is_never_the_previous_one(store, name):
    store.put(Plan(b"plan", OTHERS[name]))
    store.note_proof(OTHERS[name], PROOF, gpu="L4")
    assert store.previous(KEY, gpu="L4") is None


def test_a_proof_does_not_outlive_its_plan(store):
    store.put(Plan(b"plan", KEY))
    store.note_proof(KEY, PROOF, gpu="L4")
    assert store.entries()[0].proofs["L4"]["largest"] == 0.01
    store.put(Plan(b"another plan", KEY))
    assert not store.entries()[0].proofs


def test_pruning_takes_what_is_damaged_unwanted_or_left_over(store):
    kept = store.put(Plan(b"plan", KEY))
    unwanted = store.put(Plan(b"plan", OTHERS["driver"]))
    damaged = store.put(Plan(b"plan", OTHERS["model"]))
    damaged.write_bytes(b"")
    store.note_proof(OTHERS["driver"], PROOF, gpu="L4")
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
