// The spectrum: counts on a logarithmic axis over keV, lines labelled, the scan's mean and maximum behind it.
import { byId, lineName, make } from "./base.js";

const SVG = "http://www.w3.org/2000/svg";
const [LEFT, RIGHT, TOP, BOTTOM] = [52, 10, 59, 34];
const LEVELS = 4;
const SAME_PEAK_KEV = 0.08;

const shape = (tag, facts, text) => {
  const own = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(facts)) own.setAttribute(key, value);
  if (text !== undefined) own.textContent = text;
  return own;
};

export class SpectrumPlot {
  constructor(app) {
    this.app = app;
    this.place = byId("spectrum-plot");
    this.range = null;
    this.curves = [];
    this.families = [];
    this.lines = {};
    new ResizeObserver(() => this.draw()).observe(this.place);
    byId("spectrum-all").addEventListener("click", () => { this.range = null; this.draw(); });
    this.place.addEventListener("pointerdown", (event) => this.grab(event));
  }

  // Curves: { name, kind, counts, color }, those that are behind first; families: the most important first.
  show(curves, families) {
    this.curves = curves.filter((own) => own.counts);
    this.families = families;
    this.draw();
  }

  energy(channel) { return this.app.about.axis ? this.app.about.axis.zero_kev + this.app.about.axis.gain_kev * channel : channel; }

  channel(energy) { return this.app.about.axis ? (energy - this.app.about.axis.zero_kev) / this.app.about.axis.gain_kev : energy; }

  whole() {
    const length = Math.max(...this.curves.map((own) => own.counts.length));
    const behind = this.curves[0].counts;
    let last = behind.length - 1;
    while (last > 10 && !(behind[last] > 0)) last -= 1;
    return [Math.max(0, this.energy(0)), this.energy(Math.min(length, last + 1))];
  }

  draw() {
    const { width, height } = this.place.getBoundingClientRect();
    if (width < 80 || height < 80) return;
    if (!this.curves.length) { this.place.replaceChildren(); byId("spectrum-legend").replaceChildren(); return; }
    const [low, high] = this.range || this.whole();
    const [first, last] = [Math.max(0, Math.floor(this.channel(low))), Math.ceil(this.channel(high))];
    let [top, floor] = [10, Infinity];
    for (const { counts } of this.curves) for (let at = first; at <= Math.min(last, counts.length - 1); at += 1) {
      if (counts[at] > top) top = counts[at];
      if (counts[at] > 0 && counts[at] < floor) floor = counts[at];
    }
    // Below one count a pixel only says that there is none; a mean says more.
    const single = this.curves[this.curves.length - 1].kind === "pixel";
    floor = Math.max(Math.min(floor, 1), single ? 0.5 : 0.05, top / 1e6);
    const [bottom, above] = [Math.log10(floor * 0.8), Math.log10(top * 1.4)];
    const x = (energy) => LEFT + ((energy - low) / (high - low)) * (width - LEFT - RIGHT);
    const y = (counts) => height - BOTTOM - ((Math.log10(Math.max(counts, floor * 0.8)) - bottom) / (above - bottom)) * (height - TOP - BOTTOM);
    const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": this.words() });
    this.frame(svg, { low, high, x, y, width, height, bottom, above });
    for (const curve of this.curves) svg.append(this.curve(curve, first, last, x, y));
    if (this.app.about.axis) this.labels(svg, { low, high, x, y, height });
    this.legend();
    this.scale = { low, high, width };
    this.place.replaceChildren(svg);
  }

  words() { return `Spectra on a logarithmic axis: ${this.curves.map((own) => own.name).filter(Boolean).join(", ")}; lines labelled: ${this.families.slice(0, 12).map(lineName).join(", ") || "none"}.`; }

