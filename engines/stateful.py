"""A stateful network: some of its outputs are inputs of the next call of the same stream.

The state is an input and an output of the network, so that every runtime can run it. Copied to the
host and back it may be five times as large as the frame; an engine that can keep it on its device
implements `SupportsState`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from engines.errors import StateLost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.spec import EngineSpec, Shape

    Arrays = Mapping[str, NDArray[Any]]
    Links = Mapping[str, str]
    """Output to the input that it becomes."""


class StatefulSession(Protocol):
    """The state of one stream on one engine. Belongs to one thread."""

    def start(self, state: Arrays) -> None:
        """Replace the state: all inputs that outputs become, by name."""
        ...

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once on the other inputs; return the other outputs.

        Raises:
            StateLost: There is no state: call `start` first, and again after any error.
            EngineError: As `Engine.infer`.
        """
        ...

    def close(self) -> None:
        """Free the state. May be called repeatedly."""
        ...


class Runs(Protocol):
    """The part of `engines.engine.Engine` that a state needs."""

    spec: EngineSpec

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once."""
        ...


@runtime_checkable
class SupportsState(Protocol):
    """An engine that keeps the states of streams on its device."""

    def stateful_session(self, links: Links) -> StatefulSession:
        """Return the state of one more stream."""
        ...

    def is_ready(self, shapes: Mapping[str, Shape]) -> bool:
        """Return whether inputs and state of these shapes run at once on the device."""
        ...


def stateful_session(engine: Runs, links: Links) -> StatefulSession:
    """Return the state of one more stream: on the device if the engine can, else on the host."""
    if isinstance(engine, SupportsState):
        return engine.stateful_session(links)
    return _HostState(engine, links)


class _HostState:
    """A state of arrays that are copied to the device and back."""

    def __init__(self, engine: Runs, links: Links) -> None:
        self._engine = engine
        self._links = dict(links)
        self._state: Arrays | None = None

    def start(self, state: Arrays) -> None:
        """See `StatefulSession`."""
        self._state = dict(state)

    def infer(self, inputs: Arrays) -> Arrays:
        """See `StatefulSession`."""
        state, self._state = self._state, None
        if state is None:
            raise StateLost(f"{self._engine.spec.name}: there is no state to continue from")
        outputs = self._engine.infer({**inputs, **state})
        self._state = {into: outputs[out] for out, into in self._links.items()}
        return {name: array for name, array in outputs.items() if name not in self._links}

    def close(self) -> None:
        """See `StatefulSession`."""
        self._state = None
