"""An asyncio event loop whose name resolution can be left behind.

The loop of the standard library resolves names in a pool of threads and waits for that pool when it
ends: a resolver that does not answer held an attempt with a timeout of 1 s for 4.1 s.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls

Result = TypeVar("Result")

RESOLVER: Final = UninterruptibleCalls("resolver", limit=16)
"""All name resolutions of this package."""


class _Loop(asyncio.SelectorEventLoop):
    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> list[Any]:
        """Resolve as `socket.getaddrinfo` does, for at most as long as the caller waits."""
        try:
            call = RESOLVER.submit(partial(socket.getaddrinfo, host, port, **options))
        except TooManyCalls:
            raise TimeoutError("earlier name resolutions have not ended") from None
        return await asyncio.wrap_future(call, loop=self)


def run_within(work: Callable[[], Coroutine[Any, Any, Result]], *, timeout_s: float) -> Result:
    """Run *work* to its end, everything included, name resolution too.

    Raises:
        TimeoutError: It did not end in time.
    """

    async def limited() -> Result:
        async with asyncio.timeout(timeout_s):
            return await work()

    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(limited())
