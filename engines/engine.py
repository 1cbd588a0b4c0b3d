"""One compiled network on one device: named arrays in, named arrays out.

An engine knows nothing of images, cameras or time. `backends/` has the libraries that run it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

from engines.errors import DeviceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.spec import EngineSpec

Device: TypeAlias = str
"""`auto`, `cpu`, `cuda` (the first GPU) or `cuda:N` (one of several); see `read_device`."""
DeviceKind = Literal["auto", "cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class EngineState:
    """What an engine runs on at this moment."""

    device: str
    """"cpu", or a GPU as in "cuda:0"."""
    degraded: bool = False
    """Whether a GPU that should be used is not used, or not for all inputs."""
    reason: str = ""
    """Why it is degraded, or why a plan is being compiled; empty in normal operation."""
    building: float | None = None
    """Progress of a plan that is being compiled, 0 to 1; None while none is."""


class Engine(Protocol):
    """A compiled network. Safe to call from many threads at once: one serves all cameras."""

    spec: EngineSpec
    """Its inputs and outputs."""

    @property
    def backend(self) -> str:
        """Library, version, device and precision, as in "openvino 2026.4.1 cpu f32"."""
        ...

    @property
    def state(self) -> EngineState:
        """What it runs on at this moment."""
        ...

    @property
    def concurrency(self) -> int:
        """How many calls make progress at the same time; further ones wait in line."""
        ...

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the network once. The returned arrays belong to the caller.

        Raises:
            ModelMismatch: The inputs do not fit.
            EngineError: The engine is closed, or the device failed.
        """
        ...

    def close(self) -> None:
        """Release the device's memory after the calls in progress. May be called repeatedly."""
        ...


def read_device(device: Device) -> tuple[DeviceKind, int]:
    """Return the kind of a device and the index of the GPU.

    Raises:
        DeviceUnavailable: The name is not a device.
    """
    found = re.fullmatch(r"(auto|cpu|cuda)|cuda:(\d{1,3})", device)
    if found is None:
        raise DeviceUnavailable(f"unknown device {device!r}: choose auto, cpu, cuda or cuda:N")
    kind, index = found.groups()
    return (cast("DeviceKind", kind), 0) if kind else ("cuda", int(index))
