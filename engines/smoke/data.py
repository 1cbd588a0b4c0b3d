"""The pictures networks learn from: reading the index, splitting by view, holding them in memory.

A *view* is one camera pointing one way (`group` in the index). Neighbours in a view are minutes
apart, so the split is by view, never by picture: `part_of` is the whole of it. What is made out of
the pictures (composites, distractors, augmentation) is in `synthesis.py`.
"""

# ruff: noqa: PLR2004  limits stand where they act
from __future__ import annotations

import csv
import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

Part = Literal["train", "development", "validation"]

SPLIT_SALT = "smoke-1831"
"""Chosen among salts, before any training, so that the two largest views (63 % of the pictures)
train, and that clear views and plumes of every size stand on each side."""
TRAIN_PERCENT, DEVELOPMENT_PERCENT = 50, 15
"""Of the views; the rest is validation. Development fixes the threshold, validation is reported."""

MAX_WIDTH_PX = 640
"""Pictures are held no wider than this: what fire-watch networks look at."""
SAME_VIEW_CORRELATION = 0.6
"""Two pictures of a group show the same framing above this correlation of their edges."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the index."""

    source: str
    """Which collection it comes from."""
    path: Path
    """The picture."""
    mask: Path | None
    """Its mask (255 = smoke), where somebody drew one."""
    smoke: bool
    """Whether it shows smoke."""
    group: str
    """The camera view; empty where unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """A decoded picture with what is known of it."""

    row: Entry
    """Where it comes from."""
    image: NDArray[np.uint8]
    """(h, w, 3) RGB."""
    mask: NDArray[np.uint8] | None
    """(h, w), 255 = smoke; None where nobody drew one."""


def data_folder() -> Path:
    """The folder of the development data: STREAMER_DATA, else `shared/data` beside the checkout.

    Raises:
        FileNotFoundError: neither is there.
    """
    named = os.environ.get("STREAMER_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    if not (folder / "smoke" / "index.csv").is_file():
        raise FileNotFoundError(
            f"no development data at {folder}: set STREAMER_DATA to the folder with smoke/index.csv"
        )
    return folder


def part_of(group: str) -> Part:
    """Which side of the split a view is on. The same on every machine, for ever."""
    number = int(hashlib.sha256(f"{SPLIT_SALT}:{group}".encode()).hexdigest()[:8], 16) % 100
    if number < TRAIN_PERCENT:
        return "train"
    return "development" if number < TRAIN_PERCENT + DEVELOPMENT_PERCENT else "validation"


def read_index(path: Path) -> list[Entry]:
    """Read an index; paths in it are relative to its folder."""
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


def read_still(row: Entry, *, max_width: int = MAX_WIDTH_PX) -> LabelledImage:
    """Decode one picture and its mask, scaled down to `max_width` where wider.

    Raises:
        OSError: a file is missing or no picture.
    """
    image = _read(row.path, cv2.IMREAD_COLOR_RGB)
    mask = _read(row.mask, cv2.IMREAD_GRAYSCALE) if row.mask else None
    height, width = image.shape[:2]
    if width > max_width:
        size = (max_width, round(height * max_width / width))
        image = cast("Any", cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    if mask is not None and mask.shape != image.shape[:2]:
        mask = cast("Any", cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_AREA))
    return LabelledImage(row, image, mask)


def _read(path: Path, mode: int) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), mode)
    if picture is None:
        raise OSError(f"cannot read the picture {path}")
    return cast("NDArray[np.uint8]", picture)


def with_groups(rows: Sequence[Entry]) -> list[Entry]:
    """Give stills without a group one, by likeness, so that twins never straddle the split.

    Street stills come in bursts of near-identical frames; two whose tiny pictures correlate
    above 0.9 share a group.
    """
    done: list[Entry] = []
    seeds: list[tuple[str, NDArray[np.float32]]] = []
    for row in rows:
        if row.group:
            done.append(row)
            continue
        tiny = _unit(
            cv2.resize(
                _read(row.path, cv2.IMREAD_GRAYSCALE), (24, 24), interpolation=cv2.INTER_AREA
            )
        )
        best = max(seeds, key=lambda seed: float((seed[1] * tiny).sum()), default=None)
        if best is not None and float((best[1] * tiny).sum()) > 0.9:
            name = best[0]
        else:
            name = f"{row.source}-{len(seeds)}"
            seeds.append((name, tiny))
        done.append(Entry(row.source, row.path, row.mask, row.smoke, name))
    return done


def training_rows() -> list[Entry]:
    """Every picture with its view, of all parts; development clips are not among them."""
    folder = data_folder()
    wanted = {"smoke5k_real", "hpwren_aiformankind", "fszhang_cls", "smoke5k_synth"}
    rows = [row for row in read_index(folder / "smoke" / "index.csv") if row.source in wanted]
    for name in ("real_haze", "sunhays80"):
        rows += [
            Entry(name, path, None, smoke=False, group=f"{name}-{path.stem}")
            for path in sorted((folder / "images" / name).glob("*.jpg"))
        ]
    rendered = [row for row in rows if row.source == "smoke5k_synth"]
    with (folder / "lowlight" / "sice_pairs.csv").open(newline="", encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    # Photographs of 160 places, well exposed and dark: clouds, haze, walls, lamps, and no smoke.
    exposures = {pair[name]: pair["scene"] for pair in pairs for name in ("low", "ref")}
    rows += [
        Entry("sice_zerodce_train", folder / path, None, smoke=False, group=f"sice-{scene}")
        for path, scene in sorted(exposures.items())
    ]
    grouped = with_groups([row for row in rows if row.source != "smoke5k_synth"])
    # Rendered composites are for training only, whatever their group.
    return grouped + rendered


def mislabelled() -> frozenset[str]:
    """Names of pictures that are labelled clear and show smoke, see the list."""
    lines = Path(__file__).with_name("mislabelled.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def in_part(rows: Sequence[Entry], part: str) -> list[Entry]:
    """The rows on one side of the split; rendered composites always train."""
    return [
        row
        for row in rows
        if (part == "train" if row.source == "smoke5k_synth" else part_of(row.group) == part)
    ]


def same_view(stills: Sequence[LabelledImage]) -> list[list[int]]:
    """For each still, the indices of others with the same framing.

    A group holds near-identical views joined in chains, so its ends may not match: only pairs
    whose edges correlate serve as each other's background.
    """
    edges = [_edges(still.image) for still in stills]
    members: dict[str, list[int]] = defaultdict(list)
    for index, still in enumerate(stills):
        if still.row.group:
            members[still.row.group].append(index)
    twins: list[list[int]] = [[] for _ in stills]
    for group in members.values():
        stack = np.stack([edges[index].ravel() for index in group])
        likeness = stack @ stack.T
        for at, index in enumerate(group):
            near = np.flatnonzero(likeness[at] > SAME_VIEW_CORRELATION)
            twins[index] = [
                group[other]
                for other in near
                if other != at and stills[group[other]].image.shape == stills[index].image.shape
            ]
    return twins


def _edges(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(
        cv2.resize(image, (96, 72), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
    )
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 0.8)
    edges = (
        np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)) ** 0.5
    )
    # Without the rim: every fish-eye lens has the same one, and the sky changes too much.
    return _unit(edges[14:68, 10:86])


def _unit(values: NDArray[Any]) -> NDArray[np.float32]:
    centred = np.asarray(values, np.float32) - np.float32(np.mean(values))
    return centred / np.float32(np.linalg.norm(centred) + 1e-6)


def digest_of(rows: Iterable[Entry]) -> str:
    """A digest of which pictures were used, for the checkpoint and the card."""
    names = "\n".join(sorted(f"{row.source}/{row.path.name}/{row.group}" for row in rows))
    return hashlib.sha256(names.encode()).hexdigest()
