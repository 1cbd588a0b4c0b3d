"""The configuration: plain data, checked once, with errors that name file, line and key.

Knows nothing of the parts it configures; `build` hands them their values.
"""

from .camera import CameraSettings
from .channels import AppriseSettings, MqttSettings, WebhookSettings
from .convert import ConvertOptions
from .diagnostics import InvalidConfig, Problem
from .load import Loaded, from_source, load, load_conversion
from .settings import Config

__all__ = [
    "AppriseSettings",
    "CameraSettings",
    "Config",
    "ConvertOptions",
    "InvalidConfig",
    "Loaded",
    "MqttSettings",
    "Problem",
    "WebhookSettings",
    "from_source",
    "load",
    "load_conversion",
]
