"""Recordings that need more than writing: changed afterwards, cut short, very long, or none."""

import struct
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

from . import corpus_frames
from .corpus_writing import Audio, Video, write

FILM_RATE: Final = Fraction(24000, 1001)
TWO_HOURS: Final = int(7200 * FILM_RATE)
"""Frames."""

KEY: Final = "76a6c65c5ea762046bd749a2e632ccbb"
"""Opens the encrypted recording; nobody is given it."""


class _LongVideo(Video):
    """A video of so many frames that only their numbers are drawn."""

    def _frame(self, place: int) -> av.VideoFrame:
        gray = np.full((self.height * 3 // 2, self.width), 128, np.uint8)
        gray[8:16, (3 * place) % (self.width - 8) :][:, :8] = 220
        for top, bottom, left, right, level in corpus_frames.code(
            place, height=self.height, width=self.width
        ):
            gray[top:bottom, left:right] = level
        return av.VideoFrame.from_ndarray(gray, format="yuv420p")


class _ConstantRateTimes:
    """The times of a long video, without keeping them."""

    def __init__(self, count: int, rate: Fraction) -> None:
        self._count, self._rate = count, rate

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Fraction:
        if not -self._count <= place < self._count:
            raise IndexError(place)
        return (place % self._count) / self._rate

    def __iter__(self) -> Iterator[Fraction]:
        return (Fraction(place) / self._rate for place in range(self._count))


def two_hours(path: Path) -> Path:
    """64x48 pixels, a key frame every ten seconds, a tone at 8 kHz."""
    film = _LongVideo(
        times=_ConstantRateTimes(TWO_HOURS, FILM_RATE),
        clock=1 / FILM_RATE,
        width=64,
        height=48,
        gop=240,
        options={"preset": "ultrafast", "tune": "zerolatency"},
    )
    return write(path, film, Audio(seconds=7200, rate=8000, bit_rate=8000))


def with_brightness(path: Path) -> Path:
    """Say in an MP4's sample entry, too, how bright its frames are (boxes `mdcv` and `clli`)."""
    mastering = struct.pack(
        ">8H2I", 13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 50
    )
    boxes = _box(b"mdcv", mastering) + _box(b"clli", struct.pack(">2H", 1000, 400))
    path.write_bytes(_with_boxes(path.read_bytes(), boxes))
    return path


def with_captions(path: Path) -> Path:
    """Put closed captions (CEA-608 in SEI) into each frame of an H.264 video in MP4."""
    plain = path.rename(path.with_name(f"plain-{path.name}"))
    with av.open(str(plain)) as before, av.open(str(path), "w") as after:
        film = before.streams.video[0]
        copy = after.add_stream_from_template(film)
        for number, packet in enumerate(before.demux(film)):
            if packet.size:
                spoken = bytes((0xFC, 0x80 | 0x41 + number % 26, 0x80 | 0x61))
                units = _sized(_SEI + bytes((len(_T35) + 5,)) + _T35 + b"\xff" + spoken + _END)
                marked = av.Packet(units + bytes(packet))
                marked.pts, marked.dts, marked.duration = packet.pts, packet.dts, packet.duration
                marked.time_base, marked.is_keyframe = packet.time_base, packet.is_keyframe
                marked.stream = copy
                after.mux(marked)
    plain.unlink()
    return path


_SEI: Final = b"\x06\x04"
"""A NAL unit with what somebody registered (H.264 annex D)."""

_T35: Final = b"\xb5\x00\x31GA94\x03\x41"
"""United States, ATSC, captions, one triple of bytes (ATSC A/53 part 4)."""

_END: Final = b"\xff\x80"
"""Of the captions, and of the unit."""


def _sized(unit: bytes) -> bytes:
    return struct.pack(">I", len(unit)) + unit


def with_aspect(path: Path, shape: str) -> Path:
    """Say in the container alone which *shape* the frame has, such as `16:9`."""
    plain = path.rename(path.with_name(f"plain-{path.name}"))
    command = ["ffmpeg", "-v", "error", "-i", plain, "-c", "copy", "-aspect", shape, path]
    subprocess.run(command, check=True)
    plain.unlink()
    return path


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


_WAY: Final = (
    (b"moov", 0), (b"trak", 0), (b"mdia", 0), (b"minf", 0), (b"stbl", 0), (b"stsd", 8),
    (b"hev1", 78),
)  # fmt: skip
"""From the file down to the first sample entry, and the bytes before each one's own boxes."""


def _with_boxes(data: bytes, boxes: bytes) -> bytes:
    """*data* with *boxes* at the end of its first sample entry; the index stands last."""
    begin, end = 0, len(data)
    sizes = []
    for kind, skipped in _WAY:
        at = begin
        while data[at + 4 : at + 8] != kind:
            at += struct.unpack(">I", data[at : at + 4])[0]
            assert at < end, f"no {kind!r} in the file"
        sizes.append(at)
        begin, end = at + 8 + skipped, at + struct.unpack(">I", data[at : at + 4])[0]
    grown = bytearray(data[:end] + boxes + data[end:])
    for at in sizes:
        size = struct.unpack(">I", grown[at : at + 4])[0]
        grown[at : at + 4] = struct.pack(">I", size + len(boxes))
    return bytes(grown)


def cut_short(make: Callable[[Path], Path], *, keep: float) -> Callable[[Path], Path]:
    """Makes what *make* does, and leaves only the first part of it, *keep* of its bytes."""

    def made(path: Path) -> Path:
        data = make(path).read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        return path

    return made


def header_only(path: Path) -> Path:
    """A recording whose writer got no frame at all."""
    # Without frames an MP4 lists no track, except one that is written in fragments.
    options = {"movflags": "empty_moov+frag_keyframe"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", container_options=options) as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        output.start_encoding()
    return path


def no_recording(path: Path) -> Path:
    """Words in a file with the name of a recording."""
    path.write_text("This is no recording.\n" * 100)
    return path
