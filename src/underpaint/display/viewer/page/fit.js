// Fit of the spectrum of a pixel, a region or the whole scan, with the ticked line families.
import { askJson, byId, followed, guarded, lineName, make, progressed, say, thousands } from "./base.js";

const FAMILY = /^([A-Za-z]{1,2})[ _]?([KLMklm])$/;

export class FitPanel {
  constructor(app) {
    Object.assign(this, { app, what: "pixel", add: [], drop: [], fit: null, usual: null, turn: 0, failed: false });
    this.choice = make("select", { id: "fit-what", onchange: (event) => { this.what = event.target.value; this.refit(); } });
    this.button = make("button", { type: "button", id: "fit-run", onclick: () => this.refit() }, "Fit");
    this.status = make("p", { className: "quiet", role: "status" }, "");
    this.table = make("div");
    this.other = make("input", { type: "text", placeholder: "another line, e.g. Sn L", "aria-label": "Another line family to fit", onchange: (event) => this.addFamily(event.target) });
    this.reset = make("button", { type: "button", onclick: () => { this.add = []; this.drop = []; this.refit(); } }, "Usual lines");
    this.remove = make("button", { type: "button", onclick: () => this.clear() }, "Remove the fit");
    this.marked = make("div");
    this.all = make("button", { type: "button", id: "fit-all", title: "Fits every pixel with the ticked lines and writes a new folder beside these results", onclick: () => this.refitAll() }, "Refit all pixels");
    this.progress = make("p", { role: "status" });
    byId("fit").replaceChildren(make("label", {}, "Spectrum of ", this.choice), make("p", { className: "buttons" }, this.button, this.reset, this.remove), this.status,
      this.other, this.table, make("p", { className: "buttons" }, this.all), this.progress, make("h3", {}, "Markers"), this.marked);
    this.write();
  }

  open() { this.write(); this.fillMarkers(); if (!this.fit && this.app.spot) this.refit(); }

  // Fits the newly chosen pixel if the panel is visible.
  follow() {
    this.write();
    if (!byId("fit").hidden && this.what === "pixel" && this.app.spot) this.refit();
    else if (this.fit && this.what === "pixel") this.clear();
  }

  write() {
    const { chosen, regions } = this.app;
    const option = (value, label, disabled = false) => make("option", { value, selected: value === this.what, disabled }, label);
    this.choice.replaceChildren(option("pixel", chosen ? `row ${chosen[0]}, column ${chosen[1]}` : "the chosen pixel", !chosen),
      ...regions.map((region, at) => option(`region ${at}`, region.name)), option("scan", "all pixels (sum)"));
    this.choice.value = this.what;
  }

  requestedSpectrum() {
    if (this.what === "scan") return {};
    if (this.what === "pixel") return { pixel: this.app.chosen };
    const region = this.app.regions[Number(this.what.split(" ")[1])];
    return region ? { region: this.app.regionPanel.plain(region) } : {};
  }

  refit() {
    const turn = (this.turn += 1);
    this.failed = false;
    this.status.textContent = this.usual ? "Fitting …" : "Fitting … The first fit of a scan also determines resolution and tube, which takes some seconds.";
    return guarded(async () => {
      try {
        const ask = (lines) => askJson("fit", { method: "POST", json: { ...this.requestedSpectrum(), ...lines } });
        const fit = await ask({ add: this.add, drop: this.drop });
        if (turn !== this.turn) return;
        const changed = this.add.length || this.drop.length;
        const key = JSON.stringify(this.requestedSpectrum());
        if (!changed) this.usual = { key, chi: fit.chi_square };
        else if (!this.usual || this.usual.key !== key) this.usual = { key, chi: (await ask({})).chi_square };
        if (turn !== this.turn) return;
        this.fit = fit;
        this.app.spectrum.fit = fit;
        this.app.spectrum.draw();
        this.fill();
        document.body.dataset.fit = `${fit.name}|${this.add}|${this.drop}`;
      } catch (error) { this.status.textContent = error.message; this.failed = true; throw error; }
    })();
  }

