// Markers and view, which are saved with the results, and the list of changes for undo.
import { askJson, byId, guarded, make, number, say } from "./base.js";
import { saveBlob } from "./export.js";
import { showSpot } from "./spot.js";

const MOST_STEPS = 100;

// Changes that can be undone, the latest first.
export class History {
  constructor(button) {
    this.steps = [];
    this.button = button;
    button.addEventListener("click", () => this.undo());
    this.write();
  }

  did(words, undo) {
    this.steps.push({ words, undo });
    if (this.steps.length > MOST_STEPS) this.steps.shift();
    this.write();
  }

  undo() {
    const step = this.steps.pop();
    if (step) step.undo();
    this.write();
  }

  write() {
    const last = this.steps[this.steps.length - 1];
    this.button.disabled = !last;
    this.button.title = last ? `Undo: ${last.words} (Ctrl+Z)` : "Nothing to undo";
  }
}

export class Session {
  constructor(app) {
    Object.assign(this, { app, markers: [], statements: [], view: {}, version: "", saving: Promise.resolve() });
    byId("spectrum-mark").addEventListener("click", () => {
      if (app.spectrum.last === null) say("Point at the spectrum first: the marker is set where you pointed last.");
      else this.mark(app.spectrum.last);
    });
  }

  async load() {
    const read = askJson("session");
    this.saving = read.catch(() => {});  // a session that could not be read is not overwritten
    await guarded(async () => {
      const { session, version } = await read;
      Object.assign(this, session, { version });
      this.changed();
    })();
  }

  changed() {
    const { app } = this;
    app.spectrum.draw();
    app.fitPanel.fillMarkers();
    app.summary.fill();
    if (app.spot) showSpot(app, app.spot);
    for (const pane of app.panes) if (pane.parts.length) pane.write();
  }

  keepView() {
    this.view = this.app.viewState.state();
    return this.save().then(() => say("The view was saved. These results will open with it."));
  }

  async clearView() {
    this.view = {};
    await this.save();
    say("These results open with the overview again.");
  }

