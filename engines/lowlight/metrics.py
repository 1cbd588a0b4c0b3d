"""Temporal metrics of enhanced video: flicker, warping error, noise gain."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]


def brightness_flicker(lumas: Sequence[Plane]) -> float:
    """Return the standard deviation of the mean brightness between frames, without slow drift."""
    means = np.array([float(luma.mean()) for luma in lumas])
    # Second differences: a steady change of light is not flicker.
    return float(np.std(np.diff(means, 2)) / 6**0.5) if len(means) > 2 else 0.0  # noqa: PLR2004


def warping_error(outputs: Sequence[Plane], inputs: Sequence[Plane]) -> float:
    """Return the mean change along the motion between frames, over the outputs' mean brightness.

    The optical flow is that of the inputs (dense inverse search), so that no method's own noise
    influences it. The worst 5 % of pixels are taken as disoccluded and left out.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    errors = []
    for at in range(1, len(outputs)):
        before, after = (cv2.equalizeHist(inputs[each]) for each in (at - 1, at))
        moved = flow.calc(after, before, np.zeros((*after.shape, 2), np.float32))
        rows, columns = np.mgrid[0 : after.shape[0], 0 : after.shape[1]].astype(np.float32)
        back = cv2.remap(
            outputs[at - 1], columns + moved[..., 0], rows + moved[..., 1], cv2.INTER_LINEAR
        )
        apart = cv2.absdiff(back, outputs[at]).astype(np.float32)
        errors.append(float(apart[apart <= np.quantile(apart, 0.95)].mean()))
    brightness = float(np.mean([output.mean() for output in outputs]))
    return float(np.mean(errors)) / max(brightness, 1e-6) if errors else 0.0


def noise_gain(outputs: Sequence[Plane], inputs: Sequence[Plane]) -> float:
    """Return the noise of the outputs over that of the inputs, in flat regions: median over frames.

    Flat is the quarter of the frame with the least gradient after blurring; noise is the mean
    distance from the blurred frame there.
    """
    gains = []
    for after, before in zip(outputs, inputs, strict=True):
        calm = cv2.GaussianBlur(before.astype(np.float32), (0, 0), 6)
        slope = cv2.magnitude(cv2.Sobel(calm, -1, 1, 0), cv2.Sobel(calm, -1, 0, 1))
        flat = slope <= np.quantile(slope, 0.25)
        grains = [float(_grain(image)[flat].mean()) for image in (after, before)]
        gains.append(grains[0] / max(grains[1], 0.25))  # noise of rounding to bytes
    return float(np.median(gains))


def _grain(image: Plane) -> NDArray[np.float32]:
    fine = image.astype(np.float32)
    return cast("NDArray[np.float32]", np.abs(fine - cv2.GaussianBlur(fine, (0, 0), 2)))
