// Regions drawn on the maps: means, comparison, and saving with the results.
import { ask, askJson, byId, guarded, make, number, percent, say, shortName, thousands, valueText } from "./base.js";
import { saveBlob } from "./export.js";

const COLORS = ["#ffd24d", "#4dc3ff", "#ff7ab8", "#8bdc65", "#c79bff", "#ff9d5c"];

export class RegionPanel {
  constructor(app) {
    Object.assign(this, { app, removed: null, scanState: app.about.scan.state, version: "", unsaved: "", newer: null, saving: Promise.resolve() });
    window.addEventListener("beforeunload", (event) => { if (this.unsaved) event.preventDefault(); });
    this.fill();
  }

  async load() {
    const read = askJson("regions");
    this.saving = read.catch(() => {});  // regions that could not be read are not overwritten
    await guarded(async () => {
      const { regions, version } = await read;
      this.version = version;
      for (const region of regions) this.keep(region);
      this.fill();
      this.app.draw();
      await Promise.all(this.app.regions.map((region) => this.measure(region)));
    })();
  }

  keep(drawn) {
    const region = this.colored(drawn);
    this.app.regions.push(region);
    return region;
  }

  colored({ name, corners = [], runs = [] }) {
    const used = this.app.regions.map((entry) => entry.color);
    const color = COLORS.find((candidate) => !used.includes(candidate)) || COLORS[this.app.regions.length % COLORS.length];
    return { name, corners, runs, color, measurement: null, measuredState: "", hidden: false, outline: runs.length ? this.outlineOf(runs) : null };
  }

  // Outline of a class in map pixels; the interior is not filled.
  outlineOf(runs) {
    const [height, width] = this.app.about.shape;
    const inside = new Uint8Array((height + 2) * width);
    for (const [row, first, last] of runs) inside.fill(1, (row + 1) * width + first, (row + 1) * width + last + 1);
    const path = new Path2D();
    const across = (x, end, y) => { path.moveTo(x, y); path.lineTo(end, y); };
    for (const [row, first, last] of runs) {
      for (const x of [first, last + 1]) { path.moveTo(x, row); path.lineTo(x, row + 1); }
      for (const beside of [row - 1, row + 1]) {
        let start = null;
        for (let x = first; x <= last + 1; x += 1) {
          const open = x <= last && !inside[(beside + 1) * width + x];
          if (open && start === null) start = x;
          if (!open && start !== null) { across(start, x, Math.max(row, beside)); start = null; }
        }
      }
    }
    return path;
  }

  async add(drawn) {
    this.app.openTab(byId("tab-regions"));
    const names = new Set(this.app.regions.map((entry) => entry.name));
    let at = names.size + 1;
    while (names.has(`region ${at}`)) at += 1;
    const name = drawn.name && drawn.name !== "class" && !names.has(drawn.name) ? drawn.name : `region ${at}`;
    const region = this.keep({ ...drawn, name });
    this.app.draw();
    await guarded(async () => {
      try { await this.measure(region); } catch (error) { if (error.status !== 400) { this.save(); throw error; } this.app.regions = this.app.regions.filter((entry) => entry !== region); this.fill(); this.app.draw(); throw error; }
      this.app.history.did(`drew ${region.name}`, () => this.change(this.app.regions.filter((entry) => entry !== region)));
      await this.save();
    })();
  }

  newerRegions() { return this.newer ? this.newer.regions : []; }

  maps() { return [...new Set(this.app.panes.flatMap((pane) => pane.indices().map(([index]) => index)))]; }

  // State of the maps and the scan. When this state changes, a region is measured again.
  state() { return JSON.stringify([this.maps(), this.app.about.scan.state]); }

  // Measures a region on the displayed maps; known spectra are kept.
  async measure(region) {
    const state = region.measuredState = this.state();
    const known = region.measurement && region.measurement.mean ? { mean: region.measurement.mean, max: region.measurement.max } : null;
    const answer = await askJson("region", { method: "POST", json: { ...this.plain(region), maps: this.maps(), no_spectrum: !!known } });
    if (state !== region.measuredState) return;
    region.measurement = { ...answer, ...known };
    this.fill();
    if (!known) this.app.showSpectra();
    document.body.dataset.region = region.name;
  }

