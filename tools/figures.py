"""Write the figures that `streamer bench` stored into the README, between its two markers."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "streamer" / "bench" / "figures.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures: tools/figures.py writes this -->", "<!-- end of figures -->"


def table() -> str:
    """Return the figures as a Markdown table."""
    stored = json.loads(FIGURES.read_text())
    get = {name: entry["figures"] for name, entry in stored.items()}
    machine = stored["overhead"]["machine"]
    cameras, rtsp, overload = get["cameras"], get["rtsp"]["rtsp_ms"], get["overload"]
    engines, lowlight, convert = get["engines"], get["lowlight"], get["convert"]
    rows = [
        ("an inference of `smoke` at 640x384, f32; bf16",
         f"{engines['smoke_f32_ms']:.1f} ms; {engines['smoke_bf16_ms']:.1f} ms"),
        ("an inference of `smoke-fast`, f32; bf16",
         f"{engines['smoke-fast_f32_ms']:.1f} ms; {engines['smoke-fast_bf16_ms']:.1f} ms"),
        ("frame difference and regions, as a share of the time of `smoke-fast`",
         f"{100 * engines['post_share']:.0f} %"),
        ("CPU time of the pipeline over the bare sum of decode, scale, infer, draw",
         f"{get['overhead']['overhead_ratio']:.3f}"),
        ("passing a frame through a link", f"{get['link']['link_us']:.1f} us"),
        *[
            row
            for name, one in (("the engine", overload), ("a slow engine", overload["slow-engine"]))
            for row in (
                ((f"{one['cameras']} cameras that want more than {name} can do: results in time at"
                 f" {_loads(one)} times its capacity, as a share of it"), _by_load(one, "goodput")),
                ("the same: worst camera's share of its fair share", _by_load(one, "worst_share")),
                (f"the same: highest p99 age of {one['budget_ms']} ms; uncounted; memory growth",
                 (f"{max(one['p99_age_ms'].values()):.0f} ms; {one['uncounted']};"
                 f" {one['memory_growth_mb']} MB")),
            )
        ],
        *[
            row
            for name, one in (("smoke", cameras), ("smoke-fast", cameras["smoke-fast"]))
            for row in (
                (f"1080p25 cameras at one inference per second with `{name}`, smoke in all of them",
                 f"{one['cameras']}; {one['broke_at']} are too many: {one['broke_by']}"),
                ("CPU time per camera and second; memory per further camera",
                 f"{one['cpu_ms_per_camera_second']} ms; {one['mb_per_camera']} MB"),
            )
        ],
        ("RTSP 720p25, `smoke-fast` on every frame, from sending to overlay: p50, p95, p99",
         f"{rtsp['p50']:.0f}, {rtsp['p95']:.0f}, {rtsp['p99']:.0f} ms"),
        ("low-light enhancement, 1080p; 720p",
         f"{lowlight['1080p_fps']:.0f}; {lowlight['720p_fps']:.0f} fps"),
        ("deciding that a 1080p frame is bright enough", f"{lowlight['day_ms']} ms"),
        ("dark 720p25 camera, enhanced and encoded: p99 age; dropped",
         f"{lowlight['live_p99_ms']:.0f} ms; {lowlight['live_dropped']}/{lowlight['live_frames']}"),
        ("converting 720p, x264 veryfast: time relative to the `ffmpeg` program; fps",
         f"{convert['copy_ratio']:.2f}; {convert['copy_fps']:.0f}"),
        ("interpolating a pan from 720p25 to 50, x264 veryfast; 4K: peak memory",
         f"{convert['double_fps']:.0f} fps; {convert['peak_mb_4k']} MB"),
        ("replay of 1080p at one inference per second",
         f"{get['replay']['replay_speed']} times real time"),
    ]  # fmt: skip
    head = (
        f"Measured by `streamer bench` on {machine['cores']} cores ({machine['cpu']}), no GPU,"
        f" OpenVINO {machine['openvino']} in f32:"
    )
    lines = [head, "", "| what | figure |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {what} | {figure} |" for what, figure in rows)])


def _loads(overload: dict[str, Any]) -> str:
    return ", ".join(overload["goodput"])


def _by_load(overload: dict[str, Any], figure: str) -> str:
    return ", ".join(f"{value:.2f}" for value in overload[figure].values())


def with_figures(readme: str) -> str:
    """Return the README with the table between its markers."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_figures(README.read_text()))
    sys.exit(0)
