"""Sign-in: the access token that every request must carry, if one is configured."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccessToken:
    """The configured token; `None` disables authentication."""

    token: str | None

    def __repr__(self) -> str:
        return f"<AccessToken {'off' if self.token is None else 'set'}>"

    def allows(self, query: Mapping[str, Sequence[str]], authorization: str) -> bool:
        """Whether a request carries the token, as `?token=` or `Authorization: Bearer`.

        Args:
            query: Parsed query string.
            authorization: The `Authorization` header; empty if there is none.
        """
        if self.token is None:
            return True
        sent = query.get("token", [""])[0] or authorization.removeprefix("Bearer ")
        return hmac.compare_digest(sent.encode(), self.token.encode())
