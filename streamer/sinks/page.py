"""The preview's page: all cameras side by side. Nothing is fetched from elsewhere."""

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
</style>
<header><h1>streamer</h1><span class="what" id="all"></span></header>
<main>@CAMERAS@</main>
<script>
  const all = document.getElementById("all");
  async function refresh() {
    try {
      const answer = await fetch("status@QUERY@", {cache: "no-store"});
      const status = await answer.json();
      let alarms = 0;
      for (const camera of status.cameras) {
        const tile = document.querySelector(`[data-camera="${CSS.escape(camera.camera)}"]`);
        if (!tile) continue;
        tile.className = camera.alarm;
        alarms += camera.alarm === "alarm";
        const age = camera.age_s === null ? "no picture yet" : `${camera.age_s.toFixed(1)} s ago`;
        tile.querySelector(".what").textContent =
          `${camera.alarm} · ${camera.rate.toFixed(1)}/s · ${age}`;
      }
      const engines = status.engines.filter(engine => engine.reason).map(engine =>
        `${engine.engine} on ${engine.device}` +
        (engine.building === null ? "" : ` (${Math.round(100 * engine.building)} %)`) +
        `: ${engine.reason}`);
      all.textContent = [alarms ? `${alarms} in alarm` : "no alarm", ...engines].join(" · ");
    } catch { all.textContent = "the program does not answer"; }
  }
  refresh(); setInterval(refresh, 1000);
</script>
"""

_TILE: Final = """
  <figure data-camera="@NAME@"><img src="cameras/@PATH@.mjpeg@QUERY@" alt="@NAME@">
    <figcaption><strong>@NAME@</strong><span class="what"></span></figcaption></figure>"""


def page(cameras: Sequence[tuple[str, str]], query: str) -> str:
    """The page as HTML.

    Args:
        cameras: Name for HTML and name for a URL, both escaped.
        query: Appended to every address, with its question mark: the token, percent-encoded.
    """
    tiles = "".join(_TILE.replace("@NAME@", name).replace("@PATH@", path) for name, path in cameras)
    return _PAGE.replace("@CAMERAS@", tiles).replace("@QUERY@", query)
