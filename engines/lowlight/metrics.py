"""How good an enhanced picture is, and how steady a stream of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Rgb = NDArray[np.uint8]
    Plane = NDArray[np.uint8]


def psnr(picture: Rgb, reference: Rgb) -> float:
    """Peak signal to noise ratio in dB over all channels."""
    error = float(np.mean((picture.astype(np.float64) - reference) ** 2))
    return 10 * float(np.log10(255**2 / max(error, 1e-10)))


def ssim(picture: Rgb, reference: Rgb) -> float:
    """Structural similarity (Wang et al., 2004): Gaussian windows of 1.5 pixels, all channels."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    a, b = picture.astype(np.float64), reference.astype(np.float64)

    def mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred = cv2.GaussianBlur(x, (11, 11), 1.5)
        return cast("NDArray[np.float64]", blurred[5:-5, 5:-5])

    ma, mb = mean(a), mean(b)
    aa, bb, ab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    similar = (2 * ma * mb + c1) * (2 * ab + c2) / ((ma**2 + mb**2 + c1) * (aa + bb + c2))
    return float(similar.mean())


def gradient_deviation(picture: Rgb, reference: Rgb) -> float:
    """Perceptual distance: deviation of gradient similarity (GMSD, Xue, 2014), 0 if equal."""

    def gradients(rgb: Rgb) -> NDArray[np.float32]:
        luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        half = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        smooth = half.astype(np.float32)
        kernel = np.array([[1, 0, -1]] * 3, np.float32) / 3
        across, down = cv2.filter2D(smooth, -1, kernel), cv2.filter2D(smooth, -1, kernel.T)
        return cast("NDArray[np.float32]", cv2.magnitude(across, down))

    a, b = gradients(picture), gradients(reference)
    c = 170.0
    return float(np.std((2 * a * b + c) / (a**2 + b**2 + c)))


def brightness_flicker(lumas: Sequence[Plane]) -> float:
    """Standard deviation of the mean brightness from picture to picture, slow drift taken out."""
    means = np.array([float(luma.mean()) for luma in lumas])
    # Second differences: a steady change of light is no flicker.
    return float(np.std(np.diff(means, 2)) / 6**0.5) if len(means) > 2 else 0.0  # noqa: PLR2004


def warping_error(outputs: Sequence[Plane], inputs: Sequence[Plane]) -> float:
    """Mean change along the motion between neighbours, over the output's mean brightness.

    The motion is that of the inputs (dense inverse search), so that no method's own noise decides
    what has moved; a twentieth of the pixels, those of the worst error, are taken as uncovered.
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
    """Noise of the outputs in flat regions over that of the inputs there: median over pictures.

    Flat is the quarter of the picture with the least gradient once noise is blurred away; noise is
    the mean distance there from what remains once it is blurred away.
    """
    gains = []
    for after, before in zip(outputs, inputs, strict=True):
        calm = cv2.GaussianBlur(before.astype(np.float32), (0, 0), 6)
        slope = cv2.magnitude(cv2.Sobel(calm, -1, 1, 0), cv2.Sobel(calm, -1, 0, 1))
        flat = slope <= np.quantile(slope, 0.25)
        grains = [float(_grain(picture)[flat].mean()) for picture in (after, before)]
        gains.append(grains[0] / max(grains[1], 0.25))  # rounding to bytes makes that much
    return float(np.median(gains))


def _grain(picture: Plane) -> NDArray[np.float32]:
    fine = picture.astype(np.float32)
    return cast("NDArray[np.float32]", np.abs(fine - cv2.GaussianBlur(fine, (0, 0), 2)))
