"""Each kind of loss, made by hand, fails the checks that are for it and no others."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamer.config.convert import ConvertOptions
from streamer.convert.verify import Expectation, verify
from tests.support.clips import truncated
from tests.support.corpus import Corpus
from tests.support.rework import Recode, TimedFrame, rework

KEEP = {"preset": "veryfast", "crf": "16"}


@dataclass(frozen=True)
class Loss:
    """A recording, what is done to its copy, and the checks that must say so."""

    source: str
    target: str
    how: Callable[[Path, Path], object]
    found: set[str]
    expected: Expectation | None = None


def copying(**how: Any) -> Callable[[Path, Path], object]:
    return lambda source, target: rework(source, target, **how)


def recoding(edit: Any = None, **how: Any) -> Callable[[Path, Path], object]:
    given = {"options": KEEP, **how, **({"edit": edit} if edit else {})}
    return copying(video=Recode(**given))


def nth(index: int, number: int) -> Callable[[Any], Any]:
    """Leaves out packet *number* of stream *index*."""
    seen = iter(range(10_000))
    return lambda one: None if one.stream_index == index and next(seen) == number else one


def dropping(index: int, number: int) -> Callable[[Path, Path], object]:
    return lambda source, target: rework(source, target, packet=nth(index, number))


def moving(index: int, *, ms: int = 0, slower: Fraction = Fraction(1)) -> Callable[[Any], Any]:
    """Shows stream *index* later by *ms* milliseconds, and ever later."""

    def moved(packet: Any) -> Any:
        if packet.stream_index == index:
            later = round(Fraction(ms, 1000) / packet.time_base)
            packet.pts = round(packet.pts * slower) + later
            packet.dts = round(packet.dts * slower) + later
        return packet

    return moved


def on_stream(index: int, change: Callable[[Any], object]) -> Callable[[Any, Any], object]:
    """Changes stream *index* of the output."""
    return lambda target, source: change(target) if source.index == index else None


def without_tag(name: str) -> Callable[[Any], object]:
    return lambda target: target.metadata.pop(name)


def plain(disposition: int) -> Callable[[Any], object]:
    return lambda target: setattr(target, "disposition", disposition)


def aspect(top: int, bottom: int) -> Callable[[Any], object]:
    return lambda coder: setattr(coder.codec_context, "sample_aspect_ratio", Fraction(top, bottom))


def color(name: str, value: int) -> Callable[[Any], object]:
    return lambda coder: setattr(coder.codec_context, name, value)


def size(width: int, height: int) -> Callable[[Any], object]:
    def set_size(coder: Any) -> None:
        coder.width, coder.height = width, height

    return set_size


def between(left: TimedFrame, right: TimedFrame, share: float) -> TimedFrame:
    """A mixture of two frames, halfway in time."""
    one, other = (side.frame.to_ndarray(format="rgb24") for side in (left, right))
    mixed = np.round(one * (1 - share) + other * share).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(mixed, format="rgb24")
    return TimedFrame(time=(left.time + right.time) / 2, frame=frame)


def doubled(share: float) -> Callable[[list[TimedFrame]], list[TimedFrame]]:
    """Twice the frames, each new one a mixture."""

    def edit(frames: list[TimedFrame]) -> list[TimedFrame]:
        pairs = itertools.pairwise(frames)
        made = [one for left, right in pairs for one in (left, between(left, right, share))]
        last = frames[-1]
        return [*made, last, replace(last, time=last.time + made[1].time - made[0].time)]

    return edit


def one_more(frames: list[TimedFrame]) -> Iterable[TimedFrame]:
    return [*frames[:31], between(frames[30], frames[31], 0), *frames[31:]]


def again(frames: list[TimedFrame]) -> Iterable[TimedFrame]:
    """Frame 31 shows frame 30 once more."""
    return [
        replace(one, frame=frames[30].frame) if place == 31 else one
        for place, one in enumerate(frames)
    ]


def one_by_one_later(frames: list[TimedFrame]) -> Iterable[TimedFrame]:
    """Every frame shows the one before it."""
    return [frames[0]] + [
        replace(one, frame=before.frame) for before, one in itertools.pairwise(frames)
    ]


def without_captions(frames: list[TimedFrame]) -> Iterable[TimedFrame]:
    return [
        replace(
            one,
            frame=av.VideoFrame.from_ndarray(one.frame.to_ndarray(), format=one.frame.format.name),
        )
        for one in frames
    ]


def at_24(frames: list[TimedFrame]) -> Iterable[TimedFrame]:
    return [replace(one, time=Fraction(place, 24)) for place, one in enumerate(frames)]


def at_25_of_the_first(frames: list[TimedFrame]) -> Iterable[TimedFrame]:
    """An uneven rate made even, by people who count frames."""
    return [replace(one, time=Fraction(place, 25)) for place, one in enumerate(frames)]


def cut_off(source: Path, target: Path) -> None:
    truncated(rework(source, target), keep=0.6)


def swapped(source: Path, target: Path) -> None:
    """The second audio before the first."""
    both = (target.with_name("one.mkv"), target.with_name("other.mkv"))
    rework(source, both[0], skip=lambda one: one.index == 1)
    rework(source, both[1], skip=lambda one: one.index != 1)
    with (
        av.open(str(both[0])) as first,
        av.open(str(both[1])) as second,
        av.open(str(target), "w") as out,
    ):
        streams = [*first.streams, *second.streams]
        copies = {}
        for one in streams:
            copies[one] = out.add_stream_from_template(one, opaque=True)
            copies[one].metadata.update(one.metadata)
            copies[one].disposition = one.disposition
        packets = [one for side in (first, second) for one in side.demux() if one.size]
        for one in sorted(packets, key=lambda one: one.dts):
            one.stream = copies[one.stream]
            out.mux(one)


def damaged_font(source: Path, target: Path) -> None:
    data = rework(source, target).read_bytes()
    target.write_bytes(data.replace(bytes(range(60, 90)), bytes(range(61, 91)), 1))


TWICE = Expectation(options=ConvertOptions(factor=2))
ONCE = Expectation(options=ConvertOptions(factor=1))
CUTS = "cuts.mp4"

LOSSES = {
    "a packet of audio": Loss("plain.mkv", ".mkv", dropping(1, 40), {"packets"}),
    "the last packet of audio": Loss("plain.mkv", ".mp4", dropping(1, 113), {"packets"}),
    "30 ms of A/V sync": Loss(
        "plain.mkv", ".mkv", copying(packet=moving(1, ms=30)), {"A/V sync"}
    ),
    "3 ms of A/V sync": Loss(
        "film.mp4", ".mp4", copying(packet=moving(1, ms=3)), {"A/V sync"}
    ),
    "A/V sync, little by little": Loss(
        "plain.mkv",
        ".mkv",
        copying(packet=moving(1, slower=Fraction(1003, 1000))),
        {"packets", "A/V sync"},
    ),
    "sync of a subtitle": Loss(
        "subtitles.mkv", ".mkv", copying(packet=moving(1, ms=100)), {"A/V sync"}
    ),
    "a line of subtitles": Loss("subtitles.mkv", ".mkv", dropping(2, 1), {"packets"}),
    "a line of MP4 subtitles": Loss("subtitles.mp4", ".mp4", dropping(1, 1), {"packets"}),
    "a subtitle stream": Loss(
        "subtitles.mkv", ".mkv", copying(skip=lambda one: one.index == 2), {"streams"}
    ),
    "an audio stream": Loss(
        "tracks.mkv", ".mkv", copying(skip=lambda one: one.index == 2), {"streams"}
    ),
    "the order of audio streams": Loss("tracks.mkv", ".mkv", swapped, {"streams"}),
    "the chapters": Loss("chapters.mkv", ".mkv", copying(chapters=lambda _: []), {"chapters"}),
    "a chapter": Loss(
        "chapters.mp4", ".mkv", copying(chapters=lambda all_: all_[1:]), {"chapters"}
    ),
    "a chapter's time": Loss(
        "chapters.mkv",
        ".mp4",
        copying(chapters=lambda all_: [all_[0], {**all_[1], "start": 870_000_000}, all_[2]]),
        {"chapters"},
    ),
    "a chapter's title": Loss(
        "chapters.mkv",
        ".mkv",
        copying(chapters=lambda all_: [{**all_[0], "metadata": {"title": "Depart"}}, *all_[1:]]),
        {"chapters"},
    ),
    "a tag": Loss("chapters.mkv", ".mp4", copying(tags=lambda _: {"title": "Corpus"}), {"tags"}),
    "a language": Loss(
        "tracks.mkv", ".mp4", copying(stream=on_stream(2, without_tag("language"))), {"languages"}
    ),
    "a title": Loss(
        "tracks.mp4", ".mp4", copying(stream=on_stream(3, without_tag("title"))), {"titles"}
    ),
    "that audio is a commentary": Loss(
        "tracks.mkv", ".mkv", copying(stream=on_stream(3, plain(0))), {"dispositions"}
    ),
    "which audio is the default": Loss(
        "tracks.mkv", ".mkv", copying(stream=on_stream(1, plain(0))), {"dispositions"}
    ),
    "a font": Loss(
        "subtitles.mkv", ".mkv", copying(skip=lambda one: one.type == "attachment"), {"attachments"}
    ),
    "bytes of a font": Loss("subtitles.mkv", ".mkv", damaged_font, {"attachments"}),
    "a cover, which became a film": Loss(
        "cover.mkv", ".mkv", copying(cover=False), {"cover art", "streams"}
    ),
    "a cover": Loss("cover.mp4", ".mp4", copying(skip=lambda one: one.index == 2), {"cover art"}),
    "the rotation": Loss(
        "phone.mp4",
        ".mp4",
        copying(stream=on_stream(0, lambda one: one.set_display_rotation(0))),
        {"rotation"},
    ),
    "the shape of a pixel": Loss(
        "anamorphic.mp4", ".mp4", recoding(setting=aspect(1, 1)), {"aspect ratio"}
    ),
    "the primaries": Loss(
        "full-chroma.mp4", ".mkv", recoding(setting=color("color_primaries", 9)), {"color"}
    ),
    "the matrix": Loss(
        "full-chroma.mp4", ".mkv", recoding(setting=color("colorspace", 6)), {"color"}
    ),
    "the transfer": Loss(
        "full-chroma.mp4", ".mkv", recoding(setting=color("color_trc", 2)), {"color"}
    ),
    "bits": Loss(
        "prores.mov", ".mkv", recoding(pixel_format="yuv422p"), {"pixel format"}
    ),
    "chroma": Loss("full-chroma.mp4", ".mp4", recoding(pixel_format="yuv420p"), {"pixel format"}),
    "alpha": Loss("animation.mov", ".mkv", recoding(pixel_format="yuv444p"), {"pixel format"}),
    "HDR10's brightness": Loss(
        "hdr10.mkv",
        ".mkv",
        recoding(
            codec="libx265",
            options={"preset": "ultrafast", "crf": "16", "x265-params": "log-level=error:pools=1"},
        ),
        {"HDR metadata"},
    ),
    "pixels": Loss("plain.mkv", ".mkv", recoding(setting=size(128, 96)), {"resolution"}),
    "the last two frames": Loss(
        "plain.mkv", ".mkv", recoding(lambda all_: all_[:-2]), {"frames", "duration"}
    ),
    "the first frame": Loss("plain.mkv", ".mp4", recoding(lambda all_: all_[1:]),
                            {"frames", "duration"}),
    "a frame in the middle": Loss(
        "film.mp4", ".mp4", recoding(lambda all_: all_[:20] + all_[21:]), {"frames"}
    ),
    "nothing, but one frame is doubled": Loss(
        "plain.mkv", ".mkv", recoding(one_more), {"added frames"}
    ),
    "a frame replaced by the one before": Loss(
        "plain.mkv", ".mkv", recoding(again), {"frame content"}),
    "a frame of delay": Loss("plain.mkv", ".mkv", recoding(one_by_one_later), {"frame content"}),
    "sharpness": Loss(
        "film.mp4",
        ".mp4",
        recoding(options={"preset": "ultrafast", "crf": "44"}),
        {"frame content"},
    ),
    "23.976, which became 24": Loss(
        "film.mp4",
        ".mp4",
        recoding(at_24, clock=Fraction(1, 24)),
        {"frames", "added frames", "duration"},
        ONCE,
    ),
    "an uneven rate": Loss(
        "vfr.mp4",
        ".mp4",
        recoding(at_25_of_the_first, clock=Fraction(1, 25)),
        {"frames", "added frames", "duration", "frame content"},
        ONCE,
    ),
    "a cut, mixed": Loss(
        CUTS, ".mp4", recoding(doubled(0.5), clock=Fraction(1, 50)), {"scene changes"}, TWICE
    ),
    "a cut, mixed a little": Loss(
        CUTS, ".mkv", recoding(doubled(0.2), clock=Fraction(1, 50)), {"scene changes"}, TWICE
    ),
    "half of the frames requested": Loss(
        CUTS, ".mkv", copying(), {"added frames"}, TWICE
    ),
    "closed captions": Loss(
        "captions.mp4", ".mp4", recoding(without_captions), {"side data"}
    ),
    "two fields": Loss("interlaced.mp4", ".mp4", recoding(), {"interlacing"}, ONCE),
    "the end of the file": Loss(
        "plain.mkv", ".mkv", cut_off, {"complete", "frames", "duration", "packets"}
    ),
    "the requested codec": Loss(
        "plain.mkv", ".mkv", copying(), {"codec"}, replace(ONCE, video_codec="hevc")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_fails_exactly_the_checks_for_it(
    name: str, recordings: Corpus, tmp_path: Path
) -> None:
    loss = LOSSES[name]
    target = tmp_path / f"copy{loss.target}"
    source = recordings[loss.source]
    loss.how(source, target)
    report = verify(source, target, expected=loss.expected)
    details = {one.name: one.detail for one in report.checks if not one.ok}
    assert set(report.failed()) == loss.found, details
