"""The experimental flow network opens, interpolates and is registered as experimental."""

import os

import numpy as np
import pytest

from engines.interpolation.flow_network import model as flow_network
from engines.registry import COMPILED, EXPERIMENTAL
from tests.engines.interpolation.scenes import error, pan

onnx = pytest.importorskip("onnx", reason="the extras train, tensorrt and rtx have it")


@pytest.fixture(scope="module")
def interpolator():
    if "STREAMER_LONG" not in os.environ:
        pytest.skip("the network takes 20 s to open: STREAMER_LONG=1 opens it")
    opened = flow_network.open_flow_network()
    yield opened
    opened.close()


@pytest.mark.parametrize("t", [0.25, 0.5])
def test_a_pan_is_followed_at_any_time(interpolator, t):
    before, wanted, after = pan(128, 192, t=t)
    made = interpolator.between(before, after).at(t)
    for plane, want, first in zip(made, wanted, before, strict=True):
        assert error(plane, want) < 0.4 * max(error(first, want), 2)


def test_it_has_far_less_than_five_million_weights():
    weights = onnx.load(flow_network.SHIPPED).graph.initializer
    assert 2e5 < sum(int(np.prod(each.dims)) for each in weights) < 2e6


def test_it_is_experimental_and_never_compiled_for_gpus():
    assert [entry.path for entry in EXPERIMENTAL] == [flow_network.SHIPPED]
    assert not any(entry in COMPILED for entry in EXPERIMENTAL)
