"""Tiny clips, made on the spot: every packet is known, nothing is stored in the repository.

The image is gray with a white bar that moves 4 pixels a frame, so that two frames differ.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from streamer.core.jpeg import encode_jpeg

WIDTH, HEIGHT, RATE = 320, 180, 25


def images(count: int, *, width: int = WIDTH, height: int = HEIGHT) -> Iterator[NDArray[np.uint8]]:
    """*count* times (height, width, 3) RGB."""
    ramp = np.linspace(60, 160, width, dtype=np.uint8)
    for number in range(count):
        image = np.repeat(np.tile(ramp, (height, 1))[:, :, None], 3, axis=2)
        left = 4 * number % (width - 16)
        image[:, left : left + 16] = 255
        yield image


def video_clip(
    path: Path | str,
    *,
    frames: int = 50,
    codec: str = "libx264",
    gop: int = RATE,
    rate: int = RATE,
    width: int = WIDTH,
    height: int = HEIGHT,
    b_frames: int = 0,
    times: Sequence[float] | None = None,
    container_format: str | None = None,
    options: dict[str, str] | None = None,
    mux: dict[str, str] | None = None,
) -> Path:
    """A clip without audio.

    Args:
        path: Its suffix chooses the container unless *container_format* does.
        frames: How many.
        codec: FFmpeg's name of the encoder.
        gop: Frames from key frame to key frame; there are no others.
        rate: Frames a second.
        width: Of the frame.
        height: Of the frame.
        b_frames: Between two others, at most.
        times: When each frame is shown, in seconds, instead of an even rate.
        container_format: FFmpeg's name of the muxer.
        options: More for the encoder.
        mux: Options of the muxer.
    """
    x264 = {"preset": "ultrafast", "sc_threshold": "0", "forced-idr": "1"}
    with av.open(str(path), "w", format=container_format, options=mux or {}) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, rate)
        stream.options = {**(x264 if codec == "libx264" else {}), **(options or {})}
        for number, image in enumerate(images(frames, width=width, height=height)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(times[number] * 1000) if times else number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return Path(path)


def audio_clip(path: Path, *, seconds: float = 1.0) -> Path:
    """Silence, and no video at all."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, round(8000 * seconds)), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 8000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def damaged(path: Path, *, every: int, first: int) -> Path:
    """Overwrite 16 bytes in each *every* bytes of a clip, from *first* on."""
    data = bytearray(path.read_bytes())
    for at in range(first, len(data) - 16, every):
        data[at : at + 16] = b"\xa5" * 16
    path.write_bytes(data)
    return path


def truncated(path: Path, *, keep: float) -> Path:
    """Leave only the first part of a file, *keep* of it."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def joined(path: Path, parts: Sequence[Path]) -> Path:
    """Files one after the other, as a recorder that was restarted leaves them (MPEG-TS, H.264)."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def jpeg(*, width: int = WIDTH, height: int = HEIGHT, number: int = 0) -> bytes:
    """One JPEG, as a camera's snapshot address gives it."""
    image = list(images(number + 1, width=width, height=height))[-1]
    return encode_jpeg(image, quality=95)