  // Fits all pixels in a separate process, and shows the maps of the new folder among the computed maps.
  refitAll() {
    return guarded(async () => {
      this.all.disabled = true;
      try {
        const { run } = await askJson("refit", { method: "POST", json: { add: this.add, drop: this.drop } });
        const stop = make("button", { type: "button", onclick: () => askJson(`run?run=${run}`, { method: "DELETE" }) }, "Stop");
        const now = await followed(run, (state) => this.progress.replaceChildren(progressed(state), stop));
        this.progress.replaceChildren(now.error || now.step);
        if (!now.result) return;
        const { maps, folder } = await askJson("refit", { method: "POST", json: { run } });
        const numbers = maps.map((each) => this.app.computed.add(each));
        this.progress.replaceChildren(`${maps.length} maps are in the folder ${folder}, and under Computed.`);
        await this.app.showComputed(numbers[0]);
        document.body.dataset.refit = folder;
      } finally { this.all.disabled = false; }
    })();
  }

  clear() {
    this.turn += 1;
    this.fit = null;
    this.app.spectrum.fit = null;
    this.app.spectrum.draw();
    this.status.textContent = "";
    this.table.replaceChildren();
  }

  addFamily(input) {
    const parts = FAMILY.exec(input.value.trim());
    if (!parts) { say(`Cannot fit “${input.value}”: name an element and a series, such as Sn L or Fe K.`); return; }
    const name = `${parts[1][0].toUpperCase()}${parts[1].slice(1).toLowerCase()}_${parts[2].toUpperCase()}`;
    input.value = "";
    this.drop = this.drop.filter((family) => family !== name);
    if (!this.add.includes(name)) this.add.push(name);
    this.refit().then(() => { if (this.failed) this.add = this.add.filter((family) => family !== name); });
  }

  tick(name, on) {
    this.drop = on ? this.drop.filter((family) => family !== name) : [...this.drop, name];
    this.refit();
  }

  fill() {
    const { fit } = this;
    const changed = this.add.length + this.drop.length > 0;
    this.status.textContent = `${fit.name}: residual χ² ${fit.chi_square.toFixed(2)} a channel${changed ? ` (with the usual lines ${this.usual.chi.toFixed(2)})` : ""}; about 1 or less means that the fit describes the spectrum.`;
    const row = (family) => make("tr", {}, make("th", { scope: "row" }, make("label", {}, make("input", { type: "checkbox", checked: true, "data-family": family.name, onchange: (event) => this.tick(family.name, event.target.checked) }), ` ${lineName(family.name)}`)),
      make("td", {}, `${thousands(family.area)} ± ${thousands(family.sigma)}`), make("td", {}, family.present ? `${(family.area / family.sigma).toFixed(0)} σ` : `under ${thousands(family.limit)}`));
    const left = (name) => make("tr", {}, make("th", { scope: "row" }, make("label", {}, make("input", { type: "checkbox", checked: false, "data-family": name, onchange: (event) => this.tick(name, event.target.checked) }), ` ${lineName(name)}`)), make("td", { colspan: "2" }, "left out"));
    const table = (rows) => make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "line"), make("th", {}, "net counts"), make("th", {}, "above noise"))), make("tbody", {}, ...rows));
    const present = fit.families.filter((family) => family.present || this.add.includes(family.name));
    const absent = fit.families.filter((family) => !present.includes(family)).sort((a, b) => a.name.localeCompare(b.name));
    this.table.replaceChildren(table([...present.map(row), ...this.drop.map(left)]),
      make("details", {}, make("summary", {}, `${absent.length} lines not detected`), table(absent.map(row))));
  }

  fillMarkers() {
    const rows = this.app.session.rows();
    this.marked.replaceChildren(rows.length ? make("ul", { className: "plain" }, ...rows) : make("p", { className: "empty" }, "Double-click the spectrum to set one."));
  }
}
