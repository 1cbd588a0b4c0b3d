"""Frames whose motion is known."""

import cv2
import numpy as np


def texture(height, width, seed=3):
    """A frame full of detail of several sizes: (height, width) uint8."""
    rng = np.random.default_rng(seed)
    made = np.zeros((height, width), np.float32)
    for size in (6, 17, 60):
        small = rng.normal(0, 1, (height // size + 2, width // size + 2)).astype(np.float32)
        made += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) * size**0.3
    return cv2.normalize(made, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)


def pan(height, width, step=(4, 6), *, t=0.5, depth=8, subsampling=(2, 2), planes=3):
    """Planes before, at t and after of a camera that moves by *step* (down, across) in whole."""
    room = texture(height + 64, width + 64)
    moments = []
    for share in (0.0, t, 1.0):
        matrix = np.array([[1, 0, 32 + step[1] * share], [0, 1, 32 + step[0] * share]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        luma = cv2.warpAffine(room, matrix, (width, height), flags=flags)
        made = [luma]
        down, across = subsampling
        size = (-(-width // across), -(-height // down))
        for number in range(1, min(planes, 3)):
            gain = 0.5 if number == 1 else -0.5
            chroma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
            made.append(np.clip(128 + gain * (chroma.astype(float) - 128), 0, 255).astype(np.uint8))
        if planes == 4:
            made.append(luma)
        if depth > 8:
            made = [plane.astype(np.uint16) << (depth - 8) for plane in made]
        moments.append(made)
    return moments


def error(made, wanted, depth=8):
    """Mean difference in bytes, away from the edge, where the camera shows what it had not."""
    rows, columns = (side // 8 for side in wanted.shape)
    apart = np.abs(made.astype(float) - wanted)[rows:-rows, columns:-columns]
    return float(apart.mean()) / (1 << (depth - 8))
