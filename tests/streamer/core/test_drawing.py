"""Drawing: marks where they belong, and not one pixel changed anywhere else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.drawing import AMBER, GREEN, RED, WHITE, Color, Painter, _ink, no_signal
from streamer.core.image import Canvas, ColorTags

SIZES = [(96, 160), (97, 161), (31, 64), (480, 853)]
sizes = st.sampled_from([(48, 64), (49, 65), (37, 90), (400, 61)])
shares = st.integers(0, 24).map(lambda value: value / 24)
spans = st.tuples(shares, shares).map(sorted)
colors = st.sampled_from([RED, AMBER, GREEN, WHITE])
LUMA, CHROMA = 200, 100
"""What the planes of a fresh canvas hold: none of the colors."""


def canvas_of(size, *, full_range: bool = False) -> Canvas:
    canvas = Canvas.blank(size, color=ColorTags(1, 1, 1, full_range))
    for plane, level in zip(canvas.planes, (LUMA, CHROMA, CHROMA), strict=True):
        plane[:] = level
    return canvas


def changed(canvas: Canvas):
    """Where luma and where either chroma differs from a fresh canvas."""
    y, u, v = canvas.planes
    return y != LUMA, (u != CHROMA) | (v != CHROMA)


def bounds(mask) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of what is set; `None` of nothing."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def inside(mask, box, *, slack: float) -> bool:
    """Whether all that is set lies in a box in pixels, or *slack* pixels around it."""
    found = bounds(mask)
    if found is None:
        return True
    near = [at >= edge - slack for at, edge in zip(found[:2], box[:2], strict=True)]
    far = [at <= edge + slack for at, edge in zip(found[2:], box[2:], strict=True)]
    return all(near + far)


def pixels(box, size) -> tuple[float, float, float, float]:
    return box[0] * size[1], box[1] * size[0], box[2] * size[1], box[3] * size[0]


@pytest.mark.parametrize(
    ("height", "line", "text"), [(48, 1, 9), (360, 1, 10), (720, 2, 20), (2160, 6, 60)]
)
def test_lines_and_letters_follow_the_height_of_the_image(height, line, text):
    painter = Painter(canvas_of((height, 16)))
    assert (painter.line, painter.text_height) == (line, text)


@pytest.mark.parametrize(("full_range", "luma"), [(True, 105), (False, 106)])
def test_a_color_fits_the_range_of_the_image(full_range, luma):
    canvas = canvas_of((720, 320), full_range=full_range)
    Painter(canvas).box((0.25, 0.25, 0.75, 0.75), RED)
    assert canvas.planes[0].min() == luma
    # The corner of the box is at 80, 180; its mark two lines of two pixels further out.
    assert canvas.planes[0][176, 80:110].tolist() == [luma] * 30
    assert (canvas.planes[1][88, 38], canvas.planes[2][88, 38]) == (RED.u, RED.v)


@pytest.mark.parametrize("size", SIZES)
def test_a_box_is_four_corners_around_what_it_marks(size):
    canvas = canvas_of(size)
    Painter(canvas).box((0.25, 0.25, 0.75, 0.75), RED)
    luma, chroma = changed(canvas)
    left, top, right, bottom = (round(at) for at in pixels((0.25, 0.25, 0.75, 0.75), size))
    assert not luma[top:bottom, left:right].any()
    assert not chroma[top // 2 + 1 : bottom // 2, left // 2 + 1 : right // 2].any()
    # A quarter of the shorter side is drawn from each corner, so the middles stay free.
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    assert not luma[:, middle_x].any()
    assert not luma[middle_y].any()
    quarters = [luma[:middle_y], luma[middle_y:]]
    assert all(q[:, :middle_x].any() and q[:, middle_x:].any() for q in quarters)


@given(size=sizes, across=spans, down=spans, color=colors)
def test_a_box_changes_nothing_further_out_than_its_lines(size, across, down, color):
    canvas = canvas_of(size)
    painter = Painter(canvas)
    painter.box((across[0], down[0], across[1], down[1]), color)
    around = pixels((across[0], down[0], across[1], down[1]), size)
    luma, chroma = changed(canvas)
    # Two lines out, half a line thick, softened by one; at a border a corner has 4 pixels at least.
    slack = max(4, 3 * painter.line + 2)
    assert inside(luma, around, slack=slack)
    assert inside(chroma, [at / 2 for at in around], slack=slack / 2 + 1)
    assert luma.any()
    assert chroma.any()


def test_a_box_around_everything_is_drawn_along_the_border():
    for size in SIZES:
        canvas = canvas_of(size)
        Painter(canvas).box((0, 0, 1, 1), RED)
        luma, chroma = changed(canvas)
        for edge in (luma[0], luma[-1], luma[:, 0], luma[:, -1]):
            assert edge[: min(size) // 4].all()
            assert not edge[len(edge) // 2]
        assert bounds(chroma) == (0, 0, (size[1] + 1) // 2, (size[0] + 1) // 2)


@given(
    size=sizes,
    at=st.tuples(st.integers(-20, 120), st.integers(-20, 420)),
    text=st.sampled_from(["", "A", "smoke 0.93", "a very long name of a camera"]),
    scale=st.sampled_from([0.8, 1.0, 2.0]),
)
def test_a_text_changes_one_plate_that_fits_and_says_where_it_ends(size, at, text, scale):
    canvas = canvas_of(size)
    painter = Painter(canvas)
    end = painter.text(text, at, WHITE, scale=scale)
    height, width = _ink(text, max(9, round(painter.text_height * scale))).shape
    luma, chroma = changed(canvas)
    left, top, right, bottom = bounds(luma)
    assert right == end
    assert left == max(0, min(at[0], size[1] - width)) // 2 * 2
    assert top == max(0, min(at[1], size[0] - height)) // 2 * 2
    assert (right - left, bottom - top) == (min(width, size[1] - left), min(height, size[0] - top))
    half = (left // 2, top // 2, (right + 1) // 2, (bottom + 1) // 2)
    assert bounds(chroma) == half
    assert chroma[half[1] : half[3], half[0] : half[2]].all()


def test_letters_have_their_color_on_a_plate_that_shines_through():
    canvas = canvas_of((96, 160), full_range=True)
    background, letters = Color(20, 60, 180), Color(240, 220, 30)
    end = Painter(canvas).text("HHH", (10, 20), letters, background=background, scale=3)
    planes = canvas.planes
    # Three tenths of the ground, seven of the background.
    assert (planes[0][20, 10], planes[1][10, 5], planes[2][10, 5]) == (74, 72, 156)
    assert planes[0][20, 10:end].max() == 74
    assert (planes[0].max(), planes[1].max(), planes[2].min()) == (240, 220, 30)


def test_texts_side_by_side_do_not_overlap():
    canvas = canvas_of((96, 160))
    painter = Painter(canvas)
    end = painter.text("one", (4, 4), WHITE)
    before = canvas.planes[0][:, : end // 2 * 2].copy()
    painter.text("two", (end, 4), RED)
    assert np.array_equal(canvas.planes[0][:, : end // 2 * 2], before)


def test_what_the_font_lacks_shows_as_a_question_mark():
    assert np.array_equal(_ink("\N{FIRE}", 12), _ink("?", 12))


def test_letters_are_made_once_and_nobody_writes_into_them():
    first = _ink("camera", 12)
    assert _ink("camera", 12) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


@pytest.mark.parametrize(("probability", "weight"), [(1.0, 0.65), (0.75, 0.425), (0.51, 0.209)])
def test_a_tint_mixes_in_more_the_surer_the_smoke(probability, weight):
    canvas = canvas_of((97, 161))
    Painter(canvas).tint(np.full((12, 20), probability, np.float32), (0, 0, 1, 1), RED, floor=0.5)
    assert (canvas.planes[0] == LUMA).all()
    assert np.unique(canvas.planes[1]).tolist() == [round(CHROMA + weight * (RED.u - CHROMA))]
    assert np.unique(canvas.planes[2]).tolist() == [round(CHROMA + weight * (RED.v - CHROMA))]


@pytest.mark.parametrize(("probability", "floor"), [(0.5, 0.5), (0.1, 0.5), (1.0, 1.0)])
def test_nothing_is_drawn_where_nothing_exceeds_the_floor(probability, floor):
    canvas = canvas_of((97, 161))
    painter = Painter(canvas)
    probability = np.full((12, 20), probability, np.float32)
    painter.tint(probability, (0, 0, 1, 1), RED, floor=floor)
    painter.outline(probability, (0, 0, 1, 1), RED, floor=floor)
    assert not any(mask.any() for mask in changed(canvas))


@given(size=sizes, across=spans, down=spans, seed=st.integers(0, 9))
def test_a_tint_stays_in_its_box_and_between_the_old_and_the_new_color(size, across, down, seed):
    canvas = canvas_of(size)
    probability = np.random.default_rng(seed).random((12, 20), np.float32)
    box = (across[0], down[0], across[1], down[1])
    Painter(canvas).tint(probability, box, RED, floor=0.3)
    luma, chroma = changed(canvas)
    assert not luma.any()
    cell = max(size[0] / 12, size[1] / 20)
    assert inside(chroma, [at / 2 for at in pixels(box, size)], slack=cell + 1)
    for plane, level in ((canvas.planes[1], RED.u), (canvas.planes[2], RED.v)):
        assert plane.min() >= min(CHROMA, level)
        assert plane.max() <= max(CHROMA, level)


@given(size=sizes, across=spans, down=spans, seed=st.integers(0, 9))
def test_an_outline_stays_in_its_box(size, across, down, seed):
    canvas = canvas_of(size)
    painter = Painter(canvas)
    probability = np.random.default_rng(seed).random((12, 20), np.float32)
    box = (across[0], down[0], across[1], down[1])
    painter.outline(probability, box, RED, floor=0.3)
    luma, chroma = changed(canvas)
    slack = 2 * max(size[0] / 12, size[1] / 20) + painter.line + 2
    assert inside(luma, pixels(box, size), slack=slack)
    assert inside(chroma, [at / 2 for at in pixels(box, size)], slack=slack / 2 + 1)


@pytest.mark.parametrize("size", [(120, 200), (121, 201)])
def test_smoke_is_outlined_around_and_tinted_within(size):
    probability = np.zeros((12, 20), np.float32)
    probability[3:9, 5:15] = 1  # 30 to 90 down, 50 to 150 across, the edge at half a probability.
    drawn, tinted = canvas_of(size), canvas_of(size)
    Painter(drawn).outline(probability, (0.25, 0.25, 0.75, 0.75), GREEN, floor=0.5)
    Painter(tinted).tint(probability, (0.25, 0.25, 0.75, 0.75), GREEN, floor=0.5)
    luma, chroma = changed(drawn)
    assert inside(luma, (50, 30, 150, 90), slack=3)
    assert luma[60, 47:54].any()
    assert luma[60, 147:154].any()
    assert luma[27:34, 100].any()
    assert luma[87:94, 100].any()
    assert not luma[36:84, 56:144].any()
    assert not chroma[18:42, 28:72].any()
    tint = changed(tinted)[1]
    assert tint[18:42, 28:72].all()
    assert inside(tint, (25, 15, 75, 45), slack=6)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (31, 17), (45, 200), (361, 641)])
def test_the_card_has_the_size_of_the_image_that_is_missing(size):
    card = no_signal(size, camera="a long name of a camera", since="10:00 UTC", reason="late")
    assert card.size == size


def test_the_card_is_dark_with_words_below_a_third():
    card = no_signal(None, camera="yard", since="10:00 UTC")
    luma = card.luma()
    assert card.size == (360, 640)
    assert np.unique(luma[:120]).tolist() == [np.median(luma)]
    assert np.median(luma) < 50
    assert luma[120:].max() > 200
    late = no_signal(None, camera="yard", since="10:00 UTC", reason="late").luma()
    assert bounds(late != luma)[1] >= bounds(luma != np.median(luma))[3]
    assert np.array_equal(luma, no_signal(None, camera="yard", since="10:00 UTC").luma())
