"""The training images: the index, the split by view, decoding.

A *view* is one camera pointing in one direction (`group` in the index). Images of a view are
minutes apart, so the split is by view, never by image. Composites, distractors and augmentation
are made in `synthesis.py`.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from engines.common import dataset
from engines.common.dataset import data_folder, names_digest, read_gray, read_rgb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from engines.common.dataset import Part

SPLIT_SALT = "smoke-1831"
"""Chosen before any training so that the two largest views (63 % of the images) train, and that
each part has clear views and plumes of every size."""
TRAIN_PERCENT, DEVELOPMENT_PERCENT = 50, 15
"""Percentages of the views; the rest is validation."""

MAX_WIDTH_PX = 640
"""Images are reduced to this width, the width of the networks' input."""
SAME_VIEW_CORRELATION = 0.6
"""Two images of a group show the same framing if their edges correlate above this."""
SAME_BURST_CORRELATION = 0.9
"""Two stills without a group belong to one burst if their thumbnails correlate above this."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the index."""

    source: str
    """Name of the data set."""
    path: Path
    """The image file."""
    mask: Path | None
    """Its drawn mask (255 = smoke), if there is one."""
    smoke: bool
    """Whether the image shows smoke."""
    group: str
    """The camera view; empty where unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """A decoded image with its labels."""

    entry: Entry
    """Its line of the index."""
    image: NDArray[np.uint8]
    """(h, w, 3) RGB."""
    mask: NDArray[np.uint8] | None
    """(h, w), 255 = smoke; None if no mask was drawn."""


def split_of(group: str) -> Part:
    """Return the part of the split that a view belongs to."""
    return dataset.split_of(
        group,
        salt=SPLIT_SALT,
        train_percent=TRAIN_PERCENT,
        development_percent=DEVELOPMENT_PERCENT,
    )


def read_index(path: Path) -> list[Entry]:
    """Read an index file, whose paths are relative to its folder."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Entry(
                source=line["source"],
                path=path.parent / line["path"],
                mask=path.parent / line["mask"] if line["mask"] else None,
                smoke=line["class"] == "smoke",
                group=line["group"],
            )
            for line in csv.DictReader(file)
        ]


def read_labelled(entry: Entry, *, max_width: int = MAX_WIDTH_PX) -> LabelledImage:
    """Decode an image and its mask, reduced to `max_width` if wider.

    Raises:
        OSError: A file is missing or no image.
    """
    image = read_rgb(entry.path)
    mask = read_gray(entry.mask) if entry.mask else None
    height, width = image.shape[:2]
    if width > max_width:
        size = (max_width, round(height * max_width / width))
        image = cast("Any", cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    if mask is not None and mask.shape != image.shape[:2]:
        mask = cast("Any", cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_AREA))
    return LabelledImage(entry, image, mask)


def with_groups(entries: Sequence[Entry]) -> list[Entry]:
    """Assign a group to stills without one, by similarity, so that a burst is never split.

    Street stills come in bursts of near-identical frames.
    """
    done: list[Entry] = []
    seeds: list[tuple[str, NDArray[np.float32]]] = []
    for entry in entries:
        if entry.group:
            done.append(entry)
            continue
        tiny = _normalized(
            cv2.resize(read_gray(entry.path), (24, 24), interpolation=cv2.INTER_AREA)
        )
        best = max(seeds, key=lambda seed: float((seed[1] * tiny).sum()), default=None)
        if best is not None and float((best[1] * tiny).sum()) > SAME_BURST_CORRELATION:
            name = best[0]
        else:
            name = f"{entry.source}-{len(seeds)}"
            seeds.append((name, tiny))
        done.append(Entry(entry.source, entry.path, entry.mask, entry.smoke, name))
    return done


def training_entries() -> list[Entry]:
    """Return every image of all parts with its view; the development clips are not among them."""
    folder = data_folder()
    wanted = {"smoke5k_real", "hpwren_aiformankind", "fszhang_cls", "smoke5k_synth"}
    entries = [
        entry for entry in read_index(folder / "smoke" / "index.csv") if entry.source in wanted
    ]
    for name in ("real_haze", "sunhays80"):
        entries += [
            Entry(name, path, None, smoke=False, group=f"{name}-{path.stem}")
            for path in sorted((folder / "images" / name).glob("*.jpg"))
        ]
    rendered = [entry for entry in entries if entry.source == "smoke5k_synth"]
    with (folder / "lowlight" / "sice_pairs.csv").open(newline="", encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    # Photographs of 160 scenes, well exposed and dark: clouds, haze, walls, lamps, no smoke.
    exposures = {pair[name]: pair["scene"] for pair in pairs for name in ("low", "ref")}
    entries += [
        Entry("sice_zerodce_train", folder / path, None, smoke=False, group=f"sice-{scene}")
        for path, scene in sorted(exposures.items())
    ]
    grouped = with_groups([entry for entry in entries if entry.source != "smoke5k_synth"])
    # Rendered composites are used for training only.
    return grouped + rendered


def mislabelled() -> frozenset[str]:
    """Return the names of images that are labelled clear but show smoke."""
    lines = Path(__file__).with_name("mislabelled.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def entries_of(entries: Sequence[Entry], part: Part) -> list[Entry]:
    """Return the entries of one part of the split; rendered composites are always in "train"."""
    return [
        entry
        for entry in entries
        if (part == "train" if entry.source == "smoke5k_synth" else split_of(entry.group) == part)
    ]


def same_view(images: Sequence[LabelledImage]) -> list[list[int]]:
    """Return for each image the indices of the others with the same framing.

    A group joins similar views in chains, so that its ends may differ: only pairs whose edges
    correlate can serve as each other's background.
    """
    edges = [_edges(each.image) for each in images]
    members: dict[str, list[int]] = defaultdict(list)
    for index, each in enumerate(images):
        if each.entry.group:
            members[each.entry.group].append(index)
    matches: list[list[int]] = [[] for _ in images]
    for group in members.values():
        stack = np.stack([edges[index].ravel() for index in group])
        correlation = stack @ stack.T
        for at, index in enumerate(group):
            near = np.flatnonzero(correlation[at] > SAME_VIEW_CORRELATION)
            matches[index] = [
                group[other]
                for other in near
                if other != at and images[group[other]].image.shape == images[index].image.shape
            ]
    return matches


def _edges(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(
        cv2.resize(image, (96, 72), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
    )
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 0.8)
    edges = (
        np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)) ** 0.5
    )
    # Without the rim, which is alike for all fish-eye lenses, and the sky, which changes.
    return _normalized(edges[14:68, 10:86])


def _normalized(values: NDArray[Any]) -> NDArray[np.float32]:
    centred = np.asarray(values, np.float32) - np.float32(np.mean(values))
    return centred / np.float32(np.linalg.norm(centred) + 1e-6)


def digest_of(entries: Iterable[Entry]) -> str:
    """Return the digest of the images that a network was trained on."""
    return names_digest(f"{entry.source}/{entry.path.name}/{entry.group}" for entry in entries)
