// Table of regions: mean and standard error of each map in each region, and the difference of two regions.
import { ask, askJson, byId, guarded, make, percent, shortName, thousands, unitText } from "./base.js";
import { saveBlob } from "./export.js";

const KINDS = [["element", "Elements: mean net counts"], ["group", "Groups: share of the pixels"], ["", "All maps"]];
const SURE_SIGMA = 5;

export class RegionTable {
  constructor(app) {
    Object.assign(this, { app, rows: [], regions: [], kind: "element", pair: [0, 1] });
    this.dialog = byId("table");
    this.body = make("div", { className: "scroll" });
    const kinds = make("select", { "aria-label": "Which maps", onchange: (event) => { this.kind = event.target.value; this.fill(); } }, ...KINDS.map(([kind, label]) => make("option", { value: kind }, label)));
    this.choices = make("span");
    this.dialog.replaceChildren(make("div", { className: "bar wrap" }, make("h2", { id: "table-title" }, "Regions"), kinds, this.choices, make("div", { className: "spacer" }),
      make("button", { type: "button", id: "table-csv", onclick: () => this.export() }, "CSV of all maps"), make("button", { type: "button", onclick: () => this.dialog.close() }, "Close")),
    this.body, make("p", { className: "quiet" }, "± is the standard error of the mean, from the variation of the pixels or from counting, whichever is larger. Neighbouring pixels are correlated, so differences below 3 σ are not significant."));
  }

  plain() { return this.regions.map((region) => this.app.regionPanel.plain(region)); }

  open() {
    return guarded(async () => {
      this.regions = [...this.app.regions];
      this.pair = [0, Math.min(1, this.regions.length - 1)];
      const { rows } = await askJson("table", { method: "POST", json: { regions: this.plain() } });
      this.rows = rows;
      this.fill();
      this.dialog.showModal();
      document.body.dataset.table = String(rows.length);
    })();
  }

  export() {
    return guarded(async () => saveBlob(await (await ask("export/table", { method: "POST", json: { regions: this.plain() } })).blob(), "regions.csv"))();
  }

  fill() {
    const choose = (at) => make("select", { "aria-label": at ? "Subtracted region" : "Region", onchange: (event) => { this.pair[at] = Number(event.target.value); this.fill(); } },
      ...this.regions.map((region, index) => make("option", { value: String(index), selected: index === this.pair[at] }, region.name)));
    const two = this.regions.length > 1;
    this.choices.replaceChildren(...(two ? ["Difference: ", choose(0), " − ", choose(1)] : []));
    const shown = this.rows.filter(({ map, cells }) => (!this.kind || this.app.entries[map].kind === this.kind) && (this.kind !== "group" || this.app.entries[map].place === "anywhere") && cells.some(([value]) => value !== null));
    const line = ({ map, cells }) => {
      const entry = this.app.entries[map];
      const share = ["group", "member"].includes(entry.kind);
      const text = ([value, error]) => (value === null ? "no answer" : share ? `${percent(value)} ± ${percent(error)}` : `${round(value, error)} ± ${round(error, error)}`);
      const [left, right] = this.pair.map((at) => cells[at]);
      const error = Math.hypot(left[1], right[1]);
      const sigma = (left[0] - right[0]) / error;
      const strongest = Math.max(...cells.map(([value, one]) => (one > 0 ? Math.abs(value) / one : 0)));
      return { rank: entry.kind === "element" ? -Math.max(...cells.map(([value]) => value ?? 0)) : -strongest, row: make("tr", { className: two && Math.abs(sigma) >= SURE_SIGMA ? "different" : "" }, make("th", { scope: "row" }, shortName(entry), entry.unit !== "1" && !this.kind ? ` (${unitText(entry.unit)})` : ""),
        ...cells.map((cell) => make("td", {}, text(cell))), ...(two ? [make("td", {}, Number.isFinite(sigma) ? (share ? `${signed((100 * (left[0] - right[0])).toFixed(0))} points` : signed(round(left[0] - right[0], error))) : ""), make("td", {}, Number.isFinite(sigma) ? `${signed(sigma.toFixed(1))} σ` : "")] : [])) };
    };
    const lines = shown.map(line).sort((a, b) => a.rank - b.rank);
    this.body.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "map"), ...this.regions.map((region) => make("th", {}, dot(region.color), ` ${region.name}`)), ...(two ? [make("th", {}, "difference"), make("th", {}, "significance")] : []))),
      make("tbody", {}, ...lines.map(({ row }) => row))));
  }
}

// Rounds a value to the digits that its error allows.
function round(value, error) {
  const digits = error > 0 ? Math.max(0, 1 - Math.floor(Math.log10(error))) : 2;
  return digits || Math.abs(value) < 1000 ? Number(value.toFixed(Math.min(digits, 6))).toString() : thousands(value);
}

const signed = (text) => text.replace("-", "−");

function dot(color) {
  const mark = make("span", { className: "dot" });
  mark.style.background = color;
  return mark;
}