  follow(always = false) {
    const { state } = this.app.about.scan;
    if (!always && byId("regions").hidden && state === this.scanState) return;
    this.scanState = state;
    guarded(() => Promise.all(this.app.regions.filter((region) => region.measuredState !== this.state()).map((region) => this.measure(region))))();
  }

  plain({ name, corners, runs }) { return { name, corners, runs }; }

  // Saves are queued, so that each starts from the result of the previous one.
  save() {
    this.saving = this.saving.then(() => this.send());
    return this.saving;
  }

  async send() {
    if (this.newer) return;
    try {
      const { version } = await askJson("regions", { method: "POST", json: { version: this.version, regions: this.app.regions.map((region) => this.plain(region)) } });
      Object.assign(this, { version, unsaved: "" });
      document.body.dataset.saved = version;
      this.app.reportOutdated();
    } catch (error) {
      this.unsaved = error.message;
      if (error.status === 409) this.newer = { version: error.facts.version, regions: error.facts.regions.map((region) => ({ ...this.colored(region), color: "#ffffff" })) };
      else say(error.message);
      this.app.openTab(byId("tab-regions"));
    }
    this.fill();
    this.app.draw();
  }

  // Shows a save conflict or error, with buttons to resolve it.
  trouble() {
    if (!this.unsaved) return [];
    const act = (label, does) => make("button", { type: "button", onclick: guarded(does) }, label);
    if (!this.newer) return [make("section", { className: "card", role: "alert" }, make("p", { className: "note" }, `Not saved. ${this.unsaved} The regions stay on this page until it is closed.`), make("p", { className: "buttons" }, act("Save them again", () => this.save())))];
    const names = (all) => all.map((region) => region.name).join(", ") || "none";
    const { regions, version } = this.newer;
    const choose = (chosen) => async () => {
      Object.assign(this, { version, newer: null });
      this.app.regions = [];
      for (const region of chosen) this.keep(region);
      this.fill();
      this.app.draw();
      await this.save();
      await Promise.all(this.app.regions.map((region) => this.measure(region)));
    };
    const pageRegions = this.app.regions;
    const same = (region) => pageRegions.some((pageRegion) => JSON.stringify(this.plain(pageRegion)) === JSON.stringify(this.plain(region)));
    return [make("section", { className: "card", role: "alert", id: "newer-regions" }, make("h3", {}, "Not saved: the regions were changed elsewhere"),
      make("p", { className: "note" }, this.unsaved),
      make("p", {}, make("b", {}, "Saved meanwhile (dashed on the maps): "), names(regions)), make("p", {}, make("b", {}, "On this page: "), names(pageRegions)),
      make("p", { className: "buttons" }, act("Keep both", choose([...pageRegions, ...regions.filter((region) => !same(region))])), act("Keep those of this page", choose(pageRegions)), act("Take those saved meanwhile", choose(regions))))];
  }

  curves() {
    return this.app.regions.filter((region) => region.measurement && region.measurement.mean && !region.hidden).flatMap((region) => [
      { name: "", kind: "region largest", color: region.color, counts: region.measurement.max },
      { name: `mean of ${region.name}`, kind: "region", color: region.color, counts: region.measurement.mean }]);
  }

  remove(region) {
    this.removed = region;
    this.app.history.did(`removed ${region.name}`, () => this.bringBack(region));
    this.change(this.app.regions.filter((entry) => entry !== region));
  }

  bringBack(region) {
    if (this.removed === region) this.removed = null;
    if (!this.app.regions.includes(region)) this.change([...this.app.regions, region]);
  }

  change(regions) {
    this.app.regions = regions;
    this.fill();
    this.app.draw();
    this.app.showSpectra();
    this.save();
  }

  fill() {
    const { regions } = this.app;
    const place = byId("regions");
    const back = this.removed ? make("button", { type: "button", onclick: () => this.bringBack(this.removed) }, `Bring back ${this.removed.name}`) : "";
    if (!regions.length) {
      place.replaceChildren(...this.trouble(), back, make("p", { className: "empty" }, "Choose Box or Lasso above the maps and draw, or Class and click: this panel shows the region's mean spectrum and histograms. Regions are saved with the results, each with a mask image."));
      return;
    }
    place.replaceChildren(...[
      ...this.trouble(),
      make("p", { className: "buttons" }, make("button", { type: "button", id: "open-table", onclick: () => this.app.table.open() }, regions.length > 1 ? "Table and differences" : "Table of all maps")),
      ...regions.map((region) => this.card(region)),
      back,
      ...this.comparisons(),
    ]);
  }

