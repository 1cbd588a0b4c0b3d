"""Time the shipped networks beside the plain U-Net, interleaved: `python -m engines.smoke.speed`.

The plain U-Net has random weights: its time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from engines.benchmark import interleaved
from engines.smoke.export import export
from engines.smoke.model import SHIPPED, SmokeModel, open_smoke_model, validation_samples
from engines.smoke.network import NETWORKS

PLAIN = "plain-unet"


def measure() -> dict[str, Any]:
    """Return ms per inference at 640x384 in f32, all cores busy, and ratios to the plain U-Net."""
    image = validation_samples()[0]["image"][0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.onnx"
        facts = {"name": PLAIN, "threshold": "0.5", "low_threshold": "0.3"}
        export(NETWORKS[PLAIN](), path, metadata=facts)
        models: dict[str, SmokeModel] = {
            name: open_smoke_model(model, validate=False)
            for name, model in {**SHIPPED, PLAIN: path}.items()
        }
    taken = interleaved({name: partial(model, image) for name, model in models.items()})
    backend = models[PLAIN].backend
    for model in models.values():
        model.close()
    return {
        "engine": backend,
        "milliseconds": taken,
        "ratio_to_plain": {name: ms / taken[PLAIN] for name, ms in taken.items()},
    }


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(json.dumps(measure(), indent=1))


if __name__ == "__main__":
    main()
