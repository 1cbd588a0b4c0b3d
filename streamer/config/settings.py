"""The whole configuration: what `configs/reference.yaml` shows, key by key."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from .camera import CameraDefaults, CameraSettings
from .channels import Channel, RetrySettings
from .convert import ConvertSettings
from .values import DeviceName, Host, LocalPath, ModelName, Name, Password, Port, Section


class LogSettings(Section):
    """What the program says of itself, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least weight of what is said."""

    format: Literal["text", "json"] = "text"
    """One line for people, or one JSON object a line."""


class EngineSettings(Section):
    """The network, and what runs it."""

    device: DeviceName = "auto"
    """`cpu`; `cuda`, the first NVIDIA GPU, or `cuda:1`, the second: without it an error; `auto`, a
    GPU if there is one. Until its plan is built and proven, and when it fails, the CPU runs."""

    precision: Literal["auto", "f32", "f16", "bf16"] = "auto"
    """Of the arithmetic. `auto` is f32 on CPUs, which means the same on all of them, and f16 on
    GPUs, held to a tolerance; bf16 is about twice as fast as f32 on CPUs that have it."""

    model: ModelName = "smoke"
    """`smoke`, the better network; `smoke-fast` for many cameras on few cores, two fifths of the
    cost; or the path of an ONNX file."""


class PreviewSettings(Section):
    """A page with live pictures of all cameras."""

    enabled: bool = True
    """Whether to serve it."""

    host: Host = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets other machines see the cameras: then set a token."""

    port: Port = 8090
    """Port to listen on."""

    token: Password = None
    """Who wants to look has to know it; null asks nobody."""


def default_data_dir() -> Path:
    """Where data goes by the XDG base directory rules."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "streamer"


Cameras: TypeAlias = Annotated[dict[Name, CameraSettings], Field(min_length=1)]


class Config(Section):
    """The whole configuration."""

    version: Literal[1] = 1
    """Version of this file's form."""

    data_dir: Annotated[
        LocalPath,
        Field(json_schema_extra={"written": "${env:XDG_DATA_HOME:-~/.local/share}/streamer"}),
    ] = Field(default_factory=default_data_dir)
    """Folder for alarms, evidence and recordings."""

    log: LogSettings = LogSettings()
    """What the program says of itself, on standard error."""

    engine: EngineSettings = EngineSettings()
    """The network, and what runs it."""

    preview: PreviewSettings = PreviewSettings()
    """A page with live pictures of all cameras."""

    convert: ConvertSettings = ConvertSettings()
    """How `streamer convert` converts; every key is an option of it, too."""

    notify: dict[Name, Channel] = Field(default_factory=dict)
    """Who is told of alarms, by a name of your choice."""

    retry: RetrySettings = RetrySettings()
    """How undelivered alarms are tried again."""

    defaults: CameraDefaults = CameraDefaults()
    """Settings of all cameras that do not say otherwise."""

    cameras: Cameras
    """The cameras by a name of your choice; each may say whatever `defaults` may, and more."""

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
    def usual_folder(self) -> Path:
        """What is usual, a file per camera."""
        return self.data_dir / "usual"

    def digest(self) -> str:
        """SHA-256 of all settings of cameras but secrets, for evidence: what was the camera told?

        Equal settings have equal digests, however they were written.
        """
        plain = self.model_dump(mode="json", exclude={"defaults", "convert"})
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings in one; where both say something, *over* wins. Lists are not merged."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def fill_in(data: Mapping[str, Any]) -> dict[str, Any]:
    """*data* in which each camera says what `defaults` says and it does not. Idempotent."""
    defaults, cameras = data.get("defaults"), data.get("cameras")
    if not isinstance(defaults, Mapping) or not isinstance(cameras, Mapping):
        return dict(data)
    filled = {
        name: merge(defaults, camera) if isinstance(camera, Mapping) else camera
        for name, camera in cameras.items()
    }
    return {**data, "cameras": filled}
