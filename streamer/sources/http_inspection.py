"""Asks an HTTP server what it serves when FFmpeg could not read it: the second opinion.

FFmpeg does not follow redirects here, because they may lead to where it is not permitted. It reads
no motion JPEG whose first boundary is missing, and gives one error for everything else.
"""

from dataclasses import dataclass, replace

import httpx

from streamer.core.clock import CancelToken
from streamer.core.errors import ForbiddenDestination, SourceFault

from .address import resolve_credentials
from .ffmpeg_errors import source_error
from .http_fetch import Fetched, HttpFetcher, TooLarge, same_host, tls_context
from .http_login import CameraLogin, UnsupportedLogin
from .jpeg_stream import begins_jpeg
from .options import VideoOptions


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an HTTP server serves."""

    address: str
    """Where redirects lead; the address that was requested if there are none."""

    options: VideoOptions
    """With credentials only if *address* is on the same host."""

    is_jpeg: bool
    """Whether it is a series of JPEGs, however they are separated."""


def inspect(
    address: str, options: VideoOptions, *, live: bool, cancel: CancelToken
) -> Inspection | None:
    """Request the beginning of what an HTTP address serves; `None` if that fails.

    Raises:
        SourceError: It is a page of text, or it leads to an address that is not permitted.
        Cancelled: *cancel* was set.
    """
    bare, user, password = resolve_credentials(
        address, user=options.user, password=options.password
    )
    try:
        with HttpFetcher(
            bare,
            login=CameraLogin(user or "", password or "") if user or password else None,
            timeout_s=options.timeout_s,
            tls=tls_context(verify=options.tls_verify, ca_file=options.ca_file),
            allow_link_local=options.allow_link_local,
            cancel=cancel,
        ) as fetcher:
            fetched = fetcher.fetch(is_enough=lambda _response, body: len(body) >= _ENOUGH)
    except ForbiddenDestination as error:
        raise source_error(
            SourceFault.REFUSED, address=address, live=live, detail=f"refused: {error}"
        ) from None
    except (OSError, httpx.HTTPError, httpx.InvalidURL, UnsupportedLogin, TooLarge):
        return None
    if fetched.content_type == "text/html":
        raise source_error(
            SourceFault.DAMAGED,
            address=address,
            live=live,
            detail="damaged: the server answered with text/html, no video; is the path right, and"
            " does the camera need a login?",
        )
    return _inspection(address, bare, fetched, replace(options, user=user, password=password))


_ENOUGH = 1024
"""Bytes: the headers of a part and the beginning of its image."""


def _inspection(address: str, bare: str, fetched: Fetched, options: VideoOptions) -> Inspection:
    is_jpeg = begins_jpeg(fetched.body)
    requested, found = httpx.URL(bare), httpx.URL(fetched.url)
    if requested == found:
        return Inspection(address, options, is_jpeg)
    if not same_host(requested, found):
        options = replace(options, user=None, password=None)
    return Inspection(fetched.url, options, is_jpeg)
