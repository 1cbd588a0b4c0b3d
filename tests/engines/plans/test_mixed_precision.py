"""A network in fp16 takes and gives the same arrays, and differs by little where it may."""

import functools
import hashlib

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extras train, tensorrt and rtx have it")
from onnx import TensorProto, helper

from engines.plans.cache import RECIPE
from engines.plans.mixed_precision import F16, F32, to_mixed_fp16
from engines.plans.onnx_passes import element_types, prepared
from engines.registry import find
from engines.validation import Tolerance
from tests.support.networks import graph_of, opened
from tests.support.rounding import rounding

MIXED = [find("smoke"), find("smoke-fast")]
ALLOWED = Tolerance(largest=0.015, mean=0.0025)
"""Half of what f16 is allowed to change in a mask of the smoke networks."""
LARGEST_F16 = 65504


@functools.cache
def mixed(name):
    entry = find(name)
    return to_mixed_fp16(prepared(entry.model().content, ()))


@pytest.mark.parametrize("entry", MIXED, ids=lambda entry: entry.name)
def test_a_mixed_network_runs_and_keeps_the_types_of_what_goes_in_and_out(entry):
    spec, engine = opened(entry.model().content).spec, opened(mixed(entry.name))
    for before, after in zip(
        spec.inputs + spec.outputs, engine.spec.inputs + engine.spec.outputs, strict=True
    ):
        assert (before.name, before.dtype) == (after.name, after.dtype)
    outputs = engine.infer(entry.samples()[0])
    assert all(values.dtype == np.float32 for values in outputs.values())


@pytest.mark.parametrize("entry", MIXED, ids=lambda entry: entry.name)
def test_rounding_to_fp16_stays_within_half_the_tolerance_and_far_from_overflow(entry):
    before, after = opened(entry.model().content), opened(rounding(mixed(entry.name), show=True))
    for sample in entry.samples():
        want, got = before.infer(sample), after.infer(sample)
        for name, values in want.items():
            apart = np.abs(values - got[name])
            assert apart.max() <= ALLOWED.largest, name
            assert apart.mean() <= ALLOWED.mean, name
        inside = [np.abs(values).max() for name, values in got.items() if name.endswith(".f16")]
        assert inside
        assert max(inside) < LARGEST_F16 / 16


def layers(model):
    """Type that each layer computes in, by name; casts left out."""
    types = element_types(model)
    return {
        node.name: types[node.output[0]]
        for node in model.graph.node
        if node.op_type != "Cast" and types[node.output[0]] in {F16, F32}
    }


@pytest.mark.parametrize("entry", MIXED, ids=lambda entry: entry.name)
def test_matrix_products_are_in_fp16_and_the_outputs_are_not(entry):
    made = mixed(entry.name)
    heavy = {node.name for node in made.graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}}
    exact = {name for name, kind in layers(made).items() if kind == F32}
    assert not exact & heavy
    outputs = {value.name for value in made.graph.output}
    last = {node.name for node in made.graph.node if outputs & set(node.output)}
    assert last <= exact


def network(*, weight=1.0, name="conv"):
    """x * weight by a convolution, a rectifier, another convolution, a sigmoid."""
    kernel = np.full((1, 1, 1, 1), weight, np.float32)
    return graph_of(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], name=name),
            helper.make_node("Relu", ["a"], ["b"], name="relu"),
            helper.make_node("Conv", ["b", "v"], ["c"], name="second"),
            helper.make_node("Sigmoid", ["c"], ["y"], name="sigmoid"),
        ],
        inputs={"x": (TensorProto.FLOAT, (1, 1, "h", "w"))},
        outputs={"y": (TensorProto.FLOAT, (1, 1, "h", "w"))},
        constants={"w": kernel, "v": np.ones((1, 1, 1, 1), np.float32)},
    )


def test_what_follows_the_last_heavy_layer_stays_in_fp32():
    assert layers(to_mixed_fp16(network())) == {
        "conv": F16,
        "relu": F16,
        "second": F16,
        "sigmoid": F32,
    }


def test_a_constant_that_fp16_cannot_hold_keeps_its_layer():
    assert layers(to_mixed_fp16(network(weight=1e5)))["conv"] == F32


def between(operator, **attributes):
    """An operator between two convolutions."""
    kernel = np.ones((1, 1, 1, 1), np.float32)
    return graph_of(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
            helper.make_node(operator, ["a"], ["b"], name="middle", **attributes),
            helper.make_node("Conv", ["b", "w"], ["y"], name="last"),
        ],
        inputs={"x": (TensorProto.FLOAT, (1, 1, 2, 2))},
        outputs={"y": (TensorProto.FLOAT, (1, 1, 2, 2))},
        constants={"w": kernel},
    )


@pytest.mark.parametrize(
    ("operator", "kind"),
    [("Softmax", F32), ("Exp", F32), ("Softplus", F32), ("Relu", F16), ("Sigmoid", F16)],
)
def test_what_exponentiates_and_sums_runs_in_fp32_and_what_does_not_follows(operator, kind):
    assert layers(to_mixed_fp16(between(operator)))["middle"] == kind


def test_coordinates_of_pixels_stay_in_fp32():
    model = graph_of(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
            helper.make_node("GridSample", ["a", "at"], ["b"], name="warp"),
            helper.make_node("Conv", ["b", "w"], ["y"], name="last"),
        ],
        inputs={
            "x": (TensorProto.FLOAT, (1, 1, 4, 4)),
            "at": (TensorProto.FLOAT, (1, 4, 4, 2)),
        },
        outputs={"y": (TensorProto.FLOAT, (1, 1, 4, 4))},
        constants={"w": np.ones((1, 1, 1, 1), np.float32)},
    )
    assert layers(to_mixed_fp16(model))["warp"] == F32


def test_sizes_of_a_resize_stay_in_fp32():
    model = graph_of(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
            helper.make_node("Resize", ["a", "", "by"], ["b"], name="up", mode="nearest"),
            helper.make_node("Conv", ["b", "w"], ["y"], name="last"),
        ],
        inputs={"x": (TensorProto.FLOAT, (1, 1, 2, 2))},
        outputs={"y": (TensorProto.FLOAT, (1, 1, 4, 4))},
        constants={
            "w": np.ones((1, 1, 1, 1), np.float32),
            "by": np.array([1, 1, 2, 2], np.float32),
        },
    )
    made = to_mixed_fp16(model)
    assert layers(made)["up"] == F16
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(opened(made).infer({"x": x})["y"][0, 0, ::2, ::2], x[0, 0])


def test_another_way_of_casting_counts_as_another_recipe():
    """Plans are kept under `RECIPE`: whoever changes what is compiled must count it up."""
    content = to_mixed_fp16(between("Softmax")).SerializeToString(deterministic=True)
    known = {"1": "e9c7aac8aee2"}
    assert hashlib.sha256(content).hexdigest()[:12] == known[RECIPE]


def test_fp16_and_fp32_engines_have_different_outputs():
    """The imitation of fp16 rounds: otherwise its small differences would prove nothing."""
    entry = find("smoke-fast")
    sample = entry.samples()[0]
    exact = opened(entry.model().content).infer(sample)["cam"]
    assert np.abs(opened(rounding(mixed(entry.name))).infer(sample)["cam"] - exact).max() > 1e-5
