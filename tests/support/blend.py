"""An interpolator that blends frames, for tests of what is around the network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Planes = list[NDArray[Any]]


class Blend:
    """In place of `engines.interpolation.model.Interpolator`."""

    name, digest = "blend", "0" * 64

    def between(self, before: Planes, after: Planes, /, *, depth: int, rgb: bool) -> "_Blended":
        return _Blended(before, after)

    def close(self) -> None:
        """Nothing is held."""


class _Blended:
    def __init__(self, before: Sequence[NDArray[Any]], after: Sequence[NDArray[Any]]) -> None:
        self._pairs = tuple(zip(before, after, strict=True))

    def at(self, t: float, /) -> Planes:
        return [np.rint(one * (1 - t) + other * t).astype(one.dtype) for one, other in self._pairs]
