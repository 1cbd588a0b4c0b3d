"""Refuses addresses of videos that lead where the configuration does not allow, before FFmpeg asks.

FFmpeg resolves the name again, and follows redirects of RTSP and the entries of HLS playlists by
itself: this check is of the address that was configured, and of redirects over HTTP.
"""

from dataclasses import replace
from typing import Final

import httpx

from streamer.core.clock import CancelToken
from streamer.core.destinations import check_host
from streamer.core.errors import ForbiddenDestination, SourceFault
from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls

from .address import host_of, resolve_credentials
from .ffmpeg_errors import source_error
from .http_fetch import HttpFetcher, TooLarge, same_host, tls_context
from .http_login import CameraLogin, UnsupportedLogin
from .options import VideoOptions

_RESOLVER: Final = UninterruptibleCalls("video-names", limit=64)


def check_permitted(address: str, options: VideoOptions, *, live: bool) -> None:
    """Raise if *address* leads to an address that is not permitted. Resolves its host name.

    Raises:
        SourceError: It does, or its name was not resolved in time.
    """
    host = host_of(address)
    if options.allow_link_local or not host:
        return
    try:
        _RESOLVER.call(lambda: check_host(host), timeout_s=options.timeout_s)
    except ForbiddenDestination as error:
        raise source_error(
            SourceFault.REFUSED, address=address, live=live, detail=f"refused: {error}"
        ) from None
    except (TimeoutError, TooManyCalls):
        raise source_error(
            SourceFault.NO_ROUTE,
            address=address,
            live=live,
            detail=f"no route: the host name was not resolved within {options.timeout_s:g} s",
        ) from None


def followed(
    address: str, options: VideoOptions, *, live: bool, cancel: CancelToken
) -> tuple[str, VideoOptions]:
    """Return where redirects of an HTTP address lead, and the options for it.

    The address is the same if there is no redirect. Credentials go along only to the same host.

    Raises:
        SourceError: A redirect leads to an address that is not permitted.
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
            url = fetcher.fetch(is_enough=lambda _response, _body: True).url
    except ForbiddenDestination as error:
        raise source_error(
            SourceFault.REFUSED, address=address, live=live, detail=f"refused: {error}"
        ) from None
    except (OSError, httpx.HTTPError, httpx.InvalidURL, UnsupportedLogin, TooLarge):
        return address, options  # The error of FFmpeg stands.
    if httpx.URL(url) == httpx.URL(bare):
        return address, options
    if same_host(httpx.URL(bare), httpx.URL(url)):
        return url, replace(options, user=user, password=password)
    return url, replace(options, user=None, password=None)