  export(region, format) {
    return guarded(async () => {
      const answer = await ask("export/region", { method: "POST", json: { ...this.plain(region), format } });
      saveBlob(await answer.blob(), `spectrum_${region.name.replace(/[^\p{L}\p{N}_-]+/gu, "_")}.${format}`);
    });
  }

  card(region) {
    const { measurement } = region;
    const name = make("input", { value: region.name, maxlength: "60", "aria-label": "Name of the region", onchange: (event) => { region.name = event.target.value.trim() || region.name; this.fill(); this.app.showSpectra(); this.save(); } });
    const mark = make("span", { className: "dot" });
    mark.style.background = region.color;
    const rows = (measurement ? measurement.maps : []).filter((statistics) => statistics.n).map((statistics) => {
      const entry = this.app.entries[statistics.map];
      return make("tr", {}, make("th", { scope: "row" }, shortName(entry)), make("td", {}, valueText(entry, statistics.mean)), make("td", {}, valueText(entry, statistics.median)),
        make("td", {}, statistics.above_half === null ? "" : percent(statistics.above_half)));
    });
    const visibleBox = make("input", { type: "checkbox", checked: !region.hidden, title: "Show the region on the maps and in the spectrum", "aria-label": `Show ${region.name}`, onchange: (event) => { region.hidden = !event.target.checked; this.app.draw(); this.app.showSpectra(); } });
    return make("section", { className: "card" },
      make("div", { className: "bar" }, mark, name, visibleBox, make("button", { type: "button", title: "Remove the region", "aria-label": `Remove ${region.name}`, onclick: () => this.remove(region) }, "×")),
      make("p", { className: "quiet" }, measurement ? `${thousands(measurement.n_pixel)} pixels${measurement.mean ? "" : `; no spectrum${measurement.why ? `: ${measurement.why}` : this.app.about.scan.state === "closed" ? ", because the scan is not open" : ", because the scan is missing"}`}` : "measuring …"),
      measurement && measurement.mean ? make("p", { className: "buttons" }, make("span", { className: "quiet" }, "its spectrum:"), ...["csv", "png", "svg"].map((format) => make("button", { type: "button", onclick: this.export(region, format) }, format.toUpperCase()))) : null,
      rows.length ? make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "map"), make("th", {}, "mean"), make("th", {}, "median"), make("th", {}, "over ½"))), make("tbody", {}, ...rows)) : null);
  }

  // One histogram for each map, with all regions.
  comparisons() {
    const shown = new Map();
    for (const region of this.app.regions) for (const statistics of (region.measurement ? region.measurement.maps : [])) if (statistics.n) shown.set(statistics.map, [...(shown.get(statistics.map) || []), [region, statistics]]);
    return [...shown].map(([index, all]) => make("figure", {}, this.histogram(all), make("figcaption", {},
      `${shortName(this.app.entries[index])}: share of each region's pixels, from 0 to ${number(all[0][1].edges[1], this.app.entries[index].unit)}`)));
  }

  histogram(all) {
    const [width, height] = [300, 90];
    const canvas = make("canvas", { width: width * 2, height: height * 2, className: "histogram", role: "img", "aria-label": "Histogram" });
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    const shares = all.map(([region, statistics]) => [region, statistics.histogram.map((count) => count / statistics.n)]);
    const top = Math.max(...shares.flatMap(([, statistics]) => statistics));
    for (const [region, statistics] of shares) {
      context.strokeStyle = region.color;
      context.fillStyle = `${region.color}55`;
      context.beginPath();
      context.moveTo(0, height);
      statistics.forEach((share, at) => { const y = height - (share / top) * (height - 4); context.lineTo((at / statistics.length) * width, y); context.lineTo(((at + 1) / statistics.length) * width, y); });
      context.lineTo(width, height);
      context.fill();
      context.stroke();
    }
    return canvas;
  }
}
