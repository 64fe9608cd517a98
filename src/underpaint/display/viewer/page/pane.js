// Panel with a map, scale bar, hatching, regions, pictures and lens.
import { make, number, shortName, unitText, valueText } from "./base.js";
import { paint, paintComposite, pictureOf, tableOf, topOf, unknownAt, usualColors, valuesOf } from "./maps.js";

const LENGTHS_MM = [1000, 500, 200, 100, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1];
// The same colours as in underpaint.display.plot.images.COMPOSITE_COLORS.
export const COLORS = { red: "#ff0000", green: "#00ff00", blue: "#0000ff", yellow: "#ffff00", cyan: "#00ffff", magenta: "#ff00ff", orange: "#ff8000", white: "#ffffff" };
export const COLOR_NAMES = Object.keys(COLORS);

export function swatch(color, ...words) {
  const mark = make("span", { className: "swatch" }, ...words);
  mark.style.setProperty("--swatch", typeof color === "string" ? color : `rgb(${color & 255} ${(color >> 8) & 255} ${(color >> 16) & 255})`);
  return mark;
}

export class Pane {
  constructor(app, shown) {
    this.app = app;
    this.shown = shown;
    this.picture = null;
    this.hatched = null;
    this.parts = [];
    this.canvas = make("canvas", { tabindex: "0", role: "img" });
    this.title = make("h2");
    this.bar = make("canvas", { width: 256, height: 1, className: "colors" });
    this.low = make("span");
    this.high = make("span");
    this.unit = make("span", { className: "unit" });
    this.legend = make("div", { className: "legend" });
    this.element = make("article", { className: "pane" },
      this.title, make("div", { className: "stage" }, this.canvas), this.legend);
    this.element.addEventListener("pointerdown", () => app.choosePane(this), true);
    this.canvas.addEventListener("focus", () => app.choosePane(this));
    new ResizeObserver(() => this.fit()).observe(this.canvas.parentElement);
    app.listen(this);
  }

  get entry() { return this.app.entries[this.shown.map]; }

  // The displayed maps as [index, colour name].
  indices() {
    const { mode, map, layers } = this.shown;
    if (mode === "composite") return layers.filter((layer) => layer.map !== null).map((layer) => [layer.map, layer.color]);
    if (mode === "overlay") return [map, ...this.app.familiesOf(this.entry)].map((index, at) => [index, COLOR_NAMES[at]]);
    return [[map, ""]];
  }

  async update() {
    const layerIndices = this.indices();
    const turn = (this.turn = (this.turn || 0) + 1);
    const loaded = await Promise.all(layerIndices.map(([index]) => valuesOf(index)));
    if (turn !== this.turn) return;
    const [height, width] = this.app.about.shape;
    this.parts = layerIndices.map(([index, name], at) => {
      const entry = this.app.entries[index];
      return { index, name, color: COLORS[name], entry, values: loaded[at], top: topOf(entry, index, loaded[at]) };
    });
    this.picture = pictureOf(width, height, (pixels) => this.fill(pixels));
    await this.hatch();
    this.write();
    this.draw();
    const { read } = this.app;
    if (read && read.pane === this) this.app.readOut(this, read.row, read.column);
  }

  fill(pixels) {
    const { mode, threshold, colors } = this.shown;
    if (mode !== "map") {
      paintComposite(pixels, this.parts);
      return;
    }
    const [part] = this.parts;
    paint(pixels, part.values, tableOf(colors || usualColors(part.entry)), part.top, threshold * part.top);
  }

  async hatch() {
    const state = this.app.stateOf(this.entry);
    this.hatched = null;
    if (state === null || !this.shown.hatch || this.shown.mode === "composite") return;
    const values = await valuesOf(state);
    const [height, width] = this.app.about.shape;
    this.hatched = pictureOf(width, height, (pixels) => {
      for (let at = 0; at < pixels.length; at += 1) pixels[at] = unknownAt(this.parts[0].values[at], values[at], this.entry.place) ? 0xffffffff : 0;
    });
  }

  words() {
    const { mode } = this.shown;
    if (mode === "composite") return this.parts.map((part) => `${part.name}: ${shortName(part.entry)}`).join(", ") || "Choose maps";
    if (mode === "overlay") return `${shortName(this.entry)} over its elements`;
    return this.entry.kind === "state" ? `${this.entry.label}: answer` : this.entry.label;
  }

