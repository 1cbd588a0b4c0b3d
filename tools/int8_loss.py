"""Tells what int8 costs a smoke network: `tools/int8_loss.py smoke PICTURES`.

Calibrates on one half of a folder's pictures and compares with fp32 on the other, in ONNX Runtime.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import onnx

from engines.engine import Engine, open_reference
from engines.modelfile import ModelFile
from engines.plans.onnx_passes import prepared
from engines.plans.quantising import quantised, ranges_of
from engines.registry import find
from engines.smoke.model import SmokeModel


def _opened(model: onnx.ModelProto) -> Engine:
    return open_reference(ModelFile(Path("network.onnx"), model.SerializeToString(), "", {}))


def main() -> None:
    """Read the command line, calibrate, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=("smoke", "smoke-fast"))
    parser.add_argument("pictures", type=Path, help="a folder of pictures, searched through")
    parser.add_argument("--most", type=int, default=32, help="pictures to take, evenly spread")
    a = parser.parse_args()
    paths = sorted(p for p in a.pictures.rglob("*") if p.suffix.lower() in {".jpg", ".png"})
    paths = paths[:: max(1, len(paths) // a.most)][: a.most]
    height, width = SmokeModel.input_size
    samples = []
    for path in paths:
        small = cv2.resize(cv2.imread(str(path)), (width, height), interpolation=cv2.INTER_AREA)
        image = np.ascontiguousarray(small[None, ..., ::-1])
        flag = np.zeros(1, np.float32)
        samples.append({"image": image, "background": image, "has_background": flag})
    file = find(a.name).model()
    model, threshold = prepared(file.content, []), float(file.metadata["threshold"])
    whole = quantised(model, ranges_of(model, samples[::2]))
    before, after = _opened(model), _opened(whole)
    both = [(before.infer(sample), after.infer(sample)) for sample in samples[1::2]]
    for name in both[0][0]:
        apart = [np.abs(want[name] - got[name]) for want, got in both]
        largest, mean = max(x.max() for x in apart), max(x.mean() for x in apart)
        print(f"{a.name} {name}: largest {largest:.4f}, mean {mean:.4f}")
    masks = [(want["mask"] > threshold, got["mask"] > threshold) for want, got in both]
    shared, either = (
        sum(int(op(x, y).sum()) for x, y in masks) for op in (np.logical_and, np.logical_or)
    )
    print(f"{a.name}: {len(both)} pictures, masks share {shared / max(either, 1):.3f} (IoU)")


if __name__ == "__main__":
    main()
