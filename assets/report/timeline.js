// The timeline of a fleet's workers on a canvas. Zoomed out, the height of a colour is its share of the time; zoomed in, every
// step is a box of its own.

import { shortNumber, styleOf } from "./plots.js";

const ROW_HEIGHT = 30;
const STEP_HEIGHT = 17;
const TRANSFER_HEIGHT = 6;
const AXIS_HEIGHT = 22;
const MIN_WINDOW_MS = 0.05;
/** Boxes at least so wide get a border, and from the second width on a text. */
const BORDER_WIDTH = 4;
const TEXT_WIDTH = 46;

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes.buffer;
}

function decodeSpans(spans) {
  return {
    start: new Float64Array(bytesOf(spans.start)),
    duration: new Float32Array(bytesOf(spans.duration)),
    kind: new Uint8Array(bytesOf(spans.kind)),
    amount: new Float32Array(bytesOf(spans.amount)),
    merged: new Uint32Array(bytesOf(spans.merged)),
    count: spans.count,
    longest: 0,
    resolutionMs: spans.resolutionMs,
  };
}

function formatMs(ms) {
  if (ms >= 1000) return `${shortNumber(ms / 1000)} s`;
  return ms >= 0.1 || ms === 0 ? `${shortNumber(ms)} ms` : `${shortNumber(ms * 1000)} µs`;
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export class Timeline {
  constructor(place, data, kinds) {
    this.kinds = kinds;
    this.endMs = Math.max(data.endMs, MIN_WINDOW_MS);
    this.fromMs = 0;
    this.toMs = this.endMs;
    this.workers = data.workers.map((worker) => ({
      name: worker.name,
      steps: decodeSpans(worker.steps),
      transfers: decodeSpans(worker.transfers),
    }));
    for (const { steps, transfers } of this.workers) {
      for (const spans of [steps, transfers])
        for (const ms of spans.duration) spans.longest = Math.max(spans.longest, ms);
    }
    this.build(place, data);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  build(place, data) {
    const button = (text, label, act) =>
      element("button", { type: "button", textContent: text, title: label, ariaLabel: label, onclick: act });
    const used = new Set(
      this.workers.flatMap(({ steps, transfers }) => [...new Set([...steps.kind, ...transfers.kind])]),
    );
    const keys = this.kinds
      .filter((_, index) => used.has(index))
      .map((kind) => {
        const box = element("i", {});
        box.style.background = `var(--${kind})`;
        return element("span", { className: "key" }, box, kind);
      });
    const bar = element(
      "div",
      { className: "bar" },
      button("+", "Zoom in", () => this.zoom(0.5)),
      button("−", "Zoom out", () => this.zoom(2)),
      button("◀", "Earlier", () => this.pan(-0.25)),
      button("▶", "Later", () => this.pan(0.25)),
      button("All", "Show the whole run", () => this.show(0, this.endMs)),
      ...keys,
      element("span", {
        className: "key",
        textContent: "Drag: choose a part. Ctrl + wheel, + − ← → 0: zoom and move.",
      }),
    );
    const label = `Timeline of ${this.workers.length} workers of ${data.fleet}; the table below has the shares`;
    this.canvas = element("canvas", { tabIndex: 0, role: "img", ariaLabel: label });
    this.canvas.style.height = `${this.workers.length * ROW_HEIGHT + AXIS_HEIGHT}px`;
    this.readout = element("output", {});
    const resolution = Math.max(...this.workers.map(({ steps }) => steps.resolutionMs), 0);
    if (resolution > 0) {
      this.readout.textContent = `Every step is kept at the beginning of the run; later, neighbours within ${formatMs(resolution)} are merged.`;
    }
    place.append(bar, element("div", { className: "lanes" }, this.canvas), this.readout);
    this.canvas.onkeydown = (event) => this.key(event);
    this.canvas.onwheel = (event) => this.wheel(event);
    this.canvas.onpointerdown = (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.drag = { from: event.offsetX, to: event.offsetX };
    };
    this.canvas.onpointermove = (event) => {
      if (this.drag) {
        this.drag.to = event.offsetX;
        this.draw();
      } else this.describe(event.offsetX, event.offsetY);
    };
    this.canvas.onpointerup = () => this.choose();
    this.canvas.onpointercancel = () => this.choose();
    this.canvas.ondblclick = () => this.show(0, this.endMs);
  }

  choose() {
    const drag = this.drag;
    this.drag = null;
    if (!drag || Math.abs(drag.to - drag.from) < 5) return this.draw();
    const [left, right] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
    this.show(this.timeAt(left), this.timeAt(right));
  }

  key(event) {
    const acts = {
      "+": () => this.zoom(0.5),
      "=": () => this.zoom(0.5),
      "-": () => this.zoom(2),
      ArrowLeft: () => this.pan(-0.2),
      ArrowRight: () => this.pan(0.2),
      Home: () => this.show(0, this.toMs - this.fromMs),
      End: () => this.show(this.endMs - (this.toMs - this.fromMs), this.endMs),
      0: () => this.show(0, this.endMs),
    };
    const act = acts[event.key];
    if (act === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.timeAt(event.offsetX));
  }

  zoom(factor, aroundMs = (this.fromMs + this.toMs) / 2) {
    this.show(aroundMs - (aroundMs - this.fromMs) * factor, aroundMs + (this.toMs - aroundMs) * factor);
  }

  pan(share) {
    const by = (this.toMs - this.fromMs) * share;
    const shift = Math.min(Math.max(by, -this.fromMs), this.endMs - this.toMs);
    this.show(this.fromMs + shift, this.toMs + shift);
  }

  show(fromMs, toMs) {
    const middle = (fromMs + toMs) / 2;
    const half = Math.min(Math.max(toMs - fromMs, MIN_WINDOW_MS), this.endMs) / 2;
    this.fromMs = Math.max(0, Math.min(middle - half, this.endMs - 2 * half));
    this.toMs = this.fromMs + 2 * half;
    this.readout.textContent = `${formatMs(this.fromMs)} to ${formatMs(this.toMs)}`;
    this.draw();
  }

  timeAt(x) {
    const { left, width } = this.frame();
    return this.fromMs + (Math.min(Math.max(x - left, 0), width) / width) * (this.toMs - this.fromMs);
  }

  frame() {
    const context = this.canvas.getContext("2d");
    context.font = "12px system-ui, sans-serif";
    const names = this.workers.map(({ name }) => context.measureText(name).width);
    // A whole number: columns between pixels would be blurred.
    const left = Math.ceil(Math.min(Math.max(...names, 40) + 12, 200));
    return { left, width: Math.max(this.canvas.clientWidth - left - 8, 10) };
  }

  draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { left, width } = this.frame();
    this.colors = this.kinds.map((kind) => styleOf(`--${kind}`));
    this.drawAxis(context, left, width);
    for (const [index, worker] of this.workers.entries()) {
      const top = AXIS_HEIGHT + index * ROW_HEIGHT;
      context.font = "12px system-ui, sans-serif";
      context.fillStyle = styleOf("--text");
      context.textAlign = "left";
      context.textBaseline = "middle";
      context.fillText(worker.name, 0, top + STEP_HEIGHT / 2, left - 10);
      context.fillStyle = styleOf("--bg");
      context.fillRect(left, top, width, STEP_HEIGHT);
      this.drawLane(context, worker.steps, left, width, top, STEP_HEIGHT);
      this.drawLane(context, worker.transfers, left, width, top + STEP_HEIGHT + 1, TRANSFER_HEIGHT);
    }
    if (this.drag) {
      context.fillStyle = styleOf("--focus");
      context.globalAlpha = 0.2;
      const x = Math.min(this.drag.from, this.drag.to);
      context.fillRect(
        x,
        AXIS_HEIGHT,
        Math.abs(this.drag.to - this.drag.from),
        this.workers.length * ROW_HEIGHT,
      );
      context.globalAlpha = 1;
    }
  }

  drawAxis(context, left, width) {
    const span = this.toMs - this.fromMs;
    const rough = span / Math.max(width / 110, 1);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "center";
    for (let tick = Math.ceil(this.fromMs / step) * step; tick <= this.toMs; tick += step) {
      const x = left + ((tick - this.fromMs) / span) * width;
      context.fillStyle = styleOf("--line");
      context.fillRect(x, AXIS_HEIGHT - 5, 1, this.workers.length * ROW_HEIGHT + 5);
      context.fillStyle = styleOf("--soft");
      const digits = Math.max(0, Math.ceil(-Math.log10(step / (step >= 1000 ? 1000 : 1)) + 0.001));
      const label =
        step >= 1000 || tick >= 10_000
          ? `${(tick / 1000).toFixed(digits + (step >= 1000 ? 0 : 3))} s`
          : `${tick.toFixed(digits)} ms`;
      context.fillText(label, Math.min(Math.max(x, left + 20), left + width - 24), AXIS_HEIGHT / 2 - 2);
    }
  }

  /** Adds up per pixel how much of the time is of which kind, then draws columns; wide boxes get borders and texts. */
  drawLane(context, spans, left, width, top, height) {
    const columns = Math.ceil(width);
    const perMs = columns / (this.toMs - this.fromMs);
    const cover = this.kinds.map(() => null);
    const wide = [];
    for (let i = this.firstSpan(spans); i < spans.count && spans.start[i] < this.toMs; i++) {
      const from = Math.max((spans.start[i] - this.fromMs) * perMs, 0);
      const to = Math.min((spans.start[i] + spans.duration[i] - this.fromMs) * perMs, columns);
      if (to <= from) continue;
      const kind = spans.kind[i];
      cover[kind] ??= new Float32Array(columns + 1);
      for (let x = Math.floor(from); x < to; x++) cover[kind][x] += Math.min(x + 1, to) - Math.max(x, from);
      if (to - from >= BORDER_WIDTH) wide.push({ i, from, to });
    }
    for (let x = 0; x < columns; x++) {
      let sum = 0;
      for (const shares of cover) sum += shares === null ? 0 : shares[x];
      const scale = height / Math.max(sum, 1);
      let bottom = top + height;
      for (const [kind, shares] of cover.entries()) {
        if (shares === null || shares[x] === 0) continue;
        const part = shares[x] * scale;
        context.fillStyle = this.colors[kind];
        context.fillRect(left + x, bottom - part, 1.02, part);
        bottom -= part;
      }
    }
    this.drawBoxes(context, spans, wide, left, top, height);
  }

  drawBoxes(context, spans, wide, left, top, height) {
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const { i, from, to } of wide) {
      context.fillStyle = styleOf("--bg");
      context.fillRect(left + from, top, 1, height);
      if (to - from < TEXT_WIDTH || height < 12) continue;
      const kind = this.kinds[spans.kind[i]];
      const text =
        spans.amount[i] === 0
          ? kind
          : spans.merged[i] > 1
            ? `${spans.merged[i]} steps`
            : `${shortNumber(spans.amount[i])} tok`;
      context.fillText(text, left + (from + to) / 2, top + height / 2 + 0.5, to - from - 6);
    }
  }

  /** The first span that may reach into the window: spans are ordered by start, and none is longer than the longest. */
  firstSpan(spans) {
    const before = this.fromMs - spans.longest;
    let low = 0;
    let high = spans.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (spans.start[middle] < before) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  describe(x, y) {
    const row = Math.floor((y - AXIS_HEIGHT) / ROW_HEIGHT);
    const worker = this.workers[row];
    if (worker === undefined) return;
    const ms = this.timeAt(x);
    const isStep = (y - AXIS_HEIGHT) % ROW_HEIGHT <= STEP_HEIGHT;
    const spans = isStep ? worker.steps : worker.transfers;
    const slack = ((this.toMs - this.fromMs) / this.frame().width) * 1.5;
    let found = -1;
    for (let i = this.firstSpan(spans); i < spans.count && spans.start[i] <= ms + slack; i++) {
      if (spans.start[i] + spans.duration[i] >= ms - slack) found = i;
    }
    const where = `${worker.name} at ${formatMs(ms)}`;
    if (found < 0) this.readout.textContent = `${where}: ${isStep ? "idle" : "no transfer"}`;
    else {
      const kind = this.kinds[spans.kind[found]];
      const merged = spans.merged[found];
      const amount = isStep
        ? `${shortNumber(spans.amount[found])} tokens`
        : `${shortNumber(spans.amount[found] / 1e6)} MB`;
      const note = merged > 1 ? `, ${merged} neighbours merged` : "";
      const time = `from ${formatMs(spans.start[found])} for ${formatMs(spans.duration[found])}`;
      this.readout.textContent = `${where}: ${kind} ${time}, ${amount}${note}`;
    }
  }
}
