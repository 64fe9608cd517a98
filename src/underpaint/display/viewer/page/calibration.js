// Calibration by hand: lines are dragged to their peaks in the mean spectrum, or the channels of the lines are typed.
import { askJson, byId, guarded, lowestCounts, make, number, say } from "./base.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 230;
const [TOP, BOTTOM] = [34, 20];
const SNAP_PX = 9;
const USUAL_LINES = ["Ca Kα", "Fe Kα", "Cu Kα", "Pb Lα"];
const USUAL_GAIN_KEV = 0.01;
const FIRST_TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];

const shape = (tag, facts, text) => {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(facts)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

export class HandCalibration {
  constructor(names, accepted) {
    this.names = names;
    this.place = byId("hand-plot");
    this.scan = null;
    byId("line-names").replaceChildren(...Object.keys(names).map((value) => make("option", { value })));
    byId("add-line").addEventListener("submit", (event) => { event.preventDefault(); this.add(byId("line-name").value.trim()); });
    byId("accept-axis").addEventListener("click", guarded(() => this.accept(accepted)));
    byId("by-hand").addEventListener("toggle", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.place);
  }

  // scan: { run, sum, peaks, calibration, n_pixel } of a scan that was read.
  show(scan) {
    if (scan === this.scan) return;
    this.scan = scan;
    const { gain_kev: gain, zero_kev: zero } = scan.calibration;
    this.axis = { gain: gain || USUAL_GAIN_KEV, zero: zero || 0 };
    this.last = scan.sum.length - 1;
    while (this.last > 10 && !(scan.sum[this.last] > 0)) this.last -= 1;
    this.lines = USUAL_LINES.map((name) => ({ name, energy: this.names[name], channel: null, residual: null }));
    byId("by-hand").open = false;
    byId("by-hand").hidden = false;
    this.fill();
    this.showAxis();
  }

  async accept(accepted) {
    const button = byId("accept-axis");
    const words = byId("hand-axis").textContent;
    button.disabled = true;
    byId("hand-axis").textContent = "Refining the axis by the lines of the scan, and saving …";
    try {
      accepted(await askJson("calibration", { method: "POST", json: { run: this.scan.run, lines: this.placed(), instrument: byId("instrument").value } }), this.scan);
    } finally {
      button.disabled = false;
      byId("hand-axis").textContent = words;
    }
  }

  placed() { return this.lines.filter((line) => line.channel !== null).map((line) => ({ channel: line.channel, energy_kev: line.energy })); }

  add(text) {
    const name = Object.keys(this.names).find((known) => known.toLowerCase() === text.toLowerCase());
    const energy = name ? this.names[name] : Number(text.replace(",", "."));
    if (!(energy > 0)) { say(`“${text}” is no line of the list, nor an energy in keV. Choose one, or type a number such as 6.404.`); return; }
    const line = { name: name || `${number(energy)} keV`, energy, channel: null, residual: null };
    if (!this.lines.some((known) => known.name === line.name)) this.lines.push(line);
    byId("line-name").value = "";
    this.fill();
  }

  expected(line) { return line.channel ?? (line.energy - this.axis.zero) / this.axis.gain; }

  x(channel) { return (channel / this.last) * this.width; }

  nearestPeak(channel, within = Infinity) {
    const nearest = this.scan.peaks.reduce((best, peak) => (Math.abs(peak - channel) < Math.abs(best - channel) ? peak : best), Infinity);
    return Math.abs(nearest - channel) <= within ? nearest : channel;
  }

  move(line, channel) {
    line.channel = Math.max(0, Math.min(this.scan.sum.length - 1, Math.round(100 * channel) / 100));
    this.refit();
  }

  // The axis is computed by the server, which also saves it.
  async refit() {
    const lines = this.placed();
    const request = this.request = {};
    if (lines.length >= 2) {
      try {
        const axis = await askJson("axis", { method: "POST", json: { lines, n_channel: this.scan.sum.length } });
        if (request !== this.request) return;
        this.axis = { gain: axis.gain_kev, zero: axis.zero_kev };
        this.lines.filter((line) => line.channel !== null).forEach((line, at) => { line.residual = axis.residual_ev[at]; });
        this.showAxis(axis);
      } catch (error) {
        if (request !== this.request) return;
        this.showAxis(null, error.message);
      }
    } else this.showAxis();
    this.fill();
  }

  showAxis(axis = null, fault = "") {
    const number_placed = this.placed().length;
    byId("accept-axis").disabled = !axis;
    byId("hand-axis").className = fault ? "note" : "";
    byId("hand-axis").textContent = fault || (axis
      ? `${(1000 * axis.gain_kev).toFixed(3)} eV a channel, channel 0 at ${axis.zero_kev.toFixed(4)} keV; ${number_placed} lines, largest residual ${Math.max(...axis.residual_ev.map(Math.abs)).toFixed(1)} eV.`
      : `${number_placed} of at least 2 lines placed.`);
  }

  fill() {
    const focused = document.activeElement?.dataset?.line;
    const kind = document.activeElement?.dataset?.kind;
    byId("hand-lines").tBodies[0].replaceChildren(...this.lines.map((line, at) => make("tr", {},
      make("th", { scope: "row" }, line.name),
      make("td", {}, line.energy.toFixed(3)),
      make("td", {}, make("input", { type: "text", inputmode: "decimal", value: line.channel === null ? "" : String(line.channel), placeholder: this.expected(line).toFixed(0), "aria-label": `Channel of ${line.name}`, "data-line": String(at), "data-kind": "channel", onchange: (event) => this.typed(line, event.target.value) })),
      make("td", {}, line.channel === null || line.residual === null ? "" : line.residual.toFixed(1)),
      make("td", {}, make("button", { type: "button", "aria-label": `Remove ${line.name}`, onclick: () => { this.lines.splice(at, 1); this.refit(); } }, "×")))));
    this.draw();
    if (focused !== undefined) document.querySelector(`[data-line="${focused}"][data-kind="${kind}"]`)?.focus();
  }

  typed(line, text) {
    const channel = Number(text.replace(",", "."));
    if (text.trim() === "") { line.channel = null; line.residual = null; this.refit(); } else if (Number.isFinite(channel)) this.move(line, channel);
    else say(`“${text}” is no channel. Type a number from 0 to ${this.scan.sum.length - 1}.`);
  }

  draw() {
    if (!this.scan || !byId("by-hand").open) return;
    this.width = this.place.clientWidth;
    if (this.width < 80) return;
    const svg = shape("svg", { width: this.width, height: HEIGHT, viewBox: `0 0 ${this.width} ${HEIGHT}` });
    svg.append(shape("path", { class: "curve sum", d: this.path() }));
    this.ticks(svg);
    this.lines.forEach((line, at) => svg.append(this.marker(line, at)));
    this.place.replaceChildren(svg);
  }

  path() {
    const { sum, n_pixel: n } = this.scan;
    const highest = Math.log10(Math.max(...sum, 10) / n);
    const lowest = Math.min(Math.log10(lowestCounts(sum) / n), highest - 1);
    const y = (counts) => TOP + (HEIGHT - TOP - BOTTOM) * Math.min(1, (highest - Math.log10(Math.max(counts, 1) / n)) / (highest - lowest));
    const step = Math.max(1, Math.floor(this.last / this.width / 2));
    const points = [];
    for (let at = 0; at <= this.last; at += step) points.push(`${this.x(at).toFixed(1)},${y(Math.max(...sum.slice(at, at + step))).toFixed(1)}`);
    return `M${points.join("L")}`;
  }

  ticks(svg) {
    const span = FIRST_TICKS.find((width) => this.x(width) > 60) || this.last;
    for (let at = span; this.x(at) < this.width - 14; at += span) {
      svg.append(shape("line", { class: "grid", x1: this.x(at), x2: this.x(at), y1: TOP, y2: HEIGHT - BOTTOM }));
      svg.append(shape("text", { class: "tick", x: this.x(at), y: HEIGHT - 5, "text-anchor": "middle" }, String(at)));
    }
    svg.append(shape("text", { class: "tick", x: 2, y: HEIGHT - 5 }, "channel"));
  }

  marker(line, at) {
    const channel = this.expected(line);
    const inside = channel >= 0 && channel <= this.last;
    const x = Math.max(6, Math.min(this.width - 6, this.x(channel)));
    const height = 12 + 11 * (at % 2);
    const group = shape("g", {
      class: `hand-line${line.channel === null ? "" : " placed"}`, tabindex: 0, role: "slider", "data-line": at, "data-kind": "marker",
      "aria-label": `${line.name}${line.channel === null ? ", not placed" : ""}`, "aria-valuemin": 0, "aria-valuemax": this.scan.sum.length - 1, "aria-valuenow": Math.round(channel), "aria-valuetext": `channel ${channel.toFixed(1)}`,
    });
    group.append(shape("rect", { x: x - 9, y: 0, width: 18, height: HEIGHT - BOTTOM, class: "grip" }));
    group.append(shape("line", { x1: x, x2: x, y1: height + 3, y2: HEIGHT - BOTTOM }));
    group.append(shape("text", { x: Math.max(20, Math.min(this.width - 20, x)), y: height, "text-anchor": "middle" }, `${line.name}${inside ? "" : " →"}`));
    group.addEventListener("keydown", (event) => this.keys(event, line));
    group.addEventListener("pointerdown", (event) => this.drag(event, line, group, x));
    return group;
  }

  keys(event, line) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) this.move(line, this.expected(line) + by * (event.shiftKey ? 10 : 1));
    else if (event.key === "Enter" && this.scan.peaks.length) this.move(line, this.nearestPeak(this.expected(line)));
    else if (event.key === "Delete") { line.channel = null; line.residual = null; this.refit(); } else return;
    event.preventDefault();
  }

  drag(event, line, group, from) {
    event.preventDefault();
    group.focus();
    group.setPointerCapture(event.pointerId);
    const left = this.place.getBoundingClientRect().left;
    const at = (moved) => Math.max(0, Math.min(this.width, moved.clientX - left));
    const follow = (moved) => group.setAttribute("transform", `translate(${at(moved) - from} 0)`);
    const drop = (moved) => {
      group.removeEventListener("pointermove", follow);
      const channel = (at(moved) / this.width) * this.last;
      if (Math.abs(moved.clientX - event.clientX) > 1) this.move(line, this.nearestPeak(channel, (SNAP_PX / this.width) * this.last));
    };
    group.addEventListener("pointermove", follow);
    group.addEventListener("pointerup", drop, { once: true });
    group.addEventListener("pointercancel", () => this.draw(), { once: true });
  }
}
