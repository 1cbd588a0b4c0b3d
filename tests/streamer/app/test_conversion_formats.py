"""Low light and overlay in conversions: depth and subsampling of the recording are kept."""

import av
import numpy as np
import pytest

from streamer.app.conversion import Networks, convert, make_plan, open_networks
from streamer.config.convert import ConvertOptions
from streamer.core.image import ColorTags, Image
from streamer.core.pixel_format import planar_layout, plane_views
from tests.engines.lowlight.scenes import street
from tests.support.blend import Blend

pytestmark = pytest.mark.slow

FRAMES = 12


def night(path, pixel_format):
    """A dark street that moves, without loss."""
    layout = planar_layout(pixel_format)
    unit = 1 << (layout.depth - 8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 144, pixel_format
        for number in range(FRAMES):
            luma = street(0.1, noise=1.0, seed=number, shift=3 * number)
            levels = (luma, 120, 133)[: 3 if layout.colored else 1]
            planes = [
                np.broadcast_to(np.rint(level * unit), shape).astype(layout.dtype)
                for level, shape in zip(levels, layout.shapes(144, 256), strict=True)
            ]
            image = Image.from_planes(planes, ColorTags(), pixel_format=pixel_format)
            container.mux(stream.encode(image.video_frame()))
        container.mux(stream.encode())
    return path


def planes_of(path):
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    layout = planar_layout(frames[0].format.name)
    return layout, [[plane.copy() for plane in plane_views(frame, layout)] for frame in frames]


def converted(source, networks, **options):
    output = source.with_name("out.mkv")
    plan = make_plan(source, output, ConvertOptions(encoder="ffv1", factor=2, **options))
    networks = Networks(Blend(), networks.lowlight, networks.detector)
    done = convert(plan, networks, jobs=1, report=lambda _: None)
    assert [(one.name, one.detail) for one in done.report.checks if not one.ok] == []
    layout, made = planes_of(output)
    assert len(made) == 2 * FRAMES
    return layout, made


@pytest.fixture(scope="module")
def enhancing():
    with open_networks(ConvertOptions(enhance=True), device="cpu") as networks:
        yield networks


@pytest.fixture(scope="module")
def drawing():
    with open_networks(ConvertOptions(overlay=True), device="cpu") as networks:
        yield networks


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p", "yuv444p10le", "gray"])
def test_a_night_recording_is_enhanced_in_its_own_format(tmp_path, enhancing, pixel_format):
    source = night(tmp_path / "night.mkv", pixel_format)
    layout, before = planes_of(source)
    after_layout, after = converted(source, enhancing, enhance=True)
    assert after_layout == layout
    assert np.mean(after[-1][0]) > 1.5 * np.mean(before[-1][0])
    if layout.depth > 8:
        assert np.mean(after[-2][0] % 4 != 0) > 0.5


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p", "gbrp10le", "gray"])
def test_an_overlay_changes_only_what_it_draws_on(tmp_path, drawing, pixel_format):
    source = night(tmp_path / "night.mkv", pixel_format)
    layout, before = planes_of(source)
    after_layout, after = converted(source, drawing, overlay=True)
    assert after_layout == layout
    for old, new in zip(before, after[::2], strict=True):
        for one, other in zip(old, new, strict=True):
            top, bottom = len(one) // 6, len(one) * 5 // 6
            np.testing.assert_array_equal(one[top:bottom], other[top:bottom])
        assert (old[0] != new[0]).any()
