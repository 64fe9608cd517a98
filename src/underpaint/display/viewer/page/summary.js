// Overview: the most informative element maps in colours, findings as sentences, and the order of the map list.
import { ask, askJson, byId, guarded, make, percent } from "./base.js";
import { swatch } from "./pane.js";

const FIRST_PAINTS = 6;
const CERTAINTIES = ["certain", "likely", "possible", "doubtful"];

export class Summary {
  constructor(app) {
    this.app = app;
    this.facts = null;
    this.empty = make("p", { className: "empty" }, "Reading the maps …");
    byId("summary").replaceChildren(this.empty);
  }

  load() {
    return guarded(async () => {
      try { this.facts = await askJson("overview"); } catch (error) { this.empty.textContent = error.message; throw error; }
      this.fill();
      this.app.fillList();
    })();
  }

  // Shows the composite of the overview; returns whether the overview is loaded.
  show() {
    if (!this.facts) return false;
    const { pane } = this.app;
    const first = Object.keys(this.facts.certainties)[0];
    const entry = this.app.entries.find((each) => each.kind === "group" && each.name === first);
    if (entry) { pane.shown.map = entry.index; this.app.firstMap = entry.index; }
    if (this.facts.maps.length) Object.assign(pane.shown, { mode: "composite", layers: this.app.layersOf(this.facts.maps) });
    this.app.changed();
    document.body.dataset.overview = "shown";
    return true;
  }

  fill() {
    if (!this.facts) return;
    const { sentences, absent, maps } = this.facts;
    const again = maps.length ? make("p", { className: "buttons" }, make("button", { type: "button", onclick: () => this.show() }, "Show the overview map")) : null;
    byId("summary").replaceChildren(...[
      make("h2", {}, "In short"),
      sentences.length ? make("ol", { className: "sentences" }, ...sentences.map((text) => make("li", {}, text.replace(/(\d) %/g, "$1\u00a0%")))) : make("p", { className: "empty" }, "Nothing was found with certainty."),
      ...this.paints(),
      absent.length ? make("details", {}, make("summary", {}, `${absent.length} groups were not detected`), make("p", { className: "quiet" }, `${absent.join(", ")}.`)) : null,
      this.app.statements.list(),
      again,
      make("p", { className: "quiet" }, "Click a pixel to show the evidence for each pigment."),
    ].filter(Boolean));
  }

  // Legend of the paints; a click highlights the pixels of a paint.
  paints() {
    const { paints } = this.facts;
    if (!paints.length) return [];
    const item = ({ number, color, patch, share, area, groups }) => make("li", {}, make("button", { type: "button", "aria-pressed": String(this.paint === number), "data-paint": String(number), title: `${area}. Click to highlight its pixels`, onclick: guarded(() => this.light(number)) },
      make("img", { src: patch, alt: `Paint ${number} in the picture, with all other pixels faded` }), make("span", {}, swatch(color, `Paint ${number}, ${percent(share)}`), make("small", {}, groups || "no group in most of its pixels"))));
    return [make("h3", {}, "The paints"), make("ul", { className: "paints" }, ...paints.slice(0, FIRST_PAINTS).map(item)),
      paints.length > FIRST_PAINTS ? make("details", {}, make("summary", {}, `${paints.length - FIRST_PAINTS} smaller ones`), make("ul", { className: "paints" }, ...paints.slice(FIRST_PAINTS).map(item))) : null];
  }

  async light(number) {
    this.labels ??= new Uint8Array(await (await ask("paint")).arrayBuffer());
    this.paint = this.paint === number ? null : number;
    for (const button of byId("summary").querySelectorAll("[data-paint]")) button.setAttribute("aria-pressed", String(Number(button.dataset.paint) === this.paint));
    this.app.setBrush(this.paint && this.labels.map((label) => label === number), `paint ${number}`);
  }

  // Names of the detected groups or lines, the most certain first; null for other maps.
  order(entry) {
    if (!this.facts) return null;
    if (entry.kind === "group") return Object.keys(this.facts.certainties);
    return entry.kind === "element" && this.facts.detected.length ? this.facts.detected : null;
  }

  isAbsent(entry) { return this.order(entry)?.includes(entry.name) === false; }

  // Rank of an entry among the detected names, between 0 and 1.
  rank(entry) {
    const names = this.order(entry);
    if (!names) return 0;
    const at = names.indexOf(entry.name);
    return (at < 0 ? names.length : at) / (names.length + 1);
  }

  wordsOf(entry) {
    if (entry.kind === "member") return "by prior";
    const certainty = entry.kind === "group" && this.facts ? this.facts.certainties[entry.name] : null;
    return CERTAINTIES.includes(certainty) ? `${certainty} · ${percent(this.facts.shares[entry.name])} of the area` : "";
  }
}
