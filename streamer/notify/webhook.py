"""Webhook: one HTTP POST per notification, signed, with or without an image.

The README of this folder describes the contract with the receiver. `retry.py` decides when a failed
attempt is repeated.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
import mimetypes
import ssl
import time
import urllib.request
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import httpx

from streamer import __version__
from streamer.core.destinations import check_literal
from streamer.core.errors import ForbiddenDestination

from .channel import DeliveryFailed, Notification
from .event_loop import run_within
from .network_errors import network_reason

# httpx logs the address of each request, and such addresses hold tokens.
logging.getLogger("httpx").setLevel(logging.WARNING)

ID_HEADER: Final = "Webhook-Id"
TIMESTAMP_HEADER: Final = "Webhook-Timestamp"
SIGNATURE_HEADER: Final = "Webhook-Signature"
"""Names of Standard Webhooks, https://www.standardwebhooks.com."""

KEY_HEADER: Final = "Idempotency-Key"
ATTEMPT_HEADER: Final = "Streamer-Attempt"

OLD_TIMESTAMP_HEADER: Final = "Streamer-Timestamp"
OLD_SIGNATURE_HEADER: Final = "Streamer-Signature"
"""Signature of version 0.1, sent beside the standard one until 0.3."""

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  the mark of a secret, not a secret

_RETRIABLE: Final = frozenset({401, 402, 403, 404, 407, 408, 409, 421, 423, 424, 425, 429})
"""Client errors that are temporary or due to the configuration of the receiver. All others from 400
to 499 mean that this notification will never be accepted."""

_IMAGE_REFUSED: Final = frozenset({413, 415})
"""Image too large or of an unsupported type: the event is sent without it, in the same attempt."""


