"""Removing secrets from text that people read: logs, messages, results.

Two cases. Of an address only its form is known: `redact` removes what can be a secret by its
place in a URL. Where the secrets are known (`Redactor`), they are removed wherever they occur.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

REDACTED: Final = "***"

_SHORTEST_SECRET: Final = 4
"""Characters. Shorter secrets would be found in half of all words."""

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_URL_IN_TEXT: Final = re.compile(_SCHEME.pattern + r"[^\s\"'<>]+", re.IGNORECASE)

_SECRET_QUERY: Final = re.compile(
    r"(?P<name>[?&](?:user|usr|username|login|key|session)="
    r"|(?:pass(?:word|wd|phrase|code)?|pwd|pw|auth|token|secret|api_?key|sig(?:nature)?)=)"
    r"(?P<value>[^&#?]*)",
    re.IGNORECASE,
)
"""Many cameras take the password as `...&password=x`, and some separate by `_` instead of `&`.
So all that follows is removed: one word too few in the log rather than a password in it."""


def redact(text: str) -> str:
    """Return *text* without the users, passwords and tokens of the URLs in it.

    A text that begins with a scheme is one URL. In any URL everything before the last `@` is
    removed: a password may hold `@` and `/`, so a part of the host is removed rather than a part
    of a password left.
    """
    if _SCHEME.match(text):
        return _redact_url(text)
    return _URL_IN_TEXT.sub(lambda found: _redact_url(found[0]), text)


def _redact_url(url: str) -> str:
    scheme, rest = url.split("://", 1)
    if "@" in rest:
        rest = f"{REDACTED}@{rest.rpartition('@')[2]}"
    return f"{scheme}://" + _SECRET_QUERY.sub(rf"\g<name>{REDACTED}", rest)


def secret_parts(url: str) -> set[str]:
    """Return the parts of *url* that must not be printed, and all of it; none if it has none."""
    if redact(url) == url:
        return set()
    user_info = url.partition("://")[2].rpartition("@")[0]
    password = user_info.partition(":")[2]
    queries = {found["value"] for found in _SECRET_QUERY.finditer(url)}
    return {url, user_info, password, unquote(password), *queries} - {""}


def all_parts(url: str) -> set[str]:
    """Return every word of *url* behind its scheme, as written and decoded.

    For addresses of which any part may be a secret.
    """
    written = re.split(r"[/:@?&=,#]+", url.partition("://")[2])
    return {*written, *map(unquote, written)} - {""}


class Redactor:
    """Removes known secrets from texts. Secrets shorter than four characters are left."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first, so that none is removed only in part.
        self._secrets = sorted(
            {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True
        )

    def __call__(self, text: str) -> str:
        """Return *text* without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return text

    def clean(self, value: Any) -> Any:
        """Return *value*, as JSON knows it, without the secrets in any of its texts and keys."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {self(str(key)): self.clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean(item) for item in value]
        return value
