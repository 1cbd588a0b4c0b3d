"use strict";
// The page: one request at a time fetches the newest frames of all cameras, another one the status.
// Alarms and states come from the status alone, so they are shown whether or not images come.

const STATUS_MS = 1000;
const FRAMES_MS = 200; // Between two batches: at most five frames per second of each camera.
const RETRY_MS = 1000;
const LIMIT_MS = 5000; // An answer that takes longer counts as none.
const SILENT_MS = 3000; // Without a status for so long, nothing on the page is current.
const UNWATCHED = ["starting", "stale", "reconnecting", "restarting", "failed", "ended"];

const token = new URLSearchParams(location.search).get("token");
const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
const opened = { ran: performance.now(), wall: Date.now() };
const tiles = new Map();
let instance = null; // Of the running program, as both answers name it.
let answered = null; // When the newest status came.
let failure = "";

/** A moment, by both clocks: one stands still while the machine is suspended, one can be set. */
const moment = () => ({ ran: performance.now(), wall: Date.now() });

/** Milliseconds since a moment; rather too many than too few. */
const since = (then) => Math.max(performance.now() - then.ran, Date.now() - then.wall);

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const seconds = (ms) => duration(ms / 1000);

function duration(s) {
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return `${Math.floor(s / 3600)} h`;
}

function utc(iso) {
  const text = new Date(iso).toISOString();
  const today = new Date().toISOString().slice(0, 10);
  return `${text.slice(0, 10) === today ? "" : `${text.slice(0, 10)} `}${text.slice(11, 19)} UTC`;
}

class Tile {
  constructor(name) {
    this.name = name;
    this.version = 0;
    this.status = null;
    this.url = null;
    const part = (kind, text = "") => {
      const element = document.createElement(kind.split(".")[0]);
      element.className = kind.split(".")[1] ?? "";
      element.textContent = text;
      return element;
    };
    this.figure = part("figure");
    this.figure.dataset.camera = name;
    this.image = part("img");
    this.image.alt = name;
    this.note = part("div.note");
    this.badge = part("span.badge");
    this.age = part("span.age");
    this.what = part("span.what");
    const link = part("a", name);
    link.href = `cameras/${encodeURIComponent(name)}.mjpeg${location.search}`;
    const frame = part("div.frame"), caption = part("figcaption");
    frame.append(this.image, this.note, this.badge);
    caption.append(link, this.age, this.what);
    this.figure.append(frame, caption);
  }

  /** Show a frame; it was `age_s` old at the moment `at`. */
  show(jpeg, head, at) {
    const url = URL.createObjectURL(new Blob([jpeg], { type: "image/jpeg" }));
    if (this.url !== null) URL.revokeObjectURL(this.url);
    this.image.src = this.url = url;
    this.version = head.version;
    this.received = at;
    this.ageReceived = head.age_s * 1000;
    this.staleAfter = head.stale_after_s * 1000;
  }

  clear() {
    if (this.url !== null) URL.revokeObjectURL(this.url);
    this.image.removeAttribute("src");
    this.url = null;
    this.version = 0;
  }

  draw(current) {
    const status = this.status;
    const age = this.url === null ? null : this.ageReceived + since(this.received);
    const stale = !current || age === null || age > this.staleAfter;
    const unwatched = !current || UNWATCHED.includes(status.state);
    const fault = status.state !== "live" && status.state !== "starting";
    const alarm = status.alarm === "idle" ? "" : status.alarm;
    this.figure.className = [alarm, fault ? "fault" : "", stale ? "stale" : ""].join(" ").trim();
    this.badge.textContent = { alarm: "ALARM", pending: "PENDING" }[alarm] ?? "";
    this.age.textContent = age === null ? "no image" : `${seconds(age)} ago`;
    const state = unwatched && current ? "not watched: " : "";
    const reason = status.reason ? `: ${status.reason}` : "";
    const began = status.state === "live" ? "" : `, since ${utc(status.since_utc)}`;
    const rate = unwatched ? "" : ` · ${status.inferred_fps.toFixed(1)} inferences per second`;
    const failures = status.failures_last_hour
      ? ` · failed ${status.failures_last_hour} times in the last hour` : "";
    const alarmText = unwatched && alarm === "" ? "" : `${status.alarm} · `;
    this.what.textContent = current
      ? `${alarmText}${state}${status.state}${reason}${began}${rate}${failures}`
      : `unknown; ${status.alarm}, ${status.state} when the program last answered`;
    this.note.textContent = !stale ? "" : age === null
      ? (unwatched && current ? `${status.state}${reason}` : "no image")
      : `not live: this image is ${seconds(age)} old`;
  }
}

/** A restarted program has other frames: those on the page are of the past. */
function note(found) {
  if (found === instance) return;
  instance = found;
  for (const tile of tiles.values()) tile.clear();
}

