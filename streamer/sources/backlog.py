"""`BacklogSkipper`: which packets of a live stream are not decoded because it is behind. Pure."""

from typing import Final

_LONGEST_NS: Final = 2_000_000_000
"""After skipping for so long, one key frame is decoded, however late it is."""


class BacklogSkipper:
    """Skips from a backlog to a key frame that is recent enough. Used by one thread."""

    def __init__(self) -> None:
        self._since_ns: int | None = None  # Arrival of the first skipped packet.
        self.skipped = 0
        """Packets that were not decoded."""

    @property
    def skipping(self) -> bool:
        """Whether the last packet was skipped."""
        return self._since_ns is not None

    def begin(self) -> None:
        """Start a connection."""
        self._since_ns = None

    def skips(self, *, keyframe: bool, behind: bool, caught_up: bool, arrived_ns: int) -> bool:
        """Whether the next packet is skipped.

        Args:
            keyframe: Whether decoding can begin with it.
            behind: Whether too many packets wait here.
            caught_up: Whether this packet is recent enough to go on with.
            arrived_ns: When it arrived.
        """
        if self._since_ns is None:
            if not behind:
                return False
            self._since_ns = arrived_ns
        elif keyframe and (caught_up or arrived_ns - self._since_ns > _LONGEST_NS):
            self._since_ns = None
            return False
        self.skipped += 1
        return True
