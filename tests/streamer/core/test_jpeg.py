import cv2
import numpy as np
import pytest

from streamer.core.jpeg import EVIDENCE_QUALITY, encode_gray_png, encode_image, encode_jpeg

RGB = np.zeros((24, 32, 3), np.uint8)
RGB[..., 0] = 200
RGB[12:, :, 2] = 100


def decoded(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_jpeg_has_the_colors_of_its_rgb_array():
    data = encode_jpeg(RGB, quality=EVIDENCE_QUALITY)
    assert data[:2] == b"\xff\xd8"
    assert np.abs(decoded(data)[..., ::-1].astype(int) - RGB).mean() < 3


def test_a_lower_quality_takes_fewer_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert len(encode_jpeg(noise, quality=50)) < len(encode_jpeg(noise, quality=90))


def test_a_png_keeps_every_value():
    assert np.array_equal(decoded(encode_image(RGB, ".png"))[..., ::-1], RGB)
    assert np.array_equal(decoded(encode_gray_png(RGB[..., 0])), RGB[..., 0])


def test_a_suffix_of_no_image_is_refused():
    with pytest.raises(ValueError, match=r"'\.txt' is not the suffix of an image"):
        encode_image(RGB, ".txt")
