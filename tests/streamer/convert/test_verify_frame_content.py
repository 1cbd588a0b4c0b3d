"""Image metrics, and the choice and decoding of samples."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.convert.inspection import inspect
from streamer.convert.verify import verify
from streamer.convert.verify.image_metrics import (
    blend_ratio,
    correlation,
    is_duplicate,
    psnr,
    scene_changes,
    scene_similarity,
    thumbnail,
)
from streamer.convert.verify.sample_decode import choose_segments, decode_range
from tests.support.corpus import Corpus, steady
from tests.support.corpus_frames import frame_image, number_in
from tests.support.corpus_writing import Video, write

Image = NDArray[np.uint8]


def frame(image: Image, layout: str = "yuv420p") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=layout)


def shown(number: int, scene: int = 0) -> Image:
    return frame_image(number, width=320, height=180, scene=scene)


def test_only_a_new_scene_is_a_scene_change() -> None:
    scenes = [0] * 10 + [1] * 10 + [2] + [3] * 9
    thumbnails = {n: thumbnail(frame(shown(n, scene))) for n, scene in enumerate(scenes)}
    assert scene_changes(thumbnails) == [10, 20, 21]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image // 3,  # The light goes out.
        lambda image: 255 - (255 - image) // 2,  # A flash.
        lambda image: np.roll(image, 20, axis=1),  # The camera is turned.
    ],
)
def test_light_and_motion_are_no_scene_changes(change) -> None:
    before = thumbnail(frame(shown(0)))
    after = thumbnail(frame(change(shown(0)).astype(np.uint8)))
    assert scene_changes({0: before, 1: after}) == []
    assert scene_similarity(before, after) > 0.7


@pytest.mark.parametrize("share", [0, 0.1, 0.25, 0.5, 0.9, 1])
def test_a_blend_is_measured(share: float) -> None:
    left, right = shown(5), shown(6, 1)
    mixed = (left * (1 - share) + right * share).astype(np.uint8)
    found = blend_ratio(*(thumbnail(frame(one)) for one in (mixed, left, right)))
    assert found == pytest.approx(share, abs=0.02)


def test_correlation_recognizes_a_frame_in_another_light() -> None:
    dark = [thumbnail(frame(shown(n) // 3)) for n in (4, 5, 6)]
    mine = thumbnail(frame(shown(5)))
    found = [correlation(mine, one) for one in dark]
    assert found[1] == max(found)
    assert found[1] > 0.99


def test_a_duplicate_is_distinguished_from_small_motion() -> None:
    one = shown(7)
    noisy = np.clip(one + np.random.default_rng(1).integers(-2, 3, one.shape), 0, 255)
    moved = one.copy()
    moved[40:80, 40:80] = np.roll(one[40:80, 40:80], 8, axis=1)
    assert is_duplicate(frame(one), frame(noisy.astype(np.uint8)))
    assert not is_duplicate(frame(one), frame(moved))
    assert not is_duplicate(frame(one), frame(shown(8)))


@pytest.mark.parametrize(
    "layout",
    ["yuv420p", "yuv422p10le", "yuv444p", "gbrp", "gbrp10le", "gray", "gray10le", "rgb24", "bgra",
     "rgb48le", "nv12", "p010le", "yuva420p", "yuvj420p", "gbrpf32le"],
)  # fmt: skip
def test_psnr_is_measured_in_any_pixel_format(layout: str) -> None:
    one = shown(3)
    off = np.clip(one.astype(int) + 8, 0, 255).astype(np.uint8)
    assert psnr(frame(one, layout), frame(one, layout)) == np.inf
    # All grey levels are off by 8 of 255: 30 dB, and more where chroma or range dampen it.
    assert 29 < psnr(frame(one, layout), frame(off, layout)) < 37


def paletted(image: Image) -> av.VideoFrame:
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
    palette[:, 0] = 255  # Opaque.
    indexes = image.mean(axis=2).astype(np.uint8)
    return av.VideoFrame.from_ndarray((indexes, palette), format="pal8")  # type: ignore[arg-type]


def test_psnr_is_measured_with_a_palette() -> None:
    one = shown(3)
    off = np.clip(one.astype(int) + 8, 0, 255).astype(np.uint8)
    assert psnr(paletted(one), paletted(one)) == np.inf
    assert 29 < psnr(paletted(one), paletted(off)) < 37


def test_psnr_of_two_pixel_formats_covers_what_both_hold() -> None:
    one = shown(3)
    assert psnr(frame(one, "yuv420p10le"), frame(one)) > 45
    assert psnr(frame(one, "yuv444p"), frame(one)) > 40


@pytest.mark.parametrize(
    "file",
    ["film.mp4", "vfr.mkv", "b-frames.mp4", "open-gop.mkv", "open-gop.mp4", "late.mkv", "wrap.ts",
     "vp9.webm", "prores.mov", "old.avi"],
)  # fmt: skip
def test_any_range_is_decoded_with_the_right_numbers(file: str, recordings: Corpus) -> None:
    media = inspect(recordings[file])
    for first, last in ((0, 3), (5, 9), (13, 13), (24, 29), (11, 29)):
        found = [(place, number_in(one)) for place, one in decode_range(media, first, last)]
        assert found == [(place, place) for place in range(first, last + 1)]


def test_samples_of_a_long_recording_include_its_ends(tmp_path: Path) -> None:
    film = Video(
        times=steady(3000, Fraction(25)), clock=Fraction(1, 25), gop=50, width=64, height=48
    )
    path = write(tmp_path / "long.mkv", film)
    video = inspect(path).video
    assert video is not None
    some = choose_segments(video, video, thorough=False)
    assert not some.cover_all
    assert some.ranges[0] == (0, 23)
    assert some.ranges[-1] == (2976, 2999)
    assert all(first % 50 == 0 for first, _ in some.ranges[:-1])
    every = choose_segments(video, video, thorough=True)
    assert every.cover_all
    assert every.ranges == ((0, 1000), (1000, 2000), (2000, 2999))
    report = verify(path, path, thorough=True)
    assert report.ok
    assert report.thorough
    assert not verify(path, path).thorough
