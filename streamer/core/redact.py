"""Removing secrets from text that people read: logs, messages, results.

`redact_url` shows of an address only what an allow-list admits; `redact` does so for every URL in a
text, and removes credentials written as headers or as `password=...`. A `Redactor` also knows the
secrets of the configuration. All three are for text that comes from outside: addresses, errors,
messages of libraries. Our own values, such as names and ids, are not passed through them.
"""

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus, unquote

REDACTED: Final = "***"

_SHORTEST_SECRET: Final = 4
"""Characters. Shorter secrets would be found in half of all texts."""

# Quantifiers are bounded where a long text without spaces would take quadratic time otherwise.
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,30}://", re.IGNORECASE)
_URL_IN_TEXT: Final = re.compile(_SCHEME.pattern + r"[^\s\"'<>]+", re.IGNORECASE)
_END_OF_SENTENCE: Final = ".,;:!?)]}"

_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]*)(?::\d{1,5})?")
_ADDRESS: Final = re.compile(r"(?:\[[^]]*\]|\d{1,3}(?:\.\d{1,3}){3})(?::\d{1,5})?")
"""A host that cannot be the name of a user."""

_LOCAL_SCHEMES: Final = frozenset({"file"})
_KEY_SCHEMES: Final = frozenset({"rtmp", "rtmps", "rtmpt", "rtmpe", "rtmpte", "rtmpts"})
"""The last part of their paths is a stream key, which lets anybody publish."""

_KNOWN_WORDS: Final = frozenset(
    "access api audio av avc axis bin camera cameras cgi ch channel channels chn cif current dms"  # noqa: SIM905
    " feed flv get h hevc hi high hls http image img index input isapi jpeg jpg live low main"
    " media mjpeg mjpg mode mp mpeg mpg onvif p path photo play playlist png preview"
    " primary profile push quality rate realmonitor res resolution rtmp rtsp screen sdp secondary"
    " server service shot snap snapshot snapshots src still stream streaming streams sub subtype"
    " tmpfs track trackid true ts type unicast unsigned u v video videos view web webcam x".split()
)
"""Words of cameras' paths, which may stand beside digits: `ch0`, `h264`, `stream1`."""

_HARMLESS_NAMES: Final = frozenset(
    "action audio camera camid ch channel channelid chn codec compression count cmd date"  # noqa: SIM905
    " device dur fps frame framerate h height id image index latency mode mute profile"
    " proto protocol quality rate real_stream res resolution rotation seq size standard"
    " start stream streamtype subtype subtypes time timeout track trackid transport"
    " transportmode type unicast version video videocodec w width".split()
)
"""Query names whose values are shown, if these are words or small numbers."""

_MOST_UNKNOWN_WORDS: Final = 2
_MOST_RUNS: Final = 5
_SHORT_NUMBER: Final = 2
_MOST_PARTS: Final = 8
_LONG: Final = 8
"""Characters from which a hidden part of a path counts as a secret in any text."""

_RUN: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PLAIN_WORD: Final = re.compile(r"[A-Z]?[a-z]{1,12}|[A-Z]{1,8}")
_PLAIN_NUMBER: Final = re.compile(r"\d{1,4}")

