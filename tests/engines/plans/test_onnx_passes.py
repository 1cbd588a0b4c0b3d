"""The graph for TensorRT computes the same as the file, at any batch size."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extras train, tensorrt and rtx have it")
from onnx import TensorProto, helper

from engines.backends.cpu import open_reference
from engines.errors import ModelFileError, ModelMismatch, UnsupportedLayer
from engines.plans.onnx_passes import constants, prepared
from engines.registry import COMPILED, REGISTRY, find
from engines.spec import Profile
from tests.support.networks import graph_of, opened


@pytest.mark.parametrize("entry", [*REGISTRY, *COMPILED[:1]], ids=lambda entry: entry.name)
def test_a_prepared_network_says_what_the_file_says(entry):
    file = entry.model()
    before = open_reference(file)
    profiles = entry.gpu.profiles if entry.gpu else ()
    after = opened(prepared(file.content, profiles))
    sample = entry.samples()[-1]
    want, got = before.infer(sample), after.infer(sample)
    assert want.keys() == got.keys()
    for name, values in want.items():
        np.testing.assert_array_equal(values, got[name], err_msg=name)


BATCHED = [entry for entry in REGISTRY if entry.name.startswith("smoke")]
_IMAGES = ((1, 384, 640, 3), (1, 384, 640, 3), (4, 384, 640, 3))
BATCH = Profile({"image": _IMAGES, "background": _IMAGES, "has_background": ((1,), (1,), (4,))})


@pytest.mark.parametrize("entry", BATCHED, ids=lambda entry: entry.name)
def test_frames_of_a_batch_do_not_affect_each_other(entry):
    engine = opened(prepared(entry.model().content, [BATCH]))
    samples = entry.samples()
    together = engine.infer(
        {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}
    )
    for number, sample in enumerate(samples):
        for name, values in engine.infer(sample).items():
            np.testing.assert_allclose(together[name][number], values[0], atol=1e-5)


def test_bytes_become_numbers_before_they_are_moved():
    graph = graph_of(
        [
            helper.make_node("Unsqueeze", ["x", "axis"], ["up"]),
            helper.make_node("Slice", ["up", "axis", "two", "one"], ["part"]),
            helper.make_node("Cast", ["part"], ["y"], to=TensorProto.FLOAT),
        ],
        inputs={"x": (TensorProto.UINT8, (4, 3))},
        outputs={"y": (TensorProto.FLOAT, (1, 2, 3))},
        constants={"axis": [0], "one": [1], "two": [2]},
    )
    made = prepared(graph.SerializeToString(), [])
    assert made.graph.node[0].op_type == "Cast"
    assert made.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    x = np.arange(12, dtype=np.uint8).reshape(4, 3)
    np.testing.assert_array_equal(opened(made).infer({"x": x})["y"], x[None, :, :][:, :2])


def test_bytes_that_come_out_as_they_went_in_stay_bytes():
    graph = graph_of(
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs={"x": (TensorProto.UINT8, (2,))},
        outputs={"y": (TensorProto.UINT8, (2,))},
    )
    made = prepared(graph.SerializeToString(), [])
    assert opened(made).infer({"x": np.array([1, 255], np.uint8)})["y"].tolist() == [1, 255]


def test_what_depends_on_no_input_is_computed_once():
    graph = graph_of(
        [
            helper.make_node("Cast", ["small"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["wide", "wide"], ["square"]),
            helper.make_node("Add", ["x", "square"], ["y"]),
        ],
        inputs={"x": (TensorProto.FLOAT, (2,))},
        outputs={"y": (TensorProto.FLOAT, (2,))},
        constants={"small": np.array([3, 4], np.float16)},
    )
    made = prepared(graph.SerializeToString(), [])
    assert [node.op_type for node in made.graph.node] == ["Add"]
    assert {name: value.tolist() for name, value in constants(made).items()} == {"square": [9, 16]}


def simple(first):
    return graph_of(
        [helper.make_node("Relu", ["x"], ["y"], name="only")],
        inputs={"x": (TensorProto.FLOAT, (first, "width"))},
        outputs={"y": (TensorProto.FLOAT, (first, "width"))},
    ).SerializeToString()


@pytest.mark.parametrize(
    ("batch", "sizes", "words"),
    [
        (3, {"x": ((2, 2), (2, 2), (2, 2))}, r"x: takes \(3, any\)"),
        (1, {"x": ((1, 2, 2), (1, 2, 2), (1, 2, 2))}, r"x: takes \(1, any\)"),
        (1, {"z": ((1, 2), (1, 2), (1, 2))}, "the profile names z; the network takes x"),
    ],
)
def test_sizes_that_do_not_fit_the_network_are_refused(batch, sizes, words):
    with pytest.raises(ModelMismatch, match=words):
        prepared(simple(batch), [Profile(sizes)])


@pytest.mark.parametrize("content", [b"", b"PK", b"\x08\x08"])
def test_what_is_no_network_is_refused(content):
    with pytest.raises(ModelFileError, match="not a valid ONNX network"):
        prepared(content, [])


def test_types_that_contradict_each_other_are_refused():
    graph = graph_of(
        [helper.make_node("Add", ["x", "one"], ["y"])],
        inputs={"x": (TensorProto.FLOAT, (2,))},
        outputs={"y": (TensorProto.FLOAT, (2,))},
        constants={"one": np.array([1, 1], np.int64)},
    )
    with pytest.raises(ModelFileError):
        prepared(graph.SerializeToString(), [])


def test_a_network_with_branches_is_refused_by_the_name_of_the_layer():
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, (2,))],
    )
    graph = graph_of(
        [
            helper.make_node("If", ["c"], ["y"], name="choice", then_branch=branch,
                             else_branch=branch)
        ],
        inputs={"x": (TensorProto.FLOAT, (2,)), "c": (TensorProto.BOOL, ())},
        outputs={"y": (TensorProto.FLOAT, (2,))},
    )  # fmt: skip
    with pytest.raises(UnsupportedLayer, match=r"'choice' \(If\)"):
        prepared(graph.SerializeToString(), [])


def test_the_same_network_is_prepared_alike_each_time():
    entry = find("smoke-fast")
    first, second = (
        prepared(entry.model().content, [BATCH]).SerializeToString(deterministic=True)
        for _ in range(2)
    )
    assert first == second
