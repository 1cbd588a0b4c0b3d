"""Views stay on one side of the split, and samples are what they claim to be."""

import numpy as np
import pytest

from engines.smoke.data import (
    Entry,
    LabelledImage,
    data_folder,
    in_part,
    part_of,
    read_index,
    read_still,
    same_view,
    training_rows,
)
from engines.smoke.synthesis import MIX, SampleMaker

PARTS = ("train", "development", "validation")


def scene(seed, *, mask=None, smoke=False, source="hpwren_aiformankind", group="g"):
    random = np.random.default_rng(seed)
    image = np.repeat(np.linspace(200, 60, 240)[:, None, None], 320, 1) + random.normal(
        0, 8, (240, 320, 3)
    )
    image[140:] = 70 + 40 * np.sin(np.arange(320) / (3 + seed))[None, :, None]
    row = Entry(source, None, None, smoke=smoke, group=group)
    return LabelledImage(row, np.clip(image, 0, 255).astype(np.uint8), mask)


def stills():
    mask = np.zeros((240, 320), np.uint8)
    mask[100:140, 100:160] = 255
    return [
        scene(1),
        scene(1),
        scene(2, group="h"),
        scene(3, mask=mask, smoke=True, source="smoke5k_real", group="i"),
        scene(4, smoke=True, source="fszhang_cls", group="j"),
    ]


def densities():
    y, x = np.mgrid[0:80, 0:60]
    return [(255 * np.exp(-(((x - 30) / 9) ** 2) - ((y - 50) / 25) ** 2)).astype(np.uint8)]


def maker(seed=1):
    return SampleMaker(stills(), densities(), size=(96, 160), seed=seed)


def test_the_side_of_a_view_never_changes():
    # Figures in the card hold only for this split: these are facts, not expectations.
    assert [part_of(f"g{n}") for n in (0, 1, 94, 97)] == [
        "train",
        "train",
        "validation",
        "development",
    ]


def test_a_sample_follows_from_its_number_alone():
    first, again, other = maker().sample(7), maker().sample(7), maker().sample(8)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.target, again.target)
    assert not np.array_equal(first.image, other.image)


def test_samples_have_one_size_and_honest_labels():
    kinds = set()
    make = maker()
    for number in range(80):
        sample = make.sample(number)
        assert sample.image.shape == sample.background.shape == (96, 160, 3)
        assert sample.image.dtype == sample.background.dtype == np.uint8
        assert sample.target.shape == (48, 80)
        if not sample.has_background:
            np.testing.assert_array_equal(sample.image, sample.background)
        if sample.mask_known:
            assert sample.smoke == (sample.target.max() > 76)
        else:
            assert sample.smoke
            assert sample.target.max() == 0
        kinds.add((sample.smoke, sample.mask_known, sample.has_background))
    assert kinds >= {(True, True, True), (True, True, False), (False, True, True)}


def test_the_mix_is_a_whole_and_half_of_it_is_clear():
    assert sum(MIX.values()) == pytest.approx(1)
    assert MIX["clear"] + MIX["beside"] >= 0.5


def test_beside_smoke_there_is_none():
    make = maker()
    samples = [make.sample(number, kind="beside") for number in range(30)]
    assert not any(sample.smoke for sample in samples)
    assert not any(sample.target.any() for sample in samples)
    assert len({sample.image.tobytes() for sample in samples}) == 30


def test_only_pictures_of_one_framing_serve_as_each_others_background():
    assert same_view(stills()) == [[1], [0], [], [], []]


def test_an_index_without_masks_or_groups_is_read(tmp_path):
    path = tmp_path / "index.csv"
    path.write_text("source,path,mask,label,class,group\ncam,a.jpg,,image,nonsmoke,\n")
    (row,) = read_index(path)
    assert row == Entry("cam", tmp_path / "a.jpg", None, smoke=False, group="")
    with pytest.raises(OSError, match=r"a\.jpg"):
        read_still(row)


def test_missing_data_says_which_variable_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMER_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="STREAMER_DATA"):
        data_folder()


@pytest.mark.data
def test_no_view_is_on_two_sides_and_no_clip_is_trained_on(data, monkeypatch):
    monkeypatch.setenv("STREAMER_DATA", str(data))
    rows = training_rows()
    groups = {part: {row.group for row in in_part(rows, part) if row.group} for part in PARTS}
    for one in PARTS:
        for other in PARTS:
            assert one == other or not groups[one] & groups[other]
    assert {row.source for row in rows} == {
        "smoke5k_real",
        "smoke5k_synth",
        "hpwren_aiformankind",
        "fszhang_cls",
        "sice_zerodce_train",
        "real_haze",
        "sunhays80",
    }
    for part in ("development", "validation"):
        assert not any(row.source == "smoke5k_synth" for row in in_part(rows, part))
        judged = [row for row in in_part(rows, part) if row.mask]
        assert len(judged) > 50
