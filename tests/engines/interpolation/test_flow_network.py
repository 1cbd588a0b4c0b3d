"""The GPU way by planes means what the CPU makes of the same network, and gives way to it."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from engines.engine import EngineState, open_reference
from engines.errors import DeviceLost
from engines.interpolation.downscale import layout_of, reduced
from engines.interpolation.flow_network import device
from engines.interpolation.flow_network import model as whole
from engines.interpolation.model import Interpolator
from engines.modelfile import ModelFile, read_model_file
from tests.engines.interpolation.scenes import error, pan

onnx = pytest.importorskip("onnx", reason="the extras train, tensorrt and rtx have it")


class Pretending:
    """The reference, which says that it is a GPU's."""

    def __init__(self, model):
        self._engine = open_reference(model)
        self.spec, self.backend = self._engine.spec, self._engine.backend
        self.state = EngineState("cuda:0")
        self.error = None
        self.calls = 0

    def infer(self, inputs):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self._engine.infer(inputs)


@pytest.fixture(scope="module")
def network():
    if "STREAMER_LONG" not in os.environ:
        pytest.skip("the network in training takes 20 s to open: STREAMER_LONG=1 opens it")
    return Pretending(whole.SHIPPED)


@pytest.fixture(scope="module")
def graph():
    return device.graph()


@pytest.fixture(scope="module")
def shared(graph, network):
    return Pretending(graph)


@pytest.fixture
def by_planes(shared):
    shared.error, shared.calls, shared.state = None, 0, EngineState("cuda:0")
    return shared


@pytest.fixture
def on_cpu(network):
    return Interpolator(network)


@pytest.fixture
def on_gpu(network, by_planes):
    return Interpolator(network, by_planes=by_planes)


