// Components, clusters, an embedding of the pixels with a lasso, and correlations of lines.
import { ask, askJson, byId, guarded, lineName, make, percent, say, thousands } from "./base.js";
import { CLUSTER_COLORS, pictureOf, tableOf, topOf, usualColors, valuesOf } from "./maps.js";
import { COLOR_NAMES, COLORS, swatch } from "./pane.js";

const SIDE = 300;
const MARGIN = 8;
const BRUSHED = 0xffffe000;
const PLAIN = 0xffb0b0b0;
const CHOSEN = 0xff0000ff;
const LIKE_SHARE = 0.01;
const [MOST, USUAL_COMPONENTS, USUAL_CLUSTERS] = [12, 5, 6];

export class ExplorePanel {
  constructor(app) {
    Object.assign(this, { app, places: null, lasso: [], shown: false });
    const count = (id, usual) => make("select", { id, "aria-label": "How many" }, ...Array.from({ length: MOST - 1 }, (_, at) => make("option", { value: String(at + 2), selected: at + 2 === usual }, String(at + 2))));
    const part = (title, words, controls, place) => make("section", { className: "card" }, make("h3", {}, title), make("p", { className: "quiet" }, words), make("p", { className: "buttons" }, ...controls), place);
    const button = (id, label, does) => make("button", { type: "button", id, onclick: (event) => this.busy(event.target, does) }, label);
    [this.components, this.clusters, this.plane, this.lines] = Array.from({ length: 4 }, () => make("div"));
    byId("explore").replaceChildren(
      part("Components", "Non-negative matrix factorisation (NMF) of the spectra of a small open scan, or else of the element maps.", [count("n-components", USUAL_COMPONENTS), button("find-components", "Find components", () => this.findComponents())], this.components),
      part("Clusters", "Pixels with similar element counts (k-means).", [count("n-clusters", USUAL_CLUSTERS), button("find-clusters", "Find clusters", () => this.findClusters())], this.clusters),
      part("Embedding", "Similar pixels lie close together (PCA, then t-SNE). Draw an outline around pixels to show them in cyan on the maps. Distances between groups have little meaning.", [button("find-embedding", "Compute", () => this.findPlaces())], this.plane),
      part("Lines that go together", "Correlation of the element maps. Click a cell for its scatter plot.", [button("find-correlation", "Compute", () => this.findCorrelation())], this.lines));
  }

  async busy(button, does) {
    const words = button.textContent;
    Object.assign(button, { disabled: true, textContent: "Working …" });
    try { await guarded(does)(); } finally { Object.assign(button, { disabled: false, textContent: words }); }
  }

  async ask(what, n) {
    const answer = await askJson("explore", { method: "POST", json: { what, n } });
    if (n) this.app.computed.note({ what, n });
    return answer;
  }

  // --- components

  async findComponents() {
    const answer = await this.ask("components", Number(byId("n-components").value));
    const maps = answer.maps.map((each) => this.app.computed.add(each));
    this.components.replaceChildren(make("ul", { className: "plain" }, ...maps.map((map, at) => make("li", {}, swatch(COLORS[COLOR_NAMES[at]] || "#888888",
      make("button", { type: "button", className: "link", onclick: () => this.app.showMap(map) }, `Component ${at + 1}`)), ` ${percent(answer.shares[at])} of the counts${answer.words[at] ? `: ${answer.words[at]}` : ""}`))),
    make("p", { className: "buttons" }, make("button", { type: "button", id: "components-composite", onclick: () => this.app.showComposite(maps) }, "As composite"),
      answer.spectra ? make("button", { type: "button", onclick: () => { this.app.extraCurves = []; this.app.showSpectra(); } }, "Hide their spectra") : null));
    this.app.extraCurves = (answer.spectra || []).map((counts, at) => ({ name: `component ${at + 1}`, kind: "region", color: readable(COLOR_NAMES[at]), counts }));
    this.app.showSpectra();
    await this.app.showComputed(maps[0]);
    this.app.showComposite(maps);
    document.body.dataset.components = String(maps.length);
  }

  // --- clusters

