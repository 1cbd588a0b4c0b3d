"""Optimised layers and preprocessing compute what they are described to compute."""

import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="networks need torch")

from torch.nn import functional  # noqa: E402

from engines.smoke.network import FirstConv, Planes, prepare  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(3)


def test_the_first_convolution_is_that_of_all_planes_joined():
    first = FirstConv(8).eval()
    with torch.no_grad():
        first.flag.normal_()
        planes = Planes(
            torch.randn(2, 3, 16, 24), torch.randn(2, 3, 16, 24), torch.ones(2, 1, 1, 1)
        )
        kernels = torch.cat([first.image.weight, first.difference.weight], 1)
        joined = functional.conv2d(torch.cat(planes[:2], 1), kernels, stride=2, padding=1)
        want = functional.relu(first.norm(joined + first.flag))
        torch.testing.assert_close(first(planes), want)


def test_planes_are_prepared_as_they_are_described():
    image, background = torch.randint(0, 256, (2, 1, 8, 8, 3), dtype=torch.uint8)
    planes = prepare(image, background, torch.ones(1))
    assert planes.image.shape == planes.difference.shape == (1, 3, 8, 8)
    assert planes.image.min() >= -1
    assert planes.image.max() <= 1
    away = (image.float() - background.float()).permute(0, 3, 1, 2) * 4 / 255
    torch.testing.assert_close(planes.difference, away)
    assert not prepare(image, background, torch.zeros(1)).difference.any()
