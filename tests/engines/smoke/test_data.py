"""Views stay on one side of the split, and samples are what they claim to be."""

import numpy as np
import pytest

from engines.smoke.data import (
    Entry,
    LabelledImage,
    entries_of,
    read_index,
    read_labelled,
    same_view,
    split_of,
    training_entries,
)
from engines.smoke.synthesis import MIX, SampleMaker

PARTS = ("train", "development", "validation")


def scene(seed, *, mask=None, smoke=False, source="hpwren_aiformankind", group="g"):
    rng = np.random.default_rng(seed)
    image = np.repeat(np.linspace(200, 60, 240)[:, None, None], 320, 1) + rng.normal(
        0, 8, (240, 320, 3)
    )
    image[140:] = 70 + 40 * np.sin(np.arange(320) / (3 + seed))[None, :, None]
    entry = Entry(source, None, None, smoke=smoke, group=group)
    return LabelledImage(entry, np.clip(image, 0, 255).astype(np.uint8), mask)


def images():
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
    return SampleMaker(images(), densities(), size=(96, 160), seed=seed)


def test_the_part_of_a_view_never_changes():
    # The reported figures hold only for this split.
    assert [split_of(f"g{n}") for n in (0, 1, 94, 97)] == [
        "train",
        "train",
        "validation",
        "development",
    ]


def test_a_sample_depends_on_its_number_only():
    first, again, other = maker().sample(7), maker().sample(7), maker().sample(8)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.target, again.target)
    assert not np.array_equal(first.image, other.image)


def test_samples_have_one_size_and_correct_labels():
    kinds = set()
    make = maker()
    for number in range(80):
        sample = make.sample(number)
        assert sample.image.shape == sample.background.shape == (96, 160, 3)
        assert sample.image.dtype == sample.background.dtype == np.uint8
        assert sample.target.shape == (48, 80)
        if not sample.has_background:
            np.testing.assert_array_equal(sample.image, sample.background)
        if sample.has_mask:
            assert sample.smoke == (sample.target.max() > 76)
        else:
            assert sample.smoke
            assert sample.target.max() == 0
        kinds.add((sample.smoke, sample.has_mask, sample.has_background))
    assert kinds >= {(True, True, True), (True, True, False), (False, True, True)}


def test_the_fractions_add_up_and_half_of_the_samples_are_clear():
    assert sum(MIX.values()) == pytest.approx(1)
    assert MIX["clear"] + MIX["hard_negative"] >= 0.5


def test_a_hard_negative_crop_shows_no_smoke():
    make = maker()
    samples = [make.sample(number, kind="hard_negative") for number in range(30)]
    assert not any(sample.smoke for sample in samples)
    assert not any(sample.target.any() for sample in samples)
    assert len({sample.image.tobytes() for sample in samples}) == 30


def test_only_images_of_one_framing_serve_as_each_others_background():
    assert same_view(images()) == [[1], [0], [], [], []]


def test_an_index_without_masks_or_groups_is_read(tmp_path):
    path = tmp_path / "index.csv"
    path.write_text("source,path,mask,label,class,group\ncam,a.jpg,,image,nonsmoke,\n")
    (entry,) = read_index(path)
    assert entry == Entry("cam", tmp_path / "a.jpg", None, smoke=False, group="")
    with pytest.raises(OSError, match=r"a\.jpg"):
        read_labelled(entry)


@pytest.mark.data
def test_no_view_is_on_two_sides_and_no_clip_is_trained_on(data, monkeypatch):
    monkeypatch.setenv("STREAMER_DATA", str(data))
    entries = training_entries()
    groups = {part: {each.group for each in entries_of(entries, part)} - {""} for part in PARTS}
    for one in PARTS:
        for other in PARTS:
            assert one == other or not groups[one] & groups[other]
    assert {entry.source for entry in entries} == {
        "smoke5k_real",
        "smoke5k_synth",
        "hpwren_aiformankind",
        "fszhang_cls",
        "sice_zerodce_train",
        "real_haze",
        "sunhays80",
    }
    for part in ("development", "validation"):
        assert not any(each.source == "smoke5k_synth" for each in entries_of(entries, part))
        assert sum(each.mask is not None for each in entries_of(entries, part)) > 50
