// Scatter plot of two maps as a two-dimensional histogram; a box in the plot highlights its pixels on the maps.
import { byId, guarded, make, number, shortName, thousands, unitText } from "./base.js";
import { pictureOf, tableOf, topOf, valuesOf } from "./maps.js";

const CELLS = 100;
// Margin between the edge of the plot and the positions of zero and full scale.
const MARGIN = 4;
const SPAN = CELLS - 2 * MARGIN - 1;
const MOST_TICKS = 5;

export class ScatterPanel {
  constructor(app) { this.app = app; this.pair = null; this.ready = false; }

  open() {
    if (!this.ready) { this.build(); this.ready = true; }
    this.follow();
  }

  build() {
    const kinds = [["group", "Groups"], ["member", "Pigments"], ["element", "Elements"], ["other", "More"]];
    const choice = (at, label) => make("label", {}, `${label} `, make("select", { onchange: (event) => { this.pair[at] = Number(event.target.value); this.own = true; guarded(() => this.draw())(); } },
      ...kinds.map(([kind, name]) => make("optgroup", { label: name }, ...this.app.entries.filter((entry) => entry.kind !== "state" && this.app.kindOf(entry) === kind).map((entry) => make("option", { value: String(entry.index) }, shortName(entry))))).filter((entry) => entry.children.length)));
    this.across = choice(0, "Across");
    this.up = choice(1, "Up");
    this.canvas = make("canvas", { className: "scatter", width: CELLS, height: CELLS, role: "img" });
    this.box = make("div", { className: "brush", hidden: true });
    this.stage = make("div", { className: "scatter-stage" }, this.canvas, this.box);
    this.words = make("p", { className: "quiet", role: "status" }, "Draw a box in the plot: its pixels are highlighted on the maps.");
    this.ticks = ["across", "up"].map((name) => make("div", { className: `ticks ${name}`, "aria-hidden": "true" }));
    this.axis = make("p", { className: "quiet" });
    const ends = ["Across from", "Across to", "Up from", "Up to"].map((label) => make("input", { type: "number", step: "any", "aria-label": label, placeholder: label.toLowerCase() }));
    const typed = () => {
      const [left, right, bottom, top] = ends.map((input, at) => (input.value === "" ? (at % 2 ? Infinity : -Infinity) : Number(input.value)));
      this.box.hidden = true;
      if (this.values) this.lightValues([left, right], [bottom, top]);
    };
    this.numbers = make("details", {}, make("summary", {}, "Select by numbers"), make("div", { className: "numbers" }, ...ends), make("button", { type: "button", onclick: typed }, "Select"));
    byId("scatter").replaceChildren(this.up, make("div", { className: "scatter-frame" }, this.ticks[1], this.stage, this.ticks[0]), this.across, this.axis, this.words, this.numbers,
      make("p", { className: "buttons" }, make("button", { type: "button", onclick: () => this.app.regionOf(this.app.brushMask, "selection") }, "Region of the box"), make("button", { type: "button", onclick: () => this.clear() }, "Clear the box")));
    this.stage.addEventListener("pointerdown", (event) => this.grab(event));
  }

  // By default, the chosen map is plotted against the map of its first element.
  follow() {
    if (!this.ready || this.own) { if (this.ready) guarded(() => this.draw())(); return; }
    const entry = this.app.entries[this.app.pane.shown.map];
    const [family] = this.app.familiesOf(entry);
    const elementEntry = this.app.entries.find((candidate) => candidate.kind === "element") || entry;
    this.pair = [family ?? elementEntry.index, entry.kind === "state" ? elementEntry.index : entry.index];
    guarded(() => this.draw())();
  }

  choose(across, up) {
    this.pair = [across, up];
    this.own = true;
    this.clear();
    return guarded(() => this.draw())();
  }

