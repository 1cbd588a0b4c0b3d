"""The page: all cameras side by side, and what is wrong. It loads nothing from other hosts."""

from collections.abc import Sequence
from typing import Final

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>streamer</title>
<style>
  :root { color-scheme: dark; font: 15px/1.4 system-ui, sans-serif; }
  body { margin: 0; background: #14171a; color: #e6e8ea; }
  header { padding: .8rem 1.2rem; display: flex; gap: 1rem; align-items: baseline; }
  h1 { font-size: 1.1rem; margin: 0; }
  main { display: grid; gap: .8rem; padding: 0 1.2rem 1.2rem;
         grid-template-columns: repeat(auto-fill, minmax(min(28rem, 100%), 1fr)); }
  figure { margin: 0; background: #1e2328; border-radius: .4rem; overflow: hidden;
           outline: 2px solid transparent; }
  figure.alarm { outline-color: #e5484d; } figure.pending { outline-color: #f5a524; }
  img { width: 100%; aspect-ratio: 16 / 9; object-fit: contain; background: #000; display: block; }
  figcaption { display: flex; justify-content: space-between; padding: .45rem .7rem; }
  .what { color: #9aa4ad; }
  #problems { margin: 0 1.2rem .8rem; padding-left: 1.2rem; color: #f5a524; }
  #problems:empty { display: none; }
</style>
<header><h1>streamer</h1><span class="what" id="all"></span></header>
<ul id="problems"></ul>
<main>@CAMERAS@</main>
<script>
  const all = document.getElementById("all");
  const problems = document.getElementById("problems");
  async function refresh() {
    try {
      const answer = await fetch("status@QUERY@", {cache: "no-store"});
      const status = await answer.json();
      let alarms = 0;
      for (const camera of status.cameras) {
        const tile = document.querySelector(`[data-camera="${CSS.escape(camera.camera)}"]`);
        if (!tile) continue;
        tile.className = `${camera.alarm} ${camera.state}`;
        alarms += camera.alarm === "alarm";
        const age = camera.age_s === null ? "no frame yet" : `${camera.age_s.toFixed(1)} s ago`;
        tile.querySelector(".what").textContent = camera.state === "live"
          ? `${camera.alarm} · ${camera.fps.toFixed(1)} fps · ${age}`
          : `${camera.state}${camera.reason ? `: ${camera.reason}` : ""} · ${age}`;
      }
      const building = status.engines.filter(engine => engine.building !== null).map(engine =>
        `${engine.engine}: building the plan (${Math.round(100 * engine.building)} %)`);
      all.textContent = [alarms ? `${alarms} in alarm` : "no alarm", ...building].join(" · ");
      problems.replaceChildren(...status.problems.map(text => {
        const line = document.createElement("li");
        line.textContent = text;
        return line;
      }));
    } catch { all.textContent = "the program does not answer"; }
  }
  refresh(); setInterval(refresh, 1000);
</script>
"""

_TILE: Final = """
  <figure data-camera="@NAME@"><img src="cameras/@PATH@.mjpeg@QUERY@" alt="@NAME@">
    <figcaption><strong>@NAME@</strong><span class="what"></span></figcaption></figure>"""


def page(cameras: Sequence[tuple[str, str]], query: str) -> str:
    """Return the page as HTML.

    Args:
        cameras: For each camera its name escaped for HTML and its name escaped for a URL.
        query: Query string with its question mark, appended to every address; it carries the token.
    """
    tiles = "".join(_TILE.replace("@NAME@", name).replace("@PATH@", path) for name, path in cameras)
    return _PAGE.replace("@CAMERAS@", tiles).replace("@QUERY@", query)
