"""What the training of every network shares: what was learnt with, and checkpoints that survive."""

from __future__ import annotations

import ast
import hashlib
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import nn


def code_digest(folder: Path, names: Iterable[str]) -> str:
    """One digest of the code that decides what is learnt, whatever its layout and comments."""
    digest = hashlib.sha256()
    for name in names:
        source = (folder / name).read_text(encoding="utf-8")
        digest.update(ast.dump(ast.parse(source)).encode())
    return digest.hexdigest()


def follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move the moving average of the weights on; *keep* is the share of it that stays, 0 to 1."""
    with torch.no_grad():
        for mine, theirs in zip(average.parameters(), network.parameters(), strict=True):
            mine.lerp_(theirs, 1 - keep)


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint in one move: a kill leaves the old or the new one."""
    torch.save(state, part := path.with_suffix(".part"))
    part.replace(path)
