"""`HttpSource`: an HTTP address that does not say whether it serves a video or snapshots."""

from collections.abc import Iterator

from streamer.core.clock import CancelToken
from streamer.core.frame import Frame

from .address import SourceKind
from .snapshot import SnapshotSource
from .video import VideoSource


class HttpSource:
    """Asks the server what it serves, and reads it so for as long as this gives frames.

    Args:
        video: Reads the address as a video.
        snapshot: Reads the same address as a snapshot.
    """

    def __init__(self, *, video: VideoSource, snapshot: SnapshotSource) -> None:
        self.video = video
        """Counts packets and faults; not used if the server serves snapshots."""

        self._snapshot = snapshot
        self._chosen: VideoSource | SnapshotSource | None = None

    def __repr__(self) -> str:
        return repr(self._chosen or self.video)

    def __call__(self, cancel: CancelToken) -> Iterator[Frame]:
        """Yield frames, as the source that fits.

        Raises:
            SourceError: As the source that fits, or the server does not say what it serves.
            Cancelled: *cancel* was set while the source waited.
        """
        if self._chosen is None:
            is_snapshot = self._snapshot.served(cancel) is SourceKind.SNAPSHOT
            self._chosen = self._snapshot if is_snapshot else self.video
        frames = 0
        try:
            for frame in self._chosen(cancel):
                frames += 1
                yield frame
        finally:
            if not frames:  # The answer was that of a camera that starts, perhaps: ask again.
                self._chosen = None
