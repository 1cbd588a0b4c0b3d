"""Webhook: one HTTP POST per notice, signed, with or without an image.

The contract with the receiver is in this folder's README.
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
from types import TracebackType
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

_MENDABLE: Final = frozenset({401, 402, 403, 404, 407, 408, 409, 421, 423, 424, 425, 429})
"""Client errors that lie with the moment or with how the receiver is set up, not with the notice.
The others in 400 to 499 say that this very notice will never be accepted."""

_IMAGE_UNWANTED: Final = frozenset({413, 415})
"""Too large, or not of a kind it takes: the alarm goes without its image, in the same attempt."""


class WebhookChannel:
    """Posts notices to one address.

    Args:
        name: As in the configuration.
        url: Whom to tell. It may hold a user, a password or a token: only its host is shown.
        secret: Signs each message; without, there is no signature.
        headers: Further headers, e.g. `Authorization`; never shown.
        include_image: Whether the image is sent.
        timeout_s: Longest time for an attempt, from the look-up of the name to the answer.
        tls: Whom to trust; by default the usual authorities.

    Raises:
        ValueError: The URL is not one of a web server.
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
            raise ValueError(f"channel {name!r}: the URL cannot be understood") from None
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

    def deliver(self, notice: Notification) -> None:
        """Post once. The status line of a success is the acknowledgement.

        Raises:
            DeliveryFailed: No answer in time, or one that is no success.
        """
        # An event loop for each attempt: only there does a limit hold for the attempt as a whole.
        # A receiver that sends a byte now and then would keep a plain socket waiting for ever.
        try:
            asyncio.run(self._deliver(notice))
        except (TimeoutError, httpx.TimeoutException):
            raise DeliveryFailed(f"{self._host}: no answer within {self._timeout_s:g} s") from None
        except (httpx.TransportError, OSError) as error:
            raise DeliveryFailed(f"{self._host}: {_reason(error)}") from None

    async def _deliver(self, notice: Notification) -> None:
        image = notice.read_image() if self._include_image else None
        async with (
            asyncio.timeout(self._timeout_s),
            # It follows no redirects: they could carry secrets and alarms to strangers.
            httpx.AsyncClient(verify=self._tls, timeout=self._timeout_s) as client,
        ):
            answer = await self._post(client, notice, image)
            if image is not None and answer.status_code in _IMAGE_UNWANTED:
                answer = await self._post(client, notice, None)
        _judge(answer, host=self._host)

    async def _post(
        self, client: httpx.AsyncClient, notice: Notification, image: bytes | None
    ) -> httpx.Response:
        event = json.dumps(notice.event.as_json(), ensure_ascii=False).encode()
        if image is None:
            request = client.build_request("POST", self._url, content=event, headers=self._headers)
            request.headers["Content-Type"] = "application/json"
        else:
            assert notice.image is not None, "its bytes were read"
            kind = mimetypes.guess_type(notice.image.name)[0] or "application/octet-stream"
            request = client.build_request(
                "POST",
                self._url,
                headers=self._headers,
                files={
                    "event": (None, event, "application/json"),
                    "image": (notice.image.name, image, kind),
                },
            )
        request.headers["User-Agent"] = f"streamer/{__version__}"
        request.headers[KEY_HEADER] = quote(notice.key, safe=":/+@")
        request.headers[ATTEMPT_HEADER] = str(notice.attempt)
        if self._secret is not None:
            timestamp = str(int(time.time()))
            request.headers[TIMESTAMP_HEADER] = timestamp
            request.headers[SIGNATURE_HEADER] = signature(
                request.read(), secret=self._secret, timestamp=timestamp
            )
        answer = await client.send(request, stream=True)
        await answer.aclose()  # Nobody reads the body: the status line says it all.
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is kept between attempts."""


def signature(body: bytes, *, secret: str, timestamp: str) -> str:
    """What the signature header says: HMAC-SHA256 of `<timestamp>.<body>`."""
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _judge(answer: httpx.Response, *, host: str) -> None:
    if answer.is_success:
        return
    code = answer.status_code
    message = f"{host}: answered {code} {httpx.codes.get_reason_phrase(code)}".rstrip()
    if answer.is_redirect:
        message += ": it has moved; configure its new address"
    elif code in {401, 403, 407}:
        message += ": check the password or token"
    elif code == httpx.codes.NOT_FOUND:
        message += ": check the address"
    raise DeliveryFailed(
        message,
        permanent=answer.is_client_error and code not in _MENDABLE,
        retry_after_s=_retry_after_s(answer.headers.get("Retry-After")),
    )


def _retry_after_s(value: str | None) -> float | None:
    """Seconds asked for by a Retry-After header, in either of its two forms."""
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
