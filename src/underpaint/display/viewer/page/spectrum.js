// Spectrum plot with labelled lines, read-out, markers, fit, residual and energy windows.
import { byId, lineName, make, number, thousands } from "./base.js";

const SVG = "http://www.w3.org/2000/svg";
const [LEFT, RIGHT, TOP, BOTTOM] = [52, 10, 59, 34];
const LEVELS = 4;
const SAME_PEAK_KEV = 0.08;
const NEAR_KEV = 0.1;
const MOST_NEAR = 4;
const DRAG_PX = 4;
const RESIDUAL_SHARE = 0.24;
const RESIDUAL_SIGMA = 5;
// Scales of the counts: conversion of counts to height, and the inverse.
const SCALES = {
  log: { name: "logarithmic", up: Math.log10, down: (value) => 10 ** value },
  root: { name: "square-root", up: (value) => Math.sqrt(Math.max(value, 0)), down: (value) => value * value },
  linear: { name: "linear", up: (value) => value, down: (value) => value },
};

const shape = (tag, facts, text) => {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(facts)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

export class SpectrumPlot {
  constructor(app) {
    this.app = app;
    this.place = byId("spectrum-plot");
    this.range = null;
    this.curves = [];
    this.families = [];
    this.lines = {};
    this.candidates = [];
    this.scaleName = "log";
    this.fit = null;
    this.cursor = null;
    this.last = null;
    this.windowStart = null;
    this.band = null;
    new ResizeObserver(() => this.draw()).observe(this.place);
    byId("spectrum-all").addEventListener("click", () => { this.range = null; this.draw(); });
    byId("spectrum-scale").addEventListener("change", (event) => this.setScale(event.target.value));
    for (const button of document.querySelectorAll("[data-drag]")) button.addEventListener("click", () => this.take(button.dataset.drag));
    this.take("map");
    this.place.addEventListener("pointerdown", (event) => this.grab(event));
    this.place.addEventListener("pointermove", (event) => { if (this.scale) this.point(this.energyAt(event)); });
    this.place.addEventListener("pointerleave", () => this.point(null));
    this.place.addEventListener("dblclick", (event) => this.app.session.mark(this.energyAt(event)));
    this.place.addEventListener("keydown", (event) => this.keys(event));
  }

  setScale(name) {
    this.scaleName = Object.hasOwn(SCALES, name) ? name : "log";
    byId("spectrum-scale").value = this.scaleName;
    this.draw();
  }

  // Sets the effect of dragging: map of the window, or zoom.
  take(what) {
    this.drag = what;
    for (const button of document.querySelectorAll("[data-drag]")) button.setAttribute("aria-pressed", button.dataset.drag === what);
  }

  // Curves { name, kind, counts, color } in drawing order; families with the most important first.
  show(curves, families) {
    this.curves = curves.filter((curve) => curve.counts);
    this.families = families;
    this.draw();
  }

  energy(channel) { return this.app.about.axis ? this.app.about.axis.zero_kev + this.app.about.axis.gain_kev * channel : channel; }

  channel(energy) { return this.app.about.axis ? (energy - this.app.about.axis.zero_kev) / this.app.about.axis.gain_kev : energy; }

  whole() {
    const length = Math.max(...this.curves.map((curve) => curve.counts.length));
    const behind = this.curves[0].counts;
    let last = behind.length - 1;
    while (last > 10 && !(behind[last] > 0)) last -= 1;
    return [Math.max(0, this.energy(0)), this.energy(Math.min(length, last + 1))];
  }

  energyAt(event) {
    const share = (event.clientX - this.place.getBoundingClientRect().left - LEFT) / (this.scale.width - LEFT - RIGHT);
    return this.scale.low + Math.max(0, Math.min(1, share)) * (this.scale.high - this.scale.low);
  }

  draw() {
    const { width, height } = this.place.getBoundingClientRect();
    if (width < 80 || height < 80) return;
    if (!this.curves.length) { this.place.replaceChildren(); byId("spectrum-legend").replaceChildren(); return; }
    const curves = [...this.curves, ...this.fitCurves()];
    const [low, high] = this.range || this.whole();
    const [first, last] = [Math.max(0, Math.floor(this.channel(low))), Math.ceil(this.channel(high))];
    const log = this.scaleName === "log";
    let [top, floor] = [log ? 10 : 1e-6, Infinity];
    for (const { counts } of curves) for (let at = first; at <= Math.min(last, counts.length - 1); at += 1) {
      if (counts[at] > top) top = counts[at];
      if (counts[at] > 0 && counts[at] < floor) floor = counts[at];
    }
    // Values below one count are meaningful for mean spectra only.
    const single = this.curves[this.curves.length - 1].kind === "pixel";
    floor = log ? Math.max(Math.min(floor, 1), single ? 0.5 : 0.05, top / 1e6) * 0.8 : 0;
    const { up } = SCALES[this.scaleName];
    const [bottom, above] = [up(floor), up(top * (log ? 1.4 : 1.06))];
    const base = this.fit ? height - BOTTOM - RESIDUAL_SHARE * (height - TOP - BOTTOM) : height - BOTTOM;
    const x = (energy) => LEFT + ((energy - low) / (high - low)) * (width - LEFT - RIGHT);
    const y = (counts) => base - ((up(Math.max(counts, floor)) - bottom) / (above - bottom)) * (base - TOP);
    const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": this.words() });
    this.scale = { low, high, width, height, x, y, base };
    this.frame(svg, { low, high, x, y, width, height, base, bottom, above });
    for (const curve of curves) svg.append(this.curve(curve, first, last, x, y));
    if (this.fit) this.residual(svg, first, last);
    if (this.app.about.axis) this.labels(svg, { low, high, x, y, height: base + BOTTOM });
    this.markers(svg);
    this.band = shape("rect", { class: "window", y: TOP, height: height - BOTTOM - TOP, width: 0, x: 0 });
    this.line = shape("line", { class: "cursor", y1: TOP, y2: height - BOTTOM, visibility: "hidden" });
    svg.append(this.band, this.line);
    this.legend(curves);
    this.place.replaceChildren(svg);
    this.follow();
  }

  // Curves of the fit, in counts per pixel.
  fitCurves() {
    if (!this.fit) return [];
    const each = (values) => values.map((value) => (value === null ? NaN : value / this.fit.n_pixel));
    return [{ name: "background and scatter", kind: "background", counts: each(this.fit.background) }, { name: `fit: ${this.fit.name}`, kind: "fit", counts: each(this.fit.fitted) }];
  }

  words() { return `Spectra on a ${SCALES[this.scaleName].name} axis: ${this.curves.map((curve) => curve.name).filter(Boolean).join(", ")}; lines labelled: ${this.families.slice(0, 12).map(lineName).join(", ") || "none"}. Arrow keys move the read-out.`; }

  frame(svg, { low, high, x, y, width, height, base, bottom, above }) {
    for (const [value, text] of this.levels(bottom, above)) {
      const at = y(value);
      svg.append(shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
      svg.append(shape("text", { class: "tick", x: LEFT - 6, y: at + 4, "text-anchor": "end" }, text));
    }
    const span = high - low;
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
    const step = steps.find((interval) => (interval / span) * (width - LEFT - RIGHT) > 52) || 1000;
    for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) {
      svg.append(shape("line", { class: "grid", x1: x(at), x2: x(at), y1: TOP, y2: height - BOTTOM }));
      svg.append(shape("text", { class: "tick", x: x(at), y: height - BOTTOM + 15, "text-anchor": "middle" }, String(Number(at.toFixed(2)))));
    }
    svg.append(shape("text", { class: "tick", x: width - RIGHT, y: height - 4, "text-anchor": "end" }, this.app.about.axis ? "energy (keV)" : "channel"));
    const middle = TOP + (base - TOP) / 2;
    svg.append(shape("text", { class: "tick", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, "counts"));
  }

  // Counts at which grid lines are drawn, and labels of the grid lines.
  levels(bottom, above) {
    if (this.scaleName === "log") {
      const powers = Array.from({ length: Math.floor(above) - Math.ceil(bottom) + 1 }, (_, at) => Math.ceil(bottom) + at);
      return powers.map((power) => [10 ** power, power < 0 ? (10 ** power).toFixed(-power) : power < 4 ? String(10 ** power) : `10${String(power).replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit])}`]);
    }
    const most = SCALES[this.scaleName].down(above);
    const power = 10 ** Math.floor(Math.log10(most / 4));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((factor) => most / factor <= 5);
    return Array.from({ length: Math.floor(most / step) + 1 }, (_, at) => [at * step, at * step >= 1e4 ? `${Number((at * step / 1e3).toPrecision(3))}k` : number(at * step)]);
  }

  // Residual of the fit from -5 to 5 standard deviations.
  residual(svg, first, last) {
    const { x, base, height, width } = this.scale;
    const [top, bottom] = [base + 12, height - BOTTOM];
    const middle = (top + bottom) / 2;
    const at = (value) => middle - (Math.max(-RESIDUAL_SIGMA, Math.min(RESIDUAL_SIGMA, value)) / RESIDUAL_SIGMA) * (bottom - top) / 2;
    svg.append(shape("line", { class: "grid zero", x1: LEFT, x2: width - RIGHT, y1: middle, y2: middle }));
    for (const value of [-RESIDUAL_SIGMA, RESIDUAL_SIGMA]) svg.append(shape("text", { class: "tick", x: LEFT - 6, y: at(value) + 4, "text-anchor": "end" }, `${value > 0 ? "+" : "−"}${Math.abs(value)} σ`));
    const points = [];
    this.fit.residual.forEach((value, channel) => { if (value !== null && channel >= first && channel <= last) points.push(`${x(this.energy(channel)).toFixed(1)},${at(value).toFixed(1)}`); });
    svg.append(shape("polyline", { class: "curve residual", points: points.join(" ") }));
  }

  markers(svg) {
    const { low, high, x, height } = this.scale;
    for (const { energy_kev: energy, label } of this.app.session.markers) {
      if (energy < low || energy > high) continue;
      svg.append(shape("line", { class: "marker", x1: x(energy), x2: x(energy), y1: TOP, y2: height - BOTTOM }));
      svg.append(shape("text", { class: "marker", x: x(energy) + 3, y: TOP + 10 }, label));
    }
  }

  // Read-out at the pointer or keyboard cursor: energy, counts, and nearby lines.
  point(energy) {
    this.cursor = energy;
    if (energy !== null) this.last = energy;
    this.follow();
  }

  follow() {
    const words = byId("spectrum-readout");
    if (!this.scale || this.cursor === null) {
      if (this.line) this.line.setAttribute("visibility", "hidden");
      words.textContent = this.drag === "map" ? "Point at the spectrum; drag over a peak to map it." : "Point at the spectrum; drag to zoom in.";
      return;
    }
    const energy = this.cursor;
    const channel = Math.round(this.channel(energy));
    const at = this.scale.x(energy);
    for (const end of ["x1", "x2"]) this.line.setAttribute(end, at);
    this.line.setAttribute("visibility", "visible");
    const front = this.curves[this.curves.length - 1];
    const counts = front && front.counts[channel];
    const near = this.near(energy).map(([name, line]) => `${name} ${line.toFixed(2)}`);
    const marked = this.app.session.markers.filter((marker) => Math.abs(marker.energy_kev - energy) < NEAR_KEV / 2).map((marker) => marker.label);
    words.textContent = [this.app.about.axis ? `${energy.toFixed(2)} keV` : "", `channel ${channel}`,
      counts === undefined ? "" : `${counts >= 100 ? thousands(counts) : number(counts)} counts${front.name ? ` (${front.name})` : ""}`,
      near.length ? `near: ${near.join(", ")}` : this.app.about.axis ? "no line near" : "", ...marked].filter(Boolean).join(" · ");
  }

  // Lines near an energy: lines of the displayed families first, then the nearest.
  near(energy) {
    const known = new Set(Object.keys(this.lines));
    return this.candidates.filter(([, line]) => Math.abs(line - energy) < NEAR_KEV)
      .sort((a, b) => known.has(b[2]) - known.has(a[2]) || Math.abs(a[1] - energy) - Math.abs(b[1] - energy)).slice(0, MOST_NEAR);
  }

  keys(event) {
    if (!this.scale || event.ctrlKey || event.metaKey || event.altKey) return;
    const { low, high } = this.scale;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const width = this.app.about.axis ? this.app.about.axis.gain_kev : 1;
    const energy = this.cursor ?? (low + high) / 2;
    const does = {
      m: () => this.app.session.mark(energy),
      Enter: () => {
        if (this.windowStart === null) { this.windowStart = energy; this.showBand(energy, energy); return; }
        const ends = [this.windowStart, energy].sort((a, b) => a - b);
        this.windowStart = null;
        this.chosen(ends);
      },
      "+": () => this.zoomTo(energy, 0.5), "-": () => this.zoomTo(energy, 2), 0: () => { this.range = null; this.draw(); },
      Escape: () => { this.windowStart = null; this.draw(); },
    };
    if (step) {
      this.point(Math.max(low, Math.min(high, energy + step * width * (event.shiftKey ? 10 : 1))));
      if (this.windowStart !== null) this.showBand(this.windowStart, this.cursor);
    } else if (does[event.key]) does[event.key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  zoomTo(energy, factor) {
    const { low, high } = this.scale;
    const [start, end] = this.whole();
    const half = Math.min((factor * (high - low)) / 2, (end - start) / 2);
    const middle = Math.max(start + half, Math.min(end - half, energy));
    this.range = [middle - half, middle + half];
    this.draw();
  }

  showBand(from, to) {
    const [left, right] = [from, to].map(this.scale.x).sort((a, b) => a - b);
    this.band.setAttribute("x", left);
    this.band.setAttribute("width", Math.max(right - left, 1));
  }

  // Dragging either adds a map of the window or zooms in. With Shift, the other of these two happens.
  grab(event) {
    if (!this.scale || event.button) return;
    const [from, start] = [this.energyAt(event), event.clientX];
    const zooms = (this.drag === "zoom") !== event.shiftKey;
    let moved = false;
    const move = (pointerEvent) => { moved = moved || Math.abs(pointerEvent.clientX - start) > DRAG_PX; if (moved) this.showBand(from, this.energyAt(pointerEvent)); };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", (up) => {
      window.removeEventListener("pointermove", move);
      const ends = [from, this.energyAt(up)].sort((a, b) => a - b);
      if (!moved) return;
      if (zooms) { this.range = [Math.max(ends[0], 0), ends[1]]; this.draw(); } else this.chosen(ends);
    }, { once: true });
  }

  chosen([low, high]) {
    this.showBand(low, high);
    this.app.computed.window(low, high, byId("spectrum-net").checked);
  }

  curve({ kind, counts, color }, first, last, x, y) {
    const parts = [];
    for (let at = first; at <= Math.min(last, counts.length - 1); at += 1) if (!Number.isNaN(counts[at])) parts.push(`${x(this.energy(at)).toFixed(1)},${y(counts[at]).toFixed(1)}`);
    const line = shape("polyline", { class: `curve ${kind}`, points: parts.join(" ") });
    if (color) line.setAttribute("stroke", color);
    return line;
  }

  // The first line of every family precedes all second lines, so that strong lines are labelled first.
  wanted() {
    const families = this.families.map((family) => Object.entries(this.lines[family] || {}).map(([text, energy]) => [family, text, energy]));
    const most = Math.max(0, ...families.map((labels) => labels.length));
    const ranked = Array.from({ length: most }, (_, rank) => families.map((labels) => labels[rank]).filter(Boolean)).flat();
    return [...ranked, ...Object.entries(this.lines.tube || {}).map(([text, energy]) => ["tube", text, energy])];
  }

  labels(svg, { low, high, x, y, height }) {
    const occupied = Array.from({ length: LEVELS }, () => []);
    const front = this.curves[this.curves.length - 1].counts;
    const placed = [];
    const behind = new Set();
    for (const [family, text, energy] of this.wanted()) {
      // If two families share a peak, only the first family is labelled.
      if (behind.has(family)) continue;
      if (placed.some((position) => Math.abs(position - energy) < SAME_PEAK_KEV)) { behind.add(family); continue; }
      if (!(energy > low && energy < high)) continue;
      const [at, half] = [x(energy), text.length * 3.4];
      if (at - half < LEFT) continue;
      const level = occupied.findIndex((row) => row.every(([labelPosition, wide]) => Math.abs(at - labelPosition) > half + wide));
      if (level < 0) continue;
      occupied[level].push([at, half]);
      placed.push(energy);
      const high_ = TOP - 6 - 13 * level;
      const near = front.slice(Math.max(0, Math.round(this.channel(energy)) - 3), Math.round(this.channel(energy)) + 4);
      svg.append(shape("line", { class: "lead", x1: at, x2: at, y1: high_ + 3, y2: Math.min(y(Math.max(...near, 0)) - 3, height - BOTTOM) }));
      svg.append(shape("text", { class: "line", x: Math.min(at, this.scale.width - 16), y: high_, "text-anchor": "middle" }, text));
    }
  }

  // Labels are above the curves.
  legend(curves) {
    byId("spectrum-legend").replaceChildren(...curves.filter((curve) => curve.name).reverse().map((curve) => {
      const line = shape("line", { class: `curve ${curve.kind}`, x1: 0, x2: 18, y1: 5, y2: 5 });
      if (curve.color) line.setAttribute("stroke", curve.color);
      const mark = shape("svg", { width: 18, height: 10, "aria-hidden": "true" });
      mark.append(line);
      return make("span", {}, mark, ` ${curve.name}`);
    }), this.curves.some((curve) => curve.kind.includes("largest")) ? make("span", {}, "dashed: maximum in the region") : "");
  }
}