function place(status) {
  const main = document.getElementById("cameras");
  const names = status.cameras.map((camera) => camera.camera);
  for (const [name, tile] of tiles) {
    if (!names.includes(name)) { tile.clear(); tile.figure.remove(); tiles.delete(name); }
  }
  status.cameras.forEach((camera, index) => {
    if (!tiles.has(camera.camera)) tiles.set(camera.camera, new Tile(camera.camera));
    const tile = tiles.get(camera.camera);
    tile.status = camera;
    if (main.children[index] !== tile.figure) main.insertBefore(tile.figure, main.children[index] ?? null);
  });
}

function summarize(status) {
  const cameras = status.cameras;
  const named = (state) => cameras.filter((one) => one.alarm === state).map((one) => one.camera);
  const alarms = named("alarm"), pending = named("pending");
  const unwatched = cameras.filter((one) => UNWATCHED.includes(one.state)).length;
  const count = `${cameras.length} ${cameras.length === 1 ? "camera" : "cameras"}`;
  const parts = [
    alarms.length ? `ALARM: ${alarms.join(", ")}` : "no alarm",
    ...(pending.length ? [`pending: ${pending.join(", ")}`] : []),
    unwatched ? `${unwatched} of ${count} not watched` : count,
    ...status.engines.filter((engine) => engine.building !== null).map((engine) =>
      `${engine.engine}: building the plan (${Math.round(100 * engine.building)} %)`),
  ];
  const summary = document.getElementById("summary");
  summary.textContent = parts.join(" · ");
  summary.className = alarms.length ? "alarm" : "";
  document.title = `${alarms.length ? `(${alarms.length}) ALARM · ` : ""}streamer`;
  const lines = document.getElementById("problems");
  if (lines.dataset.shown !== JSON.stringify(status.problems)) {
    lines.dataset.shown = JSON.stringify(status.problems);
    lines.replaceChildren(...status.problems.map((text) => {
      const line = document.createElement("li");
      line.textContent = text;
      return line;
    }));
  }
}

function draw() {
  const silent = since(answered ?? opened);
  const current = answered !== null && silent < SILENT_MS;
  const banner = document.getElementById("banner");
  banner.hidden = silent < SILENT_MS;
  if (!banner.hidden) {
    const time = utc(Date.now() - silent);
    banner.textContent = `The program does not answer since ${time} (${failure || "no answer"}). `
      + "Nothing on this page is current.";
    document.getElementById("summary").textContent = "unknown";
    document.getElementById("summary").className = "";
    document.title = "no answer · streamer";
  }
  for (const tile of tiles.values()) tile.draw(current);
}

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", headers, signal: AbortSignal.timeout(LIMIT_MS) });
  if (!answer.ok) throw new Error((await answer.text()).trim() || `HTTP ${answer.status}`);
  return answer;
}

async function watchStatus() {
  for (;;) {
    try {
      const status = await (await ask("status")).json();
      note(status.instance);
      place(status);
      summarize(status);
      answered = moment();
      failure = "";
    } catch (error) {
      failure = { TimeoutError: "no answer", TypeError: "no connection" }[error.name] ?? error.message;
    }
    draw();
    await pause(STATUS_MS);
  }
}

/** Read the batch part by part: a header's length, the header, and the image that it announces. */
async function* parts(body) {
  const reader = body.getReader();
  let buffer = new Uint8Array(0);
  const take = async (length) => {
    const pieces = [];
    for (let size = 0; size < length;) {
      if (buffer.length === 0) {
        const { done, value } = await reader.read();
        if (done) return null;
        buffer = value;
      }
      const piece = buffer.subarray(0, length - size);
      buffer = buffer.subarray(piece.length);
      pieces.push(piece);
      size += piece.length;
    }
    const whole = new Uint8Array(length);
    let offset = 0;
    for (const piece of pieces) { whole.set(piece, offset); offset += piece.length; }
    return whole;
  };
  for (;;) {
    const size = await take(4);
    if (size === null) return;
    const text = await take(new DataView(size.buffer).getUint32(0));
    const at = moment();
    const head = JSON.parse(new TextDecoder().decode(text));
    yield [head, await take(head.length ?? 0), at];
  }
}

async function watchFrames() {
  for (;;) {
    const begun = moment();
    try {
      const versions = Object.fromEntries([...tiles.values()].map((tile) => [tile.name, tile.version]));
      const known = JSON.stringify({ instance, versions });
      const control = new AbortController();
      let timer = setTimeout(() => control.abort(), LIMIT_MS);
      try {
        const answer = await fetch(`frames?known=${encodeURIComponent(known)}`,
          { cache: "no-store", headers, signal: control.signal });
        if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
        for await (const [head, jpeg, at] of parts(answer.body)) {
          clearTimeout(timer);
          timer = setTimeout(() => control.abort(), LIMIT_MS);
          if (head.instance !== undefined) note(head.instance);
          else if (jpeg !== null) tiles.get(head.camera)?.show(jpeg, head, at);
        }
      } finally { clearTimeout(timer); }
      draw();
      await pause(Math.max(0, FRAMES_MS - since(begun)));
    } catch { await pause(RETRY_MS); }
  }
}

watchStatus();
watchFrames();
setInterval(draw, 500);
