"""Checks of the streams beside the main video: all there, the same packets, in step with it."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.convert.media_info import StreamInfo

from . import allowed_differences
from .comparison import Comparison, StreamPair, can_hold
from .packets import UNKNOWN, PacketList
from .report import Check, check, in_seconds
from .subtitle_text import texts

_RECODED: Final = Fraction(1, 10)
"""Seconds by which sound that had to be coded anew may begin or end elsewhere: a coder's own
frames and priming."""

_CUT_PACKETS: Final = 2
"""Packets that may be missing at the end of a stream of an input that is cut short."""


def check_streams(sides: Comparison) -> list[Check]:
    """All checks of streams other than the main video."""
    return [
        _streams(sides),
        _packets(sides),
        _in_step(sides),
    ]


def _streams(sides: Comparison) -> Check:
    faults: list[str] = []
    notes: list[str] = []
    for stream in sides.missing:
        if can_hold(sides.after.family, stream.kind, stream.codec):
            faults.append(f"{stream} is missing")
        else:
            notes.append(f"{sides.after.name} holds no {stream.codec}: {stream} is left out")
    faults += [f"{stream} was not in the input" for stream in sides.extra]
    for kind in ("audio", "subtitle", "data", "video"):
        places = [pair.after.index for pair in sides.pairs if pair.before.kind == kind]
        if places != sorted(places):
            faults.append(f"{kind} streams are in another order")
    for pair in sides.pairs:
        if pair.before.index in sides.expected.stretched:
            continue
        if not pair.copied and can_hold(sides.after.family, pair.before.kind, pair.before.codec):
            faults.append(f"{pair.before} became {pair.after.codec}, though it could be copied")
    dropped = [str(index) for index in sides.expected.dropped_streams]
    if dropped:
        notes.append(f"left out as asked: {', '.join(dropped)}")
    return check("streams", faults, "; ".join([f"{len(sides.pairs)} beside the video", *notes]))


def _packets(sides: Comparison) -> Check:
    faults: list[str] = []
    copied = 0
    for pair in sides.pairs:
        if pair.before.index in sides.expected.stretched:
            continue
        if not pair.copied:
            faults += _converted(sides, pair)
            continue
        copied += 1
        faults += _compared(sides, pair)
    return check("packets", faults, f"all packets of {copied} copied streams are equal")


def _compared(sides: Comparison, pair: StreamPair) -> Iterator[str]:
    before, after = _both(sides, pair)
    if pair.before.codec.startswith("pcm_"):
        # How much goes into a packet is up to the muxer; the samples are not.
        if pair.before.digest != pair.after.digest:
            yield f"{pair.before}: other samples"
        return
    if _reframed(sides, pair):
        if len(before) != len(after):
            yield f"{pair.before}: {len(after)} packets for {len(before)}"
        return
    if not np.array_equal(before.marks, after.marks):
        fault = _difference(sides, pair, before, after)
        if fault is not None:
            yield fault
        return
    spaced = _scale(sides, pair)
    ours = _spacing(before, pair.before.time_base, spaced)
    theirs = _spacing(after, pair.after.time_base, Fraction(1))
    off = np.abs(ours - theirs)
    allowed = float(pair.tick * max(spaced, Fraction(1))) * 1.001
    if len(off) and off.max() > allowed:
        place = int(off.argmax())
        yield f"{pair.before}: packet {place} is off by {(theirs - ours)[place] * 1000:+.3f} ms"


def _both(sides: Comparison, pair: StreamPair) -> tuple[PacketList, PacketList]:
    """The packets of both; of MP4's subtitles only those that say something."""
    before, after = sides.before.of(pair.before), sides.after.of(pair.after)
    if pair.before.codec == "mov_text":
        return _spoken(before), _spoken(after)
    return before, after


def _spoken(packets: PacketList) -> PacketList:
    """Without those that only clear the screen: each muxer puts in its own."""
    empty = 2  # Bytes: the length of no text.
    keep = packets.sizes > empty
    return PacketList(
        packets.pts[keep], packets.dts[keep], packets.marks[keep], packets.sizes[keep],
        packets.hidden[keep],
    )  # fmt: skip


def _reframed(sides: Comparison, pair: StreamPair) -> bool:
    """Whether the same units stand in another frame: with start codes, or with their lengths."""
    return pair.before.codec in ("h264", "hevc") and "other" in (
        sides.before.family,
        sides.after.family,
    )


