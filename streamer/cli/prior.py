"""`streamer prior`: draws or deletes the learned false-positive prior of a camera."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output
from .common import DataConfig, DataFolder, data_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TILE = (192, 320)
_COLUMNS = 3
_GRAY = 70
_OPAQUE_FROM = 0.2  # Below this prior, the gray shows through.


def prior(
    camera: Annotated[str, typer.Argument(help="Name of the camera in the configuration.")],
    *,
    image: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG file to write. Default: CAMERA.prior.png."),
    ] = None,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget",
            help="Delete the prior. A running `watch` clears its own within ten minutes.",
        ),
    ] = False,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """Draw the learned false-positive prior of a camera: one map per two hours of the day (UTC).

    The prior is the smoke probability that the network reports without smoke. It is subtracted
    before thresholding. Exit code 2: the configuration has no such camera; 1: nothing was learned.
    """
    from streamer.core.errors import StorageError
    from streamer.core.file_names import safe_file_name
    from streamer.store.prior_file import PriorFile, adopt_old_folder

    out = output.current()
    settings = data_settings(config, data_dir)
    if config and camera not in settings.cameras:
        names = ", ".join(settings.cameras)
        raise typer.BadParameter(f"there is no camera {camera!r}, but {names}")
    adopt_old_folder(settings.priors_folder)
    file = PriorFile(settings.priors_folder / f"{safe_file_name(camera)}.npz")
    if forget:
        existed = file.delete()
        text = f"deleted the prior of {camera}" if existed else _nothing(camera, file.path)
        out.result({"kind": "forgotten", "camera": camera, "existed": existed}, text)
        return
    state = file.load()
    if state is None:
        raise StorageError(_nothing(camera, file.path))
    path = image or Path(f"{camera}.prior.png")
    maps = state["maps"].max(axis=0)  # Over all scenes.
    _draw(maps, path)
    highest = float(maps.max()) / 255
    out.result(
        {"kind": "prior", "camera": camera, "image": str(path), "highest": highest},
        f"{path}: the highest prior is {highest:.2f}",
    )


def _nothing(camera: str, path: Path) -> str:
    return (
        f"camera {camera!r} has no prior: {path} does not exist. It is learned while watching and"
        " saved every ten minutes"
    )


def _draw(maps: "NDArray[np.generic]", path: Path) -> None:
    """Write a contact sheet: gray is a prior of 0, red is 1."""
    import cv2
    import numpy as np

    from streamer.core.errors import StorageError

    hours = 24 // len(maps)
    tiles = []
    for number, each in enumerate(maps):
        large = cv2.resize(each.astype(np.uint8), _TILE[::-1], interpolation=cv2.INTER_NEAREST)
        heat = cv2.applyColorMap(large, cv2.COLORMAP_TURBO)
        opacity = np.minimum(large[..., None] / 255 / _OPAQUE_FROM, 1)
        tile = (opacity * heat + (1 - opacity) * _GRAY).astype(np.uint8)
        tile[-1] = tile[:, -1] = 0
        text = f"{number * hours:02}-{(number + 1) * hours:02} UTC, most {each.max() / 255:.2f}"
        cv2.putText(tile, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[at : at + _COLUMNS]) for at in range(0, len(tiles), _COLUMNS)]
    if not cv2.imwrite(str(path), np.vstack(rows)):
        raise StorageError(f"cannot write the image {path}: its name must end in .png")
