"""Compares compiled engines with the reference before they are used.

Compilers reorder, fuse and round. Each engine runs beside ONNX Runtime in f32 on the same synthetic
inputs; the largest and the mean difference must stay within the tolerance of the network. A plan
for a GPU also runs on the smallest and the largest shapes of its profiles. A passed check is cached
in the user's cache folder under everything that it depends on; a failed check is never cached.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.backends.cpu import open_reference
from engines.cache_files import cache_folder, write_atomically
from engines.errors import InaccurateEngine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.engine import Engine
    from engines.modelfile import ModelFile
    from engines.spec import Profile, Shape

    Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Allowed difference from the reference, in units of the outputs."""

    largest: float
    """Largest difference of any element of any output on any sample."""
    mean: float
    """Largest mean difference of an output on a sample."""


@dataclass(frozen=True, slots=True)
class AccuracyReport:
    """Measured difference of an engine from the reference."""

    model: str
    """Name of the model."""
    digest: str
    """SHA-256 of the model file."""
    backend: str
    """The engine."""
    reference: str
    """The engine that it was compared with."""
    cpu: str
    """Processor of this machine."""
    largest: float
    """Largest difference of any element."""
    mean: float
    """Largest mean difference of an output on a sample."""
    tolerance: Tolerance
    """Allowed difference."""

    @property
    def passed(self) -> bool:
        """Whether both differences are within the tolerance; NaN is not."""
        return self.largest <= self.tolerance.largest and self.mean <= self.tolerance.mean

    def require(self, advice: str = "") -> None:
        """Check that the engine passed.

        Raises:
            InaccurateEngine: It did not.
        """
        if not self.passed:
            raise InaccurateEngine(
                f"{self.model} on {self.backend} differs from {self.reference} by up to "
                f"{self.largest:.4f} (mean {self.mean:.5f}); allowed are "
                f"{self.tolerance.largest} and {self.tolerance.mean}{advice}"
            )


def compare_with_reference(
    engine: Engine, model: Path | ModelFile, samples: Sequence[Inputs], tolerance: Tolerance
) -> AccuracyReport:
    """Measure the difference of an engine from the reference.

    Args:
        engine: Compiled from `model`.
        model: The model file.
        samples: Inputs that represent real ones; the same every time.
        tolerance: Allowed difference.
    """
    reference = open_reference(model)
    largest = mean = 0.0
    try:
        for sample in samples:
            expected, got = _expected(reference, sample), engine.infer(sample)
            for name, values in expected.items():
                difference = np.abs(values.astype(np.float64) - got[name])
                # The built-in max() would lose a NaN; a NaN must fail.
                largest = float(np.maximum(largest, difference.max()))
                mean = float(np.maximum(mean, difference.mean()))
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
    """Compare an engine with the reference, unless the same comparison passed here before.

    Raises:
        InaccurateEngine: The difference exceeds the tolerance.
    """
    path = cache_folder() / "proofs" / f"{_key(engine, samples, tolerance)}.json"
    if (report := _read(path)) is not None:
        return report
    report = compare_with_reference(engine, model, samples, tolerance)
    report.require(f". Use precision f32, or report this processor: {report.cpu}")
    _write(path, report)
    return report


def boundary_inputs(samples: Sequence[Inputs], profiles: Sequence[Profile]) -> list[Inputs]:
    """Return the samples resized to the smallest and the largest shapes of the profiles.

    Elements are repeated or left out (nearest neighbour), so that every value stays a valid input.
    The rows of a batch are made from different samples: equal rows would not show that two were
    confused.
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
            made.append(_resized(samples[number % len(samples)], shapes))
            continue
        one = {name: (1, *shape[1:]) for name, shape in shapes.items()}
        few = [_resized(sample, one) for sample in samples]
        items = [few[(number + at) % len(few)] for at in range(batch)]
        made.append({name: np.concatenate([item[name] for item in items]) for name in shapes})
    return made


def digest_of(samples: Sequence[Inputs]) -> str:
    """Return the SHA-256 of the samples' names, shapes, types and values, hexadecimal."""
    digest = hashlib.sha256()
    for sample in samples:
        for name, array in sorted(sample.items()):
            digest.update(f"{name}{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _resized(sample: Inputs, shapes: Mapping[str, Shape]) -> Inputs:
    made = {}
    for name, array in sample.items():
        resized = array
        for axis, (have, want) in enumerate(zip(array.shape, shapes[name], strict=True)):
            resized = np.take(resized, np.arange(want) * have // want, axis=axis)
        made[name] = resized
    return made


def _expected(reference: Engine, sample: Inputs) -> Mapping[str, NDArray[Any]]:
    """Return the reference's outputs; row by row if the file has a fixed batch of one."""
    fixed = all(tensor.shape[:1] == (1,) for tensor in reference.spec.inputs)
    batch = max(array.shape[0] for array in sample.values())
    if not fixed or batch == 1:
        return reference.infer(sample)
    rows = [
        reference.infer({name: array[at : at + 1] for name, array in sample.items()})
        for at in range(batch)
    ]
    return {name: np.concatenate([each[name] for each in rows]) for name in rows[0]}


def cpu_name() -> str:
    """Return the processor's name, with family, model and stepping."""
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
    """Return the digest of everything that a check on the CPU depends on."""
    facts = [
        engine.spec.digest, engine.backend, cpu_name(), asdict(tolerance), digest_of(samples)
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read(path: Path) -> AccuracyReport | None:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        report = AccuracyReport(**{**facts, "tolerance": Tolerance(**facts["tolerance"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # not checked yet, or the file was cut short
    return report if report.passed else None


def _write(path: Path, report: AccuracyReport) -> None:
    """Cache a report; if that is not possible, the next start checks again."""
    try:
        write_atomically(path, json.dumps(asdict(report), indent=1).encode())
    except OSError:
        return