  async findClusters() {
    const answer = await this.ask("clusters", Number(byId("n-clusters").value));
    const map = this.app.computed.add(answer);
    await this.app.showComputed(map);
    const values = await valuesOf(map);
    const mask = (number) => Uint8Array.from(values, (value) => Number(value === number));
    this.clusters.replaceChildren(make("ul", { className: "plain" }, ...answer.shares.map((share, at) => make("li", {}, swatch(CLUSTER_COLORS[at],
      make("button", { type: "button", className: "link", title: "Light its pixels up", onclick: () => this.app.setBrush(mask(at + 1), `cluster ${at + 1}`) }, `Cluster ${at + 1}`)), ` ${percent(share)} of the pixels`,
    answer.strongest[at]?.length ? `: ${answer.strongest[at].map(([name, ratio]) => `${lineName(name)} × ${ratio.toFixed(1)}`).join(", ")}` : "", " ",
    make("button", { type: "button", className: "small", onclick: () => this.app.regionOf(mask(at + 1), `cluster ${at + 1}`) }, "Region")))),
    make("p", { className: "quiet" }, "×: mean counts of the cluster over those of all pixels."));
    this.draw();
    document.body.dataset.clusters = String(answer.shares.length);
  }

  // --- embedding

  async findPlaces() {
    const buffer = await (await ask("embedding")).arrayBuffer();
    this.places = new Float32Array(buffer);
    this.canvas = make("canvas", { className: "scatter", width: SIDE, height: SIDE, role: "img", "aria-label": "Embedding of the pixels" });
    const stage = make("div", { className: "scatter-stage" }, this.canvas);
    stage.addEventListener("pointerdown", (event) => this.grab(event, stage));
    this.plane.replaceChildren(stage, make("p", { className: "buttons" },
      make("button", { type: "button", id: "like-chosen", title: "The 1 % of the pixels that are nearest to the chosen pixel", onclick: () => this.likeChosen() }, "Like the chosen pixel"),
      make("button", { type: "button", onclick: () => this.app.regionOf(this.app.brushMask, "selection") }, "Region of the selection"),
      make("button", { type: "button", onclick: () => this.app.setBrush(null) }, "Clear")),
    make("p", { className: "quiet" }, "Coloured like the chosen map; the chosen pixel is red."));
    this.draw();
    document.body.dataset.embedding = String(this.places.length / 2);
  }

  // Position of a map pixel on the canvas, in canvas pixels.
  at(pixel) { return [0, 1].map((axis) => Math.round(MARGIN + ((this.places[2 * pixel + axis] + 1) / 2) * (SIDE - 2 * MARGIN - 1))); }

