"""Encoded packets for tests: real ones, and small made-up ones."""

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import av
import numpy as np

from streamer.core.packet import EncodedPacket, EncodedStream

SECOND = 1_000_000_000
STEP = 40_000_000
"""25 frames per second."""

PLAIN = EncodedStream("h264", 320, 180, b"")


def packet(
    number: int,
    *,
    keyframe: bool = False,
    size: int = 100,
    reordered: int = 0,
    stream: EncodedStream = PLAIN,
) -> EncodedPacket:
    """The packet with this number in order of decoding, presented *reordered* frames later."""
    return EncodedPacket(
        stream=stream,
        payload=b"x" * size,
        pts_ns=(number + reordered) * STEP,
        dts_ns=number * STEP,
        duration_ns=STEP,
        keyframe=keyframe,
        arrived_ns=number * STEP,
    )


@cache
def real_packets(
    encoder: str = "libx264",
    *,
    frames: int = 50,
    gop: int = 25,
    b_frames: int = 0,
    container: str = "mpegts",
    width: int = 320,
    height: int = 180,
    start_ns: int = 0,
) -> tuple[EncodedPacket, ...]:
    """Packets as a demuxer returns them: Annex-B from `mpegts`, length-prefixed from `mp4`."""
    memory = io.BytesIO()
    with av.open(memory, "w", format=container) as output:
        options = {"g": str(gop), "bf": str(b_frames)}
        if encoder == "libx264":
            options |= {"preset": "ultrafast", "sc_threshold": "0", "forced-idr": "1"}
        if encoder == "libx265":
            options |= {"preset": "ultrafast", "x265-params": "log-level=none:open-gop=0"}
        if encoder == "mjpeg":
            options = {}
        stream = output.add_stream(encoder, rate=25, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        for number in range(frames):
            output.mux(stream.encode(_frame(number, width, height)))
        output.mux(stream.encode())
    memory.seek(0)
    found = []
    with av.open(memory, format=container) as source:
        stream = source.streams.video[0]
        encoded = EncodedStream(
            stream.codec_context.name, width, height, stream.codec_context.extradata or b""
        )
        for one in source.demux(stream):
            if one.dts is None:
                continue
            unit = one.time_base * SECOND
            found.append(
                EncodedPacket(
                    stream=encoded,
                    payload=bytes(one),
                    pts_ns=int(one.pts * unit),
                    dts_ns=int(one.dts * unit),
                    duration_ns=int((one.duration or 0) * unit),
                    keyframe=one.is_keyframe,
                    arrived_ns=int(one.dts * unit),
                )
            )
    return tuple(shifted(found, start_ns - found[0].pts_ns))


def _frame(number: int, width: int, height: int) -> av.VideoFrame:
    image = np.full((height, width, 3), 40 + number % 150, np.uint8)
    left = 4 * number % (width - 16)
    image[:, left : left + 16] = 255
    return av.VideoFrame.from_ndarray(image)


def shifted(packets: Iterable[EncodedPacket], by_ns: int) -> list[EncodedPacket]:
    return [
        replace(
            one,
            pts_ns=one.pts_ns + by_ns,
            dts_ns=one.dts_ns + by_ns,
            arrived_ns=one.arrived_ns + by_ns,
        )
        for one in packets
    ]


def frame_digests(packets: Sequence[EncodedPacket]) -> list[str]:
    """Return a digest of each frame that *packets* decode to, in order of presentation."""
    decoder = av.CodecContext.create(packets[0].stream.codec, "r")
    decoder.extradata = packets[0].stream.extradata or None
    frames = []
    for one in packets:
        frames += decoder.decode(av.Packet(one.payload))
    return [_digest(frame) for frame in frames + decoder.decode(None)]


def file_frame_digests(path: Path) -> tuple[list[str], list[float]]:
    """Return digests and times in seconds of all frames of a file."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    return [_digest(frame) for frame in frames], [round(frame.time, 6) for frame in frames]


def _digest(frame: av.VideoFrame) -> str:
    return hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()
