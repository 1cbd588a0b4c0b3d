"""An engine that is given its own outputs again: the state of one stream, kept where it runs.

A network that remembers takes its memory as inputs and gives the next one as outputs, so that any
runtime can run it. Copied to and fro, that memory may be five times as large as the picture: an
engine that can hold it on its device says so by being `SupportsState`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from engines.errors import StateLost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.engine import Engine

    Arrays = Mapping[str, NDArray[Any]]
    Links = Mapping[str, str]
    """Output to the input that it becomes."""


class StatefulSession(Protocol):
    """The memory of one stream on one engine. Belongs to one thread."""

    def start(self, state: Arrays) -> None:
        """Remember these from now on: the inputs that outputs become, by name."""
        ...

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once on the other inputs; the other outputs come back.

        Raises:
            StateLost: nothing is remembered: `start` comes first, and again after any error.
            EngineError: as `Engine.infer`.
        """
        ...

    def close(self) -> None:
        """Give back the memory. Any number of times."""
        ...


@runtime_checkable
class SupportsState(Protocol):
    """An engine that keeps a stream's memory on its device."""

    def recurrence(self, links: Links) -> StatefulSession:
        """The memory of one more stream."""
        ...


def recurrence(engine: Engine, links: Links) -> StatefulSession:
    """The memory of one more stream: on the device where the engine can, else on the host."""
    return engine.recurrence(links) if isinstance(engine, SupportsState) else _OnHost(engine, links)


class _OnHost:
    """Memory as arrays that go to and fro."""

    def __init__(self, engine: Engine, links: Links) -> None:
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
            raise StateLost(f"{self._engine.spec.name}: there is no state to go on from")
        outputs = self._engine.infer({**inputs, **state})
        self._state = {into: outputs[out] for out, into in self._links.items()}
        return {name: array for name, array in outputs.items() if name not in self._links}

    def close(self) -> None:
        """See `StatefulSession`."""
        self._state = None
