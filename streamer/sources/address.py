"""Addresses of sources: their kind and their credentials."""

import enum
import re
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

_URL: Final = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


class SourceKind(enum.Enum):
    """What an address leads to, which decides how it is read."""

    FILE = "file"
    FOLDER = "folder"
    """A folder of images."""

    DEVICE = "device"
    """A camera of this machine (V4L2)."""

    RTSP = "rtsp"
    """RTSP or RTSPS."""

    HTTP = "http"
    """A stream over HTTP or HTTPS: HLS, MPEG-TS, MJPEG."""

    SNAPSHOT = "snapshot"
    """A JPEG over HTTP or HTTPS that is requested repeatedly."""

    STREAM = "stream"
    """Another protocol that FFmpeg supports: SRT, RTMP, UDP, ..."""

    PATTERN = "pattern"
    """The moving test pattern."""

    @property
    def live(self) -> bool:
        """Whether its frames arrive in real time, so that its end is a lost connection."""
        return self not in (SourceKind.FILE, SourceKind.FOLDER, SourceKind.PATTERN)

    @property
    def network(self) -> bool:
        """Whether it is reached over a network."""
        return self in (SourceKind.RTSP, SourceKind.HTTP, SourceKind.SNAPSHOT, SourceKind.STREAM)


_SCHEMES: Final = {
    "rtsp": SourceKind.RTSP,
    "rtsps": SourceKind.RTSP,
    "http": SourceKind.HTTP,
    "https": SourceKind.HTTP,
    "file": SourceKind.FILE,
    "pattern": SourceKind.PATTERN,
}

_HTTP_NAMES: Final = (
    (SourceKind.HTTP, re.compile(r"\.(?:m3u8|mpd|ts|mp4|flv|mkv|webm|mjpe?g|h26[45])(?=[?/])")),
    (
        SourceKind.SNAPSHOT,
        re.compile(
            r"snap|still|getimage|(?<!m)jpe?g(?=[./?])|/images?(?=[./?])|/pict(?:ure)(?=[/?])"
        ),
    ),
    (SourceKind.HTTP, re.compile(r"video|stream|mjpe?g|/live|/hls")),
)
"""Words of cameras' paths and parameters; the first that is found counts."""


def kind_of(address: str) -> SourceKind:
    """Return the kind of an address. Checks whether a plain path is a folder; opens nothing."""
    if address == "pattern" or address.startswith("pattern:"):
        return SourceKind.PATTERN
    found = _URL.match(address)
    if found:
        kind = _SCHEMES.get(found[1].lower(), SourceKind.STREAM)
        return _http_kind(address) or kind if kind is SourceKind.HTTP else kind
    if address.startswith("/dev/video"):
        return SourceKind.DEVICE
    return SourceKind.FOLDER if Path(address).is_dir() else SourceKind.FILE


def says_kind(address: str) -> bool:
    """Whether the name of an HTTP address says if it serves a video or a snapshot."""
    return _http_kind(address) is not None


def _http_kind(address: str) -> SourceKind | None:
    """Return what the name of an HTTP address promises; `None` if only the server can tell."""
    try:
        parts = urlsplit(address)
    except ValueError:  # An unfinished IPv6 address.
        return None
    name = f"{parts.path}?{parts.query}".lower()
    for kind, pattern in _HTTP_NAMES:
        if pattern.search(name):
            return kind
    return None


def split_credentials(address: str) -> tuple[str, str | None, str | None]:
    """Separate user and password from a URL.

    A password may be plain or percent-encoded. One that contains a plain `/`, `?` or `#` is
    recognised if the text before that character cannot be a host and a port.

    Returns:
        The URL without credentials, the user and the password, decoded; `None` for a missing one.
    """
    found = _URL.match(address)
    if not found:
        return address, None, None
    scheme, rest = found[0], address[found.end() :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in authority:
        _, colon, port = authority.rpartition(":")
        plain_host = not colon or port.isdigit() or authority.endswith("]") or not port
        if plain_host or "@" not in rest:
            return address, None, None
        authority = rest.rpartition("@")[0] + "@"
    userinfo = authority.rpartition("@")[0]
    user, colon, password = userinfo.partition(":")
    bare = scheme + rest[len(userinfo) + 1 :]
    return bare, unquote(user), unquote(password) if colon else None


def resolve_credentials(
    address: str, *, user: str | None, password: str | None
) -> tuple[str, str | None, str | None]:
    """Return the URL without credentials, and the effective ones: arguments before the URL's own.

    Args:
        address: May contain credentials.
        user: `None` takes the one in the address.
        password: `None` takes the one in the address, if the user is taken from there too.

    Returns:
        The URL, the user and the password, decoded; `None` for a missing one.
    """
    bare, own_user, own_password = split_credentials(address)
    if user is not None:
        return bare, user, password
    return bare, own_user, own_password if password is None else password


def with_credentials(address: str, *, user: str | None, password: str | None) -> str:
    """Return the URL with user and password percent-encoded before the host, as FFmpeg reads it.

    Arguments as in `resolve_credentials`.
    """
    found = _URL.match(address)
    if not found:
        return address
    bare, user, password = resolve_credentials(address, user=user, password=password)
    if user is None and password is None:
        return address
    userinfo = quote(user or "", safe="")
    if password is not None:
        userinfo += ":" + quote(password, safe="")
    return f"{found[0]}{userinfo}@{bare[found.end() :]}"


def host_of(address: str) -> str | None:
    """Return the host in a URL, or `None`."""
    bare, _, _ = split_credentials(address)
    try:
        return urlsplit(bare).hostname
    except ValueError:  # An unfinished IPv6 address.
        return None
