"""Times the shipped networks beside the plain U-Net, in turns: `python -m engines.smoke.speed`.

The plain U-Net's weights are random: its time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from engines.smoke.export import export
from engines.smoke.model import SHIPPED, SmokeModel, open_smoke_model, proof_samples
from engines.smoke.network import NETWORKS

PLAIN = "plain-unet"
ROUNDS = 40
WARM_UP = 3


def measure() -> dict[str, Any]:
    """Median milliseconds of a look at 640x384 in f32, and ratios to the plain U-Net."""
    torch.manual_seed(1)
    sample = proof_samples()[0]
    image = sample["image"][0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.onnx"
        export(
            NETWORKS[PLAIN](), path, metadata={"name": PLAIN, "threshold": "0.5", "outline": "0.3"}
        )
        models: dict[str, SmokeModel] = {
            name: open_smoke_model(model, device="cpu", prove=False)
            for name, model in {**SHIPPED, PLAIN: path}.items()
        }
        taken: dict[str, list[float]] = {name: [] for name in models}
        # In turns: what else runs on the machine then slows all of them alike.
        for turn in range(ROUNDS + WARM_UP):
            for name, model in models.items():
                began = time.perf_counter()
                model(image)
                if turn >= WARM_UP:
                    taken[name].append(1e3 * (time.perf_counter() - began))
        backend = models[PLAIN].backend
        for model in models.values():
            model.close()
    medians = {name: statistics.median(times) for name, times in taken.items()}
    return {
        "engine": backend,
        "milliseconds": medians,
        "ratio_to_plain": {name: ms / medians[PLAIN] for name, ms in medians.items()},
    }


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(json.dumps(measure(), indent=1))


if __name__ == "__main__":
    main()
