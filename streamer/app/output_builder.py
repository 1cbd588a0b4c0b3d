"""Builds the outputs of a camera from its spec: everything that shows or stores its frames."""

from streamer.core.pipeline import Sink
from streamer.core.redact import redact_url
from streamer.sinks.file import VideoFileSink
from streamer.sinks.mjpeg import MjpegSink
from streamer.sinks.publish import PublishSettings, PublishSink

from .camera_spec import CameraSpec


def build_outputs(spec: CameraSpec, *, live_view: MjpegSink | None) -> dict[str, Sink]:
    """Return the sinks by name, without the status sink.

    Args:
        spec: The camera.
        live_view: The sink behind the web page, which outlives restarts; `None` shows nothing
            there.
    """
    outputs = spec.settings.outputs
    sinks: dict[str, Sink] = {}
    if live_view is not None:
        sinks["preview"] = live_view
    if outputs.file is not None:
        sinks["file"] = VideoFileSink(outputs.file.path, preset=outputs.file.preset)
    if outputs.publish is not None:
        url = outputs.publish.url.get_secret_value()
        sinks["publish"] = PublishSink(
            PublishSettings(
                camera=spec.name,
                url=url,
                shown_as=redact_url(url),
                rate=outputs.publish.rate,
                preset=outputs.publish.preset,
                stale_after_s=spec.stale_after_s,
            )
        )
    return sinks
