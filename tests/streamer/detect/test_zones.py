"""Zones: drawn masks against the plain question of whether a point lies in a polygon."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.detect.zones import Zones

WHOLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
MIDDLE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
TRIANGLE = ((0.1, 0.1), (0.9, 0.1), (0.1, 0.9))

shares = st.integers(0, 100).map(lambda value: value / 100)
points = st.tuples(shares, shares)
sizes = st.tuples(st.integers(4, 40), st.integers(4, 40))


@st.composite
def convex(draw):
    """Corners on an ellipse, in order."""
    x, y = draw(st.floats(0.2, 0.8)), draw(st.floats(0.2, 0.8))
    across, down = draw(st.floats(0.05, 0.5)), draw(st.floats(0.05, 0.5))
    turns = sorted(draw(st.sets(st.integers(0, 35), min_size=3, max_size=8)))
    corners = [
        (x + across * math.cos(turn * math.pi / 18), y + down * math.sin(turn * math.pi / 18))
        for turn in turns
    ]
    return tuple((min(1.0, max(0.0, a)), min(1.0, max(0.0, b))) for a, b in corners)


def contains(polygon, x: float, y: float) -> bool:
    """Whether a ray to the right crosses the border an odd number of times."""
    inside = False
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


def to_border(polygon, x: float, y: float) -> float:
    distances = []
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = 0 if length == 0 else ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length
        along = min(1, max(0, along))
        distances.append(math.dist((x, y), (x0 + along * (x1 - x0), y0 + along * (y1 - y0))))
    return min(distances)


def clear_pixels(polygons, size):
    """Row, column and the centre of pixels that no border comes near: a pixel and a bit."""
    height, width = size
    scaled = [tuple((x * width, y * height) for x, y in polygon) for polygon in polygons]
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            if all(to_border(polygon, x, y) > 1.1 for polygon in scaled):
                yield row, column, [contains(polygon, x, y) for polygon in scaled]


def test_without_zones_there_is_no_mask():
    assert Zones().mask((10, 20)) is None


@pytest.mark.parametrize("size", [(1, 1), (9, 16), (7, 13), (96, 160)])
def test_the_whole_frame_is_every_pixel(size):
    assert Zones(include=(WHOLE,)).mask(size).all()
    assert not Zones(exclude=(WHOLE,)).mask(size).any()


def test_a_polygon_lies_where_its_coordinates_say_x_first():
    mask = Zones(include=(((0.0, 0.0), (0.25, 0.0), (0.25, 1.0), (0.0, 1.0)),)).mask((40, 80))
    assert mask.shape == (40, 80)
    assert mask[:, :20].all()
    assert not mask[:, 21:].any()


def test_a_rectangle_between_pixels_covers_the_pixels_whose_centres_it_holds():
    # 2.1 to 7.9 pixels across and down: centres 2.5 to 7.5.
    mask = Zones(include=(((0.21, 0.21), (0.79, 0.21), (0.79, 0.79), (0.21, 0.79)),)).mask((10, 10))
    wanted = np.zeros((10, 10), np.uint8)
    wanted[2:8, 2:8] = 1
    assert np.array_equal(mask, wanted)


def test_excluding_wins_whatever_is_included():
    mask = Zones(include=(WHOLE, MIDDLE), exclude=(MIDDLE,)).mask((40, 40))
    assert not mask[11:29, 11:29].any()
    assert mask[:9].all()
    assert mask[31:].all()
    assert mask[:, :9].all()
    assert mask[:, 31:].all()


def test_included_areas_that_overlap_add_up():
    left = ((0.0, 0.0), (0.6, 0.0), (0.6, 1.0), (0.0, 1.0))
    right = ((0.4, 0.0), (1.0, 0.0), (1.0, 1.0), (0.4, 1.0))
    assert Zones(include=(left, right)).mask((20, 20)).all()


def test_a_concave_polygon_leaves_its_notch_out():
    arrow = ((0.0, 0.0), (0.5, 0.5), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    mask = Zones(include=(arrow,)).mask((40, 40))
    assert not mask[2:15, 20].any()
    assert mask[25:, 20].all()
    assert mask[10, 2] == mask[10, 37] == 1


def test_a_mask_is_drawn_once_for_each_size_and_is_read_only():
    zones = Zones(include=(TRIANGLE,))
    first = zones.mask((20, 30))
    assert zones.mask((30, 20)).shape == (30, 20)
    assert zones.mask((20, 30)) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def test_masks_drawn_before_do_not_make_zones_differ():
    one, other = Zones(include=(TRIANGLE,)), Zones(include=(TRIANGLE,))
    one.mask((20, 20))
    assert one == other
    assert one != Zones(exclude=(TRIANGLE,))


@given(
    include=st.lists(convex(), max_size=2).map(tuple),
    exclude=st.lists(convex(), max_size=2).map(tuple),
    size=sizes,
)
def test_a_pixel_counts_when_its_centre_is_included_and_not_excluded(include, exclude, size):
    mask = Zones(include=include, exclude=exclude).mask(size)
    if mask is None:
        assert not include
        assert not exclude
        return
    for row, column, inside in clear_pixels(include + exclude, size):
        included = any(inside[: len(include)]) or not include
        assert mask[row, column] == (included and not any(inside[len(include) :]))


@given(polygon=st.lists(points, min_size=3, max_size=6).map(tuple), size=sizes)
def test_any_polygon_even_one_that_crosses_itself_holds_what_a_ray_says(polygon, size):
    mask = Zones(include=(polygon,)).mask(size)
    for row, column, inside in clear_pixels((polygon,), size):
        assert mask[row, column] == inside[0]


@given(polygon=convex(), size=sizes)
def test_including_and_excluding_the_same_area_split_the_frame(polygon, size):
    inside, outside = Zones(include=(polygon,)).mask(size), Zones(exclude=(polygon,)).mask(size)
    assert np.array_equal(inside, 1 - outside)


@given(polygon=convex(), size=sizes, turned=st.integers(0, 7))
def test_neither_the_first_corner_nor_the_direction_matters(polygon, size, turned):
    turned %= len(polygon)
    again = polygon[turned:] + polygon[:turned]
    plain = Zones(include=(polygon,)).mask(size).astype(int)
    for same in (again, again[::-1]):
        # Pixels on the border may go either way.
        different = plain != Zones(include=(same,)).mask(size)
        for row, column, _ in clear_pixels((polygon,), size):
            assert not different[row, column]
