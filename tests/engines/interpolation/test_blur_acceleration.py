"""The blur of both frames shows that a shaking camera is not half-way along at half time."""

import cv2
import numpy as np
import pytest

from engines.interpolation.blur_acceleration import acceleration_offset
from tests.engines.interpolation.scenes import texture


def smeared(angle, length):
    """A reduced frame of a camera that moved so far along an angle while it was open."""
    kernel = np.zeros((25, 25), np.float32)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = [tuple(round(8 * float(v)) for v in 12 + sign * reach) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1.0, 1, cv2.LINE_AA, 3)
    luma = cv2.filter2D(texture(192, 320), -1, kernel / kernel.sum())
    return cv2.merge([luma, np.full_like(luma, 128), np.full_like(luma, 128)])


def motion(x, y):
    return np.broadcast_to(np.array([x, y], np.float32), (96, 160, 2)).copy()


def test_uniform_motion_has_no_offset():
    assert np.hypot(*acceleration_offset(smeared(0, 6), smeared(0, 6), motion(6, 0))) < 0.05


def test_a_static_camera_has_no_offset():
    assert acceleration_offset(smeared(0, 1), smeared(0, 9), motion(0.1, 0)) == (0.0, 0.0)


@pytest.mark.parametrize(("before", "after", "sign"), [(2, 9, -1), (9, 2, 1)])
def test_acceleration_is_behind_and_braking_ahead(before, after, sign):
    x, y = acceleration_offset(smeared(0, before), smeared(0, after), motion(6, 0))
    assert sign * x > 0.2
    assert abs(y) < abs(x)


def test_turning_is_beside_the_straight_line():
    _, up = acceleration_offset(smeared(0.5, 8), smeared(-0.5, 8), motion(6, 0))
    _, down = acceleration_offset(smeared(-0.5, 8), smeared(0.5, 8), motion(6, 0))
    # Down first, then up again: half-way it is below the line, and the other way round.
    assert up > 0.2
    assert down < -0.2
