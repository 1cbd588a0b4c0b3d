"""The state of a channel as people and machines see it."""

import enum
from dataclasses import dataclass
from datetime import datetime


class ChannelState(enum.Enum):
    """What a channel is doing."""

    IDLE = "idle"
    """Nothing waits, and nothing is known to be wrong."""

    SENDING = "sending"
    """An attempt is under way."""

    BACKOFF = "backoff"
    """The last attempt failed, and another one follows."""

    DOWN = "down"
    """Checks or attempts have been failing for a while; deliveries are still attempted."""

    BLOCKED = "blocked"
    """Nothing is attempted: an error of the store, or another process delivers."""


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """State of a channel."""

    name: str

    since: datetime | None = None
    """When the present state began, aware UTC; `None` before the dispatcher runs."""

    last_error: str | None = None
    """Why the last attempt failed; `None` if it did not."""

    last_error_at: datetime | None = None
    attempts: int = 0
    """Attempts so far at the delivery that was attempted last."""

    next_attempt: datetime | None = None
    """When the next delivery is due, aware UTC; `None` if none waits."""

    blocked: str | None = None
    """Why nothing is attempted."""

    sending: bool = False
    """Whether an attempt is under way."""

    down_since: datetime | None = None
    """First failure of the present outage, aware UTC; `None` unless the channel is down."""

    down_reason: str = ""
    """Why the last check or attempt of the present outage failed."""

    checked: datetime | None = None
    """When the receiver was last reached by a check or a delivery, aware UTC."""

    confirmed: int = 0
    """Deliveries confirmed since the start."""

    failed: int = 0
    """Attempts that failed since the start."""

    last_confirmed: datetime | None = None

    @property
    def state(self) -> ChannelState:
        """What the channel is doing."""
        if self.blocked is not None:
            return ChannelState.BLOCKED
        if self.down_since is not None:
            return ChannelState.DOWN
        if self.sending:
            return ChannelState.SENDING
        return ChannelState.IDLE if self.last_error is None else ChannelState.BACKOFF

    @property
    def reason(self) -> str:
        """Why deliveries do not arrive, on one line; empty when all is well."""
        return self.blocked or self.down_reason or self.last_error or ""
