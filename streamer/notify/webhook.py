"""Webhook: one HTTP POST per notification, signed, with or without an image.

The README of this folder describes the contract with the receiver. `retry.py` decides when a failed
attempt is repeated.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import mimetypes
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Self
from urllib.parse import quote

import httpx

from streamer import __version__

from .channel import DeliveryFailed, Notification
from .network_errors import network_reason

# httpx logs the address of each request, and such addresses hold tokens.
logging.getLogger("httpx").setLevel(logging.WARNING)

KEY_HEADER: Final = "Idempotency-Key"
ATTEMPT_HEADER: Final = "Streamer-Attempt"
TIMESTAMP_HEADER: Final = "Streamer-Timestamp"
SIGNATURE_HEADER: Final = "Streamer-Signature"

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
        secret: Key of the signature; `None` sends no signature.
        headers: Further headers, e.g. `Authorization`; never shown.
        include_image: Whether the image is sent.
        timeout_s: Longest time for an attempt, from name resolution to the response.
        tls: TLS settings; by default those of the system with its trusted authorities.

    Raises:
        ValueError: The URL is not an HTTP URL.
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
        self._headers = dict(headers or {})
        self._include_image = include_image
        self._timeout_s = timeout_s
        self._tls = tls or httpx.create_ssl_context()

    def deliver(self, notification: Notification) -> None:
        """Post once. A status 2xx is the acknowledgement.

        Raises:
            DeliveryFailed: No response in time, or another status.
        """
        # asyncio, because its timeout covers the whole attempt. Socket timeouts restart with each
        # byte, so a receiver that sends a byte now and then would block for ever.
        try:
            asyncio.run(self._deliver(notification))
        except (TimeoutError, httpx.TimeoutException):
            raise DeliveryFailed(f"{self._host}: no answer within {self._timeout_s:g} s") from None
        except (httpx.TransportError, OSError) as error:
            raise DeliveryFailed(f"{self._host}: {_reason(error)}") from None

    async def _deliver(self, notification: Notification) -> None:
        image = notification.read_image() if self._include_image else None
        async with (
            asyncio.timeout(self._timeout_s),
            # Redirects are not followed: they could send secrets and alarms to another host.
            httpx.AsyncClient(verify=self._tls, timeout=self._timeout_s) as client,
        ):
            response = await self._post(client, notification, image)
            if image is not None and response.status_code in _IMAGE_REFUSED:
                response = await self._post(client, notification, None)
        _raise_unless_acknowledged(response, host=self._host)

    async def _post(
        self, client: httpx.AsyncClient, notification: Notification, image: bytes | None
    ) -> httpx.Response:
        event = json.dumps(notification.payload(), ensure_ascii=False).encode()
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
        request.headers[KEY_HEADER] = quote(notification.key, safe=":/+@")
        request.headers[ATTEMPT_HEADER] = str(notification.attempt)
        if self._secret is not None:
            timestamp = str(int(time.time()))
            request.headers[TIMESTAMP_HEADER] = timestamp
            request.headers[SIGNATURE_HEADER] = signature(
                request.read(), secret=self._secret, timestamp=timestamp
            )
        response = await client.send(request, stream=True)
        await response.aclose()  # The body is not needed.
        return response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is no connection between attempts."""


def signature(body: bytes, *, secret: str, timestamp: str) -> str:
    """Return the value of the signature header: HMAC-SHA256 of `<timestamp>.<body>`."""
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


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
