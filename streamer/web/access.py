"""Who may ask: the access token, the names under which the server is reached, and other sites.

A page of another site must neither read images nor reach this server under a name that the other
site's owner points here (DNS rebinding). Requests for an IP address cannot be rebound.
"""

import hmac
import ipaddress
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers

_OTHER_SITES: Final = ("cross-site", "same-site")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered."""

    status: HTTPStatus
    reason: str


class Access:
    """Decides on requests before they reach a route.

    Args:
        token: Access token; `None` disables authentication.
        host: Address that the server listens on.
        allowed_hosts: Other names under which clients reach it, e.g. behind a proxy; their pages
            may show the images.
    """

    def __init__(
        self, token: str | None, *, host: str, allowed_hosts: Collection[str] = ()
    ) -> None:
        self._token = token
        self._allowed = frozenset(map(str.lower, allowed_hosts))
        here = socket.gethostname().lower()
        self._names = {host.lower(), "localhost", here, f"{here}.local"} | self._allowed

    def __repr__(self) -> str:
        return f"<Access token {'off' if self._token is None else 'set'}>"

    def refusal(self, query: bytes, headers: Headers, *, public: bool) -> Refusal | None:
        """Return why the request is refused; `None` if it is not.

        Args:
            query: Query string.
            headers: Of the request.
            public: Whether everybody may have the answer: then the token is not needed.
        """
        if not self._is_here(headers.get("host", "")):
            reason = "unknown host name: add it to preview.allowed_hosts, or use the IP address"
            return Refusal(HTTPStatus.BAD_REQUEST, reason)
        if self._is_foreign(headers):
            return Refusal(HTTPStatus.FORBIDDEN, "not for pages of another site")
        if not (public or self._has_token(query, headers)):
            return Refusal(HTTPStatus.UNAUTHORIZED, "token missing or wrong")
        return None

    def _has_token(self, query: bytes, headers: Mapping[str, str]) -> bool:
        """Whether a request carries the token, as `?token=` or `Authorization: Bearer`."""
        if self._token is None:
            return True
        given = parse_qs(query.decode("latin-1")).get("token", [""])[0]
        sent = given or headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(sent.encode(), self._token.encode())

    def _is_here(self, host: str) -> bool:
        name = _host_name(host)
        return name in self._names or name.endswith(".localhost") or _is_address(name)

    def _is_foreign(self, headers: Mapping[str, str]) -> bool:
        """Whether a page of another site asks for a part of itself; links to here are none."""
        origin = headers.get("origin")
        if origin is not None:
            here = headers.get("host", "").lower()
            there = origin.lower().partition("://")[2]
            return there != here and _host_name(there) not in self._allowed
        navigates = headers.get("sec-fetch-mode") == "navigate"
        return headers.get("sec-fetch-site") in _OTHER_SITES and not navigates


def _host_name(host: str) -> str:
    """Return the name or address of a `Host` header, without port and brackets, or nothing."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
