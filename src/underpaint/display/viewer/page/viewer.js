// Page of results: displayed maps, mouse and keys, and the connection of the panels.
import { askJson, byId, choosable, guarded, make, number, say, shortName, themed } from "./base.js";
import { COMPUTED, Computed } from "./computed.js";
import { ExplorePanel } from "./explore.js";
import { ExportPanel } from "./export.js";
import { FitPanel } from "./fit.js";
import { loadColors, paint, pictureOf, tableOf, topOf, usualColors } from "./maps.js";
import { COLOR_NAMES, COLORS, Pane, swatch } from "./pane.js";
import { PicturesPanel } from "./pictures.js";
import { ReflectancePanel } from "./reflectance.js";
import { RegionPanel } from "./regions.js";
import { ScatterPanel } from "./scatter.js";
import { History, Session } from "./session.js";
import { SpectrumPlot } from "./spectrum.js";
import { showSpot } from "./spot.js";
import { Statements } from "./statements.js";
import { Summary } from "./summary.js";
import { RegionTable } from "./table.js";
import { View } from "./view.js";

const MOST_ZOOM = 400;
const DRAG = 4;
const BRUSHED = 0xffffe000;
// Time for which the page waits for the overview before it shows the first map, in ms.
const FIRST_VIEW_MS = 700;
const KINDS = [["group", "Groups"], ["member", "Pigments"], ["element", "Elements"], ["computed", "Computed"], ["other", "More"]];

class Viewer {
  constructor(about) {
    this.about = about;
    this.entries = about.maps.map((entry, index) => ({ ...entry, index }));
    this.placeWords = { anywhere: "anywhere", surface: "at the surface", below: "below the surface" };
    this.aspect = about.step_mm && Math.min(...about.step_mm) > 0 ? about.step_mm[0] / about.step_mm[1] : 1;
    this.view = { zoom: 1, middle: [about.shape[1] / 2, about.shape[0] / 2] };
    this.panes = [];
    this.chosen = null;
    this.spot = null;
    this.pointer = null;
    this.read = null;
    this.tool = "point";
    this.drawing = null;
    this.marked = [];
    this.brush = null;
    this.brushMask = null;
    this.extraCurves = [];
    this.regions = [];
    this.history = new History(byId("undo"));
    this.session = new Session(this);
    this.statements = new Statements(this);
    this.viewState = new View(this);
    this.computed = new Computed(this);
    this.pictures = new PicturesPanel(this);
    this.reflectance = new ReflectancePanel(this);
    this.spectrum = new SpectrumPlot(this);
    this.regionPanel = new RegionPanel(this);
    this.scatter = new ScatterPanel(this);
    this.explore = new ExplorePanel(this);
    this.table = new RegionTable(this);
    this.fitPanel = new FitPanel(this);
    this.exports = new ExportPanel(this);
  }

  async start() {
    const { about } = this;
    document.title = `${about.title} · underpaint`;
    byId("title").textContent = about.title;
    const step = about.step_mm ? `, ${number(about.step_mm[0])} × ${number(about.step_mm[1])} mm a pixel` : "";
    byId("facts").textContent = `${about.shape[0]} rows × ${about.shape[1]} columns${step}`;
    if (about.report) this.showReport(about.report_outdated);
    this.dark = themed(byId("theme"), () => this.spectrum.draw());
    this.buildList();
    this.buildToolbar();
    this.buildTabs();
    this.summary = new Summary(this);
    const overview = this.summary.load();
    await Promise.race([overview, new Promise((wake) => { setTimeout(wake, FIRST_VIEW_MS); })]);
    this.setPanes(1);
    if (!this.summary.show()) overview.then(() => { if (this.untouched) this.summary.show(); });
    this.keys();
    await this.panes[0].update();
    document.body.dataset.ready = "maps";
    this.showSpectra();
    this.followScan();
    askJson("lines").then((lines) => { this.spectrum.lines = lines; this.showSpectra(); document.body.dataset.ready = "all"; }).catch((error) => say(error.message));
    askJson("candidates").then((families) => { this.spectrum.candidates = Object.entries(families).flatMap(([family, lines]) => Object.entries(lines).map(([name, energy]) => [name, energy, family])); }).catch((error) => say(error.message));
    await Promise.all([this.pictures.load(), this.reflectance.load(), this.regionPanel.load(), this.session.load()]);
    if (this.session.view.panes && !this.chosen) await guarded(() => this.viewState.apply(this.session.view))();
  }

