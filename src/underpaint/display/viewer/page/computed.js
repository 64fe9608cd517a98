// Maps that are computed on demand and belong to no file: of an energy window, of components, of clusters.
import { askJson, byId, followed, guarded, make, progressed } from "./base.js";
import { forget } from "./maps.js";

export const COMPUTED = ["window", "component", "cluster"];

export class Computed {
  constructor(app) { this.app = app; this.turn = 0; }

  // Adds a map to the lists; the same name replaces the earlier one.
  add({ map, entry }) {
    const { entries } = this.app;
    if (entries[map]) forget(map);
    entries[map] = { ...entry, index: map };
    this.app.buildList();
    return map;
  }

  window(low, high, background = true) {
    const turn = (this.turn += 1);
    return guarded(async () => {
      const words = byId("spectrum-words");
      if (this.app.about.scan.state !== "ready") { words.replaceChildren(...[this.app.scanWords(this.app.about.scan)].flat()); return; }
      const request = { method: "POST", json: { low, high, background } };
      let answer = await askJson("window", request);
      if (answer.run) {
        const { run } = answer;
        const stop = make("button", { type: "button", onclick: () => askJson(`run?run=${run}`, { method: "DELETE" }) }, "Stop");
        const now = await followed(run, (own) => words.replaceChildren("First window of this scan: ", progressed(own), stop), () => turn === this.turn);
        words.replaceChildren(now.error || (now.result ? "" : now.step));
        if (!now.result) return;
        answer = await askJson("window", request);
      }
      if (turn !== this.turn) return;
      this.app.showComputed(this.add(answer));
      document.body.dataset.window = answer.entry.name;
    })();
  }
}
