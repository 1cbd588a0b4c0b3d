"""Builds the outputs of a camera from its spec: everything that shows or stores its frames."""

from collections.abc import Callable

from streamer.core.clock import Clock
from streamer.core.pipeline import Sink
from streamer.core.redact import redact_url
from streamer.sinks.file import VideoFileSink
from streamer.sinks.mjpeg import MjpegSink
from streamer.sinks.publish import PublishSettings, PublishSink
from streamer.sinks.segmented_file import SegmentedFileSink, SegmentRules

from .camera_spec import CameraSpec


def build_file_output(
    spec: CameraSpec, *, clock: Clock, clock_is_believed: Callable[[], bool]
) -> SegmentedFileSink | None:
    """Return the sink of the numbered output files, which outlives restarts; `None` without one.

    A replay writes the one file that it was given.
    """
    file = spec.settings.outputs.file
    if file is None or spec.replay:
        return None
    # A file that is read once ends by itself, and people expect one output of the given name.
    once = not spec.live and not spec.settings.source.loop
    limits = (None, None) if once else (file.segment_s, file.segment_mb)
    return SegmentedFileSink(
        file.path,
        preset=file.preset,
        rules=SegmentRules(
            max_ns=None if limits[0] is None else round(limits[0] * 1e9),
            max_bytes=None if limits[1] is None else round(limits[1] * 1e6),
            numbered=not once,
        ),
        clock=clock,
        clock_is_believed=clock_is_believed,
    )


def build_outputs(
    spec: CameraSpec, *, live_view: MjpegSink | None, file: SegmentedFileSink | None
) -> dict[str, Sink]:
    """Return the sinks by name, without the status sink.

    Args:
        spec: The camera.
        live_view: The sink behind the web page, which outlives restarts; `None` shows nothing
            there.
        file: As `build_file_output` returned it.
    """
    outputs = spec.settings.outputs
    sinks: dict[str, Sink] = {}
    if live_view is not None:
        sinks["preview"] = live_view
    if file is not None:
        sinks["file"] = file
    elif outputs.file is not None:
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
                allow_link_local=spec.allow_link_local,
            )
        )
    return sinks
