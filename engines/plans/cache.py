"""Stores compiled plans in the user's cache folder, under everything that they depend on.

A plan is a network that TensorRT compiled. It runs only on the library version, the kind of GPU and
the driver that it was compiled for, so all of these are in its key (`PlanKey`, the engine cache
key). One file holds key, facts and plan and is put in place by one rename: an interrupted build
leaves no plan.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from engines.cache_files import cache_folder, write_atomically
from engines.errors import PlanUnfit
from engines.spec import Profile, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from engines.spec import Edition, Shape
    from engines.validation import AccuracyReport

RECIPE = "1"
"""Increased whenever the same model is given to the compiler as another graph."""
_MAGIC = b"streamer plan 1\n"
_LONGEST_HEADER = 1 << 20
"""Bytes; a file with a longer header is not a plan."""
_PART_LIFE_S = 3600
"""Writing a plan takes seconds: an older unfinished file belongs to a process that ended."""


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that a plan depends on."""

    model: str
    """SHA-256 of the model file, hexadecimal."""
    edition: Edition
    """TensorRT, or TensorRT for RTX."""
    version: str
    """Version of the library; plans run on that version only."""
    target: Target
    """GPU, driver, precision and shapes."""
    recipe: str = RECIPE
    """How the model was prepared for the compiler; see `RECIPE`."""

    @property
    def digest(self) -> str:
        """SHA-256 of the key, hexadecimal; the name of the file."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def candidates(self) -> tuple[PlanKey, ...]:
        """Return the keys of the plans that may serve this one, best first.

        A plan of TensorRT for RTX that was compiled without a GPU has no driver in its key and
        serves every driver: its kernels are compiled when it is loaded.
        """
        if self.edition != "rtx" or self.target.driver is None:
            return (self,)
        return self, replace(self, target=replace(self.target, driver=None))


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A compiled network."""

    content: bytes
    """Read by the library's runtime."""
    key: PlanKey
    """What it was compiled from and for."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For display and tests: name, seconds, inputs, outputs, layers."""


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """A file of the cache."""

    path: Path
    size: int
    """Size of the file in bytes."""
    key: PlanKey | None
    """None if the file cannot be read."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """See `Plan.facts`; and `made`, Unix time in seconds."""
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Accuracy of this plan by identity (GPU, driver, samples); see `PlanCache.note_report`."""
    problem: str = ""
    """What is wrong with the file; empty if it is intact."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredPlan:
    """A plan that was read from the cache."""

    content: bytes
    """The plan."""
    entry: PlanEntry
    """Its file."""


class PlanCache:
    """Plans in a folder. Safe for several threads and processes: files are only ever replaced."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "plans"

    def get(self, key: PlanKey) -> StoredPlan | None:
        """Return the best plan for that key; None if there is none or it is damaged."""
        for wanted in key.candidates():
            try:
                entry, content = _read(self.path(wanted))
            except PlanUnfit:
                continue
            if entry.key == wanted:
                return StoredPlan(content, entry)
        return None

    def put(self, plan: Plan) -> Path:
        """Store a plan, whole or not at all; it replaces one of the same key.

        Raises:
            PlanUnfit: It cannot be written.
        """
        head = {
            "key": asdict(plan.key),
            "facts": {**plan.facts, "made": time.time()},
            "sha256": hashlib.sha256(plan.content).hexdigest(),
            "bytes": len(plan.content),
        }
        path = self.path(plan.key)
        try:
            write_atomically(path, _MAGIC, json.dumps(head).encode(), b"\n", plan.content)
        except OSError as error:
            raise PlanUnfit(f"cannot store the plan {path}: {error.strerror}") from error
        return path

    def note_report(self, plan: StoredPlan, identity: str, report: AccuracyReport) -> None:
        """Record the accuracy of a plan, passed or not.

        Args:
            plan: The plan that was measured.
            identity: What else the measurement depends on; see `PlanProvider.report_identity`.
            report: Its difference from the reference.
        """
        reports = {**self.reports(plan), identity: _figures(report)}
        document = {"sha256": hashlib.sha256(plan.content).hexdigest(), "proofs": reports}
        with contextlib.suppress(OSError):  # the next start measures again
            write_atomically(_reports_path(plan.entry.path), json.dumps(document).encode())

    def reports(self, plan: StoredPlan) -> Mapping[str, Mapping[str, Any]]:
        """Return the recorded accuracy of this very plan, by identity."""
        return _reports(plan.entry.path, hashlib.sha256(plan.content).hexdigest())

    def kernels(self, plan: StoredPlan) -> Path:
        """Return the file of the kernels that TensorRT for RTX compiles for a plan."""
        return plan.entry.path.with_suffix(".kernels")

    def entries(self) -> list[PlanEntry]:
        """Return the files of the folder by name. Plans are not read whole: see `verify`."""
        found = []
        for path in sorted(self.folder.glob("*.plan")):
            try:
                found.append(_head(path)[0])
            except PlanUnfit as error:
                found.append(_broken(path, error))
        return found

    def verify(self) -> Iterator[PlanEntry]:
        """Read every file whole and compare it with its digest; `problem` says what is wrong."""
        for path in sorted(self.folder.glob("*.plan")):
            try:
                entry = _read(path)[0]
                misplaced = entry.key is None or path != self.path(entry.key)
                yield replace(entry, problem="has another plan's name") if misplaced else entry
            except PlanUnfit as error:
                yield _broken(path, error)

    def prune(self, keep: Callable[[PlanEntry], bool]) -> list[PlanEntry]:
        """Delete damaged and unwanted plans and unfinished files; return the deleted plans."""
        deleted = [entry for entry in self.verify() if entry.problem or not keep(entry)]
        for entry in deleted:
            for suffix in (".plan", ".proofs.json", ".kernels"):
                entry.path.with_suffix(suffix).unlink(missing_ok=True)
        for part in self.folder.glob("*.part"):
            try:
                if time.time() - part.stat().st_mtime > _PART_LIFE_S:
                    part.unlink()
            except FileNotFoundError:
                continue  # its process has just renamed it
        return deleted

    def timing_cache(self, edition: Edition, version: str, capability: str) -> Path:
        """Return the file of the compiler's measured kernel times."""
        return self.folder / f"{edition}-{version}-{capability}.timing"

    def path(self, key: PlanKey) -> Path:
        """Return the file of the plan of a key."""
        return self.folder / f"{key.digest}.plan"


