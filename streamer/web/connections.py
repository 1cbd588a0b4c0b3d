"""Connections: how many there may be, and how long a client may do nothing.

uvicorn serves HTTP and closes idle connections. This adds limits per client address, a limit on the
time that a request takes to arrive, and the end of clients that do not read their answer.
"""

import asyncio
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

SEND_BUFFER_BYTES: Final = 32_768
"""Of the kernel, for each connection. Small, so that a client that reads nothing is noticed after
few frames; at a round trip of 50 ms it still carries 1.3 MB/s, since Linux doubles it."""

_RESET: Final = struct.pack("ii", 1, 0)
"""Value of SO_LINGER: closing discards what was not sent."""

_STRIKES: Final = 2
"""Checks without progress after which a client is cut off."""


@dataclass(slots=True)
class ConnectionLimits:
    """Limits, and what counts towards them. Used by the server's thread only."""

    total: int = 256
    per_address: int = 64
    request_s: float = 10.0
    """Within this time a request must have arrived whole."""

    idle_s: int = 15
    """An idle connection is closed after this time."""

    stalled_s: float = 5.0
    """A client that takes nothing of its answer for so long is cut off."""

    _open: Counter[str] = field(default_factory=Counter)

    def enter(self, address: str) -> bool:
        """Count a connection; returns whether it may stay."""
        self._open[address] += 1
        return self._open.total() <= self.total and self._open[address] <= self.per_address

    def leave(self, address: str) -> None:
        """Count a connection that has ended."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


class LimitedProtocol(H11Protocol):
    """One connection, within *limits*."""

    def __init__(self, *, limits: ConnectionLimits, **more: Any) -> None:
        super().__init__(**more)
        self._limits = limits
        self._address = ""
        self._refused = False
        self._request_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._unsent, self._strikes = 0, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and refuse one too many."""
        super().connection_made(transport)
        # Whatever the kernel does not take at once stalls: `pause_writing` is called for it.
        transport.set_write_buffer_limits(high=0)
        self._address = self.client[0] if self.client else ""
        if self._limits.enter(self._address):
            self._await_request()
            return
        self._refused = True
        text = b"too many connections\n"
        head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close"
        transport.write(head + b"\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._limits.leave(self._address)
        for timer in (self._request_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._request_timer = self._stall_timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle a part of a request, which must be whole in time."""
        if self._refused:
            return
        super().data_received(data)
        is_whole = self.cycle is not None and not self.cycle.response_complete
        if is_whole and self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None
        elif not is_whole and self._request_timer is None:
            self._await_request()

    def pause_writing(self) -> None:
        """Watch whether the client takes what could not be sent at once."""
        super().pause_writing()
        self._unsent, self._strikes = self.transport.get_write_buffer_size(), 0
        self._watch_stall()

    def resume_writing(self) -> None:
        """End the watch: everything was sent."""
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _await_request(self) -> None:
        self._request_timer = self.loop.call_later(self._limits.request_s, self.transport.abort)

    def _watch_stall(self) -> None:
        delay_s = self._limits.stalled_s / _STRIKES
        self._stall_timer = self.loop.call_later(delay_s, self._check_stall)

    def _check_stall(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._strikes = self._strikes + 1 if left >= self._unsent else 0
        self._unsent = left
        if self._strikes >= _STRIKES:
            # A reset: the kernel forgets what it would try to send for minutes.
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        else:
            self._watch_stall()
