// Pictures of the painting as layers over the maps. They can be added, aligned automatically or by points, blended, and seen through a lens.
import { ask, askJson, byId, guarded, make, say } from "./base.js";

const KINDS = { visible: "visible light", ultraviolet: "ultraviolet", infrared: "infrared", x_radiograph: "X-radiograph", other: "another kind" };
const LENS_PX = 70;
const FIRST_OPACITY = 0.5;

function nameOf(key) {
  if (key === "photograph") return "Photograph";
  const [, kind, number] = key.match(/^(.*)_(\d+)$/);
  const name = kind === "other" ? "Picture" : KINDS[kind][0].toUpperCase() + KINDS[kind].slice(1);
  return number === "1" ? name : `${name} ${number}`;
}

export class PicturesPanel {
  constructor(app) {
    // The first layer is on top. Only one layer at a time can be aligned by points.
    Object.assign(this, { app, layers: [], lens: "", active: "", points: [], marking: false, cursor: [0.5, 0.5], kind: "visible" });
    this.words = make("p", { className: "quiet", role: "status" });
    this.list = make("div");
    const kind = make("select", { id: "picture-kind", "aria-label": "Kind of picture", onchange: (event) => { this.kind = event.target.value; } }, ...Object.entries(KINDS).map(([value, label]) => make("option", { value }, label)));
    const file = make("input", { type: "file", accept: "image/*,.tif,.tiff", id: "picture-file", "aria-label": "Add a picture", multiple: true, onchange: guarded(async (event) => { const files = [...event.target.files]; event.target.value = ""; await this.add(files); }) });
    byId("pictures").replaceChildren(make("p", { className: "quiet" }, "Add photographs, ultraviolet, infrared or X-ray pictures as layers over the maps. The pictures are saved with the results and remain on this computer."),
      make("p", { className: "buttons" }, make("label", {}, "Add a picture: ", kind), file), this.list, this.words);
    for (const facts of app.about.pictures) this.layers.push({ key: facts.key, facts, image: null, opacity: 0, shown: false });
    this.fill();
  }

  // Pictures are hidden at first.
  async load() {
    for (const { facts } of this.layers) if (facts.broken) say(facts.broken, { lasting: true });
    await Promise.all(this.layers.map((layer) => guarded(() => this.fetch(layer))()));
    this.changed();
  }

  async fetch(layer) {
    layer.image = null;
    if (!layer.facts.registration) return;
    const image = new Image();
    image.src = `pictures/${layer.key}/registered?${Date.now()}`;
    await image.decode();
    layer.image = image;
  }

  layer(key) { return this.layers.find((layer) => layer.key === key); }

  changed() {
    this.fill();
    this.app.draw();
    document.body.dataset.pictures = this.layers.map(({ key, image }) => `${key}:${image ? "aligned" : "added"}`).join(" ");
  }

  status(text) { this.words.textContent = text; }

  // State of the layers, for the session and for undo.
  state() { return { lens: this.lens, layers: this.layers.map(({ key, opacity, shown }) => ({ key, opacity, shown })) }; }

  apply(state) {
    const saved = Array.isArray(state?.layers) ? state.layers.filter((each) => this.layer(each?.key)) : [];
    for (const { key, opacity, shown } of saved) Object.assign(this.layer(key), { opacity: Math.min(1, Math.max(0, Number(opacity) || 0)), shown: shown === true });
    const place = (layer) => { const at = saved.findIndex(({ key }) => key === layer.key); return at < 0 ? saved.length : at; };
    this.layers.sort((one, other) => place(one) - place(other));
    this.lens = this.layer(state?.lens) ? state.lens : "";
    this.changed();
  }

  // Applies a change that can be undone.
  act(words, does) {
    const before = this.state();
    does();
    this.app.history.did(words, () => this.apply(before));
    this.changed();
  }

  fill() {
    const focus = this.list.contains(document.activeElement) && document.activeElement.id;
    this.list.replaceChildren(...this.layers.map((layer, at) => this.card(layer, at)));
    if (focus) byId(focus)?.focus();
  }

