"""Baselines of low-light enhancement: unchanged, automatic gamma, CLAHE, Zero-DCE."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Rgb = NDArray[np.uint8]
    Method = Callable[[Rgb], Rgb]

WELL_LIT = 0.45
"""Mean to which automatic gamma brings an image."""


def raw(image: Rgb) -> Rgb:
    """Return the image unchanged."""
    return image


def auto_gamma(image: Rgb) -> Rgb:
    """Apply the gamma that brings the mean to `WELL_LIT`."""
    return with_gamma(image, gamma_for(image))


def gamma_for(image: Rgb) -> float:
    """Return the exponent that brings an image's mean to `WELL_LIT`."""
    mean = float(np.clip(image.mean() / 255, 1e-3, 0.999))
    return float(np.log(WELL_LIT) / np.log(mean))


def with_gamma(image: Rgb, gamma: float) -> Rgb:
    """Apply a gamma curve to every byte."""
    table = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return cast("Rgb", cv2.LUT(image, table))


def clahe(image: Rgb) -> Rgb:
    """Apply contrast limited adaptive histogram equalisation (Zuiderveld, 1994) to lightness."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(8, 8)).apply(lab[..., 0])
    return cast("Rgb", cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


def zero_dce_network() -> Any:
    """Return Zero-DCE as a PyTorch module, with the weights of the package neuro-low-light.

    Raises:
        ModuleNotFoundError: That package, or torch, is not installed.
    """
    import torch

    found = importlib.util.find_spec("neuro_low_light")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("needs the baseline: pip install --no-deps neuro-low-light")
    # Its network only: the package as a whole needs torchvision.
    folder = Path(found.origin).parent
    spec = importlib.util.spec_from_file_location("zero_dce_baseline", folder / "model.py")
    assert spec is not None, "a file was named"
    assert spec.loader is not None, "a file has a loader"
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    network: Any = package.ZeroDCEPP()
    state = torch.load(folder / "weights" / "best_model.pth", map_location="cpu", weights_only=True)
    network.load_state_dict(state["model_state_dict"])
    return network.eval()


def zero_dce() -> Method | None:
    """Return a method that applies Zero-DCE; None if its package is not installed."""
    try:
        network = zero_dce_network()
    except ModuleNotFoundError:
        return None
    import torch

    def enhance(image: Rgb) -> Rgb:
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            enhanced, _ = network(x)
        array = enhanced[0].permute(1, 2, 0).clamp(0, 1).numpy()
        return cast("Rgb", np.rint(array * 255).astype(np.uint8))

    return enhance


def all_baselines() -> dict[str, Method]:
    """Return every method by its name; Zero-DCE only if its package is installed."""
    methods: dict[str, Method] = {"raw": raw, "auto_gamma": auto_gamma, "clahe": clahe}
    if (network := zero_dce()) is not None:
        methods["zero_dce"] = network
    return methods