  draw() {
    if (!this.places || byId("explore").hidden) return;
    const { pane, brushMask, chosen, about } = this.app;
    const [part] = pane.parts;
    const table = part && pane.shown.mode === "map" ? tableOf(pane.shown.colors || usualColors(part.entry)) : null;
    const top = part ? topOf(part.entry, part.index, part.values) : 1;
    const color = (pixel) => (brushMask && brushMask[pixel] ? BRUSHED : table && !Number.isNaN(part.values[pixel]) ? table[Math.max(0, Math.min(table.length - 1, Math.round((part.values[pixel] / top) * (table.length - 1))))] : PLAIN);
    const picture = pictureOf(SIDE, SIDE, (pixels) => {
      const dot = (pixel, shade, size) => {
        const [x, y] = this.at(pixel);
        for (let row = -size; row <= size; row += 1) for (let column = -size; column <= size; column += 1) {
          const to = (y + row) * SIDE + x + column;
          if (to >= 0 && to < pixels.length) pixels[to] = shade;
        }
      };
      const size = this.places.length > 60000 ? 0 : 1;
      for (let pixel = 0; 2 * pixel < this.places.length; pixel += 1) if (!Number.isNaN(this.places[2 * pixel])) dot(pixel, color(pixel), size);
      if (brushMask) for (let pixel = 0; 2 * pixel < this.places.length; pixel += 1) if (brushMask[pixel] && !Number.isNaN(this.places[2 * pixel])) dot(pixel, BRUSHED, size);
      if (chosen) { const pixel = chosen[0] * about.shape[1] + chosen[1]; if (!Number.isNaN(this.places[2 * pixel])) dot(pixel, CHOSEN, 3); }
    });
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, SIDE, SIDE);
    context.drawImage(picture, 0, 0);
    if (this.lasso.length < 2) return;
    context.strokeStyle = "#ffffff";
    context.beginPath();
    this.lasso.forEach(([x, y], at) => context[at ? "lineTo" : "moveTo"](x, y));
    context.closePath();
    context.stroke();
  }

  grab(event, stage) {
    const box = stage.getBoundingClientRect();
    const at = (pointerEvent) => [((pointerEvent.clientX - box.left) / box.width) * SIDE, ((pointerEvent.clientY - box.top) / box.height) * SIDE];
    this.lasso = [at(event)];
    stage.setPointerCapture(event.pointerId);
    const move = (pointerEvent) => { this.lasso.push(at(pointerEvent)); this.draw(); };
    stage.addEventListener("pointermove", move);
    stage.addEventListener("pointerup", () => {
      stage.removeEventListener("pointermove", move);
      this.take(this.lasso);
      this.lasso = [];
      this.draw();
    }, { once: true });
  }

  // Highlights the pixels inside an outline on the canvas.
  take(corners) {
    if (corners.length < 3) return;
    const path = new Path2D();
    corners.forEach(([x, y], at) => path[at ? "lineTo" : "moveTo"](x, y));
    path.closePath();
    const context = this.canvas.getContext("2d");
    const mask = Uint8Array.from({ length: this.places.length / 2 }, (_, pixel) => Number(!Number.isNaN(this.places[2 * pixel]) && context.isPointInPath(path, ...this.at(pixel))));
    this.app.setBrush(mask, "selection");
  }

  // Selects the pixels nearest to the chosen pixel in the embedding. This works without a mouse.
  likeChosen() {
    const { chosen, about } = this.app;
    if (!chosen) { say("Choose a pixel on a map first."); return; }
    const at = 2 * (chosen[0] * about.shape[1] + chosen[1]);
    const distances = Float64Array.from({ length: this.places.length / 2 }, (_, pixel) => Math.hypot(this.places[2 * pixel] - this.places[at], this.places[2 * pixel + 1] - this.places[at + 1]));
    const sorted = Float64Array.from(distances.filter((distance) => !Number.isNaN(distance))).sort();
    if (!sorted.length) { say("The chosen pixel has no answer."); return; }
    const most = sorted[Math.floor((sorted.length - 1) * LIKE_SHARE)];
    this.app.setBrush(Uint8Array.from(distances, (distance) => Number(distance <= most)), "selection");
  }

  // --- correlation

  async findCorrelation() {
    const { names, numbers, correlation } = await this.ask("correlation");
    const cell = (row, column) => {
      const value = correlation[row][column];
      const tableCell = make("td", {}, make("button", { type: "button", title: `${lineName(names[row])} and ${lineName(names[column])}`, onclick: () => this.app.showScatter(numbers[column], numbers[row]) }, value.toFixed(1).replace("-", "−")));
      tableCell.style.setProperty("--shade", `rgb(${value > 0 ? "200 60 40" : "50 100 200"} / ${Math.abs(value).toFixed(2)})`);
      return tableCell;
    };
    this.lines.replaceChildren(make("div", { className: "scroll" }, make("table", { className: "matrix" }, make("thead", {}, make("tr", {}, make("th", {}), ...names.map((name) => make("th", {}, lineName(name))))),
      make("tbody", {}, ...names.map((name, row) => make("tr", {}, make("th", { scope: "row" }, lineName(name)), ...names.map((_, column) => (column === row ? make("td", {}, "") : cell(row, column)))))))), make("p", { className: "quiet" }, `${thousands(names.length)} lines are detected in at least 1 % of the pixels.`));
    document.body.dataset.correlation = String(names.length);
  }
}

// Colours of composites, dark enough for curves on a light background.
const readable = (name) => ({ red: "#d33", green: "#2a2", blue: "#36f", yellow: "#a80", cyan: "#099", magenta: "#b2b", orange: "#e70", white: "#888" })[name] || "#888";
