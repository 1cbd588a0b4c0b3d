"""The smoke networks on YUV planes, run by ONNX Runtime, match the networks on RGB images.

The RGB images differ by rounding (see `test_onnx_preprocessing.py`), to which the networks are
sensitive: on a clip at 320x240, noise of one level changes single pixels of the mask by 0.24, and
all by 0.011 on average. The tolerances of the masks allow for such noise.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extras train, tensorrt and rtx have it")

from engines.backends.cpu import open_reference
from engines.backends.tensorrt import library
from engines.batching import Batcher
from engines.engine import EngineState
from engines.errors import DeviceUnavailable, InaccurateEngine, ModelFileError, ModelMismatch
from engines.modelfile import ModelFile
from engines.plans.builder import build
from engines.registry import FOR_GPUS, find
from engines.smoke.model import SHIPPED, open_smoke_model
from engines.smoke.yuv_model import (
    CROP_CANVASES,
    FRAME_CANVASES,
    LAYOUTS,
    TOLERANCES,
    Request,
    SmokeYuvModel,
    graph,
    open_smoke_by_planes,
    samples,
    settings,
)
from engines.smoke.zoom_verification import MAX_REGION_SIZE, WINDOW, _window
from engines.spec import Target
from engines.yuv import LEFT, Yuv, even_window
from streamer.core.image import ColorTags, Image
from tests.engines.test_onnx_preprocessing import smooth
from tests.support.fake_cuda import Machine

SIZE = (96, 160)


@pytest.fixture(scope="module")
def engines():
    return {layout: open_reference(graph("smoke", layout)) for layout in LAYOUTS}


@pytest.fixture(scope="module")
def by_planes(engines):
    return SmokeYuvModel(engines)


@pytest.fixture(scope="module")
def by_rgb():
    with_cpu = open_smoke_model("smoke", validate=False)
    yield with_cpu
    with_cpu.close()


def image_and_planes(height, width, *, full=False, seed=1):
    """Sky, ground and a plume, and the same as decoded planes."""
    half = -(-height // 2), -(-width // 2)
    rows, columns = np.mgrid[0:height, 0:width]
    away = ((columns - width * 0.4) / (width * 0.08)) ** 2 + (
        (rows - height * 0.5) / (height * 0.12)
    ) ** 2
    plume = 0.8 * np.exp(-away)
    luma = smooth(height, width, seed, 0.4) * (1 - plume) + 190 * plume
    planes = (luma.astype(np.uint8), smooth(*half, 2, 0.1), smooth(*half, 3, 0.1))
    shown = Image.from_planes(planes, ColorTags(1, 1, 1, full))
    return shown, Yuv(planes[0], planes[1:], full_range=full)


def noise_of_one_level(model, image, background=None):
    """What noise of one level does to the mask: largest and mean change."""
    random = np.random.default_rng(7)
    noisy = np.clip(image + random.integers(-1, 2, image.shape), 0, 255).astype(np.uint8)
    apart = np.abs(model(noisy, background) - model(image, background))
    return float(apart.max()), float(apart.mean())


@pytest.mark.parametrize("size", [(1080, 1920), (481, 641)], ids=str)
@pytest.mark.parametrize("full", [False, True])
def test_the_mask_is_that_of_the_cpu_within_what_noise_of_one_level_does(
    by_planes, by_rgb, size, full
):
    shown, decoded = image_and_planes(*size, full=full)
    image = shown.rgb(by_rgb.input_size)
    background = np.roll(image, 40, axis=1)
    for normal in (None, background):
        want = by_rgb.predict(image, normal)
        view = Request(decoded, decoded.full_window, by_rgb.input_size, normal)
        (seen,) = by_planes.predict([view], level=0.1)
        largest, mean = noise_of_one_level(by_rgb, image, normal)
        apart = np.abs(seen.mask - want.mask)
        assert apart.max() <= 2 * largest + 0.01
        assert apart.mean() <= 2 * mean + 0.001
        assert seen.image_score == pytest.approx(want.image_score, abs=0.03)
        assert np.abs(seen.image.astype(int) - image).max() <= 7


def test_the_same_input_image_gives_the_same_result(by_planes, by_rgb):
    _, decoded = image_and_planes(301, 403)
    (seen,) = by_planes.predict([Request(decoded, decoded.full_window, SIZE)], level=0.1)
    want = by_rgb.predict(seen.image)
    assert np.abs(seen.mask - want.mask).max() <= 0.5 / 255 + 1e-4
    assert seen.image_score == pytest.approx(want.image_score, abs=1e-4)
    there = want.mask > 0.1
    assert seen.stats.peak == pytest.approx(want.mask.max(), abs=1e-4)
    assert seen.stats.area == pytest.approx(there.mean(), abs=1e-3)


@pytest.mark.parametrize("name", SHIPPED)
def test_each_frame_of_a_batch_gets_the_same_result_as_alone(name):
    model = SmokeYuvModel({"planar": open_reference(graph(name))})
    views = []
    for seed in range(5):
        _, decoded = image_and_planes(120, 200, seed=seed, full=bool(seed % 2))
        normal = smooth(*SIZE, seed)[..., None].repeat(3, 2) if seed % 3 else None
        window = decoded.full_window if seed % 2 else (20, 10, 100, 80)
        views.append(Request(decoded, window, SIZE, normal))
    together = model.predict(views, level=0.1)
    for view, seen in zip(views, together, strict=True):
        (alone,) = model.predict([view], level=0.1)
        np.testing.assert_array_equal(seen.image, alone.image)
        assert np.abs(seen.mask - alone.mask).max() <= 1.001 / 255
        assert seen.image_score == pytest.approx(alone.image_score, abs=1e-5)


def test_zoom_verification_infers_another_window(by_planes, by_rgb):
    shown, decoded = image_and_planes(1080, 1920)
    for box in [(0.3, 0.4, 0.3 + 320 / 1920, 0.4 + 192 / 1080), (0.25, 0.3, 0.6, 0.7)]:
        part, window = decoded.crop(even_window(box, decoded.size), WINDOW)
        assert part.y.size < decoded.y.size / 3
        (seen,) = by_planes.predict([Request(part, window, WINDOW)], level=0.1)
        image = shown.rgb_crop(even_window(box, shown.size), WINDOW)
        largest, mean = noise_of_one_level(by_rgb, image)
        apart = np.abs(seen.mask - by_rgb(image))
        assert apart.max() <= 2 * largest + 0.01
        assert apart.mean() <= 2 * mean + 0.001


def test_both_layouts_and_either_alone_say_the_same(engines, by_planes):
    _, decoded = image_and_planes(100, 150)
    decoded = replace(decoded, siting=LEFT)
    pairs = [decoded, decoded.interleaved()]
    views = [Request(each, each.full_window, SIZE) for each in pairs]
    both = by_planes.predict(views, level=0.1)
    alone = [
        SmokeYuvModel({layout: engines[layout]}).predict(views, level=0.1) for layout in LAYOUTS
    ]
    for seen in (*both, *alone[0], *alone[1]):
        np.testing.assert_array_equal(seen.image, both[0].image)
        assert np.abs(seen.mask - both[0].mask).max() <= 1.001 / 255


def test_enhanced_frames_use_the_threshold_of_dark_frames(by_planes, by_rgb):
    _, decoded = image_and_planes(120, 200)
    view = Request(decoded, decoded.full_window, SIZE)
    (plain,) = by_planes.predict([view], level=0.1)
    (lifted,) = by_planes.predict([view], level=0.1, dark=True)
    want = by_rgb(plain.image, dark=True)
    assert np.abs(lifted.mask - want).max() <= 1 / 255
    assert lifted.stats.area == pytest.approx((want > 0.1).mean(), abs=2e-3)


def test_what_does_not_fit_is_refused_in_words(by_planes):
    _, decoded = image_and_planes(64, 64)
    with pytest.raises(ModelMismatch, match="multiples of 32, got 60x64"):
        by_planes.predict([Request(decoded, decoded.full_window, (60, 64))], level=0.1)
    view = Request(decoded, decoded.full_window, (64, 64), np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(ModelMismatch, match="background"):
        by_planes.predict([view], level=0.1)
    with pytest.raises(ModelMismatch, match="at least one layout"):
        SmokeYuvModel({})
    with pytest.raises(ModelFileError, match="no smoke network is called"):
        graph("fog")


def test_it_is_ready_while_every_engine_is_on_a_gpu(engines):
    class OnGpu:
        def __init__(self, engine):
            self.spec, self.backend, self.infer = engine.spec, engine.backend, engine.infer
            self.state = EngineState("cuda:0")

        def close(self):
            self.closed = True

    behind = {layout: OnGpu(engine) for layout, engine in engines.items()}
    model = SmokeYuvModel(behind)
    assert model.ready
    behind["nv12"].state = EngineState("cpu", degraded=True, reason="the driver is gone")
    assert not model.ready
    assert model.state.reason == "the driver is gone"
    model.close()
    assert all(engine.closed for engine in behind.values())


def test_equal_arguments_give_equal_bytes_and_the_file_says_what_it_was_made_from():
    first, second = graph("smoke-fast", "nv12"), graph("smoke-fast", "nv12")
    assert first.content == second.content
    assert first.digest != graph("smoke-fast", "planar").digest
    assert first.name == "smoke-fast-nv12"
    assert len(first.metadata["made_from"]) == 64


def test_in_f16_images_differ_by_a_level_and_masks_by_the_tolerance(by_planes):
    from engines.plans.mixed_precision import to_mixed_fp16
    from engines.plans.onnx_passes import prepared

    made = graph("smoke")
    content = to_mixed_fp16(prepared(made.content, settings("planar").profiles))
    lower = open_reference(replace(made, content=content.SerializeToString()))
    exact = by_planes._engines["planar"]
    for sample in samples()[:2]:
        want, got = exact.infer(sample), lower.infer(sample)
        assert np.abs(want["rgb_bytes"].astype(int) - got["rgb_bytes"]).max() <= 1
        apart = np.abs(want["mask_bytes"].astype(int) - got["mask_bytes"])
        assert apart.max() <= TOLERANCES["f16"].largest
        assert apart.mean() <= TOLERANCES["f16"].mean


@pytest.mark.compile
@pytest.mark.parametrize(("name", "layout"), list(zip(SHIPPED, LAYOUTS, strict=True)))
def test_tensorrt_compiles_every_layer_of_it(name, layout):
    try:
        rtx = library("rtx")
    except DeviceUnavailable as error:
        pytest.skip(str(error))
    made: ModelFile = graph(name, layout)
    target = Target("sm89", "f16", settings(layout).profiles)
    plan = build(made, rtx, target)
    assert [kind for _, _, kind in plan.facts["outputs"]] == [
        "uint8",
        "uint8",
        "float32",
        "float32",
    ]
    assert plan.facts["f16_layers"] > 0


@pytest.mark.parametrize("entry", FOR_GPUS, ids=lambda entry: entry.name)
def test_samples_and_prepared_shapes_lie_in_one_profile_each(entry):
    assert find(entry.model().name) is entry
    gpu = entry.plan_settings()
    sampled = [{name: a.shape for name, a in sample.items()} for sample in entry.samples()]
    for shapes in (*sampled, *gpu.warm_shapes):
        assert sum(profile.accepts(shapes) for profile in gpu.profiles) == 1


def test_every_crop_of_zoom_verification_fits_a_prepared_canvas():
    for height, width in [(480, 640), (1080, 1920), (2160, 3840), (481, 641)]:
        decoded = Yuv(
            np.zeros((height, width), np.uint8),
            (np.zeros((-(-height // 2), -(-width // 2)), np.uint8),) * 2,
            full_range=True,
        )
        for share in (0.02, 0.1, MAX_REGION_SIZE):
            rows, columns = 192, 320
            box = (int(0.4 * columns), int(0.4 * rows), int(share * columns), int(share * rows))
            window = _window(box, (rows, columns), (max(height, 768), max(width, 1280)))
            part, _ = decoded.crop(even_window(window, (height, width)), WINDOW)
            rows, columns = part.size
            assert any(rows <= h and columns <= w for h, w in CROP_CANVASES)


@pytest.mark.parametrize("size", [(719, 1279), (1080, 1920), (1081, 640), (360, 640)])
def test_planes_are_padded_to_a_canvas_which_changes_nothing(by_planes, size):
    """Frames of other sizes share the shapes that a plan was prepared for."""
    _, decoded = image_and_planes(*size)
    engine = by_planes._engines["planar"]
    ran = []

    class Recording:
        spec, backend, state = engine.spec, engine.backend, engine.state

        def infer(self, inputs):
            ran.append(inputs)
            return engine.infer(inputs)

    request = Request(decoded, decoded.full_window, SIZE)
    (padded,) = SmokeYuvModel({"planar": Recording()}).predict([request], level=0.1)
    assert ran[0]["luma"].shape[1:] in FRAME_CANVASES
    rows, columns = size
    half = (-(-rows // 2), -(-columns // 2))
    exact = dict(ran[0], luma=ran[0]["luma"][:, :rows, :columns])
    exact |= {name: ran[0][name][:, : half[0], : half[1]] for name in ("chroma_u", "chroma_v")}
    want = engine.infer({name: np.ascontiguousarray(array) for name, array in exact.items()})
    np.testing.assert_array_equal(padded.image, want["rgb_bytes"][0])
    assert np.abs(padded.mask - want["mask_bytes"][0] / 255).max() <= 1.001 / 255


@pytest.fixture
def runtime(monkeypatch):
    """A GPU whose engines run in ONNX Runtime; `closed` lists those that were closed."""
    closed = []

    class OnGpu:
        def __init__(self, model, runtime, settings, *, precision):
            engine = open_reference(model)
            self.spec, self.backend, self.infer = engine.spec, "fake", engine.infer
            self.state = EngineState("cuda:0")
            self.layout = "nv12" if model.name.endswith("nv12") else "planar"

        def close(self):
            closed.append(self.layout)

    monkeypatch.setattr("engines.smoke.yuv_model.find_gpu", lambda device, precision: "a GPU")
    monkeypatch.setattr("engines.smoke.yuv_model.load_on_gpu", OnGpu)
    return closed, OnGpu


WANTED = {"clients": {"planar": 1, "nv12": 3}, "device": "cuda", "max_queue_delay_s": 0.0}


def test_each_layout_has_its_engine_and_everything_is_closed(runtime):
    closed, _ = runtime
    opened = open_smoke_by_planes("smoke-fast", **WANTED)
    _, decoded = image_and_planes(64, 96)
    requests = [
        Request(each, each.full_window, (64, 96)) for each in (decoded, decoded.interleaved())
    ]
    one, other = opened.predict(requests, level=0.1)
    np.testing.assert_array_equal(one.image, other.image)
    opened.close()
    assert sorted(closed) == sorted(LAYOUTS)


def test_a_batch_waits_only_for_the_cameras_of_its_own_layout(runtime):
    opened = open_smoke_by_planes("smoke-fast", **WANTED | {"max_queue_delay_s": 3600.0})
    assert {name: each._clients for name, each in opened._engines.items()} == WANTED["clients"]
    _, decoded = image_and_planes(64, 96)
    (alone,) = opened.predict([Request(decoded, decoded.full_window, (64, 96))], level=0.1)
    assert alone.mask.shape == (32, 48)
    opened.close()


def test_an_error_of_one_layout_closes_the_other(runtime, monkeypatch):
    closed, on_gpu = runtime

    def fails(model, *arguments, **options):
        if model.name.endswith("nv12"):
            raise InaccurateEngine("too far off")
        return on_gpu(model, *arguments, **options)

    monkeypatch.setattr("engines.smoke.yuv_model.load_on_gpu", fails)
    with pytest.raises(InaccurateEngine):
        open_smoke_by_planes("smoke-fast", **WANTED)
    assert closed == ["planar"]


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_without_a_gpu_nothing_is_opened_unless_it_is_required(monkeypatch, device):
    Machine(gpus=0).install(monkeypatch)
    assert open_smoke_by_planes(**WANTED | {"device": device}) is None
    with pytest.raises(DeviceUnavailable, match="no CUDA-capable device"):
        open_smoke_by_planes(**WANTED)


def test_simultaneous_cameras_share_a_batch_and_get_their_own_results():
    engine = open_reference(graph("smoke-fast"))
    cameras = 4
    batched = SmokeYuvModel(
        {"planar": Batcher(engine, max_batch_size=cameras, clients=cameras, max_queue_delay_s=3600)}
    )
    views = []
    for seed in range(cameras):
        _, decoded = image_and_planes(120, 200, seed=seed)
        views.append([Request(decoded, decoded.full_window, SIZE)])
    with ThreadPoolExecutor(cameras) as pool:
        together = list(pool.map(lambda view: batched.predict(view, level=0.1)[0], views))
    alone = SmokeYuvModel({"planar": engine})
    for view, seen in zip(views, together, strict=True):
        (want,) = alone.predict(view, level=0.1)
        np.testing.assert_array_equal(seen.image, want.image)
        assert np.abs(seen.mask - want.mask).max() <= 1.001 / 255
    batched.close()
