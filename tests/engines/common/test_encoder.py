"""The shared encoder: half-size input and pretrained weights."""

import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="networks need torch")

from torch.nn import functional  # noqa: E402  torch decides first whether any of it runs

from engines.common.encoder import Encoder  # noqa: E402


def test_half_size_features_are_those_of_the_reduced_image():
    torch.manual_seed(3)
    encoder = Encoder(stages=2).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        want = encoder.stem_features(functional.avg_pool2d(image, 2))
        got = encoder.stem_features(image, half=True)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match="expected"):
        Encoder().load_pretrained({"first": torch.zeros(3)})
