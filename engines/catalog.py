"""The networks this project ships: what `streamer engines list` and `verify` go through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.engine import Device, Precision, open_engine
from engines.errors import EngineError
from engines.interpolation import model as interpolation
from engines.lowlight import model as lowlight
from engines.proof import Proof, Tolerance, prove
from engines.smoke import model as smoke

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from engines.proof import Inputs


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One shipped network."""

    name: str
    """What people call it by."""
    task: str
    """What it is for, in a few words."""
    path: Path
    """Its ONNX file."""
    precision: Precision
    """Used unless another is asked for."""
    tolerances: Mapping[Precision, Tolerance]
    """Precisions it may run in, with how far each may be from the reference."""
    samples: Callable[[], Sequence[Inputs]]
    """Inputs to prove it with."""


CATALOG: tuple[CatalogEntry, ...] = (
    *(
        CatalogEntry(
            name=name,
            task="smoke segmentation",
            path=path,
            precision="f32",
            tolerances=smoke.TOLERANCES,
            samples=smoke.proof_samples,
        )
        for name, path in smoke.SHIPPED.items()
    ),
    CatalogEntry(
        name="lowlight",
        task="low-light enhancement",
        path=lowlight.SHIPPED,
        precision="f32",
        tolerances=lowlight.TOLERANCES,
        samples=lowlight.proof_samples,
    ),
    CatalogEntry(
        name="interpolation",
        task="frame interpolation",
        path=interpolation.SHIPPED,
        precision="f32",
        tolerances=interpolation.TOLERANCES,
        samples=interpolation.proof_samples,
    ),
)


def find(name: str) -> CatalogEntry:
    """The entry of that name.

    Raises:
        EngineError: there is none.
    """
    for entry in CATALOG:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in CATALOG)
    raise EngineError(f"no engine is called {name!r}; there are: {known}")


def verify(
    entry: CatalogEntry, *, device: Device = "auto", precision: Precision | None = None
) -> Proof:
    """Compile an entry and compare it with the reference now, whatever is remembered.

    Raises:
        EngineError: it cannot be opened, or has no tolerance for that precision.
    """
    chosen = precision or entry.precision
    if chosen not in entry.tolerances:
        raise EngineError(
            f"{entry.name} is not meant to run in {chosen}: no tolerance is written down"
        )
    engine = open_engine(entry.path, device=device, precision=chosen)
    try:
        return prove(engine, entry.path, entry.samples(), entry.tolerances[chosen])
    finally:
        engine.close()
