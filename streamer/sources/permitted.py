"""Refuses addresses of videos that lead where the configuration does not allow, before FFmpeg asks.

FFmpeg resolves the name again, and follows redirects of RTSP and the entries of HLS playlists by
itself: this check is of the address that was configured, and of redirects over HTTP.
"""

import time
from concurrent.futures import wait
from typing import Final

from streamer.core.clock import CancelToken
from streamer.core.destinations import check_host, system_addresses
from streamer.core.errors import Cancelled, ForbiddenDestination, SourceFault
from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls

from .address import host_of
from .ffmpeg_errors import source_error
from .options import VideoOptions

_RESOLVER: Final = UninterruptibleCalls("video-names", limit=64)

_POLL_S: Final = 0.1
"""How often the wait checks the token, as FFmpeg does."""


def check_permitted(
    address: str, options: VideoOptions, *, live: bool, cancel: CancelToken
) -> None:
    """Raise if *address* leads to an address that is not permitted. Resolves its host name.

    FFmpeg resolves the name again, but cannot be interrupted while it does; so a resolver that does
    not answer is noticed here, even if every address is permitted.

    Raises:
        SourceError: It does, or its name was not resolved in time.
        Cancelled: *cancel* was set.
    """
    host = host_of(address)
    if not host:
        return
    check = system_addresses if options.allow_link_local else check_host
    try:
        future = _RESOLVER.submit(lambda: check(host, None))
        until_s = time.monotonic() + options.timeout_s
        while not (future.done() or cancel.is_set()) and time.monotonic() < until_s:
            wait([future], timeout=_POLL_S)
        if cancel.is_set():
            raise Cancelled
        future.result(0)
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
    except (OSError, UnicodeError):
        pass  # FFmpeg's error says it better.
