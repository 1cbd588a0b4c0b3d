"""RGB to 4:2:0 planes and back."""

import numpy as np
import pytest

from engines.common.i420 import i420_to_rgb, rgb_to_i420


@pytest.mark.parametrize("size", [(96, 160), (97, 161)])
def test_planes_and_back_is_the_same_image(size):
    ramp = np.linspace(30, 220, size[1]).astype(np.uint8)
    image = ramp[None, :, None].repeat(size[0], 0).repeat(3, 2)
    back = i420_to_rgb(rgb_to_i420(image))
    assert back.shape == (96, 160, 3)
    np.testing.assert_allclose(back, image[:96, :160], atol=3)
