"""How a network is compiled for GPUs and checked there: written beside each network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engines.spec import Precision, Profile, Shape
    from engines.validation import Inputs, Tolerance


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """How a network is compiled for GPUs and checked there."""

    tolerances: Mapping[Precision, Tolerance]
    """Allowed difference from the reference for each precision that it may run in."""
    samples: Callable[[], Sequence[Inputs]]
    """Inputs for the accuracy check."""
    profiles: tuple[Profile, ...]
    """Accepted shapes."""
    warm_shapes: tuple[Mapping[str, Shape], ...] = ()
    """Shapes that are prepared before the engine is used."""

    def precision(self, requested: Precision | None = None) -> Precision:
        """Return the precision that plans are compiled in: f16 if it is accurate enough, else f32.

        Raises:
            EngineError: There is no tolerance for the requested precision.
        """
        chosen = requested or ("f16" if "f16" in self.tolerances else "f32")
        if chosen not in self.tolerances:
            known = ", ".join(self.tolerances)
            raise EngineError(f"on GPUs this network runs in {known}, not in {chosen}")
        return chosen
