"""What an engine takes and gives: named arrays with shapes and types, and which network it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from engines.errors import ModelMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output."""

    name: str
    """As the model file calls it."""
    shape: tuple[int | None, ...]
    """None where any size will do."""
    dtype: np.dtype[Any]
    """Type of the elements."""

    def __str__(self) -> str:
        sides = ", ".join("any" if side is None else str(side) for side in self.shape)
        return f"{self.name} ({sides}) {self.dtype}"

    def fits(self, array: NDArray[Any]) -> bool:
        """Whether an array has this type and shape."""
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
    """Which network an engine runs, and what goes in and out."""

    name: str
    """The model's own name, else its file's."""
    inputs: tuple[TensorSpec, ...]
    """In the file's order."""
    outputs: tuple[TensorSpec, ...]
    """In the file's order."""
    digest: str
    """SHA-256 of the model file, hexadecimal."""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What the file says about itself: threshold, version, training digest."""

    def check(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Check arrays before they are given to the network.

        Raises:
            ModelMismatch: an input is missing, unknown, or of another shape or type.
        """
        wanted = {tensor.name: tensor for tensor in self.inputs}
        if strange := sorted(set(inputs) ^ set(wanted)):
            raise ModelMismatch(
                f"{self.name}: takes the inputs {', '.join(map(str, self.inputs))}; "
                f"missing or unknown: {', '.join(strange)}"
            )
        for name, array in inputs.items():
            if not wanted[name].fits(array):
                raise ModelMismatch(
                    f"{self.name}: the input {wanted[name]} was given {array.shape} {array.dtype}"
                )

    def require(self, *, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """Check that the network has just these inputs and at least these outputs, name to type.

        Raises:
            ModelMismatch: it is a network for something else.
        """
        have_inputs = {tensor.name: str(tensor.dtype) for tensor in self.inputs}
        have_outputs = {tensor.name: str(tensor.dtype) for tensor in self.outputs}
        if have_inputs != dict(inputs):
            raise ModelMismatch(
                f"{self.name}: expected the inputs {_words(inputs)}, has {_words(have_inputs)}"
            )
        if not outputs.items() <= have_outputs.items():
            raise ModelMismatch(
                f"{self.name}: expected the outputs {_words(outputs)}, has {_words(have_outputs)}"
            )


def _words(tensors: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in tensors.items()) or "none"
