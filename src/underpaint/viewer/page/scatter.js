// Two maps against each other, a cell of the plot per pair of values; a box drawn in it shows its pixels on the maps.
import { byId, guarded, make, number, thousands } from "./base.js";
import { pictureOf, tableOf, topOf, valuesOf } from "./maps.js";

const CELLS = 100;
// Zero and full scale stand off the edge, where most pixels of a probability lie.
const MARGIN = 4;
const SPAN = CELLS - 2 * MARGIN - 1;
const BRUSHED = 0xffffe000;

export class ScatterPanel {
  constructor(app) { this.app = app; this.pair = null; this.ready = false; }

  open() {
    if (!this.ready) { this.build(); this.ready = true; }
    this.follow();
  }

  build() {
    const kinds = [["group", "Groups"], ["member", "Pigments"], ["element", "Elements"], ["quantity", "More"]];
    const choice = (at, label) => make("label", {}, `${label} `, make("select", { onchange: (event) => { this.pair[at] = Number(event.target.value); this.own = true; guarded(() => this.draw())(); } },
      ...kinds.map(([kind, name]) => make("optgroup", { label: name }, ...this.app.entries.filter((own) => own.kind === kind).map((own) => make("option", { value: String(own.index) }, own.label)))).filter((own) => own.children.length)));
    this.across = choice(0, "Across");
    this.up = choice(1, "Up");
    this.canvas = make("canvas", { className: "scatter", width: CELLS, height: CELLS, role: "img" });
    this.box = make("div", { className: "brush", hidden: true });
    this.stage = make("div", { className: "scatter-stage" }, this.canvas, this.box);
    this.words = make("p", { className: "quiet", role: "status" }, "Draw a box in the plot: its pixels light up on the maps.");
    this.axis = make("p", { className: "axis" });
    byId("scatter").replaceChildren(this.up, this.stage, this.axis, this.across, this.words,
      make("button", { type: "button", onclick: () => this.clear() }, "Clear the box"));
    this.stage.addEventListener("pointerdown", (event) => this.grab(event));
  }

  // Unless somebody chose otherwise: the chosen map against its first element.
  follow() {
    if (!this.ready || this.own) { if (this.ready) guarded(() => this.draw())(); return; }
    const entry = this.app.entries[this.app.pane.shown.map];
    const [family] = this.app.familiesOf(entry);
    const other = this.app.entries.find((own) => own.kind === "element") || entry;
    this.pair = [family ?? other.index, entry.kind === "state" ? other.index : entry.index];
    guarded(() => this.draw())();
  }

  async draw() {
    if (byId("scatter").hidden) return;
    const [x, y] = await Promise.all(this.pair.map((index) => valuesOf(index)));
    const [left, right] = this.pair.map((index) => this.app.entries[index]);
    this.across.querySelector("select").value = String(this.pair[0]);
    this.up.querySelector("select").value = String(this.pair[1]);
    this.tops = [topOf(left, this.pair[0], x) * (left.kind === "element" ? 1.3 : 1), topOf(right, this.pair[1], y) * (right.kind === "element" ? 1.3 : 1)];
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
    this.axis.replaceChildren(make("span", {}, "0"), make("span", {}, "each cell: number of pixels, light is many"), make("span", {}, number(this.tops[0], left.unit)));
    this.values = [x, y];
  }

  grab(event) {
    if (!this.values) return;
    const frame = this.stage.getBoundingClientRect();
    const at = (own) => [Math.max(0, Math.min(1, (own.clientX - frame.left) / frame.width)), Math.max(0, Math.min(1, (own.clientY - frame.top) / frame.height))];
    const from = at(event);
    this.stage.setPointerCapture(event.pointerId);
    const move = (own) => {
      const to = at(own);
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
    const [x, y] = this.values;
    const [height, width] = this.app.about.shape;
    // What lies beyond the plot is drawn at its edge, and belongs to a box that reaches it.
    const value = (share, top) => ((share * CELLS - MARGIN) / SPAN) * top;
    const ends = ([low, high], top) => [low <= 0.002 ? -Infinity : value(low, top), high >= 0.998 ? Infinity : value(high, top)];
    const [[left, right], [bottom, top]] = [ends(across, this.tops[0]), ends(up, this.tops[1])];
    let inside = 0;
    this.app.brush = pictureOf(width, height, (pixels) => {
      for (let at = 0; at < pixels.length; at += 1) if (x[at] >= left && x[at] <= right && y[at] >= bottom && y[at] <= top) { pixels[at] = BRUSHED; inside += 1; }
    });
    this.words.textContent = `${thousands(inside)} pixels lie in the box; they are cyan on the maps.`;
    document.body.dataset.brushed = String(inside);
    this.app.draw();
  }

  clear() {
    this.app.brush = null;
    this.box.hidden = true;
    this.words.textContent = "Draw a box in the plot: its pixels light up on the maps.";
    this.app.draw();
  }
}
