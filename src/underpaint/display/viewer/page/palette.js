// Palette of the user: pigments ticked by hand, or from a period or painter, saved as a file.
import { askJson, byId, make } from "./base.js";

const chosenPigments = () => [...byId("pigments").querySelectorAll("input:checked")].map((box) => box.value);

export class PaletteEditor {
  constructor(palettes, pigments, saved) {
    this.palettes = palettes;
    this.pigments = pigments;
    byId("pigments").replaceChildren(...pigments.map((pigment) => {
      const dot = make("span", { className: "swatch" });
      dot.style.setProperty("--swatch", pigment.color);
      return make("li", { title: pigment.period || "" }, make("label", {}, make("input", { type: "checkbox", value: pigment.name }), dot, make("span", {}, pigment.label)));
    }));
    byId("pigments").addEventListener("change", () => this.count());
    byId("palette-base").addEventListener("change", () => this.tick(this.byName(byId("palette-base").value)?.pigments || []));
    byId("tick-years").addEventListener("click", () => this.tickYears());
    byId("pigment-filter").addEventListener("input", () => this.filter());
    byId("palette-none").addEventListener("click", () => this.tick([]));
    byId("palette-cancel").addEventListener("click", () => byId("palette-editor").close());
    byId("palette-name").addEventListener("input", () => this.count());
    byId("palette-form").addEventListener("submit", async (event) => {
      event.preventDefault();
      byId("palette-fault").hidden = true;
      try {
        const entry = await askJson("palette", { method: "POST", json: { name: byId("palette-name").value, pigments: chosenPigments(), replace: byId("palette-replace").checked } });
        byId("palette-editor").close();
        saved(entry);
      } catch (error) {
        byId("palette-fault").textContent = error.message;
        byId("palette-fault").hidden = false;
      }
    });
  }

  byName(name) { return this.palettes.find((palette) => palette.name === name); }

  open(name) {
    const palette = this.byName(name);
    byId("palette-base").replaceChildren(make("option", { value: "" }, "no pigment"), ...paletteOptions(this.palettes));
    byId("palette-base").value = palette ? name : "";
    byId("palette-name").value = palette?.file ? palette.title : "";
    byId("pigment-filter").value = "";
    byId("palette-replace").checked = false;
    byId("palette-fault").hidden = true;
    this.filter();
    this.tick(palette ? palette.pigments : []);
    byId("palette-editor").showModal();
    byId("palette-name").focus();
  }

  tick(names) {
    const tickedNames = new Set(names);
    for (const box of byId("pigments").querySelectorAll("input")) box.checked = tickedNames.has(box.value);
    this.count();
  }

  // An empty year does not limit the selection.
  tickYears() {
    const [first, last] = ["year-first", "year-last"].map((id) => (byId(id).value === "" ? null : Number(byId(id).value)));
    this.tick(this.pigments.filter((pigment) => (last === null || pigment.first === null || pigment.first <= last) && (first === null || pigment.last === null || pigment.last >= first)).map((pigment) => pigment.name));
  }

  filter() {
    const filterText = byId("pigment-filter").value.trim().toLowerCase();
    for (const item of byId("pigments").children) item.hidden = !item.textContent.toLowerCase().includes(filterText);
  }

  count() {
    const number = chosenPigments().length;
    byId("palette-count").textContent = `${number} of ${this.pigments.length} pigments ticked`;
    byId("palette-replace-line").hidden = !this.palettes.some((palette) => palette.file && palette.title === byId("palette-name").value.trim());
  }
}

// Palettes of periods, of painters and of the user, each under a heading.
export function paletteOptions(palettes) {
  const groups = [["Periods", (palette) => !palette.file && !palette.painter], ["Painters", (palette) => !palette.file && palette.painter], ["Your palettes", (palette) => palette.file]];
  return groups.map(([label, belongs]) => [label, palettes.filter(belongs)]).filter(([, members]) => members.length)
    .map(([label, members]) => make("optgroup", { label }, ...members.map((palette) => make("option", { value: palette.name }, palette.label))));
}
