"""An RTSP camera whose timing and manners a test rules: H.264 over TCP, in threads of the test."""

import base64
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

DELIMITER = b"\x00\x00\x00\x01\x09"  # Annex B access unit delimiter.
SPS, PPS, SLICE_IDR = 7, 8, 5
MTU = 1400
SSRC, FOREIGN_SSRC = 0x11223344, 0x55667788
TICKS = 90_000


def _units(clip: Path) -> list[list[bytes]]:
    """The NAL units of each access unit, without the delimiter."""
    found = []
    for unit in clip.read_bytes().split(DELIMITER)[1:]:
        parts = [nal for nal in re.split(b"\x00\x00\x00\x01|\x00\x00\x01", unit[1:]) if nal]
        found.append([nal for nal in parts if nal[0] & 31 in (1, 5, 6, SPS, PPS)])
    return found


class OddRtspCamera:
    """Serves *clip* in a loop at any path, to any number of clients. A context manager.

    Args:
        clip: H.264 Annex B with access unit delimiters, without B frames.
        rate: Frames a second.
        ticks: RTP timestamp of frame n (90 kHz); by default the true one.
        describe_after_s: How long DESCRIBE is left unanswered; `None` answers never.
        silent_after: Number of frames after which nothing more comes, while the connection stays.
        foreign: Whether a second RTP source sends noise on the channel of the video.
    """

    def __init__(
        self,
        clip: Path,
        *,
        rate: float = 25,
        ticks: Callable[[int], int] | None = None,
        describe_after_s: float | None = 0,
        silent_after: int | None = None,
        foreign: bool = False,
    ) -> None:
        self._units = _units(clip)
        self.rate = rate
        self.ticks = ticks or (lambda number: round(number * TICKS / rate))
        self.describe_after_s = describe_after_s
        self.silent_after = silent_after
        self._foreign = foreign
        self.sent = 0
        """Frames sent, to all clients."""

        self.sent_ns: dict[int, int] = {}
        """Monotonic time at which each frame of the first client was sent."""

        self.described = threading.Event()
        """Set when a DESCRIBE has come."""

        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/cam"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._clients:
            with suppress(OSError):  # The client has left.
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="odd RTSP camera")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ending.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            self._start(lambda client=client: self._serve(client))

    def _serve(self, client: socket.socket) -> None:
        try:
            with client.makefile("rb") as requests:
                while line := requests.readline():
                    if line[:1] == b"$" or len(line.split()) < 3:
                        continue
                    method, url = line.decode().split()[:2]
                    headers = {}
                    while header := requests.readline().strip():
                        name, _, value = header.decode().partition(":")
                        headers[name.lower()] = value.strip()
                    if not self._answer(client, method, url, headers):
                        return
        except OSError:
            pass  # The client has left, or the test is over.

    def _answer(self, client, method: str, url: str, headers: dict[str, str]) -> bool:
        head = f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\nSession: 12345678\r\n"
        body = ""
        if method == "OPTIONS":
            head += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n"
        elif method == "DESCRIBE":
            self.described.set()
            if self.describe_after_s is None:
                self._ending.wait()
                return False
            self._ending.wait(self.describe_after_s)
            body = self._description()
            head += f"Content-Base: {url.rstrip('/')}/\r\nContent-Type: application/sdp\r\n"
            head += f"Content-Length: {len(body)}\r\n"
        elif method == "SETUP":
            head += f"Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc={SSRC:x}\r\n"
        client.sendall((head + "\r\n" + body).encode())
        if method == "PLAY":
            self._start(lambda: self._send_frames(client))
        return method != "TEARDOWN"

    def _description(self) -> str:
        first = {nal[0] & 31: base64.b64encode(nal).decode() for nal in self._units[0]}
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
            "a=fmtp:96 packetization-mode=1;"
            f"sprop-parameter-sets={first[SPS]},{first[PPS]}\r\na=control:track0\r\n"
        )

    def _send_frames(self, client: socket.socket) -> None:
        began, sequence = time.monotonic(), 0
        number = 0
        try:
            while not self._ending.wait(max(0, began + number / self.rate - time.monotonic())):
                if self.silent_after is not None and number >= self.silent_after:
                    return
                self.sent_ns.setdefault(number, time.monotonic_ns())
                unit = self._units[number % len(self._units)]
                for nal in unit:
                    last = nal is unit[-1]
                    sequence = self._send(client, sequence, self.ticks(number), nal, marker=last)
                if self._foreign:
                    noise = bytes([1]) + bytes(number % 251 for _ in range(200))
                    foreign_ticks = number * 2_654_435_761
                    _write(client, number * 7, foreign_ticks, noise, marker=True, ssrc=FOREIGN_SSRC)
                number += 1
                self.sent += 1
        except OSError:
            pass  # The client has left.

    def _send(
        self, client: socket.socket, sequence: int, ticks: int, nal: bytes, *, marker: bool
    ) -> int:
        if len(nal) <= MTU:
            _write(client, sequence, ticks, nal, marker=marker)
            return sequence + 1
        indicator, kind = (nal[0] & 0xE0) | 28, nal[0] & 31  # Fragmentation unit A of RFC 6184.
        pieces = [nal[at : at + MTU] for at in range(1, len(nal), MTU)]
        for index, piece in enumerate(pieces):
            is_last = index == len(pieces) - 1
            header = kind | (0x80 if index == 0 else 0) | (0x40 if is_last else 0)
            payload = bytes([indicator, header]) + piece
            _write(client, sequence, ticks, payload, marker=marker and is_last)
            sequence += 1
        return sequence


def _write(
    client: socket.socket, sequence: int, ticks: int, payload: bytes, *, marker: bool,
    ssrc: int = SSRC,
) -> None:  # fmt: skip
    head = struct.pack(
        ">BBHII", 0x80, 96 | (0x80 if marker else 0), sequence & 0xFFFF, ticks & 0xFFFFFFFF, ssrc
    )
    packet = head + payload
    client.sendall(b"$\x00" + struct.pack(">H", len(packet)) + packet)
