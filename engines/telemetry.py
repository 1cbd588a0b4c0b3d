"""Keeps the libraries that run networks from reporting to their makers.

The program opens no connection and resolves no name that its configuration does not ask for.
"""

import os
import sys


def switch_off() -> None:
    """Switch off the telemetry of all libraries. Has no effect on those that are imported already.

    ONNX Runtime 1.29 and later reports from Linux, too. Its `disable_telemetry_events` comes too
    late: it stores an identifier and makes a first report when it is imported.

    OpenVINO reports through the package `openvino_telemetry`. A module that is None cannot be
    imported: OpenVINO then uses a stub that sends nothing.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
