"""Pre- and postprocessing graphs in ONNX Runtime: the RGB of swscale on the CPU, and statistics.

How far apart they may be. swscale sums in whole numbers: each plane becomes a byte, cut off rather
than rounded where rows are interpolated, before it makes colours of them (1 byte of U or V is up to
2.1 of blue or red), and its table of products is up to 2 too dark for limited range (235 becomes
253). The graph sums in f32 and rounds once. Found were 3 and 1.27 on average at full range, 6 and
3.18 at limited range. Where nothing is scaled swscale repeats rows of chroma and the graph
interpolates them: there colour edges differ.
"""

from dataclasses import replace

import av
import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from engines.errors import ModelFileError
from engines.modelfile import read_model_file
from engines.onnx_preprocessing import (
    BATCH,
    FLOAT,
    INT64,
    UINT8,
    GraphBuilder,
    mask_stats,
    merge,
    rgb_from_planes,
    threshold,
    to_bytes,
)
from engines.smoke.model import SHIPPED
from engines.yuv import LEFT, Yuv, even_window
from streamer.core.image import ColorTags, Image

FULL = (4, 1.4)
LIMITED = (7, 3.5)
"""Largest and mean difference in bytes."""


def session(graph, outputs):
    model = helper.make_model(
        helper.make_graph(graph.nodes, "test", graph.inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.fixture(scope="module")
def scalers():
    found = {}
    for layout in ("planar", "nv12"):
        graph = GraphBuilder()
        size = graph.input("size", INT64, (2,))
        rows, columns = (graph("Gather", size, graph.constant(n), axis=0) for n in (0, 1))
        rgb = graph.rename(rgb_from_planes(graph, layout, rows=rows, columns=columns), "rgb")
        shape = (BATCH, "rows", "columns", 3)
        found[layout] = session(graph, [helper.make_tensor_value_info(rgb, FLOAT, shape)])
    return found


def scaled(scalers, decoded, size, windows=None):
    """RGB of one frame, or of a window in each of several frames of the same size."""
    frames = decoded if isinstance(decoded, list) else [decoded]
    names = ["chroma"] if frames[0].chroma_order == "nv12" else ["chroma_u", "chroma_v"]
    windows = windows or [each.full_window for each in frames]
    inputs = {
        "size": np.array(size),
        "luma": np.stack([each.y for each in frames]),
        "window": np.array(windows, np.float32),
        "siting": np.array([each.siting for each in frames], np.float32),
        "color": np.stack([each.rgb_matrix for each in frames]),
        **{
            name: np.stack([each.chroma[number] for each in frames])
            for number, name in enumerate(names)
        },
    }
    rgb = scalers[frames[0].chroma_order].run(None, inputs)[0]
    return rgb if isinstance(decoded, list) else rgb[0]


def smooth(height, width, seed, spread=1.0):
    """Shapes, edges and grain; what a camera sees is no noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = 60 * np.sin(columns / 23 + seed) * np.cos(rows / 17) + 40 * (columns > width * 0.6)
    plane = 120 + spread * (waves + random.normal(0, 5, (height, width)))
    return np.clip(plane, 0, 255).astype(np.uint8)


def image_and_planes(height, width, tags, *, layout="planar"):
    half = -(-height // 2), -(-width // 2)
    planes = (smooth(height, width, 1), smooth(*half, 2, 0.4), smooth(*half, 3, 0.4))
    shown = Image.from_planes(planes, tags)
    chroma = planes[1:]
    if layout == "nv12":
        chroma = (np.stack(chroma, -1),)
    return shown, Yuv(planes[0], chroma, full_range=tags.full_range, matrix=tags.matrix)


def assert_alike(got, want, tolerance):
    apart = np.abs(got.astype(float) - want.astype(float))
    assert apart.max() <= tolerance[0]
    assert apart.mean() <= tolerance[1]


SMALL = (123, 77)
CASES = [
    ((1080, 1920), "planar", 1, False),
    ((1079, 1917), "planar", 1, True),
    ((576, 704), "planar", 6, False),
    ((481, 641), "nv12", 6, True),
    ((240, 320), "nv12", 1, False),
    *[(SMALL, "planar", matrix, full) for matrix in (1, 4, 6, 7, 9) for full in (False, True)],
]


@pytest.mark.parametrize(("size", "layout", "matrix", "full"), CASES)
def test_an_image_matches_swscale(scalers, size, layout, matrix, full):
    shown, decoded = image_and_planes(*size, ColorTags(matrix, matrix, matrix, full), layout=layout)
    got = scaled(scalers, decoded, (384, 640))
    assert_alike(got, shown.rgb((384, 640)), FULL if full else LIMITED)
    assert (got == np.round(got)).all()


@pytest.mark.parametrize("full", [False, True])
def test_an_image_is_within_rounding_of_area_averages_and_the_standards_matrix(scalers, full):
    _, decoded = image_and_planes(1080, 1920, ColorTags(1, 1, 1, full))
    planes = [decoded.y, *decoded.chroma]
    luma, u, v = (
        cv2.resize(plane.astype(np.float64), wanted, interpolation=cv2.INTER_AREA)
        for plane, wanted in zip(planes, [(640, 384), (320, 384), (320, 384)], strict=True)
    )
    u, v = (np.repeat(plane, 2, axis=1) - 128 for plane in (u, v))
    if not full:
        luma, u, v = (luma - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    green = luma - 0.1873 * u - 0.4681 * v  # Rec. ITU-R BT.709-6, item 3
    want = np.stack([luma + 1.5748 * v, green, luma + 1.8556 * u], -1).clip(0, 255)
    assert np.abs(scaled(scalers, decoded, (384, 640)) - want).max() <= 0.52


BOXES = [(0.3, 0.2, 0.8, 0.7), (0, 0, 0.17, 0.18), (0.61, 0.5, 1, 1), (0.1, 0.1, 0.9, 0.12)]


@pytest.mark.parametrize("size", [(1080, 1920), (481, 641)], ids=str)
@pytest.mark.parametrize("box", BOXES)
def test_a_window_is_what_swscale_makes_of_the_part_cut_out(scalers, size, box):
    shown, decoded = image_and_planes(*size, ColorTags(1, 1, 1, full_range=True))
    window = even_window(box, size)
    want = shown.rgb_crop(window, (192, 320))
    assert_alike(scaled(scalers, [decoded], (192, 320), [window])[0], want, FULL)
    part, there = decoded.crop(window, (192, 320))
    assert_alike(scaled(scalers, [part], (192, 320), [there])[0], want, FULL)


def test_where_nothing_is_scaled_luma_is_untouched_and_chroma_smoother(scalers):
    shown, decoded = image_and_planes(384, 640, ColorTags(1, 1, 1, full_range=True))
    assert_alike(scaled(scalers, decoded, (384, 640)), shown.rgb(), (8, 1.4))
    grey = replace(decoded, chroma=(np.full((192, 320), 128, np.uint8),) * 2)
    got = scaled(scalers, grey, (384, 640))
    np.testing.assert_array_equal(got, np.repeat(decoded.y[..., None], 3, 2))


def test_chroma_that_lies_left_is_taken_from_there(scalers):
    u = np.broadcast_to(np.arange(60, 220, dtype=np.uint8), (96, 160))
    left = Yuv(np.full((192, 320), 90, np.uint8), (u, u), full_range=True, siting=LEFT)
    middle = replace(left, siting=0.0)
    apart = scaled(scalers, left, (96, 160)) - scaled(scalers, middle, (96, 160))
    # Chroma rises by one a sample, and blue by 1.8556 times as much; at the ends it is cut off.
    assert apart[:, 30:50, 2].mean() == pytest.approx(0.25 * 1.8556, abs=0.1)


def test_frames_of_one_batch_do_not_affect_each_other(scalers):
    tags = [ColorTags(1), ColorTags(6, full_range=True), ColorTags(9)]
    several = [image_and_planes(99, 131, tag)[1] for tag in tags]
    windows = [(0, 0, 131, 99), (10, 20, 64, 48), (100, 60, 31, 39)]
    together = scaled(scalers, several, (64, 96), windows)
    for decoded, window, got in zip(several, windows, together, strict=True):
        alone = scaled(scalers, [decoded], (64, 96), [window])[0]
        np.testing.assert_array_equal(got, alone)


def test_a_plume_of_a_few_pixels_does_not_fall_between_the_samples(scalers):
    luma = np.full((1080, 1920), 50, np.uint8)
    luma[501, 1003] = 250
    decoded = Yuv(luma, (np.full((540, 960), 128, np.uint8),) * 2, full_range=True)
    got = scaled(scalers, decoded, (384, 640))
    # 200 levels over the 2.8 by 3 pixels of one: the light is all there.
    assert (got - 50).sum() / 3 == pytest.approx(200 * (384 / 1080) * (640 / 1920), abs=2)


def test_nv12_of_a_decoder_is_read_as_it_lies(scalers):
    shown, _ = image_and_planes(240, 322, ColorTags(1, 1, 1, full_range=True))
    frame = shown.video_frame().reformat(format="nv12", src_color_range=2, dst_color_range=2)
    height, width = 240, 322
    luma, both = (
        np.ndarray(shape, np.uint8, buffer=memoryview(plane), strides=(plane.line_size, *inner))
        for plane, shape, inner in zip(
            frame.planes, [(height, width), (height // 2, width // 2, 2)], [(1,), (2, 1)],
            strict=True,
        )
    )  # fmt: skip
    assert isinstance(frame, av.VideoFrame)
    decoded = Yuv(luma, (both,), full_range=True)
    assert_alike(scaled(scalers, decoded, (192, 320)), shown.rgb((192, 320)), FULL)


@pytest.fixture(scope="module")
def behind():
    graph = GraphBuilder("behind")
    mask = graph.input("mask", FLOAT, (BATCH, "rows", "columns"))
    exceeds = threshold(graph, mask, graph.input("level", FLOAT, (BATCH,)))
    outputs = [
        helper.make_tensor_value_info(graph.rename(name, new), kind, shape)
        for name, new, kind, shape in [
            (to_bytes(graph, mask), "bytes", UINT8, (BATCH, "rows", "columns")),
            (mask_stats(graph, mask, exceeds), "mask_stats", FLOAT, (BATCH, 7)),
        ]
    ]
    return session(graph, outputs)


def test_masks_come_back_as_bytes_and_statistics(behind):
    random = np.random.default_rng(4)
    mask = random.random((3, 24, 40), np.float32) * 0.3
    mask[0, 5:9, 11:30] = 0.8
    mask[1, 23, 39] = 1.0
    level = np.array([0.5, 0.4, 0.6], np.float32)
    bytes_, found = behind.run(None, {"mask": mask, "level": level})
    assert np.abs(bytes_ / 255 - mask).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_allclose(found[0], [0.8, 76 / 960, 0.8, 11 / 40, 5 / 24, 30 / 40, 9 / 24],
                               atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(found[1], [1, 1 / 960, 1, 39 / 40, 23 / 24, 1, 1], atol=1e-6)
    np.testing.assert_allclose(found[2], [mask[2].max(), 0, 0, 0, 0, 0, 0], atol=1e-6)


def test_a_network_that_cannot_be_fed_is_refused_in_words():
    network = read_model_file(SHIPPED["smoke-fast"])
    with pytest.raises(ModelFileError, match="it has no input frame"):
        merge("x", GraphBuilder(), network, GraphBuilder("b"), feeds={"frame": "rgb"}, outputs={})