  async add(files) {
    for (const file of files) {
      this.status(`Reading ${file.name} …`);
      try {
        const facts = await askJson(`pictures/add?kind=${this.kind}`, { method: "POST", body: file });
        this.layers.unshift({ key: facts.key, facts, image: null, opacity: FIRST_OPACITY, shown: true });
        this.open(facts.key);
      } catch (error) { this.status(error.message); throw error; }
    }
  }

  // Shows the alignment of a picture, with no points marked.
  open(key) {
    Object.assign(this, { active: key, points: [], marking: false, cursor: [0.5, 0.5] });
    this.status("");
    this.changed();
  }

  card(layer, at) {
    const { key, facts } = layer;
    const name = nameOf(key);
    const button = (id, label, title, does, more = {}) => make("button", { type: "button", id: `${id}-${key}`, title, "aria-label": title, onclick: guarded(does), ...more }, label);
    const move = (step) => () => this.act(`moved ${name}`, () => { this.layers.splice(at, 1); this.layers.splice(at + step, 0, layer); });
    const before = layer.opacity;
    const usable = !!layer.image;
    const isActive = this.active === key;
    return make("section", { className: "card picture-layer" },
      make("div", { className: "bar" },
        make("label", {}, make("input", { type: "checkbox", id: `show-${key}`, checked: layer.shown, disabled: !usable, onchange: (event) => this.act(`${event.target.checked ? "showed" : "hid"} ${name}`, () => { layer.shown = event.target.checked; layer.opacity ||= FIRST_OPACITY; }) }), ` ${name}`),
        make("span", { className: "spacer" }),
        button("up", "↑", `Move ${name} up`, move(-1), { disabled: at === 0 }), button("down", "↓", `Move ${name} down`, move(1), { disabled: at === this.layers.length - 1 }),
        button("remove", "×", `Remove ${name}`, () => this.remove(layer))),
      make("label", { className: "wide" }, "Opacity ", make("input", { type: "range", id: `opacity-${key}`, min: "0", max: "1", step: "0.01", value: String(layer.opacity), disabled: !usable || !layer.shown, "aria-label": `Opacity of ${name}`,
        oninput: (event) => { layer.opacity = Number(event.target.value); this.app.draw(); },
        onchange: () => { const now = layer.opacity; layer.opacity = before; this.act(`changed the opacity of ${name}`, () => { layer.opacity = now; }); } })),
      make("p", { className: "buttons" },
        button("lens", "Lens", `Lens: ${name} in a circle at the pointer or the chosen pixel`, () => this.act("changed the lens", () => { this.lens = this.lens === key ? "" : key; }), { disabled: !usable, "aria-pressed": String(this.lens === key) }),
        button("align", isActive ? "Close alignment" : "Align …", `Align ${name} with the maps`, () => this.open(isActive ? "" : key), { disabled: !facts.width, "aria-expanded": String(isActive) })),
      make("p", { className: facts.broken || facts.registration?.doubtful ? "note" : "quiet" }, this.how(facts)),
      ...(isActive ? this.aligning(layer) : []));
  }

  how({ registration, broken }) {
    if (broken) return broken;
    if (!registration) return "Not aligned with the maps yet.";
    const error = registration.error_px === null ? "" : `, mean error ${registration.error_px.toFixed(1)} map pixels`;
    if (registration.doubtful) return `Alignment doubtful (${registration.how}${error}). Check it with the lens, and mark points.`;
    return `Aligned by ${registration.how}${error}.`;
  }

  async remove(layer) {
    if (!window.confirm(`Remove ${nameOf(layer.key)} from these results? Its copy here is deleted.`)) return;
    await ask(`pictures/${layer.key}`, { method: "DELETE" });
    this.layers = this.layers.filter((each) => each !== layer);
    if (this.lens === layer.key) this.lens = "";
    this.open("");
    this.app.reportOutdated();
  }

  // --- aligning

