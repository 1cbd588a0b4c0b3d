"""An asyncio event loop whose name resolution can be left behind.

The loop of the standard library resolves names in a pool of threads and waits for that pool when it
ends: a resolver that does not answer held an attempt with a timeout of 1 s for 4.1 s.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from streamer.core.destinations import check_address
from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls

Result = TypeVar("Result")

RESOLVER: Final = UninterruptibleCalls("resolver", limit=16)
"""All name resolutions of this package."""


class _Loop(asyncio.SelectorEventLoop):
    allow_link_local = False

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> list[Any]:
        """Resolve as `socket.getaddrinfo` does, for at most as long as the caller waits."""
        try:
            call = RESOLVER.submit(partial(socket.getaddrinfo, host, port, **options))
        except TooManyCalls:
            raise TimeoutError("earlier name resolutions have not ended") from None
        found: list[Any] = await asyncio.wrap_future(call, loop=self)
        if not self.allow_link_local:
            for entry in found:
                check_address(entry[4][0], host=str(host))
        return found


def run_within(
    work: Callable[[], Coroutine[Any, Any, Result]], *, timeout_s: float, allow_link_local: bool
) -> Result:
    """Run *work* to its end, everything included, name resolution too.

    Raises:
        TimeoutError: It did not end in time.
        ForbiddenDestination: A name leads to an address that is not allowed.
    """

    def make_loop() -> _Loop:
        loop = _Loop()
        loop.allow_link_local = allow_link_local
        return loop

    async def limited() -> Result:
        async with asyncio.timeout(timeout_s):
            return await work()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(limited())
