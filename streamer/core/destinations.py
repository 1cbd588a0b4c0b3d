"""Network addresses that no configured URL may lead to unless this is allowed.

Link-local addresses belong to machines on the same wire, and on them and a few others clouds serve
the credentials of the machine. A URL of the configuration could be made to fetch those.

The check is of addresses, not of names: a name is checked after its resolution, and a redirect
before it is followed.
"""

import contextlib
import ipaddress
import socket
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from .errors import ForbiddenDestination

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int | None], Iterable[str]]

_METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)
"""Metadata services beyond the link-local ranges (Amazon, Google, Alibaba, Azure, Oracle)."""

_WITH_IPV4: Final = tuple(
    map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96"))
)
"""Networks whose last 32 bits are an IPv4 address: NAT64 (two), compatible, translated."""


def check_address(address: str, *, host: str = "") -> None:
    """Raise unless connections to *address* are permitted.

    Args:
        address: An IPv4 or IPv6 address in numbers, with or without a zone; anything else passes.
        host: Name that was resolved to it, for the message.

    Raises:
        ForbiddenDestination: It is link-local, or the metadata service of a cloud.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0].strip("[]"))
    except ValueError:
        return
    if not any(each.is_link_local or each in _METADATA for each in _meanings(parsed)):
        return
    named = f"{host} is {address}" if host and host != address else address
    raise ForbiddenDestination(
        f"{named}: a link-local address, or one at which a cloud serves credentials; if it is"
        " meant, set network.allow_link_local to true"
    )


def check_host(host: str, port: int | None = None, *, resolve: Resolver | None = None) -> None:
    """Raise unless connections to all addresses of *host* are permitted. Waits for the resolver.

    A name that cannot be resolved passes: the connection will fail, and say so better.

    Args:
        host: Name or address.
        port: Passed to the resolver.
        resolve: Returns the addresses of a host and port; default: the system's resolver.

    Raises:
        ForbiddenDestination: As `check_address`.
    """
    try:
        addresses = list((resolve or system_addresses)(host, port))
    except (OSError, UnicodeError):
        return
    for address in addresses:
        check_address(address, host=host)


def check_url(url: str) -> None:
    """Raise unless connections to all addresses of the host in *url* are permitted.

    Raises:
        ForbiddenDestination: As `check_address`.
    """
    if host := _host_of(url):
        check_host(host)


def check_literal(url: str) -> None:
    """Raise if the host in *url* is written as an address that is not permitted; resolves nothing.

    Raises:
        ForbiddenDestination: As `check_address`.
    """
    if host := _host_of(url):
        # Full stops and digits of other scripts, which IDNA makes ASCII. (RFC 3490, 3.1)
        host = unicodedata.normalize("NFKC", host).replace("\u3002", ".")
        # Also `2852039166` and `0xA9.0xFE.1`, which the system's resolver reads as numbers.
        with contextlib.suppress(OSError, UnicodeError):
            host = socket.inet_ntoa(socket.inet_aton(host))
        check_address(host)


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # An unfinished IPv6 address.
        return None


def system_addresses(host: str, port: int | None) -> list[str]:
    """Return the addresses of *host* by the system's resolver, in its order.

    Raises:
        OSError: It has none.
    """
    found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _meanings(address: IpAddress) -> list[IpAddress]:
    """Return the address and the IPv4 addresses that gateways make of it."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    inner = [address.ipv4_mapped, address.sixtofour]
    if address.teredo:
        inner += address.teredo
    if any(address in each for each in _WITH_IPV4):
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return [address, *(each for each in inner if each is not None)]
