// Reflectance cube: its picture as a layer over the maps, and a pixel's reflectance with spectra of pigments.
import { askJson, byId, guarded, make } from "./base.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [330, 190, 36, 8, 8, 30];
const COLORS = ["#d55e00", "#009e73", "#cc79a7", "#0072b2", "#e69f00"];

const shape = (tag, facts, text) => {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(facts)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

export class ReflectancePanel {
  constructor(app) {
    this.app = app;
    this.facts = app.about.reflectance || {};
    this.blend = 0;
    if (!this.facts.there) return;
    byId("tab-spot").after(make("button", { type: "button", role: "tab", id: "tab-reflectance", "aria-controls": "reflectance", "aria-selected": "false" }, "Surface"));
    byId("spot").after(make("section", { role: "tabpanel", id: "reflectance", "aria-labelledby": "tab-reflectance", hidden: true }));
    this.words = make("div", { "aria-live": "polite" }, make("p", { className: "empty" }, "Click a pixel to show its reflectance with spectra of the most probable pigments."));
    byId("reflectance").replaceChildren(...[this.layer(), this.place(), this.words].filter(Boolean));
  }

  async load() {
    if (!this.facts.picture) return;
    await guarded(async () => {
      const picture = new Image();
      picture.src = `reflectance/picture?${encodeURIComponent(this.app.about.written)}`;
      await picture.decode();
      this.picture = picture;
      this.app.draw();
    })();
  }

  layer() {
    if (!this.facts.picture) return null;
    return make("label", { className: "wide" }, "Maps ", make("input", { type: "range", min: "0", max: "1", step: "0.01", value: "0", id: "reflectance-blend", "aria-label": "Blend of maps and cube", oninput: (event) => { this.blend = Number(event.target.value); this.app.draw(); } }), " cube");
  }

  place() {
    const { verdict, how, error_px: error } = this.facts;
    const off = typeof error === "number" ? `, ${error.toFixed(1)} pixels of the maps off on average` : "";
    const doubt = verdict === "well" ? "" : " The alignment is doubtful; blend the cube over the maps to check.";
    return make("p", { className: "quiet" }, `The cube was registered to the maps by ${how}${off}.${doubt}`);
  }

  draw(context, box) {
    if (!this.picture || !(this.blend > 0)) return;
    context.imageSmoothingEnabled = true;
    context.globalAlpha = this.blend;
    context.drawImage(this.picture, ...box);
    context.globalAlpha = 1;
    context.imageSmoothingEnabled = false;
  }

  show(row, column) {
    if (!this.facts.there) return;
    guarded(async () => {
      const answer = await askJson(`reflectance/pixel?row=${row}&column=${column}`);
      const members = answer.members.map((member, index) => ({ ...member, color: COLORS[index % COLORS.length] }));
      this.words.replaceChildren(...[
        make("h3", {}, `Row ${row}, column ${column}`),
        answer.reflectance.some((value) => value !== null) ? this.plot(answer, members) : make("p", { className: "empty" }, "This pixel lies outside the cube."),
        make("ul", {}, ...members.map((member) => {
          const mark = make("span", { "aria-hidden": "true" }, "● ");
          mark.style.color = member.color;
          const rest = [typeof member.presence === "number" ? `in the paint ${percent(member.presence)}` : "", typeof member.share === "number" ? `share of the colour ${percent(member.share)}` : ""].filter(Boolean).join(", ");
          return make("li", {}, mark, `${member.label}: ${percent(member.probability)}`, rest ? make("small", {}, ` (${rest})`) : null);
        })),
        ...answer.hidden.filter((group) => group.stated).map((group) => make("p", {}, `Below the surface: ${group.label}, probability ${percent(group.probability)}. X-rays detect this group, and reflectance does not.`)),
        answer.hidden.some((group) => !group.stated) ? make("p", { className: "quiet" }, `Not determined, at the surface or below: ${answer.hidden.filter((group) => !group.stated).map((group) => `${group.label} (probability of below ${percent(group.probability)})`).join(", ")}.`) : null,
        make("p", { className: "quiet" }, `Thin lines: median spectra of the library (${this.facts.library}).`),
      ].filter(Boolean));
      document.body.dataset.reflectance = `${row},${column}`;
    })();
  }

  plot(answer, members) {
    const [low, high] = [answer.wavelength[0], answer.wavelength[answer.wavelength.length - 1]];
    const known = [answer.reflectance, ...members.map((member) => member.spectrum || [])].flat().filter((value) => typeof value === "number");
    const top = Math.max(0.1, ...known) * 1.05;
    const x = (wavelength) => LEFT + ((wavelength - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
    const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: "100%", role: "img", "aria-label": `Reflectance from ${low} to ${high} nm, and spectra of ${members.map((member) => member.label).join(", ") || "no pigment"}` });
    for (let at = Math.ceil(low / 100) * 100; at <= high; at += 100) {
      svg.append(shape("line", { class: "grid", x1: x(at), x2: x(at), y1: TOP, y2: HEIGHT - BOTTOM }), shape("text", { class: "tick", x: x(at), y: HEIGHT - BOTTOM + 13, "text-anchor": "middle" }, String(at)));
    }
    const step = top > 0.5 ? 0.2 : top > 0.2 ? 0.1 : 0.05;
    for (let at = 0; at <= top; at += step) {
      svg.append(shape("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(at), y2: y(at) }), shape("text", { class: "tick", x: LEFT - 4, y: y(at) + 4, "text-anchor": "end" }, `${Math.round(100 * at)} %`));
    }
    svg.append(shape("text", { class: "tick", x: WIDTH - RIGHT, y: HEIGHT - 3, "text-anchor": "end" }, "wavelength (nm)"));
    const line = (values, facts) => {
      const points = values.map((value, index) => (typeof value === "number" ? `${x(answer.wavelength[index]).toFixed(1)},${y(value).toFixed(1)}` : null)).filter(Boolean);
      return shape("polyline", { class: "curve", points: points.join(" "), ...facts });
    };
    for (const member of members) if (member.spectrum) svg.append(line(member.spectrum, { stroke: member.color }));
    svg.append(line(answer.reflectance, { class: "curve pixel", "stroke-width": 2.4 }));
    return svg;
  }
}
