// View as data: displayed maps and settings, which can be saved, shared and restored.
import { COLOR_NAMES } from "./pane.js";

const MODES = ["map", "composite", "overlay"];
const MAP_COLORS = ["inferno", "viridis", "cividis", "gray"];

export class View {
  constructor(app) { this.app = app; }

  // Kind and name of a map, which identify it in other results, where its index may differ.
  name(index) {
    const entry = this.app.entries[index];
    return entry ? { kind: entry.kind, name: entry.name } : null;
  }

  index(named) {
    const entry = named && this.app.entries.find((each) => each.kind === named.kind && each.name === named.name);
    return entry ? entry.index : null;
  }

  state() {
    const { app } = this;
    const panes = app.panes.map(({ shown }) => ({ mode: shown.mode, map: this.name(shown.map), layers: shown.layers.map((layer) => ({ map: this.name(layer.map), color: layer.color })), threshold: shown.threshold, colors: shown.colors, hatch: shown.hatch }));
    return { panes, computed: app.computed.recipes, zoom: app.view.zoom, middle: app.view.middle, chosen: app.chosen, scale: app.spectrum.scaleName, range: app.spectrum.range,
      hidden: app.regions.filter((region) => region.hidden).map((region) => region.name), pictures: app.pictures.state() };
  }

  // Restores a saved view; maps that these results do not contain are omitted.
  async apply(state) {
    const { app } = this;
    await app.computed.again(Array.isArray(state.computed) ? state.computed : []);
    const panes = (Array.isArray(state.panes) ? state.panes : []).slice(0, 4);
    if (panes.length) app.setPanes([1, 2, 4].find((count) => count >= panes.length));
    panes.forEach((saved, at) => {
      const { shown } = app.panes[at];
      const map = this.index(saved.map);
      const layers = (Array.isArray(saved.layers) ? saved.layers : []).slice(0, COLOR_NAMES.length).filter((layer) => COLOR_NAMES.includes(layer.color)).map((layer) => ({ map: this.index(layer.map), color: layer.color }));
      if (map !== null) shown.map = map;
      Object.assign(shown, { mode: MODES.includes(saved.mode) ? saved.mode : "map", layers, threshold: Number(saved.threshold) || 0, colors: MAP_COLORS.includes(saved.colors) ? saved.colors : "", hatch: saved.hatch !== false });
    });
    const number = (value, usual) => (Number.isFinite(value) ? value : usual);
    app.view.zoom = number(state.zoom, 1);
    if (Array.isArray(state.middle) && state.middle.every(Number.isFinite)) app.view.middle = state.middle;
    app.spectrum.setScale(state.scale);
    app.spectrum.range = Array.isArray(state.range) && state.range.every(Number.isFinite) ? state.range : null;
    for (const region of app.regions) region.hidden = (Array.isArray(state.hidden) ? state.hidden : []).includes(region.name);
    const blend = Number(state.photograph?.blend);  // views saved by versions with one picture
    app.pictures.apply(state.pictures || { layers: [{ key: "photograph", opacity: blend, shown: blend > 0 }] });
    app.choosePane(app.panes[0]);
    await Promise.all(app.panes.map((pane) => pane.update()));
    app.showSpectra();
    if (Array.isArray(state.chosen) && app.inside([...state.chosen].reverse())) await app.choosePixel(...state.chosen);
    document.body.dataset.view = String(panes.length);
  }
}
