// The photograph: chosen, laid over the maps by itself or by points, blended, or seen through a lens.
import { ask, askJson, byId, guarded, make, say } from "./base.js";

export class PhotographPanel {
  constructor(app) {
    this.app = app;
    this.picture = null;
    this.blend = 0;
    this.lens = false;
    this.points = [];
    this.marking = false;
    this.facts = app.about.photograph;
    this.fill();
  }

  // Maps are opened as maps; the photograph is a slider away.
  async load() {
    const { photograph } = this.app.about;
    if (photograph.broken) say(photograph.broken, { lasting: true });
    await guarded(() => this.take(photograph, 0))();
  }

  async take(facts, blend = 0.5) {
    this.facts = facts;
    this.picture = null;
    if (facts.laid) {
      const picture = new Image();
      picture.src = `photograph/laid?${Date.now()}`;
      await picture.decode();
      this.picture = picture;
      if (!this.blend) this.blend = blend;
    }
    this.fill();
    this.app.draw();
    document.body.dataset.photograph = facts.laid ? "laid" : facts.there ? "there" : "none";
  }

  fill() {
    const choose = make("input", { type: "file", accept: "image/*", id: "photograph-file", onchange: guarded(async (event) => {
      const [file] = event.target.files;
      if (!file) return;
      this.status("Reading the photograph …");
      try { await this.take(await askJson("photograph/picture", { method: "POST", body: file })); } catch (error) { this.status(error.message); throw error; }
    }) });
    const chooser = make("p", {}, make("label", { for: "photograph-file" }, this.facts.there ? "Another photograph: " : "Photograph of the painting: "), choose);
    if (!this.facts.there) {
      byId("photograph").replaceChildren(make("p", { className: "empty" }, "Lay a photograph over the maps to see where on the painting you are. It is saved with the results and leaves this machine never."), chooser, this.said());
      return;
    }
    byId("photograph").replaceChildren(...[chooser, ...this.mixing(), this.preview(), ...this.laying(), this.said()]);
  }

  said() { this.words = make("p", { className: "quiet", role: "status" }, this.how()); return this.words; }

  status(text) { this.words.textContent = text; }

  how() {
    const { laid } = this.facts;
    if (this.facts.broken) return this.facts.broken;
    if (!this.facts.there) return "";
    if (!laid) return "The photograph does not lie over the maps yet.";
    const off = laid.error_px === null ? "" : `, ${laid.error_px.toFixed(1)} pixels of the maps off on average`;
    if (laid.how === "points") return `Laid by points${off}.`;
    if (laid.doubtful) return "Laid by itself, but there it is hardly like the maps: it is most likely wrong. Look through the lens, and mark points.";
    return "Laid by itself. Look through the lens whether it fits; points can mend it.";
  }

  mixing() {
    if (!this.picture) return [];
    return [
      make("label", { className: "wide" }, "Maps ", make("input", { type: "range", min: "0", max: "1", step: "0.01", value: String(this.blend), "aria-label": "Blend of maps and photograph", oninput: (event) => { this.blend = Number(event.target.value); this.app.draw(); } }), " photograph"),
      make("label", { className: "wide" }, make("input", { type: "checkbox", checked: this.lens, onchange: (event) => { this.lens = event.target.checked; this.app.draw(); } }), " lens at the mouse"),
    ];
  }

  preview() {
    const image = make("img", { src: `photograph/preview?${Date.now()}`, alt: "The photograph", draggable: "false" });
    this.stage = make("div", { className: "preview" }, image);
    image.addEventListener("load", () => this.markPoints());
    image.addEventListener("click", (event) => {
      if (!this.marking) return;
      const box = image.getBoundingClientRect();
      const at = [((event.clientX - box.left) / box.width) * this.facts.width, ((event.clientY - box.top) / box.height) * this.facts.height];
      const last = this.points[this.points.length - 1];
      if (last && last.length < 4) last.splice(0, 2, ...at); else this.points.push(at);
      this.status(`Now click the same place (${this.points.length}) on a map.`);
      this.markPoints();
    });
    return this.stage;
  }

  // Takes a click on a map as the partner of the last point on the photograph.
  takes(at) {
    const last = this.points[this.points.length - 1];
    if (!this.marking || !last || last.length > 2) return false;
    last.push(...at);
    this.status(this.points.length < 4 ? `${this.points.length} of at least 2 pairs, better 4 or more: click the next place on the photograph.` : "Enough to lay it; more make it better.");
    this.fillButtons();
    return true;
  }

  markPoints() {
    for (const own of this.stage.querySelectorAll(".mark")) own.remove();
    this.points.forEach(([x, y], at) => {
      const mark = make("span", { className: "mark" }, String(at + 1));
      Object.assign(mark.style, { left: `${(100 * x) / this.facts.width}%`, top: `${(100 * y) / this.facts.height}%` });
      this.stage.append(mark);
    });
  }

  laying() {
    this.buttons = make("p", { className: "buttons" });
    this.fillButtons();
    return [this.buttons];
  }

  fillButtons() {
    const whole = this.points.filter((own) => own.length === 4);
    this.buttons.replaceChildren(...[
      make("button", { type: "button", onclick: guarded(async () => { this.status("Looking for its place …"); await this.lay({ automatic: true }); }) }, "Align automatically"),
      this.marking ? make("button", { type: "button", disabled: whole.length < 2, onclick: guarded(() => this.lay({ points: whole })) }, `Lay it by ${whole.length} points`)
        : make("button", { type: "button", onclick: () => { this.marking = true; this.app.takeTool("point"); this.fillButtons(); this.status("Click a place on the photograph, then the same place on a map."); } }, "Mark points"),
      this.marking ? make("button", { type: "button", onclick: () => { this.points = []; this.marking = false; this.fillButtons(); this.markPoints(); this.status(this.how()); this.app.draw(); } }, "Forget the points") : null,
      make("button", { type: "button", onclick: guarded(async () => { this.points = []; this.marking = false; await this.take(await (await ask("photograph", { method: "DELETE" })).json()); }) }, "Remove the photograph"),
    ].filter(Boolean));
  }

  async lay(asked) {
    try { await this.take(await askJson("photograph/place", { method: "POST", json: asked })); } catch (error) { this.status(this.how()); say(error.message); }
  }
}