  // Whether the user has chosen nothing yet.
  get untouched() { return !this.chosen && this.pane === this.panes[0] && this.pane.shown.mode === "map" && this.pane.shown.map === this.firstMap; }

  showReport(outdated = false) {
    Object.assign(byId("report"), { hidden: false, href: "files/report.html" });
    byId("report").textContent = outdated ? "Report (older)" : "Report";
    byId("report").title = outdated ? "Written before the latest pictures, regions or statements: write it again under Save" : "";
  }

  // Marks the report as older than the content that it shows.
  reportOutdated() { if (!byId("report").hidden) this.showReport(true); }

  // --- list of maps

  kindOf(entry) { return COMPUTED.includes(entry.kind) ? "computed" : ["group", "member", "element"].includes(entry.kind) ? entry.kind : "other"; }

  familiesOf(entry) {
    const byElement = new Map();
    for (const family of entry.elements) {
      const match = this.entries.find((candidate) => candidate.kind === "element" && candidate.name === family);
      if (match && !byElement.has(family.split("_")[0])) byElement.set(family.split("_")[0], match.index);
    }
    return [...byElement.values()].slice(0, 2);
  }

  stateOf(entry) {
    if (entry.kind !== "group" && entry.kind !== "member") return null;
    const match = this.entries.find((candidate) => candidate.kind === "state" && candidate.material === entry.material);
    return match ? match.index : null;
  }

  placesOf(entry) {
    if (entry.kind !== "group" && entry.kind !== "member") return [entry];
    return this.entries.filter((candidate) => candidate.kind === entry.kind && candidate.material === entry.material);
  }

