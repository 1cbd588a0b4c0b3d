"""Listening sockets for a host name or an address, IPv4 and IPv6."""

import errno
import socket
from contextlib import ExitStack
from typing import Final

_LOOPBACK: Final = ("127.0.0.1", "::1")
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def listen(host: str, port: int, *, send_buffer_bytes: int | None = None) -> list[socket.socket]:
    """Return a listening socket for each address of *host*.

    `localhost` has an IPv4 and an IPv6 address; `::` accepts IPv4 as well. Addresses that this
    machine lacks are left out, unless all are.

    Args:
        host: Name or address, without brackets.
        port: Port; 0 takes a free one, the same for all addresses.
        send_buffer_bytes: Size of the kernel's send buffer of each accepted connection.

    Raises:
        OSError: The name is unknown, or an address cannot be listened on.
    """
    names = _LOOPBACK if host == "localhost" else (host,)
    addresses = [
        (family, address)
        for name in names
        for family, *_, address in socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    ]
    missing: OSError | None = None
    with ExitStack() as opened:
        listeners: list[socket.socket] = []
        for family, (name, _, *more) in addresses:
            try:
                listener = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if send_buffer_bytes is not None:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, name != "::")
                taken = listeners[0].getsockname()[1] if listeners else port
                listener.bind((name, taken, *more))
                listener.listen()
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
            else:
                listeners.append(listener)
        if not listeners:
            raise missing or OSError(errno.EADDRNOTAVAIL, "no such address here")
        opened.pop_all()
    return listeners


def for_url(host: str) -> str:
    """Return *host* as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host
