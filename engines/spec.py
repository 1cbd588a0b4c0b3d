"""What engines are described by: tensors, networks, and what a network is compiled for on a GPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from engines.errors import ModelMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

Precision = Literal["f32", "f16", "bf16"]
"""Inference precision: f32 and bf16 on the CPU, f32 and f16 on a GPU."""
Edition = Literal["tensorrt", "rtx"]
"""TensorRT, or TensorRT for RTX."""
Shape = tuple[int, ...]
BATCH_SIZES = (1, 2, 4, 8)
"""On GPUs, batches are padded to one of these numbers of rows: a few shapes serve all calls."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output."""

    name: str
    """Name in the model file."""
    shape: tuple[int | None, ...]
    """None for a side of any length."""
    dtype: np.dtype[Any]
    """Type of the elements."""

    def __str__(self) -> str:
        sides = ", ".join("any" if side is None else str(side) for side in self.shape)
        return f"{self.name} ({sides}) {self.dtype}"

    def fits(self, array: NDArray[Any]) -> bool:
        """Return whether an array has this type and shape."""
        return (
            array.dtype == self.dtype
            and array.ndim == len(self.shape)
            and all(
                want is None or want == got
                for want, got in zip(self.shape, array.shape, strict=True)
            )
        )


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Identity, inputs and outputs of a network."""

    name: str
    """Name in the model's metadata, else that of its file."""
    inputs: tuple[TensorSpec, ...]
    """Inputs in the order of the file."""
    outputs: tuple[TensorSpec, ...]
    """Outputs in the order of the file."""
    digest: str
    """SHA-256 of the model file, hexadecimal."""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Metadata of the file: threshold, version, training digest."""

    def check(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Check the arrays that are given to the network.

        Raises:
            ModelMismatch: An input is missing, unknown, or of another shape or type.
        """
        expected = {tensor.name: tensor for tensor in self.inputs}
        if different := sorted(set(inputs) ^ set(expected)):
            raise ModelMismatch(
                f"{self.name}: takes the inputs {', '.join(map(str, self.inputs))}; "
                f"missing or unknown: {', '.join(different)}"
            )
        for name, array in inputs.items():
            if not expected[name].fits(array):
                raise ModelMismatch(
                    f"{self.name}: expected {expected[name]}, got {array.shape} {array.dtype}"
                )

    def require(self, *, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """Check that the network has exactly these inputs and at least these outputs.

        Args:
            inputs: Types of the elements by name.
            outputs: Types of the elements by name.

        Raises:
            ModelMismatch: It is a network for another task.
        """
        have_inputs = {tensor.name: str(tensor.dtype) for tensor in self.inputs}
        have_outputs = {tensor.name: str(tensor.dtype) for tensor in self.outputs}
        if have_inputs != dict(inputs):
            raise ModelMismatch(
                f"{self.name}: expected the inputs {_listed(inputs)}, has {_listed(have_inputs)}"
            )
        if not outputs.items() <= have_outputs.items():
            raise ModelMismatch(
                f"{self.name}: expected the outputs {_listed(outputs)}, has {_listed(have_outputs)}"
            )


def _listed(tensors: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in tensors.items()) or "none"


@dataclass(frozen=True, slots=True)
class Profile:
    """Shapes that a plan accepts, and the shapes that its kernels are tuned for."""

    shapes: Mapping[str, tuple[Shape, Shape, Shape]]
    """Smallest, tuned-for and largest shape of each input."""

    def __post_init__(self) -> None:
        """Check that the shapes of each input are in order."""
        for name, (smallest, tuned, largest) in self.shapes.items():
            in_order = all(
                1 <= a <= b <= c for a, b, c in zip(smallest, tuned, largest, strict=False)
            ) and len(smallest) == len(tuned) == len(largest)
            if not in_order:
                raise ValueError(
                    f"{name}: expected smallest <= tuned-for <= largest, "
                    f"got {smallest} {tuned} {largest}"
                )

    def accepts(self, shapes: Mapping[str, Shape]) -> bool:
        """Return whether inputs of these shapes lie within the profile."""
        return shapes.keys() == self.shapes.keys() and all(
            len(shape) == len(smallest)
            and all(a <= b <= c for a, b, c in zip(smallest, shape, largest, strict=True))
            for shape, (smallest, _, largest) in ((shapes[n], self.shapes[n]) for n in shapes)
        )


@dataclass(frozen=True, slots=True)
class Target:
    """What a network is compiled for."""

    capability: str
    """Compute capability of the GPU: "sm89"."""
    precision: Precision
    """Inference precision."""
    profiles: tuple[Profile, ...]
    """Accepted shapes; at run time the first profile that accepts the inputs is used."""
    driver: int | None = None
    """Major version of the driver, 580 of 580.65.06; None if compiled without a GPU (rtx only)."""
