"""Keeps compiled plans: what each is for, where it lies, and whether it may still be used.

A plan is what TensorRT compiles a network to. It runs on the library, the kind of GPU and the
driver it was made for and nowhere else, so all of these are its key, and a plan is found by its
whole key or not at all. One file holds key, facts and plan, and is put in place by one rename: a
build that is cut short leaves nothing that could be taken for a plan. Compiling is `compiling.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from engines.errors import PlanUnfit
from engines.validation import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from engines.engine import Precision
    from engines.validation import AccuracyReport

Edition = Literal["tensorrt", "rtx"]
Shape = tuple[int, ...]

RECIPE = "1"
"""Counts up whenever the same model would be given to the compiler as another graph."""
_MAGIC = b"streamer plan 1\n"
_LONGEST_HEADER = 1 << 20
"""Bytes; a file that claims more is no plan."""
_PART_LIFE_S = 3600
"""Writing a plan takes seconds: an older unfinished file belongs to a process that is gone."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Sizes a plan accepts, and the size it is tuned for."""

    shapes: Mapping[str, tuple[Shape, Shape, Shape]]
    """Smallest, tuned-for and largest shape of each input."""

    def __post_init__(self) -> None:
        """Check that each input's sizes are in order."""
        for name, (least, best, most) in self.shapes.items():
            in_order = all(
                1 <= a <= b <= c for a, b, c in zip(least, best, most, strict=False)
            ) and len(least) == len(best) == len(most)
            if not in_order:
                raise ValueError(
                    f"{name}: expected smallest <= tuned-for <= largest, got {least} {best} {most}"
                )

    def accepts(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether inputs of these shapes lie within."""
        return shapes.keys() == self.shapes.keys() and all(
            len(shape) == len(least)
            and all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))
            for shape, (least, _, most) in ((shapes[n], self.shapes[n]) for n in shapes)
        )


@dataclass(frozen=True, slots=True)
class Target:
    """What to compile a network for."""

    capability: str
    """Kind of GPU, by its compute capability: "sm89"."""
    precision: Precision
    """Of the layers that are not kept in f32."""
    profiles: tuple[Profile, ...]
    """Sizes; at run time the first that accepts the inputs is used."""
    keep_f32: tuple[str, ...] = ()
    """Layers that stay in f32, by name; `*` and `?` stand for anything, see `fnmatch`."""
    driver: int | None = None
    """Major version of the driver, 580 of 580.65.06; None where there is no GPU (rtx only)."""
    flags: tuple[str, ...] = ()
    """Names of further builder flags, as in "SPARSE_WEIGHTS"."""
    ranges: tuple[tuple[str, float], ...] = ()
    """For int8: the largest magnitude of tensors, by name; see `quantising.ranges_of`."""


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything a plan depends on."""

    model: str
    """SHA-256 of the model file, hexadecimal."""
    edition: Edition
    """TensorRT, or TensorRT for RTX."""
    version: str
    """Of that library: plans do not outlive it."""
    target: Target
    """GPU, driver, precision and sizes."""
    recipe: str = RECIPE
    """How the model was prepared for the compiler."""

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, hexadecimal; names the file."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def fits(self, other: PlanKey) -> bool:
        """Whether a plan of this key can be loaded where `other` is wanted, sizes apart.

        The same network on the same library, GPU and driver. A plan of TensorRT for RTX that was
        compiled without a GPU knows no driver: its kernels are made when it is loaded.
        """
        return (
            (self.model, self.edition, self.version) == (other.model, other.edition, other.version)
            and self.target.capability == other.target.capability
            and self.target.precision == other.target.precision
            and (
                self.target.driver == other.target.driver
                or (self.edition == "rtx" and self.target.driver is None)
            )
        )


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A compiled network."""

    content: bytes
    """What the library's runtime reads."""
    key: PlanKey
    """What it may be used for."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For people and tests: name, seconds, inputs, outputs, layers."""


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """A file of the store."""

    path: Path
    """Where it is."""
    size: int
    """Of the file, in bytes."""
    key: PlanKey | None
    """None where the file cannot be read."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """See `Plan.facts`; and `made`, seconds since 1970."""
    proofs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Figures of the proofs it passed, by name of the GPU."""
    problem: str = ""
    """What is wrong with the file; empty when nothing is."""


class PlanCache:
    """Plans in a folder. Safe for several threads and processes: files are only ever replaced."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "plans"

    def get(self, key: PlanKey) -> bytes | None:
        """The plan of just that key, whole; None if there is none or it is damaged."""
        keys = [key]
        if key.edition == "rtx" and key.target.driver is not None:
            keys.append(replace(key, target=replace(key.target, driver=None)))
        for wanted in keys:
            try:
                entry, content = _read(self.path(wanted))
            except PlanUnfit:
                continue
            if entry.key == wanted:
                return content
        return None

    def put(self, plan: Plan) -> Path:
        """Keep a plan, whole or not at all; one of the same key is replaced.

        Raises:
            PlanUnfit: it cannot be written.
        """
        head = {
            "key": asdict(plan.key),
            "facts": {**plan.facts, "made": time.time()},
            "sha256": hashlib.sha256(plan.content).hexdigest(),
            "bytes": len(plan.content),
        }
        path = self.path(plan.key)
        try:
            _write(path, [_MAGIC, json.dumps(head).encode(), b"\n", plan.content])
        except OSError as error:
            raise PlanUnfit(f"cannot keep the plan {path}: {error.strerror}") from error
        return path

    def note_proof(self, key: PlanKey, proof: AccuracyReport, *, gpu: str) -> None:
        """Remember that the plan that `get` gives for this key passed its proof on a GPU."""
        for wanted in (key, replace(key, target=replace(key.target, driver=None))):
            try:
                entry, content = _read(self.path(wanted))
            except PlanUnfit:
                continue
            digest = hashlib.sha256(content).hexdigest()
            known = {**entry.proofs, gpu: {"largest": proof.largest, "mean": proof.mean}}
            _write(
                _proofs_path(entry.path),
                [json.dumps({"sha256": digest, "proofs": known}).encode()],
            )
            return

    def previous(self, key: PlanKey, *, gpu: str) -> tuple[PlanKey, bytes] | None:
        """The newest other plan of this network that passed its proof on that GPU and still fits.

        Its sizes may be others: what it does not accept is for the CPU.
        """
        older = [
            entry
            for entry in self.entries()
            if entry.key is not None
            and entry.key != key
            and entry.key.fits(key)
            and gpu in entry.proofs
        ]
        for entry in sorted(older, key=lambda e: -float(e.facts.get("made", 0))):
            assert entry.key is not None
            if (content := self.get(entry.key)) is not None:
                return entry.key, content
        return None

    def entries(self) -> list[PlanEntry]:
        """What lies in the folder, by file name. Plans are not read whole: see `verify`."""
        found = []
        for path in sorted(self.folder.glob("*.plan")):
            try:
                found.append(_head(path)[0])
            except PlanUnfit as error:
                found.append(_broken(path, error))
        return found

    def verify(self) -> Iterator[PlanEntry]:
        """Every file, read whole and compared with its digest; `problem` says what is wrong."""
        for path in sorted(self.folder.glob("*.plan")):
            try:
                entry = _read(path)[0]
                misplaced = entry.key is None or path != self.path(entry.key)
                yield replace(entry, problem="stands under another name") if misplaced else entry
            except PlanUnfit as error:
                yield _broken(path, error)

    def prune(self, keep: Callable[[PlanEntry], bool]) -> list[PlanEntry]:
        """Delete damaged plans, those not to be kept, and what dead builds left; say which."""
        gone = [entry for entry in self.verify() if entry.problem or not keep(entry)]
        for entry in gone:
            entry.path.unlink(missing_ok=True)
            _proofs_path(entry.path).unlink(missing_ok=True)
        for part in self.folder.glob("*.part"):
            try:
                if time.time() - part.stat().st_mtime > _PART_LIFE_S:
                    part.unlink()
            except FileNotFoundError:
                continue  # its process has just finished
        return gone

    def timing_cache(self, edition: Edition, version: str, capability: str) -> Path:
        """Where the compiler's measured kernel times are kept."""
        return self.folder / f"{edition}-{version}-{capability}.timing"

    def path(self, key: PlanKey) -> Path:
        """Where the plan of that key is kept, or would be."""
        return self.folder / f"{key.digest}.plan"


def read_key(facts: Mapping[str, Any]) -> PlanKey:
    """A key from what `dataclasses.asdict` made of it, by way of JSON.

    Raises:
        PlanUnfit: that is no key.
    """
    try:
        return PlanKey(**{**facts, "target": read_target(facts["target"])})
    except (KeyError, TypeError) as error:
        raise PlanUnfit(f"no key of a plan: {error}") from error


def read_target(facts: Mapping[str, Any]) -> Target:
    """A target, likewise.

    Raises:
        PlanUnfit: that is no target.
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
        tuples: dict[str, Any] = {name: tuple(facts[name]) for name in ("keep_f32", "flags")}
        tuples["ranges"] = tuple((str(name), float(most)) for name, most in facts["ranges"])
        return Target(**{**facts, **tuples, "profiles": profiles})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanUnfit(f"no target of a plan: {error}") from error


def _head(path: Path) -> tuple[PlanEntry, dict[str, Any]]:
    """A file's entry and its header, which also says where the plan begins, as `offset`."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(len(_MAGIC)) != _MAGIC:
                raise PlanUnfit("no plan of this program")
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
    return PlanEntry(path, size, key, facts, _proofs(path, head["sha256"])), head


def _read(path: Path) -> tuple[PlanEntry, bytes]:
    """A file's entry and plan, compared with its digest."""
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


def _proofs_path(path: Path) -> Path:
    return path.with_suffix(".proofs.json")


def _proofs(path: Path, digest: str) -> Mapping[str, Mapping[str, Any]]:
    """Proofs that were passed by a plan with that digest, not by one of the same key before it."""
    try:
        known = json.loads(_proofs_path(path).read_text(encoding="utf-8"))
        return dict(known["proofs"]) if known["sha256"] == digest else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _write(path: Path, pieces: list[bytes]) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_timing_cache(path: Path, content: bytes) -> None:
    """Keep measured kernel times. Nowhere to keep them is no obstacle: the next build measures."""
    try:
        _write(path, [content])
    except OSError:
        return