  download() {
    const { app } = this;
    const content = { underpaint_session: 1, title: app.about.title, ...this.plain(), view: app.viewState.state(), regions: app.regions.map((region) => app.regionPanel.plain(region)) };
    saveBlob(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }), `${app.about.title.replace(/[^\p{L}\p{N}_-]+/gu, "_")}_session.json`);
  }

  // Opens a session file: adds its markers, statements and regions, and shows its view.
  async open(file) {
    let sent;
    try { sent = JSON.parse(await file.text()); } catch { sent = {}; }
    if (sent.underpaint_session !== 1) throw new Error(`Cannot open ${file.name}: it is no session of the viewer. Choose a file that “Save as a file” wrote.`);
    const { app } = this;
    const before = { markers: this.markers, statements: this.statements };
    const joined = (key) => [...new Map([...this[key], ...(sent[key] || [])].map((each) => [JSON.stringify(each), each])).values()];
    Object.assign(this, { markers: joined("markers"), statements: joined("statements") });
    try { await this.send(true); } catch (error) { Object.assign(this, before); throw error; }
    this.changed();
    const pageRegions = app.regions.map((region) => JSON.stringify(app.regionPanel.plain(region)));
    const regions = (sent.regions || []).filter((region) => !pageRegions.includes(JSON.stringify(region)));
    const old = app.regions;
    if (regions.length) {
      app.regionPanel.change([...app.regions, ...regions.map((region) => app.regionPanel.colored(region))]);
      app.regionPanel.follow(true);
    }
    app.history.did(`opened ${file.name}`, () => { Object.assign(this, before); this.changed(); this.save(); app.regionPanel.change(old); });
    await app.viewState.apply(sent.view || {});
    document.body.dataset.opened = file.name;
    say(`Opened ${file.name}: its markers, statements and regions are added, its view is shown.`);
  }

  // Session section of the Save tab.
  card() {
    const file = make("input", { type: "file", id: "session-file", accept: ".json", hidden: true, onchange: guarded(async (event) => { const [chosen] = event.target.files; event.target.value = ""; if (chosen) await this.open(chosen); }) });
    const cache = make("p", { className: "buttons" });
    this.cache = cache;
    return [make("h3", {}, "Session"), make("p", { className: "quiet" }, "Regions, markers and statements are saved with the results as you make them. “Keep this view” also saves maps, colours and layers, and opens these results with them. “Save as a file” writes all of these for a colleague, without the pictures."),
      make("p", { className: "buttons" }, make("button", { type: "button", id: "keep-view", onclick: () => this.keepView() }, "Keep this view"), make("button", { type: "button", onclick: guarded(() => this.clearView()) }, "Open with the overview"),
        make("button", { type: "button", id: "session-download", onclick: () => this.download() }, "Save as a file"), make("button", { type: "button", onclick: () => file.click() }, "Open a file …"), file), cache];
  }

  // Size of the cached copy of the scan for window maps.
  async showCache() {
    this.cache.replaceChildren();
    if (this.app.about.scan.state !== "ready") return;
    await guarded(async () => {
      const { bytes } = await askJson("cache");
      if (bytes) this.cache.replaceChildren(`Counts by channel, for window maps: ${number(bytes / 2 ** 20)} MB in the cache. `, make("button", { type: "button", id: "remove-cache", onclick: guarded(async () => { await askJson("cache", { method: "DELETE" }); await this.showCache(); }) }, "Remove"));
    })();
  }

  // Adds a marker, named by default after the nearest line.
  mark(energy) {
    const [line] = this.app.spectrum.near(energy);
    const label = line ? `${line[0]}?` : `${energy.toFixed(2)}${this.app.about.axis ? " keV" : ""}`;
    this.setMarkers([...this.markers, { energy_kev: Number(energy.toFixed(4)), label }], "set a marker");
    document.body.dataset.markers = String(this.markers.length);
  }

  setMarkers(markers, words) {
    const before = this.markers;
    this.app.history.did(words, () => { this.markers = before; this.changed(); this.save(); });
    this.markers = markers;
    this.changed();
    this.save();
  }

  plain() { return { markers: this.markers, statements: this.statements, view: this.view }; }

  // Saves are queued. Entries that another page saved meanwhile are added.
  save() {
    this.saving = this.saving.then(guarded(() => this.send(true)));
    return this.saving;
  }

  async send(again) {
    try {
      const { version } = await askJson("session", { method: "POST", json: { version: this.version, session: this.plain() } });
      this.version = version;
      document.body.dataset.session = version;
    } catch (error) {
      if (error.status !== 409 || !again) throw error;
      const { session, version } = error.facts;
      const joined = (key) => [...new Map([...session[key], ...this[key]].map((entry) => [JSON.stringify(entry), entry])).values()];
      Object.assign(this, { version, markers: joined("markers"), statements: joined("statements") });
      say("Another page saved markers or statements meanwhile. Both sets are kept.");
      this.changed();
      await this.send(false);
    }
  }

  // List entry of a marker: energy, name and a button to remove it.
  rows() {
    return this.markers.map((marker) => make("li", { className: "bar" }, make("span", { className: "quiet" }, marker.energy_kev.toFixed(2)),
      make("input", { value: marker.label, maxlength: "60", "aria-label": `Name of the marker at ${marker.energy_kev.toFixed(2)}`, onchange: (event) => this.setMarkers(this.markers.map((each) => (each === marker ? { ...marker, label: event.target.value.trim() || marker.label } : each)), "named a marker") }),
      make("button", { type: "button", "aria-label": `Remove the marker ${marker.label}`, onclick: () => this.setMarkers(this.markers.filter((each) => each !== marker), "removed a marker") }, "×")));
  }
}
