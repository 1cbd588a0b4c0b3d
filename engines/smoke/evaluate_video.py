"""Evaluate a network over time, on simulated fires that start in photographs."""

# ruff: noqa: PLR2004  limits of what is measured stand where they act
from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.smoke.data import Entry, read_labelled
from engines.smoke.fire_sequence import simulate
from engines.smoke.inference import Rgb, predict
from engines.smoke.metrics import compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.smoke.model import SmokeModel

VISIBLE_ALPHA, VISIBLE_SHARE = 0.3, 0.0002
"""A plume counts as visible once this opacity covers this fraction of the image."""


def measure_fire_sequences(
    model: SmokeModel, entries: Sequence[Entry], *, fires: int = 16
) -> dict[str, Any]:
    """Return delay and size at which simulated fires in clear images are found, with background.

    Each fire starts in another image; the views take turns. Delays count from the moment at which
    the plume is visible.
    """
    views: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if not entry.smoke:
            views[entry.group].append(entry)
    turns = [group[at % len(group)] for at in range(fires) for group in views.values()][:fires]
    found = list[tuple[float, float]]()
    early = visible = 0
    for seed, entry in enumerate(turns):
        background: Rgb | None = None
        since: float | None = None
        for frame in simulate(read_labelled(entry).image, seed=seed):
            if background is None:
                background = frame.image
            share = float((frame.alpha > VISIBLE_ALPHA).mean())
            result = compare(
                predict(model, frame.image, background).probability,
                np.where(frame.alpha > 0.15, 255, 0).astype(np.uint8),
                threshold=model.threshold,
                low_threshold=model.low_threshold,
                group=entry.group,
            )
            if frame.seconds < 0:
                early += result.alarm
                continue
            if since is None and share >= VISIBLE_SHARE:
                since, visible = frame.seconds, visible + 1
            if since is not None and result.found:
                found.append((frame.seconds - since, 100 * share))
                break
    delays, sizes = np.array(found).reshape(-1, 2).T
    return {
        "fires": visible,
        "found": len(found),
        "false_positives_before": early,
        "delay_s": _distribution(delays),
        "size_percent": _distribution(sizes),
    }


def _distribution(values: NDArray[np.floating[Any]]) -> dict[str, float] | None:
    if not values.size:
        return None
    return {
        "median": float(np.median(values)),
        "p90": float(np.quantile(values, 0.9)),
        "worst": float(values.max()),
    }