  async draw() {
    if (byId("scatter").hidden) return;
    const [x, y] = await Promise.all(this.pair.map((index) => valuesOf(index)));
    const [left, right] = this.pair.map((index) => this.app.entries[index]);
    this.across.querySelector("select").value = String(this.pair[0]);
    this.up.querySelector("select").value = String(this.pair[1]);
    this.tops = [topIn(left, this.pair[0], x), topIn(right, this.pair[1], y)];
    const counts = new Uint32Array(CELLS * CELLS);
    const cell = (value, top) => Math.max(0, Math.min(CELLS - 1, MARGIN + Math.floor((value / top) * SPAN)));
    let most = 1;
    for (let at = 0; at < x.length; at += 1) {
      if (!(Number.isFinite(x[at]) && Number.isFinite(y[at]))) continue;
      const where = (CELLS - 1 - cell(y[at], this.tops[1])) * CELLS + cell(x[at], this.tops[0]);
      counts[where] += 1;
      if (counts[where] > most) most = counts[where];
    }
    const table = tableOf("viridis");
    const picture = pictureOf(CELLS, CELLS, (pixels) => { for (let at = 0; at < pixels.length; at += 1) pixels[at] = counts[at] ? table[40 + Math.round((215 * Math.log1p(counts[at])) / Math.log1p(most))] : 0; });
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, CELLS, CELLS);
    context.drawImage(picture, 0, 0);
    this.canvas.setAttribute("aria-label", `Pixels by ${left.label} and ${right.label}`);
    const unit = (entry) => (entry.kind === "group" || entry.kind === "member" ? "probability" : entry.unit === "1" ? "no unit" : unitText(entry.unit));
    this.axis.textContent = `Across: ${unit(left)}; up: ${unit(right)}. Brightness: number of pixels.`;
    this.ticks.forEach((tickBar, at) => tickBar.replaceChildren(...ticksTo(this.tops[at]).map((value) => {
      const mark = make("span", {}, number(value));
      mark.style[at ? "bottom" : "left"] = `${(100 * (MARGIN + 0.5 + (value / this.tops[at]) * SPAN)) / CELLS}%`;
      return mark;
    })));
    this.values = [x, y];
  }

  grab(event) {
    if (!this.values) return;
    const frame = this.stage.getBoundingClientRect();
    const at = (pointerEvent) => [Math.max(0, Math.min(1, (pointerEvent.clientX - frame.left) / frame.width)), Math.max(0, Math.min(1, (pointerEvent.clientY - frame.top) / frame.height))];
    const from = at(event);
    this.stage.setPointerCapture(event.pointerId);
    const move = (pointerEvent) => {
      const to = at(pointerEvent);
      const [left, right] = [from[0], to[0]].sort((a, b) => a - b);
      const [top, bottom] = [from[1], to[1]].sort((a, b) => a - b);
      this.box.hidden = false;
      Object.assign(this.box.style, { left: `${100 * left}%`, width: `${100 * (right - left)}%`, top: `${100 * top}%`, height: `${100 * (bottom - top)}%` });
      this.light([left, right], [1 - bottom, 1 - top]);
    };
    this.stage.addEventListener("pointermove", move);
    this.stage.addEventListener("pointerup", () => this.stage.removeEventListener("pointermove", move), { once: true });
  }

  light(across, up) {
    // Values outside the plot are drawn at its edge. A box that reaches the edge includes these values.
    const value = (share, top) => ((share * CELLS - MARGIN) / SPAN) * top;
    const ends = ([low, high], top) => [low <= 0.002 ? -Infinity : value(low, top), high >= 0.998 ? Infinity : value(high, top)];
    this.lightValues(ends(across, this.tops[0]), ends(up, this.tops[1]));
  }

  // Highlights the pixels with values between typed limits or inside a box.
  lightValues([left, right], [bottom, top]) {
    const [x, y] = this.values;
    const mask = Uint8Array.from(x, (value, at) => Number(value >= left && value <= right && y[at] >= bottom && y[at] <= top));
    const inside = mask.reduce((sum, each) => sum + each, 0);
    this.app.setBrush(mask);
    this.words.textContent = `${thousands(inside)} pixels lie in the box; they are cyan on the maps.`;
    document.body.dataset.brushed = String(inside);
  }

  clear() {
    this.box.hidden = true;
    this.words.textContent = "Draw a box in the plot: its pixels are highlighted on the maps.";
    this.app.setBrush(null);
  }
}

// Upper end of a scale: 1.3 times the full-colour value, but at most the largest value.
function topIn(entry, index, values) {
  const top = topOf(entry, index, values);
  if (entry.kind !== "element") return top;
  let most = 0;
  for (const value of values) if (value > most) most = value;
  return Math.min(1.3 * top, most || top);
}

// Round numbers from 0 to the end of a scale.
function ticksTo(top) {
  const power = 10 ** Math.floor(Math.log10(top / MOST_TICKS));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((factor) => top / factor <= MOST_TICKS);
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, at) => at * step);
}
