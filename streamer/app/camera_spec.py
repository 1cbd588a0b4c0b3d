"""Camera specs: what one camera is made of, as frozen plain values.

A spec holds all that the builders need to know of the configuration, so that no part receives the
configuration itself. Two equal specs describe the same camera: a changed configuration replaces
only the cameras whose specs differ.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamer.config import CameraSettings, Config
from streamer.config.camera import FileOutput, OutputSettings, RecordSettings
from streamer.config.values import Address
from streamer.core.file_names import safe_file_name
from streamer.sources.address import SourceKind, kind_of

_NS: Final = 1_000_000_000
_MISSED_FRAMES: Final = 2
"""So many sampled frames may be missing before an output shows NO SIGNAL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSpec:
    """One camera."""

    name: str
    """As in the configuration."""

    settings: CameraSettings
    """The camera's own section, with the defaults filled in."""

    channels: tuple[str, ...] = ()
    """Names of the channels that its events are delivered to."""

    evidence_folder: Path | None = None
    """Root of the evidence folders; `None` writes no evidence."""

    recordings_folder: Path | None = None
    """Folder of this camera's recordings; `None` records nothing."""

    prior_file: Path | None = None
    """File of the learned false-positive prior; `None` neither loads nor saves it."""

    allow_link_local: bool = False
    """Whether the address may lead to link-local addresses."""

    replay: bool = False
    """Whether the clock is the media time of a recording; nothing runs in real time then."""

    @property
    def kind(self) -> SourceKind:
        """What the address leads to."""
        chosen = {
            "snapshot": SourceKind.SNAPSHOT,
            "images": SourceKind.FOLDER,
            "pattern": SourceKind.PATTERN,
        }
        found = chosen.get(self.settings.source.kind) or kind_of(self.address)
        is_forced = self.settings.source.kind == "video" and found is SourceKind.SNAPSHOT
        return SourceKind.HTTP if is_forced else found

    @property
    def address(self) -> str:
        """URL, device or path; it may hold a password."""
        return self.settings.source.address.get_secret_value()

    @property
    def live(self) -> bool:
        """Whether the end of the stream means a broken connection."""
        chosen = self.settings.source.live
        return self.kind.live if chosen == "auto" else chosen == "always"

    @property
    def realtime(self) -> bool:
        """Whether frames come at the speed of the wall clock."""
        return not self.replay and (self.live or self.settings.source.realtime)

    @property
    def has_packets(self) -> bool:
        """Whether the source delivers packets, so that clips and recordings can be made."""
        return self.kind not in (SourceKind.SNAPSHOT, SourceKind.FOLDER, SourceKind.PATTERN)

    @property
    def inference_interval_ns(self) -> int:
        """Media time between two sampled frames."""
        return round(_NS / self.settings.detect.fps)

    @property
    def min_inference_interval_ns(self) -> int:
        """Media time between two inferences that is guaranteed at least under overload."""
        return max(self.inference_interval_ns, round(_NS / self.settings.detect.min_fps))

    @property
    def latency_budget_ns(self) -> int:
        """Greatest age at which a frame may reach a stage or sink."""
        return self.settings.latency_budget_ms * 1_000_000

    @property
    def stale_after_s(self) -> float:
        """Age above which the newest frame no longer shows the present."""
        return self.latency_budget_ns / _NS + _MISSED_FRAMES / self.settings.detect.fps


def camera_specs(config: Config) -> Iterator[CameraSpec]:
    """Return the specs of all enabled cameras of *config*."""
    for name, settings in config.cameras.items():
        if settings.enabled:
            yield camera_spec(name, settings, config)


def camera_spec(name: str, settings: CameraSettings, config: Config) -> CameraSpec:
    """Return the spec of one camera, with the folders and channels of *config*."""
    folder = safe_file_name(name)
    return CameraSpec(
        name=name,
        settings=settings,
        channels=tuple(config.notify) if settings.notify is None else settings.notify,
        evidence_folder=config.evidence_folder,
        recordings_folder=config.recordings_folder / folder if settings.record.enabled else None,
        prior_file=config.priors_folder / f"{folder}.npz",
        allow_link_local=config.network.allow_link_local,
    )


def replay_spec(
    name: str,
    settings: CameraSettings,
    file: str,
    *,
    evidence: Path | None,
    overlay: Path | None,
    every_frame: bool,
) -> CameraSpec:
    """Return the spec of a camera whose stream is replaced by a recording.

    Args:
        name: Name of the camera.
        settings: Its settings; source, outputs, recording and channels are replaced.
        file: A video, or a folder of images.
        evidence: Root of the evidence folders; `None` writes none.
        overlay: MP4 file for the frames with the overlay; `None` writes none.
        every_frame: Whether the overlay shows every frame instead of the sampled ones.
    """
    source = settings.source.model_copy(
        update={
            "address": Address(file),
            "kind": "auto",
            "live": "never",
            "realtime": False,
            "loop": False,
        }
    )
    output = None if overlay is None else FileOutput(path=overlay)
    replayed = settings.model_copy(
        update={
            "source": source,
            "outputs": OutputSettings(file=output, preview=False, every_frame=every_frame),
            "record": RecordSettings(),
        }
    )
    return CameraSpec(name=name, settings=replayed, evidence_folder=evidence, replay=True)
