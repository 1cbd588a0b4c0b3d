"""Refuses addresses of videos that lead where the configuration does not allow, before FFmpeg asks.

FFmpeg resolves the name again, and follows redirects of RTSP and the entries of HLS playlists by
itself: this check is of the address that was configured, and of redirects over HTTP.
"""

from typing import Final

from streamer.core.destinations import check_host
from streamer.core.errors import ForbiddenDestination, SourceFault
from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls

from .address import host_of
from .ffmpeg_errors import source_error
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
