"""int8 stands in the graph, so that what it costs is known before any GPU sees it."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extras train, tensorrt and rtx have it")
from onnx import TensorProto, helper

from engines.backends.tensorrt import library
from engines.errors import DeviceUnavailable, ModelMismatch
from engines.plans.builder import build
from engines.plans.cache import Profile, Target
from engines.plans.mixed_precision import half
from engines.plans.onnx_passes import constants
from engines.plans.quantising import KEPT_ENDS, quantised, ranges_of
from tests.support.networks import file_of, graph_of, opened

LAYERS = 2 * KEPT_ENDS + 2
SAMPLES = [
    {"x": np.random.default_rng(seed).normal(0, 2, (1, 4, 8, 8)).astype(np.float32)}
    for seed in range(4)
]


@pytest.fixture(scope="module")
def network():
    """Convolutions in a row, each with a rectifier."""
    random = np.random.default_rng(3)
    nodes, weights = [], {}
    for at in range(LAYERS):
        before, after = "x" if not at else f"r{at - 1}", "y" if at == LAYERS - 1 else f"r{at}"
        weights[f"w{at}"] = random.normal(0, 0.5, (4, 4, 1, 1)).astype(np.float32)
        nodes += [
            helper.make_node("Conv", [before, f"w{at}"], [f"c{at}"], name=f"conv{at}"),
            helper.make_node("Relu", [f"c{at}"], [after], name=f"relu{at}"),
        ]
    shape = (1, 4, 8, 8)
    return graph_of(
        nodes,
        inputs={"x": (TensorProto.FLOAT, shape)},
        outputs={"y": (TensorProto.FLOAT, shape)},
        constants=weights,
    )


def test_only_inner_convolutions_are_quantised_and_each_tensor_once(network):
    made = quantised(network, ranges_of(network, SAMPLES))
    kinds = [node.op_type for node in made.graph.node]
    inner = LAYERS - 2 * KEPT_ENDS
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (inner, 2 * inner)
    assert [value.name for value in made.graph.output] == ["y"]


def test_a_layer_that_is_kept_is_left_alone(network):
    ranges = ranges_of(network, SAMPLES, keep=["conv3"])
    assert list(ranges) == ["r3"]
    kept = quantised(network, ranges, keep=["conv3"])
    (layer,) = (node for node in kept.graph.node if node.name == "conv3")
    assert list(layer.input) == ["r2", "w3"]


def test_ranges_are_the_largest_magnitudes_of_all_samples(network):
    few, many = (ranges_of(network, SAMPLES[:count]) for count in (1, 4))
    assert few.keys() == many.keys()
    assert all(many[name] >= few[name] > 0 for name in few)
    louder = ranges_of(network, [{"x": 3 * SAMPLES[0]["x"]}])
    assert louder["r2"] == pytest.approx(3 * few["r2"], rel=1e-5)


def test_weights_are_whole_numbers_with_a_scale_for_each_filter(network):
    stored = constants(quantised(network, ranges_of(network, SAMPLES)))
    whole, scales = stored["w3.steps"], stored["w3.scale"]
    assert (whole.dtype, scales.shape) == (np.int8, (4,))
    assert np.abs(whole.astype(int)).reshape(4, -1).max(axis=1).tolist() == [127] * 4
    exact = constants(network)["w3"]
    apart = np.abs(whole * scales.reshape(4, 1, 1, 1) - exact)
    assert (apart <= scales.reshape(4, 1, 1, 1) / 2 + 1e-6).all()


def test_what_int8_costs_is_small_within_the_ranges_and_large_beyond(network):
    ranges, sample = ranges_of(network, SAMPLES), SAMPLES[0]
    exact = opened(network).infer(sample)["y"]
    near = opened(quantised(network, ranges)).infer(sample)["y"]
    narrow = {name: most / 20 for name, most in ranges.items()}
    far = opened(quantised(network, narrow)).infer(sample)["y"]
    scale = np.abs(exact).max()
    assert 0 < np.abs(near - exact).max() < 0.05 * scale
    assert np.abs(far - exact).max() > 0.2 * scale


def test_a_range_that_is_not_known_is_named(network):
    with pytest.raises(ModelMismatch, match="no range is known of 'r2'"):
        quantised(network, {})


def test_the_rest_of_a_quantised_network_may_be_fp16(network):
    whole = quantised(network, ranges_of(network, SAMPLES))
    mixed = half(whole)
    assert "Cast" in {node.op_type for node in mixed.graph.node}
    fed = {n.output[0] for n in mixed.graph.node if n.op_type == "DequantizeLinear"}
    layers = [n for n in mixed.graph.node if n.op_type == "Conv" and n.input[0] in fed]
    assert len(layers) == LAYERS - 2 * KEPT_ENDS  # no cast between, which would undo the pair
    want, got = (opened(model).infer(SAMPLES[0])["y"] for model in (whole, mixed))
    np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())


@pytest.mark.compile
def test_a_quantised_network_compiles(network):
    try:
        rtx = library("rtx")
    except DeviceUnavailable as error:
        pytest.skip(str(error))
    shape = (1, 4, 8, 8)
    target = Target(
        "sm89",
        "int8",
        (Profile({"x": (shape, shape, shape)}),),
        ranges=tuple(ranges_of(network, SAMPLES).items()),
    )
    plan = build(file_of(network), rtx, target)
    assert plan.facts["outputs"] == [("y", shape, "float32")]
    assert plan.facts["int8_layers"] > 0