class WebhookChannel:
    """Posts notifications to one URL.

    Args:
        name: Name in the configuration.
        url: URL of the receiver. It may hold a user, a password or a token: only its host is shown.
        secret: Key of the signature: `whsec_` and base64, or any text; `None` sends no signature.
        headers: Further headers, e.g. `Authorization`; never shown.
        include_image: Whether the image is sent.
        timeout_s: Longest time for an attempt, from name resolution to the response.
        tls: TLS settings; by default those of the system with its trusted authorities.
        allow_link_local: Whether link-local and metadata addresses may be reached.

    Raises:
        ValueError: The URL is not an HTTP URL, or the secret is not what its prefix says.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str,
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
        include_image: bool = True,
        timeout_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
        allow_link_local: bool = False,
    ) -> None:
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL:
            raise ValueError(f"channel {name!r}: the URL is not valid") from None
        if parts.scheme not in {"http", "https"} or not parts.host:
            raise ValueError(f"channel {name!r}: the URL must begin with http:// or https://")
        self.name = name
        self._url = url
        self._host = parts.host
        self._secret = secret
        try:
            self._key = None if secret is None else signing_key(secret)
        except ValueError as error:
            raise ValueError(f"channel {name!r}: {error}") from None
        self._headers = dict(headers or {})
        self._include_image = include_image
        self._timeout_s = timeout_s
        self._allow_link_local = allow_link_local
        self._tls = tls or httpx.create_ssl_context()

    def deliver(self, notification: Notification) -> None:
        """Post once. A status 2xx is the acknowledgement.

        Raises:
            DeliveryFailed: No response in time, or another status.
        """
        image = notification.read_image() if self._include_image else None
        # asyncio, because its timeout covers the whole attempt. Socket timeouts restart with each
        # byte, so a receiver that sends a byte now and then would block for ever.
        self._run(lambda: self._deliver(notification, image))

    def check(self) -> bool:
        """Connect to the receiver, encrypted if its URL is, and send nothing.

        No request is made, not even HEAD: some receivers act upon any request, or lock out who
        sends one that they do not know. A proxy of the environment is all that is reached.

        Raises:
            DeliveryFailed: There is no connection, and why.
        """
        self._run(self._connect)
        return True

    def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            if not self._allow_link_local:
                check_literal(self._url)
            run_within(work, timeout_s=self._timeout_s, allow_link_local=self._allow_link_local)
        except ForbiddenDestination as error:
            raise DeliveryFailed(str(error)) from None
        except (TimeoutError, httpx.TimeoutException):
            raise DeliveryFailed(f"{self._host}: no answer within {self._timeout_s:g} s") from None
        except (httpx.TransportError, OSError) as error:
            raise DeliveryFailed(f"{self._host}: {_reason(error)}") from None

    async def _connect(self) -> None:
        parts = urlsplit(self._url)
        tls = self._tls if parts.scheme == "https" else None
        host, port = self._host, parts.port or (443 if tls else 80)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not urllib.request.proxy_bypass(host):
            found = urlsplit(proxy)
            host, port, tls = found.hostname or host, found.port or 80, None
        _, writer = await asyncio.open_connection(host, port, ssl=tls)
        writer.close()

    async def _deliver(self, notification: Notification, image: bytes | None) -> None:
        # Redirects are not followed: they could send secrets and alarms to another host.
        async with httpx.AsyncClient(verify=self._tls, timeout=self._timeout_s) as client:
            try:
                response = await self._post(client, notification, image)
                refused = response.status_code in _IMAGE_REFUSED
            except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
                if image is None:
                    raise
                refused = True  # Some close the connection as soon as a body is too large for them.
            if image is not None and refused:
                response = await self._post(client, notification, None)
        _raise_unless_acknowledged(response, host=self._host)

    async def _post(
        self, client: httpx.AsyncClient, notification: Notification, image: bytes | None
    ) -> httpx.Response:
        event = json.dumps(notification.payload, ensure_ascii=False).encode()
        if image is None:
            request = client.build_request("POST", self._url, content=event, headers=self._headers)
            request.headers["Content-Type"] = "application/json"
        else:
            assert notification.image is not None, "its bytes were read"
            kind = mimetypes.guess_type(notification.image.name)[0] or "application/octet-stream"
            request = client.build_request(
                "POST",
                self._url,
                headers=self._headers,
                files={
                    "event": (None, event, "application/json"),
                    "image": (notification.image.name, image, kind),
                },
            )
        request.headers["User-Agent"] = f"streamer/{__version__}"
        self._identify(request, notification)
        response = await client.send(request, stream=True)
        await response.aclose()  # The body is not needed.
        return response

    def _identify(self, request: httpx.Request, notification: Notification) -> None:
        """Add key, attempt and signature."""
        # A full stop separates the parts of what is signed.
        key = quote(notification.key, safe=":/+@").replace(".", "%2E")
        timestamp = str(int(time.time()))
        request.headers[ID_HEADER] = request.headers[KEY_HEADER] = key
        request.headers[ATTEMPT_HEADER] = str(notification.attempt)
        request.headers[TIMESTAMP_HEADER] = timestamp
        if self._key is None or self._secret is None:
            return
        body = request.read()
        request.headers[SIGNATURE_HEADER] = signature(
            body, key=self._key, message_id=key, timestamp=timestamp
        )
        request.headers[OLD_TIMESTAMP_HEADER] = timestamp
        signed = timestamp.encode() + b"." + body
        digest = hmac.new(self._secret.encode(), signed, hashlib.sha256).hexdigest()
        request.headers[OLD_SIGNATURE_HEADER] = f"sha256={digest}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is no connection between attempts."""


def signing_key(secret: str) -> bytes:
    """Return the bytes of a secret: base64 behind `whsec_`, else the text itself.

    Raises:
        ValueError: What stands behind `whsec_` is not base64.
    """
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("the secret is not base64 behind 'whsec_'") from None


def signature(body: bytes, *, key: bytes, message_id: str, timestamp: str) -> str:
    """Return the value of the signature header by Standard Webhooks, version `v1`.

    It is the HMAC-SHA256 of `<id>.<timestamp>.<body>` in base64.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _raise_unless_acknowledged(response: httpx.Response, *, host: str) -> None:
    if response.is_success:
        return
    code = response.status_code
    message = f"{host}: answered {code} {httpx.codes.get_reason_phrase(code)}".rstrip()
    if response.is_redirect:
        message += ": it has moved; configure its new address"
    elif code in {401, 403, 407}:
        message += ": check the password or token"
    elif code == httpx.codes.NOT_FOUND:
        message += ": check the address"
    raise DeliveryFailed(
        message,
        permanent=response.is_client_error and code not in _RETRIABLE,
        retry_after_s=_retry_after_s(response.headers.get("Retry-After")),
    )


def _retry_after_s(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header requests, in either of its two forms."""
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _reason(error: BaseException) -> str:
    match error:
        case httpx.RemoteProtocolError():
            return "closed the connection without an answer"
        case httpx.LocalProtocolError():
            return "a configured header is not valid"
        case _:
            return network_reason(error) or f"no connection ({type(error).__name__})"