def _difference(
    sides: Comparison, pair: StreamPair, before: PacketList, after: PacketList
) -> str | None:
    """What is different in the payloads; None if the input itself breaks off there."""
    common = min(len(before), len(after))
    same = before.marks[:common] == after.marks[:common]
    first = int(np.argmin(same)) if not same.all() else common
    missing = len(before) - len(after)
    if sides.before.inventory.broken and first == len(after) and missing <= _CUT_PACKETS:
        return None
    count = f"{len(after)} packets for {len(before)}"
    where = first if first < len(before) else len(before) - 1
    at = in_seconds(int(before.pts[where]) * pair.before.time_base)
    return f"{pair.before}: {count}, the first difference at packet {first} of {at}"


def _spacing(packets: PacketList, base: Fraction, scale: Fraction) -> NDArray[np.float64]:
    """Seconds from the first packet to each; exact enough: a double has 15 digits."""
    times = np.where(packets.pts == UNKNOWN, packets.dts, packets.pts)
    if not len(times):
        return np.zeros(0)
    return np.asarray((times - times[0]) * float(base * scale), np.float64)


def _scale(sides: Comparison, pair: StreamPair) -> Fraction:
    """How much longer a stream becomes: sound that is copied keeps its own speed."""
    return Fraction(1) if pair.before.kind == "audio" else 1 / sides.expected.speed


def _converted(sides: Comparison, pair: StreamPair) -> Iterator[str]:
    """Subtitles in another form must say the same; of such sound only its times are known."""
    if pair.before.kind != "subtitle":
        return
    ours = texts(sides.before.inventory.path, pair.before.index)
    theirs = texts(sides.after.inventory.path, pair.after.index)
    if [one.words for one in ours] != [one.words for one in theirs]:
        yield f"{pair.before}: its words are not those of the {pair.after.codec} it became"
        return
    scale = _scale(sides, pair)
    for one, other in zip(ours, theirs, strict=True):
        difference = other.begin - (one.begin * scale + sides.shift)
        if abs(difference) > pair.tick:
            yield f"{pair.before}: '{one.words}' is off by {float(difference) * 1000:+.3f} ms"
            return


def _in_step(sides: Comparison) -> Check:
    faults, words = [], []
    for pair in sides.pairs:
        if not pair.before.packets or not pair.after.packets:
            continue
        start, end, allowed = _offsets(sides, pair)
        found = f"{pair.before} {_micro(start)} at its start and {_micro(end)} at its end"
        if max(abs(start), abs(end)) > allowed:
            faults.append(f"{found}, more than {_micro(allowed)}")
        elif pair.before.kind == "audio":
            words.append(found)
    return check("in step", faults, "; ".join(words) or "nothing that could be out of step")


def _offsets(sides: Comparison, pair: StreamPair) -> tuple[Fraction, Fraction, Fraction]:
    """How much later a stream is against the video than it was, at both ends; and what may be."""
    stretched = pair.before.index in sides.expected.stretched
    if stretched or not pair.copied:
        scale = 1 / sides.expected.speed if stretched else _scale(sides, pair)
        ours, theirs = pair.before, pair.after
        assert ours.begin is not None
        assert ours.end is not None
        assert theirs.begin is not None
        assert theirs.end is not None
        start = theirs.begin - sides.shift - ours.begin * scale
        if pair.before.kind == "subtitle":  # Its words were compared one by one.
            return Fraction(0), Fraction(0), pair.tick
        return start, theirs.end - sides.shift - ours.end * scale, _RECODED
    before, after = _both(sides, pair)
    scale = _scale(sides, pair)
    ends = [
        _moment(after, place_after, pair.after, sides.after.inventory.origin)
        - sides.shift
        - _moment(before, place, pair.before, sides.before.inventory.origin) * scale
        for place, place_after in _common_ends(before, after)
    ]
    video = sides.after.inventory.video
    tick = max(
        pair.tick * max(scale, Fraction(1)),
        video.time_base if video else Fraction(0),
        allowed_differences.DELAY_CLOCK.get(sides.after.family, Fraction(0)),
    )
    return ends[0], ends[-1], tick


def _micro(time: Fraction) -> str:
    return f"{round(time * 1_000_000):+d} microseconds"


def _moment(packets: PacketList, place: int, stream: StreamInfo, origin: Fraction) -> Fraction:
    ticks = packets.pts[place] if packets.pts[place] != UNKNOWN else packets.dts[place]
    return int(ticks) * stream.time_base - origin


def _common_ends(before: PacketList, after: PacketList) -> list[tuple[int, int]]:
    """Places of the first and of the last packet that both have; just the ends if there is none."""
    if len(before) and np.array_equal(before.marks, after.marks):
        return [(0, 0), (len(before) - 1, len(after) - 1)]
    shared, ours, theirs = np.intersect1d(before.marks, after.marks, return_indices=True)
    if not len(shared):
        return [(0, 0), (-1, -1)]
    order = np.argsort(ours)
    first, last = order[0], order[-1]
    return [(int(ours[first]), int(theirs[first])), (int(ours[last]), int(theirs[last]))]
