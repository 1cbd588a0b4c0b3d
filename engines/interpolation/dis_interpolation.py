"""The CPU way: motion is searched, and a small network says what to believe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engines.interpolation import flow
from engines.interpolation.blur_acceleration import leaning
from engines.interpolation.warp_fields import WarpFields, believed, usable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.engine import Engine
    from engines.interpolation.downscale import Layout
    from engines.interpolation.warp_fields import Field, Picture

STRIDE = 16
"""Height and width of the reduced pictures must be multiples of this."""
SMALL_PX = 640
"""Longer side of pictures up to which the motion is searched at half of the reduced size: a third
of the work, where the search is most of all there is. The larger ones gain 0.05 dB at 854x480 and
0.3 to 0.4 where they are reduced by four."""
INPUTS = {
    "differences": "uint8",
    "blurred_differences": "uint8",
    "motion_fields": "float32",
    "t": "float32",
}
OUTPUTS = {"weights": "float32"}


class Finding:
    """What was searched between two reduced pictures (h, w, 3).

    Args:
        engine: Of the network.
        before: The earlier one.
        after: The later one.
        layout: Of the planes they were reduced from.
    """

    def __init__(self, engine: Engine, before: Picture, after: Picture, layout: Layout) -> None:
        self._engine, self._size = engine, layout.picture_size
        self._before, self._after = before, after
        self._search = flow.Search(before, after, fine=max(layout.shapes[0]) > SMALL_PX)
        self._lean = leaning(before, after, self._search.motion)

    def at(self, t: float) -> tuple[WarpFields, Field]:
        """See `ways.Finding`."""
        # A camera that gathers speed is before the middle at half time, and at the ends on time.
        x, y = (4 * t * (1 - t) * value for value in self._lean)
        found = self._search.at(t)
        ways = found.ways(t, (x, y))
        guesses, seen = flow.guesses(self._before, self._after, ways, self._size)
        output = self._engine.infer(given(guesses, found.fields, t))
        return ways, usable(believed(output["weights"][0], seen), t)


def given(guesses: NDArray[np.uint8], fields: Field, t: float) -> dict[str, NDArray[Any]]:
    """What the network takes."""
    seen, crowd = flow.seen(guesses)
    return {
        "differences": seen,
        "blurred_differences": crowd,
        "motion_fields": fields,
        "t": np.array([t], np.float32),
    }


def validation_samples(
    pairs: list[tuple[Picture, Picture, float]],
) -> list[dict[str, NDArray[Any]]]:
    """What the network takes of pairs of reduced pictures and a time between, searched coarsely."""
    samples = []
    for before, after, t in pairs:
        found = flow.Search(before, after).at(t)
        guesses, _ = flow.guesses(before, after, found.ways(t), before.shape[:2])
        samples.append(given(guesses, found.fields, t))
    return samples