  frame(svg, { low, high, x, y, width, height, bottom, above }) {
    for (let power = Math.ceil(bottom); power <= above; power += 1) {
      const at = y(10 ** power);
      svg.append(shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
      svg.append(shape("text", { class: "tick", x: LEFT - 6, y: at + 4, "text-anchor": "end" }, power < 0 ? (10 ** power).toFixed(-power) : power < 4 ? String(10 ** power) : `10${String(power).replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit])}`));
    }
    const span = high - low;
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
    const step = steps.find((own) => (own / span) * (width - LEFT - RIGHT) > 52) || 1000;
    for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) {
      svg.append(shape("line", { class: "grid", x1: x(at), x2: x(at), y1: TOP, y2: height - BOTTOM }));
      svg.append(shape("text", { class: "tick", x: x(at), y: height - BOTTOM + 15, "text-anchor": "middle" }, String(Number(at.toFixed(2)))));
    }
    svg.append(shape("text", { class: "tick", x: width - RIGHT, y: height - 4, "text-anchor": "end" }, this.app.about.axis ? "energy (keV)" : "channel"));
    const middle = TOP + (height - TOP - BOTTOM) / 2;
    svg.append(shape("text", { class: "tick", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, "counts"));
  }

  curve({ kind, counts, color }, first, last, x, y) {
    const parts = [];
    for (let at = first; at <= Math.min(last, counts.length - 1); at += 1) parts.push(`${x(this.energy(at)).toFixed(1)},${y(counts[at]).toFixed(1)}`);
    const own = shape("polyline", { class: `curve ${kind}`, points: parts.join(" ") });
    if (color) own.setAttribute("stroke", color);
    return own;
  }

  // The first line of every family, then the second ones: no family's weak line takes the place of another's strong one.
  wanted() {
    const families = this.families.map((family) => Object.entries(this.lines[family] || {}).map(([text, energy]) => [family, text, energy]));
    const most = Math.max(0, ...families.map((own) => own.length));
    const ranked = Array.from({ length: most }, (_, rank) => families.map((own) => own[rank]).filter(Boolean)).flat();
    return [...ranked, ...Object.entries(this.lines.tube || {}).map(([text, energy]) => ["tube", text, energy])];
  }

  labels(svg, { low, high, x, y, height }) {
    const taken = Array.from({ length: LEVELS }, () => []);
    const front = this.curves[this.curves.length - 1].counts;
    const placed = [];
    const behind = new Set();
    for (const [family, text, energy] of this.wanted()) {
      // Where two families fall on one peak, the one that is asked for first is the likelier; the other has no label at all.
      if (behind.has(family)) continue;
      if (placed.some((own) => Math.abs(own - energy) < SAME_PEAK_KEV)) { behind.add(family); continue; }
      if (!(energy > low && energy < high)) continue;
      const [at, half] = [x(energy), text.length * 3.4];
      if (at - half < LEFT) continue;
      const level = taken.findIndex((row) => row.every(([other, wide]) => Math.abs(at - other) > half + wide));
      if (level < 0) continue;
      taken[level].push([at, half]);
      placed.push(energy);
      const high_ = TOP - 6 - 13 * level;
      const near = front.slice(Math.max(0, Math.round(this.channel(energy)) - 3), Math.round(this.channel(energy)) + 4);
      svg.append(shape("line", { class: "lead", x1: at, x2: at, y1: high_ + 3, y2: Math.min(y(Math.max(...near, 0)) - 3, height - BOTTOM) }));
      svg.append(shape("text", { class: "line", x: at, y: high_, "text-anchor": "middle" }, text));
    }
  }

  // Above the plot, where no curve runs.
  legend() {
    byId("spectrum-legend").replaceChildren(...this.curves.filter((own) => own.name).reverse().map((own) => {
      const line = shape("line", { class: `curve ${own.kind}`, x1: 0, x2: 18, y1: 5, y2: 5 });
      if (own.color) line.setAttribute("stroke", own.color);
      const mark = shape("svg", { width: 18, height: 10, "aria-hidden": "true" });
      mark.append(line);
      return make("span", {}, mark, ` ${own.name}`);
    }), this.curves.some((own) => own.kind.includes("largest")) ? make("span", {}, "dashed: the largest in the region") : "");
  }

  // A drag chooses the energies that are shown.
  grab(event) {
    if (!this.scale || event.button) return;
    const box = this.place.getBoundingClientRect();
    const at = (own) => this.scale.low + ((own.clientX - box.left - LEFT) / (this.scale.width - LEFT - RIGHT)) * (this.scale.high - this.scale.low);
    const from = at(event);
    const done = (up) => {
      const ends = [from, at(up)].sort((a, b) => a - b);
      if (ends[1] - ends[0] > 0.02 * (this.scale.high - this.scale.low)) { this.range = [Math.max(ends[0], 0), ends[1]]; this.draw(); }
    };
    window.addEventListener("pointerup", done, { once: true });
  }
}