_CREDENTIAL: Final = (
    r"[\w-]*(?:pass(?:wo?r?d|wd|phrase|code)?|loginpas|pwd|psw|pw|secret|token|auth|jwt|api_?key"
    r"|(?:auth|access|private|stream|secret|shared)_?-?key|sig(?:nature)?|credentials?|session"
    r"|sid|user(?:name)?|usr|login|loginuse)"
)
_ASSIGNED: Final = re.compile(
    rf"(?P<name>(?<![\w-]){_CREDENTIAL}=[\"']?|[\"']{_CREDENTIAL}[\"']\s*:\s*b?[\"'])"
    r"(?P<value>[^\s\"'&,;]+)",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(
    r"(?P<name>\b(?:proxy-)?authorization[\"']?\s*[:=,]\s*(?:b?[\"'])?)"
    r"(?:[^\"'\r\n]|(?:(?<==)|(?<==\\))\"[^\"\r\n]*\")+",  # Digest: name="value", ...
    re.IGNORECASE,
)
_LOGIN_IN_TEXT: Final = re.compile(r"(?<![\w@*.%+-])[\w.%+-]+:[^\s@/\"'<>]{1,512}@(?=[\w\[])")
"""User and password of an address without its scheme, or `http:/user:password@host`."""

_SCHEME_OF_LOGIN: Final = re.compile(
    r"(?P<name>\b(?:Bearer|Basic|Digest)\s+)(?=\S*[\d=._+/-])[\w=._~+/-]{8,}"
)
_USER_INFO: Final = re.compile(r"\A(?P<name>(?://)?)[^/\s@]*:.*@(?=[^@])", re.DOTALL)
_PATH_AND_QUERY: Final = re.compile(r"\A/[^?#@]*\?[^=@/?]*=")


def redact(text: str) -> str:
    """Return *text* with its URLs as `redact_url` shows them and without written credentials."""
    text = _URL_IN_TEXT.sub(_found_url, text)
    text = _LOGIN_IN_TEXT.sub(f"{REDACTED}@", text)
    text = _HEADER.sub(rf"\g<name>{REDACTED}", text)
    text = _SCHEME_OF_LOGIN.sub(rf"\g<name>{REDACTED}", text)
    return _ASSIGNED.sub(rf"\g<name>{REDACTED}", text)


def redact_url(address: str) -> str:
    """Return *address* with only what is certainly no secret: scheme, host, port, shape of path.

    User, password, fragment and unknown query values are replaced. So are parts of the path that
    are neither words nor small numbers, and the stream keys of RTMP. If a plain `@` or `/` makes it
    unclear where the password ends, only the scheme is left. Paths of files stay as they are.
    """
    found = _SCHEME.match(address)
    if not found:  # A path, or an address whose scheme was forgotten.
        return _USER_INFO.sub(rf"\g<name>{REDACTED}@", address, count=1)
    scheme, rest = found[0], address[found.end() :]
    if scheme[:-3].lower() in _LOCAL_SCHEMES:
        return address
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    shown = _shown_authority(authority, rest[len(authority) :])
    if shown is None:
        return scheme + REDACTED
    head, tail = shown
    tail, hash_sign, _ = tail.partition("#")
    path, question_mark, query = tail.partition("?")
    shown_path = _shown_path(path, last_is_key=scheme[:-3].lower() in _KEY_SCHEMES)
    fragment = hash_sign and f"#{REDACTED}"
    return f"{scheme}{head}{shown_path}{question_mark}{_shown_query(query)}{fragment}"


def secret_parts(url: str) -> set[str]:
    """Return the parts of *url* that must not be printed, and all of it; none if it has none."""
    found = _SCHEME.match(url)
    if not found or redact_url(url) == url:
        return set()
    authority, tail = re.match(r"([^/?#]*)(.*)", url[found.end() :], re.DOTALL).groups()  # type: ignore[union-attr]
    user_info = authority.rpartition("@")[0] or _before_stray_at(authority, tail)
    password = user_info.partition(":")[2]
    path, _, query = tail.partition("#")[0].partition("?")
    named = [pair.partition("=") for pair in re.split("[&;]", query)]
    values = [value for name, _, value in named if re.fullmatch(_CREDENTIAL, name, re.IGNORECASE)]
    parts = [part for part in path.split("/") if len(part) >= _LONG and not _is_harmless(part)]
    if found[0][:-3].lower() in _KEY_SCHEMES:
        parts.append(path.rpartition("/")[2])
    secrets = [password, *values, *parts]
    return {url, user_info, *secrets, *map(unquote, secrets)} - {"", REDACTED}


def all_parts(url: str) -> set[str]:
    """Return every word of *url* behind its scheme, as written and decoded.

    For addresses of which any part may be a secret.
    """
    written = re.split(r"[/:@?&=,#]+", url.partition("://")[2])
    return {*written, *map(unquote, written)} - {""}


class Redactor:
    """Removes known secrets from texts, and what `redact` removes.

    A secret is removed where it stands as a whole, not as a part of a longer word or name. Secrets
    shorter than four characters are removed only where `redact` finds them by their place.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {form for secret in secrets if len(secret) >= _SHORTEST_SECRET
                 for form in _written_forms(secret)}  # fmt: skip
        # The longest first, so that none is removed only in part.
        alternatives = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
        self._known = re.compile(rf"(?<![\w-])(?:{alternatives})(?![\w-])") if known else None

    def __call__(self, text: str) -> str:
        """Return *text* without the secrets."""
        text = redact(text)
        return self._known.sub(REDACTED, text) if self._known else text


def _written_forms(secret: str) -> set[str]:
    """Return *secret* as it stands in texts, URLs, JSON and Python's representations."""
    return {
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    }


def _found_url(found: re.Match[str]) -> str:
    url = found[0].rstrip(_END_OF_SENTENCE)
    if url.count("[") > url.count("]"):  # The bracket of an IPv6 address is no end of a sentence.
        url = found[0][: len(url) + 1]
    return redact_url(url) + found[0][len(url) :]


def _shown_authority(authority: str, tail: str) -> tuple[str, str] | None:
    """Return user info and host as shown, and what follows them; `None` if they are unclear."""
    user_info, at, host = authority.rpartition("@")
    if "@" in tail and not _PATH_AND_QUERY.match(tail):
        # `rtsp://user:554/x@host` may be a password with a slash, or a path with an `@`.
        if authority and not at and _HOST.fullmatch(authority) and not _names_a_user(authority):
            return authority, tail
        if at or _HOST.fullmatch(authority) or tail.count("@") > 1:
            return None
        after = tail.rpartition("@")[2]
        host = re.split(r"[/?#]", after, maxsplit=1)[0]
        tail, user_info, at = after[len(host) :], authority, "@"
    if not _HOST.fullmatch(host):
        return None
    return f"{user_info and REDACTED}{at}{host}", tail


def _names_a_user(authority: str) -> bool:
    """Whether an authority that looks like host and port may be a user and a password."""
    return ":" in authority and not _ADDRESS.fullmatch(authority)


def _before_stray_at(authority: str, tail: str) -> str:
    before, at, _ = tail.rpartition("@")
    return authority + before if at and _names_a_user(authority) else ""


def _shown_path(path: str, *, last_is_key: bool) -> str:
    parts = path.split("/")
    shown = [part if not part or _is_harmless(part) else REDACTED for part in parts[:_MOST_PARTS]]
    if len(parts) > _MOST_PARTS:
        shown.append(REDACTED)
    if last_is_key and len(parts) > 1 and parts[-1]:
        shown[-1] = REDACTED
    return "/".join(shown)


def _shown_query(query: str) -> str:
    return re.sub(r"[^&;]+", lambda found: _shown_pair(found[0]), query)


def _shown_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not equals:
        return name if name.lower() in _HARMLESS_NAMES else REDACTED
    known = name.lower() in _HARMLESS_NAMES and _is_harmless(value)
    is_name = re.fullmatch(_CREDENTIAL, name, re.IGNORECASE) or _is_harmless(name)
    return f"{name if is_name else REDACTED}={value if known or not value else REDACTED}"


def _is_harmless(part: str) -> bool:
    """Whether *part* is made of words and small numbers, as no key is."""
    if part == REDACTED:
        return True
    if not re.fullmatch(r"[A-Za-z0-9._-]*", part):
        return False
    unknown = 0
    for word in filter(None, re.split(r"[._-]", part)):
        runs = _RUN.findall(word)
        if all(run.lower() in _KNOWN_WORDS or _PLAIN_NUMBER.fullmatch(run) for run in runs):
            # `h264`, `720p`, `640x480`; but no mixture as long as a key.
            if len(runs) > _MOST_RUNS:
                return False
            unknown += word.isdigit() and len(word) > _SHORT_NUMBER
        elif _PLAIN_WORD.fullmatch(word):
            unknown += 1
        else:
            return False
    return unknown <= _MOST_UNKNOWN_WORDS
