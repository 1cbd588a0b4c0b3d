"""The packets of one stream as arrays: timestamps, sizes and digests in file order."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

UNKNOWN: Final = np.iinfo(np.int64).min
"""Stands for a timestamp that the file does not store."""


@dataclass(frozen=True, slots=True, eq=False)
class PacketTable:
    """Every packet of one stream in file order, one array element per packet.

    Packets that an edit list discards are included: decoders need them before the first audible
    sample, and a copy without them starts with a click or late.
    """

    pts: NDArray[np.int64]
    """Presentation timestamps in ticks; `UNKNOWN` where none is stored."""

    dts: NDArray[np.int64]
    """Decoding timestamps in ticks; `UNKNOWN` where none is stored."""

    digests: NDArray[np.uint64]
    """64-bit BLAKE2b digest of each payload. All zero for a stream that is not hashed."""

    sizes: NDArray[np.int64]
    """Payload sizes in bytes."""

    discard: NDArray[np.bool_]
    """Whether an edit list excludes the packet from presentation."""

    def __len__(self) -> int:
        """Return the number of packets."""
        return len(self.pts)

    def select(self, mask: NDArray[np.bool_]) -> "PacketTable":
        """Return the packets for which *mask* is true."""
        return PacketTable(
            self.pts[mask], self.dts[mask], self.digests[mask], self.sizes[mask], self.discard[mask]
        )


class PacketTableBuilder:
    """Collects the packets of one stream into a `PacketTable`."""

    def __init__(self, *, hashed: bool) -> None:
        self._hashed = hashed
        self._rows: list[tuple[int, int, int, int, bool]] = []

    def add(self, packet: Any) -> None:
        """Add one packet of the demuxer."""
        digest = hashlib.blake2b(packet, digest_size=8).digest() if self._hashed else b""
        self._rows.append(
            (
                UNKNOWN if packet.pts is None else packet.pts,
                UNKNOWN if packet.dts is None else packet.dts,
                int.from_bytes(digest, "big"),
                packet.size,
                packet.is_discard,
            )
        )

    def build(self) -> PacketTable:
        """Return the packets added so far."""
        rows = self._rows
        pts, dts, digests, sizes, discard = zip(*rows, strict=True) if rows else ((),) * 5
        return PacketTable(
            np.array(pts, np.int64),
            np.array(dts, np.int64),
            np.array(digests, np.uint64),
            np.array(sizes, np.int64),
            np.array(discard, np.bool_),
        )
