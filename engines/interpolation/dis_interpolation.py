"""Motion by DIS optical flow, and blend weights by the fusion network, on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engines.interpolation import flow
from engines.interpolation.blur_acceleration import acceleration_offset
from engines.interpolation.warp_fields import WarpFields, exclude_outside, usable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.engine import Engine
    from engines.interpolation.downscale import DownscaleGeometry
    from engines.interpolation.warp_fields import Field, Reduced

SMALL_PX = 640
"""Frames with a longer side up to this are searched at half of the reduced size, at a third of the
cost. Larger frames gain 0.05 dB at 854x480 from the finer search, and 0.3 to 0.4 dB where they are
reduced by four."""
INPUTS = {
    "differences": "uint8",
    "blurred_differences": "uint8",
    "motion_fields": "float32",
    "t": "float32",
}
OUTPUTS = {"weights": "float32"}


class PairMotion:
    """The motion between two reduced frames (h, w, 3); serves every intermediate time. Thread-safe.

    Args:
        engine: Runs the fusion network.
        before: The earlier frame.
        after: The later frame.
        geometry: Of the planes that they were reduced from.
    """

    def __init__(
        self, engine: Engine, before: Reduced, after: Reduced, geometry: DownscaleGeometry
    ) -> None:
        self._engine, self._size = engine, geometry.image_size
        self._before, self._after = before, after
        self._search = flow.MotionSearch(before, after, fine=max(geometry.shapes[0]) > SMALL_PX)
        self._offset = acceleration_offset(before, after, self._search.motion)

    def at(self, t: float) -> tuple[WarpFields, Field]:
        """Return warp fields, and blend weights (4, h, w) of the four guesses with a margin."""
        # A camera that accelerates is behind the middle at half time, and on time at both ends.
        x, y = (4 * t * (1 - t) * value for value in self._offset)
        motion = self._search.at(t)
        fields = motion.warp_fields(t, (x, y))
        guesses, visible = flow.warp_guesses(self._before, self._after, fields, self._size)
        output = self._engine.infer(network_inputs(guesses, motion.fields, t))
        return fields, usable(exclude_outside(output["weights"][0], visible), t)


def network_inputs(guesses: NDArray[np.uint8], fields: Field, t: float) -> dict[str, NDArray[Any]]:
    """Return the inputs of the fusion network."""
    differences, blurred_differences = flow.difference_maps(guesses)
    return {
        "differences": differences,
        "blurred_differences": blurred_differences,
        "motion_fields": fields,
        "t": np.array([t], np.float32),
    }


def validation_samples(
    pairs: list[tuple[Reduced, Reduced, float]],
) -> list[dict[str, NDArray[Any]]]:
    """Return network inputs for pairs of reduced frames and a time, by a coarse search."""
    samples = []
    for before, after, t in pairs:
        motion = flow.MotionSearch(before, after).at(t)
        guesses, _ = flow.warp_guesses(before, after, motion.warp_fields(t), before.shape[:2])
        samples.append(network_inputs(guesses, motion.fields, t))
    return samples
