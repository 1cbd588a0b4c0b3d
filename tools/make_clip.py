"""Make the demonstration clip: a fire that starts on a ridge, with the truth beside it."""

from pathlib import Path
from typing import Annotated

import typer

from engines.smoke.demo_clip import make_clip


def main(
    out: Annotated[
        Path, typer.Argument(help="MP4 to write; NAME.json and NAME.alpha.npz beside it.")
    ],
    *,
    seconds: Annotated[int, typer.Option(min=1)] = 30,
    height: Annotated[int, typer.Option(min=64, max=2160, help="Width follows as 16:9.")] = 720,
    fps: Annotated[int, typer.Option(min=1, max=120)] = 25,
    seed: Annotated[int, typer.Option(help="Chooses landscape and plume.")] = 3,
    onset: Annotated[float, typer.Option(help="Seconds until the smoke begins.")] = 6.0,
    smoke: bool = True,
) -> None:
    """Make the demonstration clip and its ground truth."""
    width = height * 16 // 9 // 2 * 2
    truth = make_clip(
        out,
        seconds=seconds,
        size=(height // 2 * 2, width),
        fps=fps,
        seed=seed,
        onset_s=onset,
        smoke=smoke,
    )
    typer.echo(f"{out}: {truth.frames} frames, smoke from {truth.onset_s} s at {truth.anchor}")


if __name__ == "__main__":
    typer.run(main)
