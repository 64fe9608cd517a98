// Markers and the view, saved with the results; and what can be undone.
import { askJson, byId, guarded, make, say } from "./base.js";

const MOST_STEPS = 100;

// Steps that can be undone, the last one first.
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
      const { cursor, scale, last } = app.spectrum;
      this.mark(cursor ?? last ?? (scale.low + scale.high) / 2);
    });
  }

  async load() {
    const read = askJson("session");
    this.saving = read.catch(() => {});  // nothing is saved over what was not read
    await guarded(async () => {
      const { session, version } = await read;
      Object.assign(this, session, { version });
      this.changed();
    })();
  }

  changed() {
    this.app.spectrum.draw();
    this.app.fitPanel.fillMarkers();
  }

  // The nearest line names a marker until somebody names it otherwise.
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

  // One save after the other. What another page saved meanwhile is kept beside what is here.
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
      const joined = (key) => [...new Map([...session[key], ...this[key]].map((own) => [JSON.stringify(own), own])).values()];
      Object.assign(this, { version, markers: joined("markers"), statements: joined("statements") });
      say("Another page saved markers or statements meanwhile: both are kept.");
      this.changed();
      await this.send(false);
    }
  }

  // A marker's line in a list: its energy, its name, and a way to remove it.
  rows() {
    return this.markers.map((own) => make("li", { className: "bar" }, make("span", { className: "quiet" }, own.energy_kev.toFixed(2)),
      make("input", { value: own.label, maxlength: "60", "aria-label": `Name of the marker at ${own.energy_kev.toFixed(2)}`, onchange: (event) => this.setMarkers(this.markers.map((each) => (each === own ? { ...own, label: event.target.value.trim() || own.label } : each)), "named a marker") }),
      make("button", { type: "button", "aria-label": `Remove the marker ${own.label}`, onclick: () => this.setMarkers(this.markers.filter((each) => each !== own), "removed a marker") }, "×")));
  }
}
