"""Recordings in which one timestamp is wrong and everything else is right (MPEG-TS)."""

from pathlib import Path

PACKET = 188
TICKS = 90_000


def with_odd_pts(source: Path, target: Path, *, frame: int, hours: float) -> Path:
    """Copy an MPEG-TS file; the presentation time of one frame is *hours* later in the copy.

    Args:
        source: With one frame a PES packet, as FFmpeg writes it.
        target: The copy.
        frame: Number of the frame in the order of decoding, from 0.
        hours: May be negative.
    """
    data = bytearray(source.read_bytes())
    number = -1
    for at in range(0, len(data), PACKET):
        begins, has_adaptation = data[at + 1] & 0x40, data[at + 3] & 0x20
        pes = at + 4 + (1 + data[at + 4] if has_adaptation else 0)
        is_video = data[pes : pes + 3] == b"\0\0\1" and 0xE0 <= data[pes + 3] <= 0xEF
        if not (begins and is_video):
            continue
        number += 1
        if number == frame:
            _move(data, pes + 9, round(hours * 3600 * TICKS))
            target.write_bytes(data)
            return target
    raise ValueError(f"{source} has only {number + 1} frames")


def _move(data: bytearray, at: int, ticks: int) -> None:
    """Add to the 33-bit timestamp in the five bytes from *at* on (ISO 13818-1, 2.4.3.6)."""
    field = data[at : at + 5]
    value = (
        (field[0] >> 1 & 7) << 30 | field[1] << 22 | field[2] >> 1 << 15
        | field[3] << 7 | field[4] >> 1
    )  # fmt: skip
    value = (value + ticks) % (1 << 33)
    data[at] = (field[0] & 0xF1) | (value >> 30 & 7) << 1
    data[at + 1], data[at + 2] = value >> 22 & 255, (value >> 15 & 127) << 1 | 1
    data[at + 3], data[at + 4] = value >> 7 & 255, (value & 127) << 1 | 1
