// Regions drawn on the maps: what they hold on average, beside one another, and kept with the results.
import { askJson, byId, guarded, make, number, percent, thousands } from "./base.js";
import { pictureOf } from "./maps.js";

const COLORS = ["#ffd24d", "#4dc3ff", "#ff7ab8", "#8bdc65", "#c79bff", "#ff9d5c"];

export class RegionPanel {
  constructor(app) { this.app = app; this.fill(); }

  async load() {
    await guarded(async () => {
      const { regions } = await askJson("regions");
      for (const own of regions) this.keep(own);
      this.fill();
      this.app.draw();
      await Promise.all(this.app.regions.map((own) => this.measure(own)));
    })();
  }

  keep({ name, corners = [], runs = [] }) {
    const used = this.app.regions.map((own) => own.color);
    const color = COLORS.find((own) => !used.includes(own)) || COLORS[this.app.regions.length % COLORS.length];
    const region = { name, corners, runs, color, found: null, picture: this.pictureOf(runs, color) };
    this.app.regions.push(region);
    return region;
  }

  // A class is painted; a polygon is drawn.
  pictureOf(runs, color) {
    if (!runs.length) return null;
    const [height, width] = this.app.about.shape;
    const value = 0xb0000000 | (parseInt(color.slice(5, 7), 16) << 16) | (parseInt(color.slice(3, 5), 16) << 8) | parseInt(color.slice(1, 3), 16);
    return pictureOf(width, height, (pixels) => { for (const [row, first, last] of runs) pixels.fill(value, row * width + first, row * width + last + 1); });
  }

  async add(drawn) {
    const names = new Set(this.app.regions.map((own) => own.name));
    let at = 1;
    while (names.has(`region ${at}`)) at += 1;
    const region = this.keep({ ...drawn, name: `region ${at}` });
    this.app.openTab(byId("tab-regions"));
    await guarded(async () => {
      try { await this.measure(region); } catch (error) { this.app.regions = this.app.regions.filter((own) => own !== region); this.fill(); this.app.draw(); throw error; }
      await this.save();
    })();
  }

  maps() { return [...new Set(this.app.panes.flatMap((pane) => pane.indices().map(([index]) => index)))]; }

  async measure(region) {
    region.found = await askJson("region", { method: "POST", json: { ...this.plain(region), maps: this.maps() } });
    this.fill();
    this.app.showSpectra();
    document.body.dataset.region = region.name;
  }

  plain({ name, corners, runs }) { return { name, corners, runs }; }

  save() { return askJson("regions", { method: "POST", json: { regions: this.app.regions.map((own) => this.plain(own)) } }); }

  curves() { return this.app.regions.filter((own) => own.found && own.found.mean).map((own) => ({ name: `mean of ${own.name}`, kind: "region", color: own.color, counts: own.found.mean })); }

  remove(region) {
    this.app.regions = this.app.regions.filter((own) => own !== region);
    this.fill();
    this.app.draw();
    this.app.showSpectra();
    guarded(() => this.save())();
  }

  fill() {
    const { regions } = this.app;
    const place = byId("regions");
    if (!regions.length) {
      place.replaceChildren(make("p", { className: "empty" }, "Choose Box or Lasso above the maps and draw, or Class and click: here stand the region's mean spectrum and histograms. Regions are saved with the results, each with a mask that others can read."));
      return;
    }
    place.replaceChildren(...[
      ...regions.map((own) => this.card(own)),
      ...this.comparisons(),
      make("button", { type: "button", onclick: guarded(() => Promise.all(regions.map((own) => this.measure(own)))) }, "Measure the maps now shown"),
    ]);
  }

  card(region) {
    const { found } = region;
    const name = make("input", { value: region.name, maxlength: "60", "aria-label": "Name of the region", onchange: (event) => { region.name = event.target.value.trim() || region.name; this.fill(); this.app.showSpectra(); guarded(() => this.save())(); } });
    const mark = make("span", { className: "dot" });
    mark.style.background = region.color;
    const rows = (found ? found.maps : []).filter((own) => own.n).map((own) => {
      const entry = this.app.entries[own.map];
      return make("tr", {}, make("th", { scope: "row" }, entry.label.split(" (")[0]), make("td", {}, number(own.mean, entry.unit)), make("td", {}, number(own.median, entry.unit)),
        make("td", {}, own.above_half === null ? "" : percent(own.above_half)));
    });
    return make("section", { className: "card" },
      make("div", { className: "bar" }, mark, name, make("button", { type: "button", title: "Remove the region", "aria-label": `Remove ${region.name}`, onclick: () => this.remove(region) }, "×")),
      make("p", { className: "quiet" }, found ? `${thousands(found.n_pixel)} pixels${found.mean ? "" : "; no spectrum, since the scan is not there"}` : "measuring …"),
      rows.length ? make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "map"), make("th", {}, "mean"), make("th", {}, "median"), make("th", {}, "over ½"))), make("tbody", {}, ...rows)) : null);
  }

  // One histogram a map, all regions in it.
  comparisons() {
    const shown = new Map();
    for (const region of this.app.regions) for (const own of (region.found ? region.found.maps : [])) if (own.n) shown.set(own.map, [...(shown.get(own.map) || []), [region, own]]);
    return [...shown].map(([index, all]) => make("figure", {}, this.histogram(all), make("figcaption", {},
      `${this.app.entries[index].label.split(" (")[0]}: share of each region's pixels, from 0 to ${number(all[0][1].edges[1], this.app.entries[index].unit)}`)));
  }

  histogram(all) {
    const [width, height] = [300, 90];
    const canvas = make("canvas", { width: width * 2, height: height * 2, className: "histogram", role: "img", "aria-label": "Histogram" });
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    const shares = all.map(([region, own]) => [region, own.histogram.map((count) => count / own.n)]);
    const top = Math.max(...shares.flatMap(([, own]) => own));
    for (const [region, own] of shares) {
      context.strokeStyle = region.color;
      context.fillStyle = `${region.color}55`;
      context.beginPath();
      context.moveTo(0, height);
      own.forEach((share, at) => { const y = height - (share / top) * (height - 4); context.lineTo((at / own.length) * width, y); context.lineTo(((at + 1) / own.length) * width, y); });
      context.lineTo(width, height);
      context.fill();
      context.stroke();
    }
    return canvas;
  }
}