def read_key(facts: Mapping[str, Any]) -> PlanKey:
    """Return a key from the JSON of its `dataclasses.asdict`.

    Raises:
        PlanUnfit: It is not a key.
    """
    try:
        return PlanKey(**{**facts, "target": read_target(facts["target"])})
    except (KeyError, TypeError) as error:
        raise PlanUnfit(f"not the key of a plan: {error}") from error


def read_target(facts: Mapping[str, Any]) -> Target:
    """Return a target from the JSON of its `dataclasses.asdict`.

    Raises:
        PlanUnfit: It is not a target.
    """
    try:
        profiles = tuple(
            Profile(
                {
                    name: cast("tuple[Shape, Shape, Shape]", tuple(map(tuple, shapes)))
                    for name, shapes in profile["shapes"].items()
                }
            )
            for profile in facts["profiles"]
        )
        return Target(**{**facts, "profiles": profiles})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanUnfit(f"not the target of a plan: {error}") from error


def _head(path: Path) -> tuple[PlanEntry, dict[str, Any]]:
    """Return a file's entry and header; `offset` of the header is where the plan begins."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(len(_MAGIC)) != _MAGIC:
                raise PlanUnfit("not a plan of this program")
            line = file.readline(_LONGEST_HEADER)
        head = json.loads(line)
        key, facts = read_key(head["key"]), dict(head["facts"])
        head["offset"] = len(_MAGIC) + len(line)
        complete = size == head["offset"] + int(head["bytes"])
    except OSError as error:
        raise PlanUnfit(f"cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise PlanUnfit("its header is damaged") from error
    if not complete:
        raise PlanUnfit("it was cut short")
    return PlanEntry(path, size, key, facts, _reports(path, head["sha256"])), head


def _read(path: Path) -> tuple[PlanEntry, bytes]:
    """Return a file's entry and plan, whose digest was checked."""
    entry, head = _head(path)
    try:
        content = path.read_bytes()[head["offset"] :]
    except OSError as error:
        raise PlanUnfit(f"cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != head["sha256"]:
        raise PlanUnfit("it differs from its digest")
    return entry, content


def _broken(path: Path, error: PlanUnfit) -> PlanEntry:
    size = path.stat().st_size if path.exists() else 0
    return PlanEntry(path, size, None, problem=str(error))


def _figures(report: AccuracyReport) -> dict[str, Any]:
    return {"largest": report.largest, "mean": report.mean, "passed": report.passed}


def _reports_path(path: Path) -> Path:
    return path.with_suffix(".proofs.json")


def _reports(path: Path, digest: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the reports on the plan with that digest, not on an earlier one of the same key."""
    try:
        known = json.loads(_reports_path(path).read_text(encoding="utf-8"))
        return dict(known["proofs"]) if known["sha256"] == digest else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def write_timing_cache(path: Path, content: bytes) -> None:
    """Store measured kernel times; if that fails, the next build measures again."""
    try:
        write_atomically(path, content)
    except OSError:
        return
