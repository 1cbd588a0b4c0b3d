"""Proves that a compiled engine means what the reference means, before anybody relies on it.

Compilers reorder, fuse and round. Each engine is run beside ONNX Runtime in fp32 on the same
made-up inputs, and the largest and the mean difference are held to the tolerance written in the
catalogue. A plan for a GPU is also run at the ends of its profiles: the smallest and the largest
pictures and batches. A pass is remembered in the user's cache folder under everything it depends
on, so a start after the first costs a file look-up; a failure is never remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.engine import open_reference
from engines.errors import InaccurateEngine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.engine import Engine
    from engines.modelfile import ModelFile
    from engines.plans.cache import Profile, Shape

    Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an engine may be from the reference, in units of its outputs."""

    largest: float
    """Of any element of any output on any sample."""
    mean: float
    """Of each output on each sample, on average."""


@dataclass(frozen=True, slots=True)
class AccuracyReport:
    """How far an engine was from the reference."""

    model: str
    """The model's name."""
    digest: str
    """SHA-256 of the model file."""
    backend: str
    """Engine that was measured."""
    reference: str
    """Engine it was compared with."""
    cpu: str
    """Processor of this machine."""
    largest: float
    """Largest difference of any element."""
    mean: float
    """Largest mean difference of an output on a sample."""
    tolerance: Tolerance
    """What was allowed."""

    @property
    def passed(self) -> bool:
        """Whether both are within tolerance; differences that are no number are not."""
        return self.largest <= self.tolerance.largest and self.mean <= self.tolerance.mean


def prove(
    engine: Engine, model: Path | ModelFile, samples: Sequence[Inputs], tolerance: Tolerance
) -> AccuracyReport:
    """Compare an engine with the reference, now.

    Args:
        engine: what was compiled from `model`.
        model: the model file.
        samples: inputs that stand for real ones; the same every time.
        tolerance: what to hold it to.
    """
    reference = open_reference(model)
    largest = mean = 0.0
    try:
        for sample in samples:
            want, got = _one_by_one(reference, sample), engine.infer(sample)
            for name, values in want.items():
                apart = np.abs(values.astype(np.float64) - got[name])
                # max() of the built-in kind would lose a NaN; a NaN must fail.
                largest = float(np.maximum(largest, apart.max()))
                mean = float(np.maximum(mean, apart.mean()))
    finally:
        reference.close()
    return AccuracyReport(
        model=engine.spec.name,
        digest=engine.spec.digest,
        backend=engine.backend,
        reference=reference.backend,
        cpu=cpu_name(),
        largest=largest,
        mean=mean,
        tolerance=tolerance,
    )


def validate_cached(
    engine: Engine, model: Path | ModelFile, samples: Sequence[Inputs], tolerance: Tolerance
) -> AccuracyReport:
    """Compare an engine with the reference unless that passed before, here, with the same of all.

    Raises:
        InaccurateEngine: it is further off than the tolerance allows.
    """
    remembered = cache_folder() / "proofs" / f"{_key(engine, samples, tolerance)}.json"
    if (proof := _recall(remembered)) is not None:
        return proof
    proof = prove(engine, model, samples, tolerance)
    if not proof.passed:
        raise InaccurateEngine(
            f"{proof.model} on {proof.backend} differs from {proof.reference} by up to "
            f"{proof.largest:.4f} (mean {proof.mean:.5f}); allowed are {tolerance.largest} and "
            f"{tolerance.mean}. Use precision f32, or report this processor: {proof.cpu}"
        )
    _remember(remembered, proof)
    return proof


def boundary_inputs(samples: Sequence[Inputs], profiles: Sequence[Profile]) -> list[Inputs]:
    """The samples brought to the smallest and the largest sizes of the profiles.

    Elements are repeated or left out (nearest neighbour), so that every value stays one that the
    network may be given. Each picture of a batch is made from another sample: a batch of equal
    ones would not show that two were confused.
    """
    wanted = [{n: s[end] for n, s in p.shapes.items()} for p in profiles for end in (0, -1)]
    there = [{name: array.shape for name, array in sample.items()} for sample in samples]
    made: list[Inputs] = []
    for number, shapes in enumerate(wanted):
        if shapes in there or shapes in wanted[:number]:
            continue
        batch = max(shape[0] for shape in shapes.values())
        single = all(array.shape[0] == 1 for array in samples[0].values())
        if not (single and all(shape[0] == batch for shape in shapes.values())):
            made.append(_stretched(samples[number % len(samples)], shapes))
            continue
        one = {name: (1, *shape[1:]) for name, shape in shapes.items()}
        few = [_stretched(sample, one) for sample in samples]
        items = [few[(number + at) % len(few)] for at in range(batch)]
        made.append({name: np.concatenate([item[name] for item in items]) for name in shapes})
    return made


def _stretched(sample: Inputs, shapes: Mapping[str, Shape]) -> Inputs:
    made = {}
    for name, array in sample.items():
        grown = array
        for axis, (have, want) in enumerate(zip(array.shape, shapes[name], strict=True)):
            grown = np.take(grown, np.arange(want) * have // want, axis=axis)
        made[name] = grown
    return made


def _one_by_one(reference: Engine, sample: Inputs) -> Mapping[str, NDArray[Any]]:
    """What the reference says; where its file is fixed to one picture, of one after the other."""
    fixed = all(tensor.shape[:1] == (1,) for tensor in reference.spec.inputs)
    batch = max(array.shape[0] for array in sample.values())
    if not fixed or batch == 1:
        return reference.infer(sample)
    said = [
        reference.infer({name: array[at : at + 1] for name, array in sample.items()})
        for at in range(batch)
    ]
    return {name: np.concatenate([each[name] for each in said]) for name in said[0]}


def cache_folder() -> Path:
    """STREAMER_CACHE, else `streamer` in the user's cache folder."""
    if named := os.environ.get("STREAMER_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamer"


def cpu_name() -> str:
    """The processor as the system names it; model and stepping tell same-named ones apart."""
    wanted = ("model name", "cpu family", "model", "stepping")
    facts: dict[str, str] = {}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if (name := name.strip()) in wanted:
            facts.setdefault(name, value.strip())
    return (
        " ".join(facts[name] for name in wanted if name in facts)
        or platform.processor()
        or "unknown"
    )


def _key(engine: Engine, samples: Sequence[Inputs], tolerance: Tolerance) -> str:
    """Everything a proof depends on, as one digest."""
    digest = hashlib.sha256(
        json.dumps([engine.spec.digest, engine.backend, cpu_name(), asdict(tolerance)]).encode()
    )
    for sample in samples:
        for name, array in sorted(sample.items()):
            digest.update(f"{name}{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _recall(path: Path) -> AccuracyReport | None:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        proof = AccuracyReport(**{**facts, "tolerance": Tolerance(**facts["tolerance"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # never made, or cut short: prove again
    return proof if proof.passed else None


def _remember(path: Path, proof: AccuracyReport) -> None:
    """Write a proof whole or not at all. Without a place to write, the next start proves again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8"
        ) as file:
            json.dump(asdict(proof), file, indent=1)
        Path(file.name).replace(path)
    except OSError:
        return