  write() {
    const words = this.words();
    this.title.textContent = words;
    this.title.title = words;
    this.canvas.setAttribute("aria-label", `Map: ${words}. Arrow keys choose a pixel.`);
    if (this.shown.mode !== "map") {
      this.legend.replaceChildren(...this.parts.map((part) => swatch(part.color, `${shortName(part.entry)}, to ${number(part.top, part.entry.unit)}`)));
      return;
    }
    const [part] = this.parts;
    const table = tableOf(this.shown.colors || usualColors(part.entry));
    const context = this.bar.getContext("2d");
    const image = context.createImageData(256, 1);
    new Uint32Array(image.data.buffer).set(table);
    context.putImageData(image, 0, 0);
    const probability = part.entry.kind === "group" || part.entry.kind === "member";
    const grey = make("span", { className: "swatch none" }, "no answer");
    if (part.entry.kind === "state") { this.legend.replaceChildren(...this.app.about.states.map(([state, words]) => swatch(table[state], words)), grey); return; }
    if (part.entry.kind === "cluster") { this.legend.replaceChildren(...[...new Set(part.values)].filter(Number.isFinite).sort((a, b) => a - b).map((value) => swatch(table[value], `cluster ${value}`)), grey); return; }
    this.low.textContent = "0";
    this.high.textContent = probability ? "1" : `${number(part.top)}${part.entry.kind === "element" ? "+" : ""}`;
    this.unit.textContent = probability ? "probability" : part.entry.unit === "1" ? "" : unitText(part.entry.unit);
    const above = this.shown.threshold > 0 ? make("span", { className: "quiet" }, `from ${number(this.shown.threshold * part.top)}`) : null;
    this.legend.replaceChildren(...[this.low, this.bar, this.high, this.unit, above, grey, probability ? this.unseen(part.entry) : null, this.whose(part.entry), this.app.statements.legend(part.entry)].filter(Boolean));
  }

  // Legend of dark pixels. A pigment that is not detected is not necessarily absent.
  unseen(entry) {
    if (!this.app.about.hiding) return make("span", { className: "quiet", title: "Hidden pigments were not assessed: the instrument is unknown." }, "dark: not detected, not proven absent");
    return this.hatched ? make("span", { className: "swatch hatched" }, "not detected, cannot be excluded") : null;
  }

  // Note in the legend: a depth is known for the group, but not for its pigments.
  whose(entry) {
    const group = entry.kind === "member" ? this.app.entries.find((candidate) => candidate.kind === "group" && entry.groups.includes(candidate.name)) : null;
    return group ? make("span", { className: "quiet" }, "X-rays do not distinguish this pigment from other pigments of its group, and only the group has a depth. Look first at ",
      make("button", { type: "button", className: "link plain", onclick: () => this.app.showMap(group.index) }, shortName(group))) : null;
  }