  aligning(layer) {
    const { facts, key } = layer;
    const image = make("img", { src: `pictures/${key}/preview?${Date.now()}`, alt: nameOf(key), draggable: "false" });
    const stage = make("div", { className: "preview", id: "picture-stage", tabindex: "0", role: "group", "aria-label": "Picture: arrow keys move the cross, Enter marks a point" }, image);
    image.addEventListener("load", () => this.markPoints(stage, facts));
    image.addEventListener("click", (event) => {
      const box = image.getBoundingClientRect();
      this.mark(stage, facts, [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]);
    });
    stage.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
      if (!step && event.key !== "Enter") return;
      event.preventDefault();
      if (step) this.cursor = this.cursor.map((value, axis) => Math.min(1, Math.max(0, value + step[axis] * (event.shiftKey ? 0.1 : 0.01))));
      else this.mark(stage, facts, this.cursor);
      this.markPoints(stage, facts);
    });
    const pairs = this.points.filter((point) => point.length === 4);
    const button = (id, label, does, disabled = false) => make("button", { type: "button", id, disabled, onclick: guarded(does) }, label);
    return [
      make("p", { className: "buttons" }, button("align-automatically", "Align automatically", () => this.register(layer, { automatic: true })),
        this.marking ? button("align-points", `Align by ${pairs.length} points`, () => this.register(layer, { points: pairs }), pairs.length < 2)
          : button("mark-points", "Mark points", () => { this.marking = true; this.app.takeTool("point"); this.changed(); this.status("Click a place on the picture, then the same place on a map."); }),
        this.marking ? button("forget-points", "Forget the points", () => this.open(key)) : null),
      stage];
  }

  mark(stage, facts, [across, down]) {
    if (!this.marking) return;
    const at = [across * facts.width, down * facts.height];
    const last = this.points[this.points.length - 1];
    if (last && last.length < 4) last.splice(0, 2, ...at); else this.points.push(at);
    this.status(`Now click the same place (${this.points.length}) on a map, or choose its pixel with the arrow keys and press Enter.`);
    this.markPoints(stage, facts);
  }

  // Pairs a position on a map with the last point on the picture.
  takes(at) {
    const last = this.points[this.points.length - 1];
    if (!this.marking || !last || last.length > 2) return false;
    last.push(...at);
    this.changed();
    this.status(this.points.length < 4 ? `${this.points.length} of at least 2 pairs, better 4 or more: click the next place on the picture.` : "These pairs are sufficient; more pairs improve the alignment.");
    return true;
  }

  markPoints(stage, { width, height }) {
    for (const mark of stage.querySelectorAll(".mark, .cross")) mark.remove();
    const put = (mark, across, down) => { Object.assign(mark.style, { left: `${100 * across}%`, top: `${100 * down}%` }); stage.append(mark); };
    this.points.forEach(([x, y], at) => put(make("span", { className: "mark" }, String(at + 1)), x / width, y / height));
    if (this.marking) put(make("span", { className: "cross", "aria-hidden": "true" }), ...this.cursor);
  }

  async register(layer, how) {
    this.status(how.automatic ? `Aligning ${nameOf(layer.key)} …, up to half a minute` : "");
    try {
      layer.facts = await askJson(`pictures/${layer.key}/place`, { method: "POST", json: how });
      await this.fetch(layer);
      Object.assign(layer, { shown: true, opacity: layer.opacity || FIRST_OPACITY });
      this.open(layer.key);
      this.app.reportOutdated();
    } catch (error) { this.status(""); say(error.message); }
  }

  // --- over the maps

  draw(context, box, pointer) {
    context.imageSmoothingEnabled = true;
    for (const { image, shown, opacity } of [...this.layers].reverse()) {
      if (!image || !shown || !opacity) continue;
      context.globalAlpha = opacity;
      context.drawImage(image, ...box);
    }
    context.globalAlpha = 1;
    const image = this.layer(this.lens)?.image;
    if (image && pointer) {
      const sharp = window.devicePixelRatio || 1;
      context.save();
      context.beginPath();
      context.arc(...pointer, LENS_PX * sharp, 0, 7);
      context.clip();
      context.drawImage(image, ...box);
      context.lineWidth = 3 * sharp;
      context.strokeStyle = "#fff";
      context.stroke();
      context.restore();
    }
    context.imageSmoothingEnabled = false;
  }
}