def scene(size, subsampling=(2, 2), step=(3, 5), **options):
    """Two pictures of a pan with a sign that stays."""
    height, width = size
    before, _, after = pan(height, width, step, subsampling=subsampling, **options)
    for planes in (before, after):
        sign = planes[0][height // 2 : height // 2 + 10, width // 4 : width // 4 + 8]
        sign[:] = np.where(np.arange(8) % 4 < 2, 16, 235)
    return before, after


def apart(one, other):
    return [np.abs(a.astype(int) - b) for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize("t", [0.25, 0.5])
def test_a_pan_is_followed_at_any_time(on_cpu, t):
    before, wanted, after = pan(128, 192, t=t)
    made = on_cpu.between(before, after).at(t)
    for plane, want, first in zip(made, wanted, before, strict=True):
        assert error(plane, want) < 0.4 * max(error(first, want), 2)


def test_it_has_far_less_than_five_million_weights():
    weights = onnx.load(whole.SHIPPED).graph.initializer
    assert 2e5 < sum(int(np.prod(each.dims)) for each in weights) < 2e6


@pytest.mark.parametrize(
    ("size", "subsampling"),
    [((64, 96), (2, 2)), ((64, 96), (1, 1)), ((72, 128), (1, 2)), ((180, 330), (2, 2))],
)
def test_it_says_what_the_cpu_makes_of_the_same_network(on_cpu, on_gpu, size, subsampling):
    """OpenCV rounds places to a 32nd of a pixel: 3 bytes at a sign's edge; and to bytes thrice."""
    pair = scene(size, subsampling)
    for t in (0.25, 0.6):
        for far in apart(on_cpu.between(*pair).at(t), on_gpu.between(*pair).at(t)):
            assert far.max() <= 4
            assert far.mean() < 0.25


@pytest.mark.parametrize(
    ("size", "subsampling"),
    [((65, 97), (2, 2)), ((161, 331), (2, 2)), ((75, 123), (1, 2)), ((17, 33), (2, 2))],
)
def test_odd_sizes_differ_at_the_edges_of_what_stands_and_where_shares_are_small(
    on_cpu, on_gpu, size, subsampling
):
    """Chroma's last pixel is half a one; and the CPU leaves the background out below a 64th."""
    pair = scene(size, subsampling)
    for far in apart(on_cpu.between(*pair).at(0.4), on_gpu.between(*pair).at(0.4)):
        assert far.max() <= 8
        assert far.mean() < 0.35
        assert (far > 2).mean() < 0.02


def test_what_stands_is_left_as_it_is(on_gpu):
    before, after = scene((96, 160))
    made = on_gpu.between(before, after).at(0.5)[0]
    np.testing.assert_array_equal(made[49:57, 41:47], before[0][49:57, 41:47])


def fed(planes):
    """What the graph gives the network of a picture."""
    from engines.interpolation.flow_network import graph as made

    graph = made.GraphBuilder()
    picture = made._picture(graph, "before")
    name = made._reduced(graph, picture, made._lie(graph, picture))
    output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "fed", graph.inputs, [output], graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    ).SerializeToString()
    engine = open_reference(ModelFile(Path("fed"), model, hashlib.sha256(model).hexdigest(), {}))
    named = zip(("before_y", "before_u", "before_v"), planes, strict=True)
    return engine.infer(dict(named))[name][0]


@pytest.mark.parametrize(
    ("size", "subsampling"),
    [
        ((64, 64), (1, 2)),
        ((100, 321), (2, 2)),
        ((640, 360), (1, 2)),
        ((480, 641), (2, 1)),
        ((361, 640), (1, 1)),
        ((1025, 700), (2, 2)),
        ((270, 4097), (2, 2)),
    ],
)
def test_pictures_are_reduced_to_the_byte_as_on_the_cpu(size, subsampling):
    random = np.random.default_rng(1)
    half = tuple(-(-side // fewer) for side, fewer in zip(size, subsampling, strict=True))
    planes = [random.integers(0, 256, each, dtype=np.uint8) for each in (size, half, half)]
    want = reduced(planes, layout_of(planes, depth=8, rgb=False, stride=whole.STRIDE))
    if 1 in subsampling and max(size) <= 320:
        want = want[..., :1]  # chroma is enlarged along one axis: OpenCV truncates on the way
    np.testing.assert_array_equal(fed(planes)[..., : want.shape[2]], want)


def test_small_pictures_have_their_chroma_enlarged_to_within_a_byte():
    random = np.random.default_rng(1)
    planes = [
        random.integers(0, 256, size, dtype=np.uint8) for size in ((65, 97), *2 * ((33, 49),))
    ]
    want = reduced(planes, layout_of(planes, depth=8, rgb=False, stride=whole.STRIDE))
    assert np.abs(fed(planes) - want).max() <= 1


def test_the_same_file_gives_the_same_graph(graph):
    assert device.graph().digest == graph.digest
    network = read_model_file(whole.SHIPPED)
    assert graph.metadata["made_from"] == network.digest
    assert graph.metadata["steps"] == network.metadata["steps"]


@pytest.mark.parametrize(
    ("size", "options", "rgb"),
    [
        ((64, 96), {"depth": 10}, False),
        ((64, 96), {"planes": 1}, False),
        ((64, 96), {"planes": 4}, False),
        ((64, 96), {"subsampling": (1, 1)}, True),
        ((64, 96), {"subsampling": (1, 4)}, False),
        ((16, 4098), {}, False),
    ],
)
def test_what_cannot_go_by_planes_goes_by_the_network_alone(on_gpu, by_planes, size, options, rgb):
    before, _, after = pan(*size, (1, 2), **options)
    asked = {"depth": options.get("depth", 8), "rgb": rgb}
    made = on_gpu.between(before, after, **asked).at(0.5)
    assert by_planes.calls == 0
    by_hand = Interpolator(on_gpu._engine).between(before, after, **asked).at(0.5)
    for plane, want in zip(made, by_hand, strict=True):
        np.testing.assert_array_equal(plane, want)


def test_what_goes_by_planes_asks_nothing_else(on_gpu, network, by_planes):
    network.calls = 0
    between = on_gpu.between(*scene((64, 96)))
    between.at(0.25)
    between.at(0.5)
    assert (network.calls, by_planes.calls) == (0, 2)


def test_a_device_that_is_lost_costs_no_picture(on_cpu, on_gpu, by_planes, caplog):
    pair = scene((64, 96))
    between = on_gpu.between(*pair)
    between.at(0.5)
    by_planes.error = DeviceLost("the GPU is gone")
    for _ in range(2):
        for plane, want in zip(between.at(0.5), on_cpu.between(*pair).at(0.5), strict=True):
            np.testing.assert_array_equal(plane, want)
    assert caplog.text.count("the GPU is gone") == 1


def test_what_another_said_in_place_of_a_device_that_fell_is_not_taken(
    on_cpu, on_gpu, by_planes, monkeypatch
):
    pair = scene((64, 96))
    infer = by_planes.infer

    def falling(inputs):
        by_planes.state = EngineState("cpu", degraded=True)
        return {name: np.zeros_like(array) for name, array in infer(inputs).items()}

    monkeypatch.setattr(by_planes, "infer", falling)
    made = on_gpu.between(*pair).at(0.5)
    for plane, want in zip(made, on_cpu.between(*pair).at(0.5), strict=True):
        np.testing.assert_array_equal(plane, want)


@pytest.mark.parametrize("state", [EngineState("cpu"), EngineState("cuda:0", degraded=True)])
def test_the_cpu_does_the_full_size_where_the_device_does_not(on_gpu, by_planes, state):
    between = on_gpu.between(*scene((64, 96)))
    by_planes.state = state
    between.at(0.5)
    on_gpu.between(*scene((64, 96))).at(0.5)
    assert by_planes.calls == 0
    assert on_gpu.state.degraded == state.degraded


def test_a_network_that_says_no_numbers_is_found_out(on_cpu, on_gpu, by_planes, monkeypatch):
    pair = scene((64, 96))
    infer = by_planes.infer
    nothing = {"sound": np.array([np.nan], np.float32)}
    monkeypatch.setattr(by_planes, "infer", lambda inputs: {**infer(inputs), **nothing})
    made = on_gpu.between(*pair).at(0.5)
    for plane, want in zip(made, on_cpu.between(*pair).at(0.5), strict=True):
        np.testing.assert_array_equal(plane, want)


def test_no_numbers_within_make_the_soundness_none():
    from engines.interpolation.flow_network import graph as made

    graph = made.GraphBuilder()
    for name in ("ways", "background", "shares"):
        graph.input(name, onnx.TensorProto.FLOAT, (1, 2))
    output = onnx.helper.make_tensor_value_info(made._soundness(graph), 1, (1,))
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "sound", graph.inputs, [output], graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    ).SerializeToString()
    engine = open_reference(ModelFile(Path("sound"), model, hashlib.sha256(model).hexdigest(), {}))
    fine = np.array([[1.0, -1.0]], np.float32)
    for bad in (np.nan, np.inf, -np.inf):
        for name in ("ways", "background", "shares"):
            given = dict.fromkeys(("ways", "background", "shares"), fine)
            said = engine.infer({**given, name: np.array([[0.0, bad]], np.float32)})
            assert not np.isfinite(next(iter(said.values()))).any()
    assert np.isfinite(next(iter(engine.infer(given).values()))).all()
