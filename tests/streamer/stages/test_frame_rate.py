"""Frame-rate stage: no interpolation across a scene change, duplicates replaced by motion."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.interpolation.scene_change import Relation
from streamer.core.frame import Frame
from streamer.core.frame_schedule import FrameSchedule
from streamer.core.image import ColorTags, Image
from streamer.core.pixel_format import planar_layout
from streamer.stages.frame_rate import FrameRateConverter

STEP_NS = 40_000_000
LAYOUT = planar_layout("yuv420p")
CHROMA = np.full((4, 4), 128, np.uint8)
FAR = 50
"""Gray levels between the frames around a scene change."""


class LinearInterpolator:
    """Interpolates gray levels, and records the frames that it was given."""

    def __init__(self):
        self.pairs = []

    def between(self, before, after, *, depth, rgb):
        assert (depth, rgb) == (8, False)
        self.pairs.append((int(before[0][0, 0]), int(after[0][0, 0])))
        return _Mixed(before, after)


class _Mixed:
    def __init__(self, before, after):
        self.planes = before, after

    def at(self, t):
        assert 0 < t < 1
        return [
            np.rint(one + (other.astype(float) - one) * t).astype(np.uint8)
            for one, other in zip(*self.planes, strict=True)
        ]


def compare(before, after):
    apart = abs(int(before[0, 0]) - int(after[0, 0]))
    if apart == 0:
        return Relation.SAME
    return Relation.CUT if apart >= FAR else Relation.MOVING


def image(level):
    return Image.from_planes((np.full((8, 8), level, np.uint8), CHROMA, CHROMA), ColorTags())


def frames(levels, times_ns=None):
    times_ns = times_ns or [number * STEP_NS for number in range(len(levels))]
    return [
        Frame(image(level), pts_ns, pts_ns, number)
        for number, (level, pts_ns) in enumerate(zip(levels, times_ns, strict=True))
    ]


def stage(
    schedule=None, *, interpolator=None, window_ns, interpolate_duplicates=True, fake=compare
):
    return FrameRateConverter(
        schedule or FrameSchedule(factor=2),
        LAYOUT,
        interpolator=interpolator or LinearInterpolator(),
        compare=fake,
        interpolate_duplicates=interpolate_duplicates,
        window_ns=window_ns,
    )


def run(levels, schedule=None, **more):
    """Return (milliseconds, gray level, synthetic) of each output frame, and the stage."""
    stage_ = stage(schedule, window_ns=(0, len(levels) * STEP_NS), **more)
    return [summary(frame) for frame in stage_(iter(frames(levels)))], stage_


def summary(frame):
    return frame.pts_ns // 1_000_000, int(frame.image.luma()[0, 0]), frame.synthetic


def test_a_frame_comes_between_each_two_and_the_last_one_is_repeated():
    shown, stage_ = run([10, 20, 30])
    assert shown == [
        (0, 10, False), (20, 15, True), (40, 20, False), (60, 25, True), (80, 30, False),
        (100, 30, False),
    ]  # fmt: skip
    assert (stage_.synthetic, stage_.scene_changes, stage_.duplicates) == (2, 0, 0)


def test_originals_go_on_as_the_very_same_images():
    given_frames = frames([10, 20, 30])
    stage_ = stage(window_ns=(0, 3 * STEP_NS))
    originals = [one for one in stage_(iter(given_frames)) if not one.synthetic]
    assert [one.image for one in originals[:3]] == [one.image for one in given_frames]


def test_at_a_scene_change_the_frame_is_repeated_and_the_change_counted():
    shown, stage_ = run([10, 20, 200, 210])
    assert shown == [
        (0, 10, False), (20, 15, True), (40, 20, False), (60, 20, False), (80, 200, False),
        (100, 205, True), (120, 210, False), (140, 210, False),
    ]  # fmt: skip
    assert (stage_.synthetic, stage_.scene_changes) == (2, 1)


def test_consecutive_scene_changes_are_each_counted():
    shown, stage_ = run([10, 100, 200, 10])
    assert [level for _, level, _ in shown] == [10, 10, 100, 100, 200, 200, 10, 10]
    assert stage_.scene_changes == 3


def test_motion_replaces_a_duplicate():
    shown, stage_ = run([10, 20, 20, 40])
    assert shown == [
        (0, 10, False), (20, 15, True), (40, 20, False), (60, 25, True), (80, 30, True),
        (100, 35, True), (120, 40, False), (140, 40, False),
    ]  # fmt: skip
    assert stage_.duplicates == 1


def test_duplicates_stay_when_they_are_not_interpolated():
    shown, stage_ = run([10, 20, 20, 40], interpolate_duplicates=False)
    assert shown == [
        (0, 10, False), (20, 15, True), (40, 20, False), (60, 20, False), (80, 20, False),
        (100, 30, True), (120, 40, False), (140, 40, False),
    ]  # fmt: skip
    assert stage_.duplicates == 1


@pytest.mark.parametrize(("repeats", "moves"), [(1, True), (3, True), (4, False), (9, False)])
def test_a_freeze_of_more_than_three_duplicates_stays_as_it_is(repeats, moves):
    shown, stage_ = run([10, *[20] * (1 + repeats), 60])
    within = [level for time, level, _ in shown if 40 < time < 40 * (1 + repeats)]
    assert (set(within) != {20}) is moves
    assert stage_.duplicates == repeats


def test_after_a_long_freeze_motion_goes_on_from_its_last_frame():
    shown, _ = run([20] * 6 + [40])
    assert [level for _, level, _ in shown] == [20] * 11 + [30, 40, 40]


def test_duplicates_before_a_scene_change_stay_as_they_are():
    shown, stage_ = run([20, 20, 20, 200])
    assert [level for _, level, _ in shown] == [20] * 6 + [200] * 2
    assert (stage_.scene_changes, stage_.duplicates) == (1, 2)


def test_duplicates_at_the_end_stay_as_they_are():
    shown, _ = run([10, 20, 20])
    assert [level for _, level, _ in shown] == [10, 15, 20, 20, 20, 20]


def test_two_frames_are_given_to_the_interpolator_once_for_all_times_between():
    interpolator = LinearInterpolator()
    run([10, 20, 20, 50], FrameSchedule(factor=4), interpolator=interpolator)
    assert interpolator.pairs == [(10, 20), (20, 50)]


@pytest.mark.parametrize("levels", [[10], [10, 20], [10, 200], [10, 10]])
@pytest.mark.parametrize("factor", [1, 2, 5])
def test_a_factor_multiplies_the_frames(levels, factor):
    shown, _ = run(levels, FrameSchedule(factor=factor))
    assert len(shown) == factor * len(levels)


def test_without_an_interpolator_frames_are_repeated_and_nothing_is_compared():
    def never(*_):
        raise AssertionError

    stage_ = FrameRateConverter(
        FrameSchedule(factor=2),
        LAYOUT,
        interpolator=None,
        compare=never,
        interpolate_duplicates=True,
        window_ns=(0, 2 * STEP_NS),
    )
    levels = [summary(one)[1] for one in stage_(iter(frames([10, 200])))]
    assert levels == [10, 10, 200, 200]


def test_a_rate_below_that_of_the_recording_drops_frames():
    shown, _ = run([10, 20, 30, 40], FrameSchedule(rate=Fraction(25, 2)))
    assert shown == [(0, 10, False), (80, 30, False)]


def test_nearly_the_right_frame_is_the_right_frame_itself():
    """Times that a container rounded: the grid falls a hundredth before the second frame."""
    times = [0, 40_400_000, 80_000_000]
    stage_ = stage(FrameSchedule(rate=Fraction(25)), window_ns=(0, 120_000_000))
    shown = [summary(one) for one in stage_(iter(frames([10, 20, 30], times)))]
    assert shown == [(0, 10, False), (40, 20, False), (80, 30, False)]
    stage_ = stage(FrameSchedule(rate=Fraction(25)), window_ns=(0, 120_000_000))
    shown = [summary(one) for one in stage_(iter(frames([10, 200, 210], times)))]
    assert shown == [(0, 10, False), (40, 200, False), (80, 210, False)], "at a scene change too"


def test_frames_before_a_chunk_are_ignored_and_the_next_one_is_only_interpolated_with():
    stage_ = stage(window_ns=(2 * STEP_NS, 4 * STEP_NS))
    shown = [summary(frame) for frame in stage_(iter(frames([10, 20, 30, 40, 60])))]
    assert shown == [(80, 30, False), (100, 35, True), (120, 40, False), (140, 50, True)]


def test_a_scene_change_between_two_chunks_is_counted_once():
    whole = frames([10, 20, 200, 210])
    first = stage(window_ns=(0, 2 * STEP_NS))
    second = stage(window_ns=(2 * STEP_NS, 4 * STEP_NS))
    shown = [*first(iter(whole[:3])), *second(iter(whole[2:]))]
    assert [summary(one)[1] for one in shown] == [10, 15, 20, 20, 200, 205, 210, 210]
    assert first.scene_changes + second.scene_changes == 1


@st.composite
def moving(draw):
    """Levels of which no two neighbors are equal, their times, and where chunks begin."""
    levels = draw(st.lists(st.integers(0, 255), min_size=2, max_size=30))
    levels = [levels[0], *(b for a, b in pairwise(levels) if a != b)]
    steps = draw(
        st.lists(st.integers(1, 200), min_size=len(levels), max_size=len(levels), unique=False)
    )
    times = [sum(steps[:number]) * 1_000_000 for number in range(len(levels) + 1)]
    cuts = draw(st.sets(st.integers(1, max(1, len(levels) - 1)), max_size=4))
    return levels, times, sorted(cut for cut in cuts if cut < len(levels))


SCHEDULES = [
    FrameSchedule(),
    FrameSchedule(factor=2),
    FrameSchedule(factor=3),
    FrameSchedule(factor=2, speed=Fraction(1, 2)),
    FrameSchedule(rate=Fraction(60)),
    FrameSchedule(rate=Fraction(24_000, 1001)),
]


@given(moving(), st.sampled_from(SCHEDULES))
def test_chunks_yield_what_one_piece_yields(recording, schedule):
    levels, times, cuts = recording
    whole = frames(levels, times[:-1])

    def shown(begin, end):
        stage_ = stage(schedule, window_ns=(times[begin], times[end]))
        seen = [summary(one) for one in stage_(iter(whole[begin : end + 1]))]
        return seen, (stage_.scene_changes, stage_.synthetic)

    edges = [0, *cuts, len(levels)]
    # The last one first: chunks are independent of each other.
    pieces = [shown(begin, end) for begin, end in reversed(list(pairwise(edges)))][::-1]
    one, counts = shown(0, len(levels))
    assert [frame for seen, _ in pieces for frame in seen] == one
    assert tuple(map(sum, zip(*(found for _, found in pieces), strict=True))) == counts


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 4), st.booleans())
def test_every_time_comes_once_with_any_duplicates_and_scene_changes(
    steps, factor, interpolate_duplicates
):
    levels = [60 * step for step in steps]
    shown, stage_ = run(
        levels, FrameSchedule(factor=factor), interpolate_duplicates=interpolate_duplicates
    )
    wanted = [
        (number * STEP_NS + part * STEP_NS // factor) // 1_000_000
        for number in range(len(levels))
        for part in range(factor)
    ]
    assert [time for time, _, _ in shown] == wanted
    assert stage_.synthetic == sum(synthetic for _, _, synthetic in shown) == 0
    assert stage_.duplicates == sum(a == b for a, b in pairwise(levels))


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv444p", "gbrp", "gray", "yuva420p"])
def test_interpolated_frames_have_the_pixel_format_of_the_recording(pixel_format):
    import av

    layout = planar_layout(pixel_format)
    made = []
    for number in range(2):
        frame = av.VideoFrame(8, 8, pixel_format)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.color_primaries, frame.color_trc, frame.colorspace = 9, 16, 9
        made.append(Frame(Image(frame), number * STEP_NS, number * STEP_NS, number))

    class Copies:
        def between(self, before, after, *, depth, rgb):
            assert (depth, rgb) == (layout.depth, layout.rgb)
            self.planes = before
            return self

        def at(self, t):
            return [plane.copy() for plane in self.planes]

    stage_ = FrameRateConverter(
        FrameSchedule(factor=2),
        layout,
        interpolator=Copies(),
        compare=None,
        interpolate_duplicates=True,
        window_ns=(0, 2 * STEP_NS),
    )
    (between,) = (one for one in stage_(iter(made)) if one.synthetic)
    frame = between.image.video_frame()
    assert frame.format.name == pixel_format
    assert (frame.color_primaries, frame.color_trc, int(frame.colorspace)) == (9, 16, 9)
