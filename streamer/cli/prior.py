"""`streamer prior`: what a camera is usually taken for smoke at, hour by hour, as a picture."""

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
_GREY = 70
_HARDLY = 0.2  # Below it the grey shows through.


def prior(
    camera: Annotated[str, typer.Argument(help="As the configuration names it.")],
    *,
    picture: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG to write; CAMERA.usual.png if left out."),
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Delete it; a running station follows in ten minutes.")
    ] = False,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """Show, or forget, what is usual at a camera: a map for each two hours of the day (UTC).

    Exit code 2 says that the configuration has no such camera, 1 that nothing is known of it yet.
    """
    from streamer.core.errors import StorageError
    from streamer.evidence.folder import safe_name
    from streamer.store.prior_file import PriorFile

    out = output.current()
    settings = data_settings(config, data_dir)
    if config and camera not in settings.cameras:
        names = ", ".join(settings.cameras)
        raise typer.BadParameter(f"there is no camera {camera!r}, but {names}")
    file = PriorFile(settings.usual_folder / f"{safe_name(camera)}.npz")
    if forget:
        existed = file.forget()
        words = f"forgot what is usual at {camera}" if existed else _nothing(camera, file.path)
        out.result({"kind": "forgotten", "camera": camera, "existed": existed}, words)
        return
    state = file.load()
    if state is None:
        raise StorageError(_nothing(camera, file.path))
    path = picture or Path(f"{camera}.usual.png")
    maps = state["maps"].max(axis=0)  # of all its views
    _draw(maps, path)
    highest = float(maps.max()) / 255
    out.result(
        {"kind": "prior", "camera": camera, "picture": str(path), "highest": highest},
        f"{path}: at most {highest:.2f} is usual",
    )


def _nothing(camera: str, path: Path) -> str:
    return (
        f"nothing is known of a camera {camera!r}: there is no {path}. It is learnt while watching,"
        " and kept every ten minutes"
    )


def _draw(maps: "NDArray[np.generic]", path: Path) -> None:
    """A contact sheet: grey is never, red is always taken for smoke."""
    import cv2
    import numpy as np

    from streamer.core.errors import StorageError

    hours = 24 // len(maps)
    tiles = []
    for number, each in enumerate(maps):
        wide = cv2.resize(each.astype(np.uint8), _TILE[::-1], interpolation=cv2.INTER_NEAREST)
        heat = cv2.applyColorMap(wide, cv2.COLORMAP_TURBO)
        share = np.minimum(wide[..., None] / 255 / _HARDLY, 1)
        tile = (share * heat + (1 - share) * _GREY).astype(np.uint8)
        tile[-1] = tile[:, -1] = 0
        words = f"{number * hours:02}-{(number + 1) * hours:02} UTC, most {each.max() / 255:.2f}"
        cv2.putText(tile, words, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[at : at + _COLUMNS]) for at in range(0, len(tiles), _COLUMNS)]
    if not cv2.imwrite(str(path), np.vstack(rows)):
        raise StorageError(f"cannot write the picture {path}: its name must end in .png")