  fit() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    const sharp = window.devicePixelRatio || 1;
    const size = [Math.max(1, Math.round(box.width * sharp)), Math.max(1, Math.round(box.height * sharp))];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    this.draw();
  }

  // Transformation from map pixels to canvas pixels: x = left + column * across.
  frame() {
    const { zoom, middle } = this.app.view;
    const [height, width] = this.app.about.shape;
    const aspect = this.app.aspect;
    const fit = Math.min(this.canvas.width / width, this.canvas.height / (height * aspect));
    const across = fit * zoom;
    const down = across * aspect;
    return { across, down, left: this.canvas.width / 2 - middle[0] * across, top: this.canvas.height / 2 - middle[1] * down };
  }

  placeOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const sharp = this.canvas.width / box.width;
    const { across, down, left, top } = this.frame();
    return [((event.clientX - box.left) * sharp - left) / across, ((event.clientY - box.top) * sharp - top) / down];
  }

  valueAt(row, column) {
    const [, width] = this.app.about.shape;
    return this.parts.map((part) => `${this.parts.length > 1 ? `${shortName(part.entry)} ` : ""}${valueText(part.entry, part.values[row * width + column])}`).join(", ");
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this.picture || width < 2) return;
    if (this === this.app.pane) this.app.exports.follow();
    const frame = this.frame();
    const [rows, columns] = this.app.about.shape;
    const box = [frame.left, frame.top, columns * frame.across, rows * frame.down];
    context.imageSmoothingEnabled = false;
    context.drawImage(this.picture, ...box);
    if (this.hatched) this.drawHatched(context, box);
    if (this.app.brush) { context.globalAlpha = 0.85; context.drawImage(this.app.brush, ...box); context.globalAlpha = 1; }
    this.app.reflectance.draw(context, box);
    const { pictures, pointer } = this.app;
    pictures.draw(context, box, pointer && [frame.left + pointer[0] * frame.across, frame.top + pointer[1] * frame.down]);
    this.drawRegions(context, frame);
    this.drawChosen(context, frame);
    this.drawScaleBar(context, frame);
  }

  drawHatched(context, box) {
    const { width, height } = this.canvas;
    const layer = Object.assign(document.createElement("canvas"), { width, height });
    const layerContext = layer.getContext("2d");
    layerContext.imageSmoothingEnabled = false;
    layerContext.drawImage(this.hatched, ...box);
    layerContext.globalCompositeOperation = "source-in";
    const tile = Object.assign(document.createElement("canvas"), { width: 9, height: 9 });
    const lines = tile.getContext("2d");
    for (const [color, at] of [["#000000aa", 1.2], ["#ffffffd0", 0]]) {
      lines.strokeStyle = color;
      lines.lineWidth = 1.3;
      lines.beginPath();
      for (const shift of [-9, 0, 9]) { lines.moveTo(shift - 2 + at, 11); lines.lineTo(shift + 11 + at, -2); }
      lines.stroke();
    }
    layerContext.fillStyle = layerContext.createPattern(tile, "repeat");
    layerContext.fillRect(0, 0, width, height);
    context.drawImage(layer, 0, 0);
  }

  drawRegions(context, frame) {
    const sharp = window.devicePixelRatio || 1;
    const stroke = (color, ...path) => {
      for (const [style, width] of [["#000b", 4], [color, 2]]) { context.strokeStyle = style; context.lineWidth = width * sharp; context.stroke(...path); }
    };
    const outline = (corners, color, closed) => {
      if (corners.length < 2) return;
      context.beginPath();
      corners.forEach(([row, column], at) => context[at ? "lineTo" : "moveTo"](frame.left + column * frame.across, frame.top + row * frame.down));
      if (closed) context.closePath();
      stroke(color);
    };
    const outlineOf = (region) => {
      outline(region.corners, region.color, true);
      if (region.outline) {
        const path = new Path2D();
        path.addPath(region.outline, new DOMMatrix([frame.across, 0, 0, frame.down, frame.left, frame.top]));
        stroke(region.color, path);
      }
    };
    for (const region of this.app.regions.filter((region) => !region.hidden)) outlineOf(region);
    context.setLineDash([6 * sharp, 4 * sharp]);
    for (const region of this.app.regionPanel.newerRegions()) outlineOf(region);
    context.setLineDash([]);
    if (this.app.drawing) outline(this.app.drawing, "#ffffff", this.app.tool === "box");
    for (const [at, point] of this.app.pictures.points.entries()) {
      if (point.length < 4) continue;
      const [x, y] = [frame.left + point[2] * frame.across, frame.top + point[3] * frame.down];
      context.fillStyle = "#00d0ff";
      context.beginPath();
      context.arc(x, y, 4 * sharp, 0, 7);
      context.fill();
      context.font = `${12 * sharp}px sans-serif`;
      context.fillText(String(at + 1), x + 6 * sharp, y - 6 * sharp);
    }
  }

  drawChosen(context, frame) {
    if (!this.app.chosen) return;
    const [row, column] = this.app.chosen;
    const sharp = window.devicePixelRatio || 1;
    const [x, y] = [frame.left + column * frame.across, frame.top + row * frame.down];
    const middle = [x + frame.across / 2, y + frame.down / 2];
    const arm = Math.max(9 * sharp, frame.across);
    for (const [style, width] of [["#000", 3], ["#fff", 1.2]]) {
      context.strokeStyle = style;
      context.lineWidth = width * sharp;
      context.strokeRect(x, y, frame.across, frame.down);
      context.beginPath();
      for (const [across, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(middle[0] + across * (frame.across / 2 + 2), middle[1] + down * (frame.down / 2 + 2));
        context.lineTo(middle[0] + across * (frame.across / 2 + arm), middle[1] + down * (frame.down / 2 + arm));
      }
      context.stroke();
    }
  }

  drawScaleBar(context, frame) {
    const step = this.app.about.step_mm;
    if (!step) return;
    const perMm = frame.across / step[1];
    const length = LENGTHS_MM.find((candidate) => candidate * perMm < 0.3 * this.canvas.width);
    if (!length) return;
    const sharp = window.devicePixelRatio || 1;
    const [x, y, long] = [12 * sharp, this.canvas.height - 14 * sharp, length * perMm];
    context.fillStyle = "#000a";
    context.fillRect(x - 6 * sharp, y - 20 * sharp, Math.max(long, 44 * sharp) + 12 * sharp, 28 * sharp);
    context.fillStyle = "#fff";
    context.fillRect(x, y, long, 3 * sharp);
    context.font = `${12 * sharp}px system-ui, sans-serif`;
    context.fillText(`${length} mm`, x, y - 5 * sharp);
  }
}
