"""Login to cameras over HTTP: Basic and Digest, whichever the camera demands at the moment."""

import hashlib
import re
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

import httpx

_STRENGTH: Final = ("MD5", "SHA", "SHA-256", "SHA-512-256", "SHA-512")
"""Digest algorithms, the preferred one last."""

_CHALLENGE: Final = re.compile(r"(?:^|,)\s*(?P<scheme>[A-Za-z]+)(?=\s+[\w-]+\s*=|\s*(?:,|$))")
_FIELD: Final = re.compile(r"([\w-]+)\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^\s,]+)")


class UnsupportedLogin(Exception):  # noqa: N818  states a fact
    """The camera demands a login of a kind that is not known here; the message says which."""


class CameraLogin(httpx.Auth):
    """Answers the challenges of a camera, and keeps the last answer for further requests.

    A camera may demand another scheme, algorithm or nonce at any time: whenever it refuses the kept
    answer, its new challenge is answered, once per request.

    Raises:
        UnsupportedLogin: While a request is sent: no challenge can be answered.
    """

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password
        self._kept: httpx.Auth | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send *request* with the kept answer, and once more if a challenge comes back."""
        if self._kept is not None:
            request = next(self._kept.auth_flow(request))
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        challenges = list(_challenges(response.headers.get_list("www-authenticate")))
        if not challenges:
            return
        request.headers.pop("Authorization", None)
        digests = [fields for scheme, fields in challenges if scheme == "digest"]
        known = [fields for fields in digests if _is_known(fields)]
        if known:
            digest = _Digest(self._user, self._password)
            flow = digest.auth_flow(request)
            next(flow)
            challenge = _header(max(known, key=_strength))
            self._kept = digest
            yield flow.send(httpx.Response(401, headers=challenge, request=request))
        elif any(scheme == "basic" for scheme, _ in challenges):
            self._kept = httpx.BasicAuth(self._user, self._password)
            yield next(self._kept.auth_flow(request))
        else:
            self._kept = None
            raise UnsupportedLogin(_described(challenges))


def _sha512_256(data: bytes) -> Any:
    return hashlib.new("sha512_256", data)


class _Digest(httpx.DigestAuth):
    """httpx's Digest with the one algorithm of RFC 7616 that it lacks."""

    _ALGORITHM_TO_HASH_FUNCTION: dict[str, Callable[[bytes], Any]] = {  # noqa: RUF012  as in httpx
        **httpx.DigestAuth._ALGORITHM_TO_HASH_FUNCTION,  # noqa: SLF001  there is no other way
        "SHA-512-256": _sha512_256,
        "SHA-512-256-SESS": _sha512_256,
    }


def _challenges(headers: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield scheme and fields of each challenge; one header may hold several."""
    for header in headers:
        found = list(_CHALLENGE.finditer(header))
        for each, following in zip(found, [*found[1:], None], strict=True):
            text = header[each.end() : following.start() if following else None]
            fields = {name.lower(): value.strip('"') for name, value in _FIELD.findall(text)}
            yield each["scheme"].lower(), fields


def _algorithm(fields: dict[str, str]) -> str:
    return fields.get("algorithm", "MD5").upper()


def _strength(fields: dict[str, str]) -> int:
    return _STRENGTH.index(_algorithm(fields).removesuffix("-SESS"))


def _is_known(fields: dict[str, str]) -> bool:
    kinds = re.split(r"[\s,]+", fields.get("qop", "auth").lower())
    algorithm = _algorithm(fields).removesuffix("-SESS")
    return {"realm", "nonce"} <= set(fields) and "auth" in kinds and algorithm in _STRENGTH


def _header(fields: dict[str, str]) -> dict[str, str]:
    """Return the challenge as httpx reads it: with known fields only, in its own spelling."""
    known: dict[str, str] = {
        name: fields[name] for name in ("realm", "nonce", "opaque") if name in fields
    }
    if "qop" in fields:
        known["qop"] = "auth"
    if "algorithm" in fields:
        known["algorithm"] = _algorithm(fields)
    text = ", ".join(f'{name}="{value}"' for name, value in known.items())
    return {"www-authenticate": f"Digest {text}"}


def _described(challenges: list[tuple[str, dict[str, str]]]) -> str:
    names = []
    for scheme, fields in challenges:
        details = [fields[name] for name in ("algorithm", "qop") if name in fields]
        names.append(" ".join([scheme[:20].title(), *(f"{text[:20]!r}" for text in details)]))
    return f"the camera demands a login that is not known here ({', '.join(names)})"