  buildList() {
    const kinds = KINDS.filter(([kind]) => this.entries.some((entry) => this.kindOf(entry) === kind));
    const tabs = kinds.map(([kind, label]) => make("button", { type: "button", role: "tab", "data-kind": kind, "aria-controls": "list" }, label));
    byId("kinds").replaceChildren(...tabs);
    this.showKind = choosable(tabs, () => null, (tab) => { this.kind = tab.dataset.kind; this.fillList(); });
    if (this.seen) { this.showKind(tabs.find((tab) => tab.dataset.kind === this.kind) || tabs[0]); return; }  // a map was computed
    byId("search").addEventListener("input", () => this.fillList());
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { this.seen.unobserve(entry.target); this.thumbnail(entry.target); }
    }, { root: byId("list") });
    this.showKind(tabs[0]);
  }

  fillList() {
    const searchText = byId("search").value.trim().toLowerCase();
    const shown = this.entries.filter((entry) => (searchText ? `${entry.label} ${entry.name}`.toLowerCase().includes(searchText) : this.kindOf(entry) === this.kind)
      && (entry.place === "anywhere" || this.kindOf(entry) === "other")).sort((a, b) => this.rank(a) - this.rank(b));
    const absent = searchText ? [] : shown.filter((entry) => this.summary?.isAbsent(entry));
    const item = (entry) => {
      const picture = make("canvas", { "data-map": String(entry.index), "aria-hidden": "true" });
      this.seen.observe(picture);
      const [name, examples] = shortened(entry);
      const words = this.summary?.wordsOf(entry);
      return make("li", {}, make("button", { type: "button", "data-map": String(entry.index), title: entry.name, onclick: () => this.showMap(entry.index) },
        picture, make("span", {}, name, words ? make("small", { className: "sure" }, words) : null, examples ? make("small", {}, examples) : null)));
    };
    const items = shown.filter((entry) => !absent.includes(entry)).map(item);
    if (this.kind === "member" && !searchText) items.unshift(make("li", { className: "note" }, "The probability of a pigment within its group depends more on a prior than on the spectrum. Rely on the group first."));
    if (absent.length) items.push(make("li", {}, make("details", {}, make("summary", {}, `${absent.length} not ${this.kind === "element" ? "detected" : "found"}`), make("ul", {}, ...absent.map(item)))));
    byId("list").replaceChildren(...(shown.length ? items : [make("li", { className: "empty" }, "No map has this name.")]));
    this.markList();
  }

  // Sort key: groups first, maps of states last.
  rank(entry) { return (this.summary?.rank(entry) ?? 0) + KINDS.findIndex(([kind]) => kind === this.kindOf(entry)) + (entry.kind === "state" ? 1 : 0); }

  async thumbnail(canvas) {
    const index = Number(canvas.dataset.map);
    try {
      const buffer = await (await fetch(`thumbnail?map=${index}&size=64`)).arrayBuffer();
      const [height, width] = new Int32Array(buffer, 0, 2);
      const values = new Float32Array(buffer, 8);
      const entry = this.entries[index];
      const picture = pictureOf(width, height, (pixels) => paint(pixels, values, tableOf(usualColors(entry)), entry.kind === "group" || entry.kind === "member" ? 1 : topOf(entry, -1 - index, values)));
      canvas.width = width;
      canvas.height = height;
      canvas.getContext("2d").drawImage(picture, 0, 0);
    } catch { /* the list works without thumbnails */ }
  }

  markList() {
    const shown = this.pane && this.pane.shown.mode !== "composite" ? this.placesOf(this.entries[this.pane.shown.map]).map((entry) => entry.index) : [];
    for (const button of byId("list").querySelectorAll("button")) button.setAttribute("aria-pressed", shown.includes(Number(button.dataset.map)));
  }

  // --- panes

  setPanes(count) {
    const order = KINDS.map(([kind]) => kind);
    const firsts = this.entries.filter((entry) => entry.place === "anywhere").sort((a, b) => order.indexOf(this.kindOf(a)) - order.indexOf(this.kindOf(b))).map((entry) => entry.index);
    [this.firstMap] = firsts;
    const now = this.pane ? this.pane.shown.map : firsts[0];
    while (this.panes.length < count) {
      const map = this.panes.length ? this.likely(now, this.panes.length) : firsts[0];
      this.panes.push(new Pane(this, { mode: "map", map, layers: this.layersOf([map, ...this.familiesOf(this.entries[map])]), threshold: 0, colors: "", hatch: true }));
    }
    this.panes = this.panes.slice(0, count);
    const place = byId("panes");
    place.dataset.count = String(count);
    place.replaceChildren(...this.panes.map((pane) => pane.element));
    for (const button of document.querySelectorAll("[data-panes]")) button.setAttribute("aria-pressed", Number(button.dataset.panes) === count);
    this.choosePane(this.panes.includes(this.pane) ? this.pane : this.panes[0]);
    for (const pane of this.panes) if (!pane.picture) guarded(() => pane.update())();
    this.regionPanel.follow();
  }

  // Map for a new pane: an element map of the present pigment map, or else the next map of the same kind.
  likely(map, at) {
    const families = this.familiesOf(this.entries[map]);
    if (at <= families.length) return families[at - 1];
    const sameKind = this.entries.filter((entry) => entry.kind === this.entries[map].kind && entry.place === "anywhere").map((entry) => entry.index);
    return sameKind[(sameKind.indexOf(map) + at) % sameKind.length] ?? map;
  }

  choosePane(pane) {
    this.pane = pane;
    for (const other of this.panes) other.element.classList.toggle("chosen", other === pane && this.panes.length > 1);
    this.writeToolbar();
    this.markList();
    this.exports.follow();
  }

  showMap(index) {
    const { shown } = this.pane;
    shown.map = index;
    shown.mode = shown.mode === "overlay" && this.familiesOf(this.entries[index]).length ? "overlay" : "map";
    shown.threshold = 0;
    return this.changed();
  }

  // Shows a computed map in the chosen pane and its list.
  showComputed(index) {
    const tab = byId("kinds").querySelector("[data-kind=computed]");
    if (tab) this.showKind(tab);
    return this.showMap(index);
  }

  showNamed(name) {
    const match = this.entries.find((entry) => entry.name === name && entry.kind !== "state");
    if (!match) return undefined;
    const tab = byId("kinds").querySelector(`[data-kind=${this.kindOf(match)}]`);
    if (tab) this.showKind(tab);
    return this.showMap(match.index);
  }

  showPlace(material, place) {
    const match = this.entries.find((entry) => entry.material === material && entry.place === place && entry.kind !== "state");
    if (match) this.showMap(match.index);
  }

  changed() {
    this.writeToolbar();
    this.markList();
    this.scatter.follow();
    this.regionPanel.follow();
    return guarded(() => this.pane.update())();
  }

  draw() { for (const pane of this.panes) pane.draw(); }

  // Highlights pixels on all maps, chosen in a scatter plot, an embedding or a list of clusters.
  setBrush(mask, name = "selection") {
    const [height, width] = this.about.shape;
    this.brushMask = mask;
    this.brush = mask && pictureOf(width, height, (pixels) => { for (let at = 0; at < pixels.length; at += 1) if (mask[at]) pixels[at] = BRUSHED; });
    document.body.dataset.brush = mask ? `${name}: ${mask.reduce((sum, inside) => sum + inside, 0)}` : "";
    this.draw();
    this.explore.draw();
  }

  // Adds a region from a mask, as runs along the rows.
  regionOf(mask, name) {
    const [height, width] = this.about.shape;
    const runs = [];
    if (mask) for (let row = 0; row < height; row += 1) {
      let start = -1;
      for (let column = 0; column <= width; column += 1) {
        const inside = column < width && mask[row * width + column];
        if (inside && start < 0) start = column;
        if (!inside && start >= 0) { runs.push([row, start, column - 1]); start = -1; }
      }
    }
    if (!runs.length) { say("Select pixels first."); return undefined; }
    return this.regionPanel.add({ corners: [], runs, name });
  }

  showComposite(maps) {
    Object.assign(this.pane.shown, { mode: "composite", layers: this.layersOf(maps) });
    return this.changed();
  }

  showScatter(across, up) {
    this.openTab(byId("tab-scatter"));
    this.scatter.choose(across, up);
  }

  // --- display of a map

  buildToolbar() {
    const set = (id, key, read = (input) => input.value) => byId(id).addEventListener("input", (event) => { this.pane.shown[key] = read(event.target); this.changed(); });
    set("threshold", "threshold", (input) => Number(input.value));
    set("colors", "colors");
    set("hatch", "hatch", (input) => input.checked);
    byId("mode").addEventListener("change", (event) => {
      const { shown } = this.pane;
      shown.mode = event.target.value;
      if (shown.mode === "composite") shown.layers = this.layersOf([shown.map, ...this.familiesOf(this.entries[shown.map])]);
      this.changed();
    });
    byId("place").addEventListener("change", (event) => this.showMap(Number(event.target.value)));
    for (const button of document.querySelectorAll("[data-panes]")) button.addEventListener("click", () => this.setPanes(Number(button.dataset.panes)));
    for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => this.takeTool(button.dataset.tool));
    for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => this.zoom({ in: 1.5, out: 1 / 1.5, fit: 0 }[button.dataset.zoom]));
    byId("help").addEventListener("click", () => byId("keys").showModal());
    this.takeTool("point");
  }

  writeToolbar() {
    if (!this.pane) return;
    const { shown } = this.pane;
    const entry = this.entries[shown.map];
    const places = this.placesOf(entry);
    byId("mode").value = shown.mode;
    byId("mode").options[2].disabled = !this.familiesOf(entry).length;
    byId("place-label").hidden = shown.mode === "composite" || !["group", "member"].includes(entry.kind) || !this.entries.some((candidate) => candidate.place !== "anywhere");
    byId("place").disabled = places.length < 2;
    byId("place").title = places.length < 2 ? "Only groups have a map for each depth." : "";
    byId("place").replaceChildren(...places.map((place) => make("option", { value: String(place.index), selected: place === entry }, this.placeWords[place.place] || place.place)));
    byId("threshold-label").hidden = shown.mode !== "map" || ["state", "cluster"].includes(entry.kind);
    byId("threshold").value = String(shown.threshold);
    byId("threshold-shown").textContent = entry.kind === "group" || entry.kind === "member" ? shown.threshold.toFixed(2) : `${Math.round(100 * shown.threshold)} %`;
    byId("colors-label").hidden = shown.mode !== "map" || ["state", "cluster"].includes(entry.kind);
    byId("colors").value = shown.colors;
    byId("hatch-label").hidden = shown.mode === "composite" || this.stateOf(entry) === null;
    byId("hatch").checked = shown.hatch;
    this.writeChannels();
  }

  writeChannels() {
    const { shown } = this.pane;
    const place = byId("channels");
    place.hidden = shown.mode !== "composite";
    if (place.hidden) return;
    const before = shown.layers.map((layer) => ({ ...layer }));
    const changed = () => {
      this.history.did("changed the composite", () => { shown.layers = before; this.changed(); });
      this.changed();
      place.querySelector("select")?.focus();
    };
    place.replaceChildren(...shown.layers.map((layer, at) => swatch(COLORS[layer.color],
      make("select", { "aria-label": `Colour of map ${at + 1}`, onchange: (event) => { layer.color = event.target.value; changed(); } },
        ...COLOR_NAMES.map((name) => make("option", { value: name, selected: name === layer.color }, name))),
      make("select", { "aria-label": `Map ${at + 1}`, onchange: (event) => { layer.map = event.target.value === "" ? null : Number(event.target.value); changed(); } },
        make("option", { value: "" }, "nothing"),
        ...KINDS.slice(0, 4).map(([kind, label]) => make("optgroup", { label }, ...this.entries.filter((entry) => this.kindOf(entry) === kind)
          .map((entry) => make("option", { value: String(entry.index), selected: layer.map === entry.index }, shortName(entry)))))),
      make("button", { type: "button", "aria-label": `Remove map ${at + 1}`, onclick: () => { shown.layers.splice(at, 1); changed(); } }, "×"))),
      make("button", { type: "button", id: "add-layer", disabled: shown.layers.length >= COLOR_NAMES.length, onclick: () => {
        shown.layers.push({ map: null, color: COLOR_NAMES.find((name) => !shown.layers.some((layer) => layer.color === name)) });
        changed();
      } }, "+ map"));
  }

  // Gives each map a colour in this order: red, green, blue, ...
  layersOf(maps) { return maps.slice(0, COLOR_NAMES.length).map((map, at) => ({ map, color: COLOR_NAMES[at] })); }

  buildTabs() {
    const tabs = [...byId("tabs").children];
    this.openTab = choosable(tabs, (tab) => byId(tab.getAttribute("aria-controls")), (tab) => {
      const name = tab.getAttribute("aria-controls");
      if (name === "scatter") this.scatter.open();
      if (name === "export") { this.exports.follow(); this.session.showCache(); }
      if (name === "regions") this.regionPanel.follow();
      if (name === "explore") this.explore.draw();
      if (name === "fit") this.fitPanel.open();
    });
    this.openTab(tabs[0]);
  }

  takeTool(tool) {
    this.tool = tool;
    this.drawing = null;
    this.marked = [];
    for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === tool);
    this.draw();
  }

  // --- mouse and keys

  listen(pane) {
    const { canvas } = pane;
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.zoom(1.2 ** (-event.deltaY / 100), pane.placeOf(event)); }, { passive: false });
    canvas.addEventListener("pointermove", (event) => this.hover(pane, event));
    canvas.addEventListener("pointerleave", () => { this.pointer = null; if (this.pictures.lens) this.draw(); });
    canvas.addEventListener("pointerdown", (event) => { if (!event.button) this.press(pane, event); });
    canvas.addEventListener("keydown", (event) => this.arrows(event));
  }

  inside([x, y]) { return x >= 0 && y >= 0 && x < this.about.shape[1] && y < this.about.shape[0]; }

  hover(pane, event) {
    const at = pane.placeOf(event);
    this.pointer = at;
    if (this.inside(at)) this.readOut(pane, Math.floor(at[1]), Math.floor(at[0]));
    if (this.pictures.lens) this.draw();
  }

  // Shows the value of a map at a pixel; repeated when the pane shows another map.
  readOut(pane, row, column) {
    this.read = { pane, row, column };
    byId("readout").textContent = `row ${row}, column ${column}: ${pane.valueAt(row, column)}`;
  }

  press(pane, event) {
    const from = pane.placeOf(event);
    const start = [event.clientX, event.clientY];
    const middle = [...this.view.middle];
    let moved = false;
    this.marked = [];
    this.drawing = null;
    const { across, down } = pane.frame();
    const sharp = window.devicePixelRatio || 1;
    if (this.tool === "lasso") this.drawing = [[from[1], from[0]]];
    pane.canvas.setPointerCapture(event.pointerId);
    const move = (pointerEvent) => {
      moved = moved || Math.hypot(pointerEvent.clientX - start[0], pointerEvent.clientY - start[1]) > DRAG;
      if (!moved) return;
      const at = pane.placeOf(pointerEvent);
      if (this.tool === "point" || this.tool === "class") this.view.middle = [middle[0] - ((pointerEvent.clientX - start[0]) * sharp) / across, middle[1] - ((pointerEvent.clientY - start[1]) * sharp) / down];
      else if (this.tool === "box") this.drawing = [[from[1], from[0]], [from[1], at[0]], [at[1], at[0]], [at[1], from[0]]];
      else this.drawing.push([at[1], at[0]]);
      this.draw();
    };
    const up = () => {
      pane.canvas.removeEventListener("pointermove", move);
      const drawn = this.drawing;
      this.drawing = null;
      if (moved && drawn && drawn.length > 2) this.regionPanel.add({ corners: drawn });
      else if (!moved) this.click(from);
      this.draw();
    };
    pane.canvas.addEventListener("pointermove", move);
    pane.canvas.addEventListener("pointerup", up, { once: true });
  }

  click(at) {
    if (!this.inside(at)) return;
    if (this.pictures.takes(at)) { this.draw(); return; }
    const [row, column] = [Math.floor(at[1]), Math.floor(at[0])];
    if (this.tool === "class") this.chooseClass(row, column); else this.choosePixel(row, column);
  }

  // Selects connected pixels above the threshold, or above one half of the scale.
  chooseClass(row, column) {
    const { shown, parts } = this.pane;
    const [part] = parts;
    const least = (shown.mode === "map" && shown.threshold > 0 ? shown.threshold : 0.5) * part.top;
    return guarded(async () => this.regionPanel.add(await askJson(`class?map=${part.index}&row=${row}&column=${column}&least=${least}`)))();
  }

  async choosePixel(row, column) {
    this.chosen = [row, column];
    if (!byId("summary").hidden) this.openTab(byId("tab-spot"));
    this.draw();
    const turn = (this.turn = (this.turn || 0) + 1);
    await guarded(async () => {
      const answer = await askJson(`pixel?row=${row}&column=${column}`);
      if (turn !== this.turn) return;
      this.spot = answer;
      this.reflectance.show(row, column);
      showSpot(this, answer);
      this.exports.follow();
      this.fitPanel.follow();
      this.explore.draw();
      this.showSpectra();
      document.body.dataset.spot = `${row},${column}`;
    })();
  }

  arrows(event) {
    if (event.key === "Enter") { event.preventDefault(); this.mark(...this.standing()); return; }
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    if (event.shiftKey) {
      this.view.middle = [this.view.middle[0] + (step[1] * this.about.shape[1]) / 10 / this.view.zoom, this.view.middle[1] + (step[0] * this.about.shape[0]) / 10 / this.view.zoom];
      this.draw();
      return;
    }
    const [row, column] = this.standing();
    const within = (value, size) => Math.max(0, Math.min(size - 1, value));
    const next = [within(row + step[0], this.about.shape[0]), within(column + step[1], this.about.shape[1])];
    this.readOut(this.pane, ...next);
    this.pointer = [next[1] + 0.5, next[0] + 0.5];
    this.drawing = this.marked.length ? this.drawn(next) : null;
    this.choosePixel(...next);
  }

  // Keyboard position: the chosen pixel, or the middle of the view.
  standing() { return this.chosen || [Math.floor(this.view.middle[1]), Math.floor(this.view.middle[0])]; }

  // Drawing by keys: two marks define a box. A lasso ends when its first mark is set again.
  mark(row, column) {
    if (this.tool === "class") { this.chooseClass(row, column); return; }
    if (this.tool === "point") { if (this.pictures.takes([column + 0.5, row + 0.5])) this.draw(); return; }
    const again = this.marked.length > 2 && this.marked[0].join() === [row, column].join();
    if (this.tool === "box" ? this.marked.length === 1 : again) {
      const corners = this.tool === "box" ? this.drawn([row, column]) : this.drawn();
      this.marked = [];
      this.drawing = null;
      this.regionPanel.add({ corners });
    } else {
      this.marked.push([row, column]);
      this.drawing = this.drawn([row, column]);
    }
    if (this.chosen) this.draw(); else this.choosePixel(row, column);
  }

  // Corners of the drawn shape: whole pixels for a box, pixel centres for a lasso.
  drawn(end = null) {
    const all = end ? [...this.marked, end] : this.marked;
    if (this.tool === "lasso") return all.map((point) => point.map((at) => at + 0.5));
    const [top, left] = [0, 1].map((axis) => Math.min(...all.map((point) => point[axis])));
    const [bottom, right] = [0, 1].map((axis) => Math.max(...all.map((point) => point[axis])) + 1);
    return [[top, left], [top, right], [bottom, right], [bottom, left]];
  }

  zoom(factor, about = null) {
    const { view } = this;
    const [height, width] = this.about.shape;
    if (!factor) { view.zoom = 1; view.middle = [width / 2, height / 2]; this.draw(); return; }
    const before = view.zoom;
    view.zoom = Math.max(0.5, Math.min(MOST_ZOOM, view.zoom * factor));
    if (about) view.middle = view.middle.map((coordinate, at) => about[at] + ((coordinate - about[at]) * before) / view.zoom);
    this.draw();
  }

  keys() {
    const press = (selector) => { document.querySelector(selector).click(); this.pane.canvas.focus(); };
    const does = {
      1: () => this.setPanes(1), 2: () => this.setPanes(2), 4: () => this.setPanes(4),
      p: () => press('[data-tool="point"]'), b: () => press('[data-tool="box"]'), l: () => press('[data-tool="lasso"]'), c: () => press('[data-tool="class"]'),
      "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5), 0: () => this.zoom(0),
      "?": () => byId("keys").showModal(), Escape: () => this.takeTool("point"),
    };
    document.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "z" && !event.target.closest("input, textarea")) { this.history.undo(); event.preventDefault(); return; }
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
      if (event.key === "/") { byId("search").focus(); event.preventDefault(); return; }
      if (does[event.key]) { does[event.key](); event.preventDefault(); }
    });
  }

  // --- the spectrum

  showSpectra() {
    const { about } = this;
    if (!about.sum) { byId("spectrum-words").textContent = "The results hold no spectrum."; return; }
    const pixels = about.shape[0] * about.shape[1];
    const curves = [
      { name: "largest of any pixel", kind: "max", counts: about.max },
      { name: "mean of all pixels", kind: "sum", counts: about.sum.map((count) => count / pixels) },
      ...this.extraCurves,
      ...this.regionPanel.curves(),
    ];
    let families = Object.keys(this.spectrum.lines).filter((name) => name !== "tube");
    let words = "Click a pixel to show its spectrum.";
    if (this.spot) {
      const { spectrum, row, column, scan } = this.spot;
      if (spectrum) curves.push({ name: `row ${row}, column ${column}`, kind: "pixel", counts: spectrum });
      families = this.spot.elements.filter((element) => element.there).map((element) => element.name);
      words = spectrum ? "" : scan.state === "ready" ? "This pixel has no spectrum in the scan." : this.scanWords(scan);
    } else if (about.scan.state !== "ready" && about.scan.state !== "opening") words = this.scanWords(about.scan);
    byId("spectrum-words").replaceChildren(...[words].flat());
    this.spectrum.show(curves, families);
  }

  scanWords({ state, path }) {
    if (state === "opening") return "The scan is still being opened …";
    if (state === "missing") return ["The scan is missing: only its sum can be shown. ", this.scanButton(path)];
    return ["Only the sum is shown: the scan is not open. ", this.scanButton(path)];
  }

  // The results name the scan's path. The scan is opened only on request, because the results may be untrusted.
  scanButton(path) {
    return make("button", { type: "button", className: "open-scan", title: path ? `Opens ${path}` : "The results do not contain its path", onclick: guarded(async () => {
      this.about.scan = await askJson("scan", { method: "POST" });
      this.showSpectra();
      await this.followScan();
    }) }, path ? `Open the scan ${path.split(/[\\/]/).pop()}` : "Open the scan");
  }

  async followScan() {
    while (this.about.scan.state === "opening") {
      await new Promise((wake) => { setTimeout(wake, 400); });
      try { this.about.scan = await askJson("scan"); } catch { return; }
    }
    this.showSpectra();
    this.regionPanel.follow();
    if (this.about.scan.state === "ready") this.computed.again(this.computed.waiting);
    if (this.chosen) this.choosePixel(...this.chosen);
    if (this.about.scan.state === "missing") say(this.about.scan.why);
  }
}

// "lead pigment (lead white, red lead), below the surface" split into the name and the examples.
function shortened(entry) {
  const [, name, examples, rest] = /^(.*?) \((.*)\)(.*)$/.exec(entry.label) || [null, entry.label, "", ""];
  return [name + rest, entry.kind === "state" ? "answer at each pixel" : examples];
}

const begin = async () => {
  const [about] = await Promise.all([askJson("about"), loadColors()]);
  if (!about.maps.length) { byId("title").textContent = about.title; say("These results hold no maps.", { lasting: true }); return; }
  window.viewer = new Viewer(about);
  await window.viewer.start();
};
begin().catch((error) => say(error.message, { lasting: true }));
