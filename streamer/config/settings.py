"""The whole configuration, as `configs/reference.yaml` shows it."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, model_validator

from .camera import CameraDefaults, CameraSettings
from .channels import Channel, RetrySettings
from .convert import ConvertOptions
from .retention import RetentionSettings
from .values import DeviceName, Host, LocalPath, ModelName, Name, Password, Port, Section


class LogSettings(Section):
    """Log of the program, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum level."""

    format: Literal["text", "json"] = "text"
    """Format: text, or one JSON object per line."""


class EngineSettings(Section):
    """Network for smoke detection, and the device that runs it."""

    device: DeviceName = "auto"
    """`cpu`; `cuda` or `cuda:N`, an NVIDIA GPU that must exist; `auto`, a GPU if there is one. The
    CPU runs inference until the plan for the GPU is built and validated, and whenever the GPU
    fails."""

    precision: Literal["auto", "f32", "f16", "bf16"] = "auto"
    """Inference precision. `auto` is f32 on CPUs, with equal results on all of them, and f16 on
    GPUs, within a documented tolerance. bf16 is about twice as fast as f32 on CPUs that support
    it."""

    model: ModelName = "smoke"
    """`smoke`, the more accurate network; `smoke-fast`, less than half the cost, for many cameras
    on few cores; or the path of an ONNX file."""


class NetworkSettings(Section):
    """Where the URLs of this configuration may lead."""

    allow_link_local: bool = False
    """Whether URLs may lead to link-local addresses (169.254.0.0/16, fe80::/10) and to addresses
    at which clouds serve credentials. Needed for a camera that has no other address."""


class PreviewSettings(Section):
    """Live view: a page that shows all cameras."""

    enabled: bool = True
    """Whether to serve the page."""

    host: Host = "127.0.0.1"
    """Name or address to listen on, IPv4 or IPv6. 0.0.0.0 or `::` gives other machines access: set
    a token then."""

    port: Port = 8090
    """Port to listen on."""

    token: Password = None
    """Access token, sent as `Authorization: Bearer` or `?token=`. `null` disables
    authentication."""

    allowed_hosts: tuple[Host, ...] = ()
    """Further host names under which browsers reach the page, e.g. that of a reverse proxy. IP
    addresses, `localhost` and the name of this machine always work."""


def default_data_dir() -> Path:
    """Return the data folder by the XDG base directory specification.

    For a user without a home folder, as in many containers, it is that of a system service.
    """
    base = os.environ.get("XDG_DATA_HOME")
    try:
        return (Path(base) if base else Path.home() / ".local" / "share") / "streamer"
    except RuntimeError:
        return Path("/var/lib/streamer")


Cameras: TypeAlias = Annotated[dict[Name, CameraSettings], Field(min_length=1)]


class Config(Section):
    """The whole configuration."""

    # Keys of a file that hold anchors; the reader leaves them out.
    model_config = ConfigDict(json_schema_extra={"patternProperties": {"^x-": {}}})

    version: Literal[1] = 1
    """Version of the configuration format."""

    data_dir: Annotated[
        LocalPath,
        Field(json_schema_extra={"written": "${env:XDG_DATA_HOME:-~/.local/share}/streamer"}),
    ] = Field(default_factory=default_data_dir)
    """Folder of the event store, evidence and recordings."""

    log: LogSettings = LogSettings()
    """Log of the program, on standard error."""

    engine: EngineSettings = EngineSettings()
    """Network for smoke detection, and the device that runs it."""

    network: NetworkSettings = NetworkSettings()
    """Where the URLs of this configuration may lead."""

    preview: PreviewSettings = PreviewSettings()
    """Live view: a page that shows all cameras."""

    convert: ConvertOptions = ConvertOptions()
    """How `streamer convert` converts; every key is an option of it, too."""

    notify: dict[Name, Channel] = Field(default_factory=dict)
    """Notification channels by name."""

    retry: RetrySettings = RetrySettings()
    """How undelivered alarms are retried."""

    retention: RetentionSettings = RetentionSettings()
    """How long files and events are kept. Alarms that are open, held or unsent always stay."""

    defaults: CameraDefaults = CameraDefaults()
    """Defaults for all cameras."""

    cameras: Cameras
    """Cameras by name. Each accepts every key of `defaults`, and `source.address`."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, data: Any) -> Any:
        return fill_in(data) if isinstance(data, Mapping) else data

    @property
    def events_file(self) -> Path:
        """The event store."""
        return self.data_dir / "events.sqlite"

    @property
    def evidence_folder(self) -> Path:
        """A folder per alarm."""
        return self.data_dir / "evidence"

    @property
    def recordings_folder(self) -> Path:
        """A folder per camera."""
        return self.data_dir / "recordings"

    @property
    def priors_folder(self) -> Path:
        """Learned false-positive priors, one file per camera."""
        return self.data_dir / "priors"

    @property
    def clock_file(self) -> Path:
        """What is known of the wall clock, so that a wrong one deletes nothing."""
        return self.data_dir / "clock.json"

    @property
    def lock_file(self) -> Path:
        """Held by the one program that uses the data folder."""
        return self.data_dir / "program.lock"

    def digest(self) -> str:
        """Return the SHA-256 of all camera settings without secrets, for evidence.

        Equal settings have equal digests, however they were written.
        """
        plain = self.model_dump(mode="json", exclude={"defaults", "convert", "retention"})
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings recursively; *over* wins. Lists are replaced, not merged."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def fill_in(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return *data* with `defaults` merged into each camera. Idempotent."""
    defaults, cameras = data.get("defaults"), data.get("cameras")
    if not isinstance(defaults, Mapping) or not isinstance(cameras, Mapping):
        return dict(data)
    filled = {
        name: merge(defaults, camera) if isinstance(camera, Mapping) else camera
        for name, camera in cameras.items()
    }
    return {**data, "cameras": filled}
