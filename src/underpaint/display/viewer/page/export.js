// Exports of the displayed content, made by the server at print resolution.
import { askJson, byId, followed, guarded, make, progressed } from "./base.js";

export function saveBlob(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export class ExportPanel {
  constructor(app) {
    this.app = app;
    this.links = make("div");
    byId("export").replaceChildren(this.links, ...app.session.card(), ...report(app));
  }

  // Updates the links of an open panel when the displayed content changes.
  follow() {
    const { pane, spot } = this.app;
    if (byId("export").hidden || !pane.parts.length) return;
    const { shown } = pane;
    const window_ = visible(this.app, pane);
    const now = JSON.stringify([pane.parts.map((part) => part.index), shown, window_, spot && [spot.row, spot.column, !!spot.spectrum]]);
    if (now === this.linked) return;
    this.linked = now;
    this.links.replaceChildren(...this.map(pane, window_), ...this.paper(shown.map), ...this.pixel(spot), ...this.all());
  }

  map(pane, window_) {
    const { shown } = pane;
    const entry = this.app.entries[shown.map];
    const hatch = pane.hatched ? "1" : "";
    const seen = shown.mode === "map"
      ? links("map", { map: shown.map, window: window_, colors: shown.colors, hatch, threshold: shown.threshold ? shown.threshold * pane.parts[0].top : "" }, [...FIGURE, ["tif", "TIFF of the numbers"]])
      : links("composite", { maps: pane.indices().map(([index]) => index).join(","), colors: pane.indices().map(([, color]) => color).join(","), window: window_, hatch }, FIGURE);
    const screen = make("button", { type: "button", onclick: () => pane.canvas.toBlob((blob) => saveBlob(blob, `${entry.name}_screen.png`)) }, "PNG as on the screen");
    return [make("h3", {}, "The chosen map"), make("p", { className: "quiet" }, `${pane.words()}; ${window_ ? "the part that is seen" : "all of it"}.`), seen, make("p", { className: "buttons" }, screen)];
  }

  paper(map) {
    const { kind } = this.app.entries[map];
    const title = make("h3", {}, "Figure for a paper");
    if (kind !== "group" && kind !== "member") return [title, make("p", { className: "empty" }, "Choose a pigment or a group first.")];
    return [title, make("p", { className: "quiet" }, "As Fig. 5 of Xu et al. 2022: probability, elements, overlay, scatter, each with its intensity limits."), links("figure5", { map }, FIGURE)];
  }

  all() {
    return [make("h3", {}, "All maps"), make("p", { className: "quiet" }, `${this.app.entries.length} maps with their units${this.app.about.step_mm ? " and the size of a pixel" : "; the size of a pixel is not known"}. Large maps take a while.`),
      make("p", { className: "buttons" }, ...ALL.map(([path, format, label]) => make("a", { className: "button", download: "", href: `export/${path}?format=${format}` }, label)))];
  }

  pixel(spot) {
    const title = make("h3", {}, "The chosen pixel");
    if (!spot) return [title, make("p", { className: "empty" }, "Click a pixel first.")];
    const at = { row: spot.row, column: spot.column };
    return [title, make("p", { className: "quiet" }, `Row ${at.row}, column ${at.column}.`),
      links("spectrum", at, [["csv", "spectrum, CSV"], ...(spot.spectrum ? [["png", "PNG"], ["svg", "SVG"]] : [])]),
      links("values", at, [["csv", "all maps' values, CSV"]])];
  }
}

const ALL = [["stack", "ome.tif", "OME-TIFF stack"], ["maps", "csv", "CSV, a line for each pixel"]];
const FIGURE = [["png", "PNG, 300 dpi"], ["svg", "SVG"], ["pdf", "PDF"]];
const query = (facts) => new URLSearchParams(Object.entries(facts).filter(([, value]) => value !== "" && value !== null)).toString();
const links = (path, facts, kinds) => make("p", { className: "buttons" }, ...kinds.map(([format, label]) => make("a", { className: "button", download: "", href: `export/${path}?${query({ ...facts, format })}` }, label)));

// Writes the report again with the present pictures, regions and statements.
function report(app) {
  const subject = make("input", { type: "text", id: "report-object", placeholder: "the painting, e.g. Portrait, inv. 1234", "aria-label": "Name of the painting in the report" });
  const full = make("input", { type: "checkbox", id: "report-full" });
  const status = make("div", { role: "status" });
  const write = (form) => guarded(async () => {
    const buttons = [...place.querySelectorAll("button")];
    for (const button of buttons) button.disabled = true;
    try {
      const { run } = await askJson("report", { method: "POST", json: { form, subject: subject.value, full: full.checked } });
      const now = await followed(run, (state) => { status.replaceChildren(progressed(state)); status.scrollIntoView({ block: "nearest" }); });
      status.replaceChildren(now.result ? make("a", { className: "button", target: "_blank", href: `files/${now.result.file}` }, form === "pdf" ? `Download ${now.result.file}` : `Open ${now.result.file}`) : make("p", { className: "note" }, now.error || now.step));
      status.scrollIntoView({ block: "nearest" });
      if (now.result && form === "html") app.showReport();
    } finally { for (const button of buttons) button.disabled = false; }
  });
  const place = make("p", { className: "buttons" }, make("button", { type: "button", id: "report-html", onclick: write("html") }, "Write report"), make("button", { type: "button", id: "report-pdf", onclick: write("pdf") }, "Write report as PDF"));
  return [make("h3", {}, "Report"), make("p", { className: "quiet" }, "The report contains findings, maps, spectra and a methods paragraph, with the present pictures, regions and statements."), subject,
    make("p", {}, make("label", {}, full, " Full report: all maps, spectra of spots, table of pigments, settings")), place, status];
}

// First and last visible row and column; "" if the whole map is visible.
function visible(app, pane) {
  const { across, down, left, top } = pane.frame();
  const [rows, columns] = app.about.shape;
  const within = (value, size) => Math.max(0, Math.min(size - 1, value));
  const ends = [within(Math.floor(-top / down), rows), within(Math.ceil((pane.canvas.height - top) / down) - 1, rows),
    within(Math.floor(-left / across), columns), within(Math.ceil((pane.canvas.width - left) / across) - 1, columns)];
  return ends[0] === 0 && ends[2] === 0 && ends[1] === rows - 1 && ends[3] === columns - 1 ? "" : ends.join(",");
}
